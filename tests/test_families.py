"""What every family promises: rows, loss, decoding and scores that fit each other."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    RobertaConfig,
    RobertaForSequenceClassification,
)

import tasks
from tasks.classify import Classify
from tasks.family import Family, Row
from tasks.roles import Roles
from tasks.tag import Tag
from tests.reading import SENTENCES, WIDTH, Little, fitted, packed, reader

A, B, C, D = (sentence.split() for sentence in SENTENCES)


@dataclass
class Case:
    """A family with sound rows, and what is wrong with unsound ones."""

    family: type[Family[Any]]
    rows: list[dict[str, Any]]
    faults: list[tuple[dict[str, Any], str, str]]
    """Changes to the first row, the column at fault, and words of the expectation."""
    strange: dict[str, Any]
    """A label outside the set, fit for the first row."""
    options: dict[str, Any] = field(default_factory=dict)


def spans(words: list[str], *found: tuple[str, int, int]) -> list[str]:
    tags = ["O"] * len(words)
    for kind, start, end in found:
        tags[start:end] = [f"B-{kind}"] + [f"I-{kind}"] * (end - start - 1)
    return tags


def tags_faults(kind: str | None, tag: str = "O") -> list[tuple[dict[str, Any], str, str]]:
    nine = [tag] * 9
    faults = [
        ({"tokens": []}, "tokens", "at least one word"),
        ({"tokens": "the old dog"}, "tokens", "a list of words"),
        ({"tokens": ["the", " "]}, "tokens", "not empty at place 1"),
        ({"tags": None}, "tags", "one tag a word"),
        ({"tags": ["O", "O"]}, "tags", "10 tags, one for each of the words"),
        ({"tags": [*nine, None]}, "tags", "a tag for word 9"),
    ]
    if kind:
        expected = f"B-{kind} or I-{kind} before it"
        faults.append(({"tags": [f"I-{kind}", *nine]}, "tags", expected))
        faults.append(({"tags": [*nine, f"I-{kind}"]}, "tags", expected))
    return faults


def role(words: list[str], predicate: int, *found: tuple[str, int, int]) -> dict[str, Any]:
    tags = spans(words, ("V", predicate, predicate + 1), *found)
    return {"tokens": words, "predicate": predicate, "tags": tags}


FRAMES = [
    role(A, 3, ("ARG0", 0, 3), ("ARG1", 4, 7), ("ARGM-LOC", 7, 10)),
    role(C, 1, ("ARG0", 0, 1), ("ARG2", 2, 3), ("ARG1", 3, 9)),
    role(C, 7, ("ARG1", 3, 5), ("R-ARG1", 5, 6), ("ARG0", 6, 7)),
    role(D, 3, ("ARG0", 0, 2), ("ARGM-DIR", 4, 5), ("ARGM-CAU", 5, 8)),
    role(D, 7, ("ARG0", 6, 7)),
]
ROLE_FAULTS: list[tuple[dict[str, Any], str, str]] = [
    *tags_faults("ARG0"),
    ({"tags": ["ARG0"] + ["O"] * 9}, "tags", "O, B-X or I-X for word 0"),
    ({"predicate": 10}, "predicate", "from 0 to 9"),
    ({"predicate": -1}, "predicate", "from 0 to 9"),
    ({"predicate": None}, "predicate", "from 0 to 9"),
    ({"predicate": "saw"}, "predicate", "from 0 to 9"),
    ({"predicate": True}, "predicate", "from 0 to 9"),
]
STRANGE_TAGS = {"tags": ["B-NEW"] + ["O"] * 9}

TEXTS = [
    {"text": text, "label": label}
    for text, label in zip(SENTENCES, ["animal", "film", "book", "animal"], strict=True)
]
LABEL_FAULTS: list[tuple[dict[str, Any], str, str]] = [
    ({"text": " \n"}, "text", "not empty"),
    ({"text": None}, "text", "a text"),
    ({"label": None}, "label", "a label"),
    ({"label": 0.5}, "label", "a label"),
]
PAIRS = [
    {"text": SENTENCES[i], "label": int(i == j), "other": SENTENCES[j]}
    for i, j in [(0, 0), (0, 1), (1, 1), (2, 3)]
]
ANIMALS = [
    {"tokens": A, "tags": spans(A, ("BEAST", 1, 3), ("BEAST", 5, 7), ("PLACE", 9, 10))},
    {"tokens": B, "tags": spans(B)},
    {"tokens": C, "tags": spans(C, ("PERSON", 0, 1), ("PERSON", 2, 3))},
]
WORD_CLASSES = [
    {
        "tokens": A,
        "tags": ["DET", "ADJ", "NOUN", "VERB", "DET", "ADJ", "NOUN", "ADP", "DET", "NOUN"],
    },
    {"tokens": D, "tags": ["NUM", "NOUN", "AUX", "VERB", "ADV", "SCONJ", "NOUN", "VERB"]},
]

CASES = {
    "classify": Case(Classify, TEXTS, LABEL_FAULTS, {"label": "river"}),
    "classify pairs": Case(
        Classify,
        PAIRS,
        [*LABEL_FAULTS, ({"other": ""}, "other", "not empty")],
        {"label": 7},
        {"pair": "other"},
    ),
    "tag spans": Case(Tag, ANIMALS, tags_faults("BEAST"), STRANGE_TAGS),
    "tag words": Case(Tag, WORD_CLASSES, tags_faults(None, "DET"), {"tags": ["ODD"] + ["DET"] * 9}),
    "roles, marked input": Case(Roles, FRAMES, ROLE_FAULTS, STRANGE_TAGS, {"mark": "input"}),
    "roles, marked head": Case(Roles, FRAMES, ROLE_FAULTS, STRANGE_TAGS, {"mark": "head"}),
}


@pytest.fixture(params=CASES, ids=[name.replace(" ", "-") for name in CASES])
def case(request: pytest.FixtureRequest) -> Case:
    return CASES[request.param]


@pytest.fixture
def family(case: Case) -> Family[Any]:
    return fitted(case.family, case.rows, **case.options)


@pytest.fixture
def rows(case: Case, family: Family[Any]) -> list[Row]:
    return case.family.gather(family.data, list(case.rows))


@pytest.fixture
def made(family: Family[Any], rows: list[Row]) -> Callable[..., Any]:
    """Give the outputs of a fresh head on these rows, with the rows as the head saw them."""

    def make(chosen: list[Row] = rows, head: Any = None, limit: int | None = None) -> Any:
        head = head or family.head(WIDTH, 0.0)
        batch, terms = packed(family, chosen, reader(), limit)
        torch.manual_seed(0)
        table = torch.nn.functional.layer_norm(torch.randn(4000, WIDTH), [WIDTH])
        found = batch.rows["task"]
        return head(table[batch.input_ids], found), found, terms

    return make


def losses(family: Family[Any], made: Callable[..., Any], chosen: list[Row], head: Any) -> float:
    output, found, _ = made(chosen, head)
    return family.loss(output, found).item()


def test_every_family_of_the_folder_can_be_had() -> None:
    assert {"classify", "tag", "roles"} <= set(tasks.names())
    for name in tasks.names():
        assert issubclass(tasks.get(name), Family)


def test_sound_rows_have_no_fault(family: Family[Any], rows: list[Row]) -> None:
    assert [family.fault(row, True) for row in rows] == [None] * len(rows)


def test_unsound_rows_are_told_with_column_and_expectation(
    case: Case, family: Family[Any], rows: list[Row]
) -> None:
    for change, column, expected in case.faults:
        for training in (True, False):
            fault = family.fault(rows[0] | change, training)
            assert fault is not None, change
            assert (fault.column, expected in fault.expected) == (column, True), fault


def test_a_label_outside_the_set_is_wrong_in_training_and_missed_elsewhere(
    case: Case, family: Family[Any], rows: list[Row], made: Callable[..., Any]
) -> None:
    strange = rows[0] | case.strange
    assert "one of the" in family.fault(strange, True).expected
    assert family.fault(strange, False) is None
    assert made([strange])[2] < made([rows[0]])[2]
    gold, true = family.gold(strange), family.gold(rows[0])
    assert family.score([true], [gold])[family.main] < 1
    assert family.score([gold], [gold])[family.main] == pytest.approx(1)


def test_what_was_fitted_is_json_and_does_not_depend_on_the_order_of_rows(
    case: Case, family: Family[Any]
) -> None:
    again = fitted(case.family, case.rows[::-1], **case.options)
    assert json.dumps(again.fitted) == json.dumps(family.fitted)


def test_labels_given_are_the_label_set(case: Case) -> None:
    found = fitted(case.family, case.rows, **case.options)
    given = [*found.labels[::-1], "B-ZZZ"]
    fixed = fitted(case.family, case.rows, **case.options, labels=given)
    assert set(given) <= set(fixed.labels)


def test_a_perfect_prediction_scores_one(family: Family[Any], rows: list[Row]) -> None:
    golds = [family.gold(row) for row in rows]
    scores = family.score(golds, golds)
    assert family.main in scores
    assert scores == pytest.approx(dict.fromkeys(scores, 1.0))
    json.dumps(golds)


def test_no_rows_score_zero(family: Family[Any]) -> None:
    scores = family.score([], [])
    assert scores == dict.fromkeys(scores, 0.0)


def test_an_untrained_head_costs_about_one_a_term(
    family: Family[Any], made: Callable[..., Any]
) -> None:
    output, found, terms = made()
    assert terms > 0
    assert family.loss(output, found).item() / terms == pytest.approx(1, abs=0.25)


def test_the_loss_of_a_batch_is_the_sum_of_its_rows(
    family: Family[Any], rows: list[Row], made: Callable[..., Any]
) -> None:
    head = family.head(WIDTH, 0.0)
    apart = sum(losses(family, made, [row], head) for row in rows)
    assert losses(family, made, rows, head) == pytest.approx(apart, rel=1e-5)


def test_the_prediction_of_a_row_does_not_depend_on_its_company(
    family: Family[Any], rows: list[Row], made: Callable[..., Any]
) -> None:
    head = family.head(WIDTH, 0.0)
    together = family.decode(*made(rows, head)[:2])
    apart = [family.decode(*made([row], head)[:2])[0] for row in rows]
    assert len(together) == len(rows)
    chances = ("probabilities", "scores")
    for one, other in zip(together, apart, strict=True):
        assert one.keys() == other.keys()
        for key in one:
            same = pytest.approx(other[key], rel=1e-4) if key in chances else other[key]
            assert one[key] == same


def test_without_rows_loss_and_gradients_are_zeros_and_nothing_is_missing(
    family: Family[Any], made: Callable[..., Any]
) -> None:
    head = family.head(WIDTH, 0.1)
    output, found, terms = made([], head)
    assert len(found) == terms == 0
    assert family.decode(output, found) == []
    loss = family.loss(output, found)
    if (added := head.inputs(found)) is not None:
        assert added[0].shape == (0,)
        loss = loss + added[1].sum()
    assert loss.item() == 0
    loss.backward()
    for name, parameter in head.named_parameters():
        assert parameter.grad is not None, name
        assert not parameter.grad.any(), name


def test_with_rows_every_parameter_of_the_head_learns(family: Family[Any], rows: list[Row]) -> None:
    little = Little(family.head(WIDTH, 0.0))
    batch, _ = packed(family, rows, reader())
    family.loss(little(batch), batch.rows["task"]).backward()
    for name, parameter in little.head.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.any(), name


def test_training_leads_to_the_right_answers(family: Family[Any], rows: list[Row]) -> None:
    torch.manual_seed(1)
    little = Little(family.head(WIDTH, 0.0))
    batch, terms = packed(family, rows, reader())
    found = batch.rows["task"]
    optimizer = torch.optim.Adam(little.parameters(), lr=0.01)
    for _ in range(100):
        optimizer.zero_grad()
        loss = family.loss(little(batch), found) / terms
        loss.backward()
        optimizer.step()
    predictions = family.decode(little(batch), found)
    scores = family.score(predictions, [family.gold(row) for row in rows])
    assert scores == pytest.approx(dict.fromkeys(scores, 1.0))
    json.dumps(predictions)


def test_label_smoothing_changes_the_loss_and_not_what_an_even_guess_costs(
    case: Case, rows: list[Row], made: Callable[..., Any]
) -> None:
    smooth = fitted(case.family, case.rows, **case.options, label_smoothing=0.2)
    plain = fitted(case.family, case.rows, **case.options)
    output, found, terms = made()
    assert smooth.loss(output, found).item() != plain.loss(output, found).item()
    even = torch.utils._pytree.tree_map(torch.zeros_like, output)
    assert smooth.loss(even, found).item() == pytest.approx(terms, rel=1e-5)


def test_cut_rows_are_still_answered_and_scored_in_full(
    family: Family[Any], rows: list[Row], made: Callable[..., Any]
) -> None:
    output, found, terms = made(rows, None, 8)
    assert 0 < terms <= made()[2]
    predictions = family.decode(output, found)
    golds = [family.gold(row) for row in rows]
    assert 0 <= family.score(predictions, golds)[family.main] <= 1


def test_raw_texts_are_answered_with_their_own_characters(
    family: Family[Any], made: Callable[..., Any]
) -> None:
    text = "  Ann's old dog\u2014Rex\u2014saw the film!"
    row = family.ask({"text": text, "pair": "the film", "unasked": 3})
    output, found, terms = made([row])
    assert terms == 0
    prediction = family.decode(output, found)[0]
    again = family.ask_again(row, prediction)
    second = family.decode(*made(again)[:2]) if again else []
    answer = family.answer(row, prediction, list(zip(again, second, strict=True)))
    assert all(text[p["start"] : p["end"]] == p["text"] for p in pieces(answer))
    json.dumps(answer)


def pieces(answer: Any) -> list[dict[str, Any]]:
    """Find all stretches of text in an answer."""
    inner = answer.values() if isinstance(answer, dict) else answer
    found = [piece for part in inner if isinstance(part, (dict, list)) for piece in pieces(part)]
    return found + ([answer] if isinstance(answer, dict) and "start" in answer else [])


def test_a_record_without_the_fields_is_not_asked(family: Family[Any]) -> None:
    for record in ({}, {"text": ""}, {"text": None}, {"question": "who?"}):
        assert family.ask(record) is None


def test_a_pair_is_asked_only_whole() -> None:
    family = fitted(Classify, PAIRS, pair="other")
    assert family.ask({"text": "a"}) is None
    assert family.texts(family.ask({"text": "a", "pair": "b"})) == [("a", "b")]


def test_spans_and_words_are_answered_in_the_users_form() -> None:
    text = "Old dogs swim."
    for rows, tags, expected in [
        (ANIMALS, ["B-BEAST", "I-BEAST", "O", "O"], [("Old dogs", "BEAST", 0.75)]),
        (
            WORD_CLASSES,
            ["ADJ", "NOUN", "VERB", None],
            [("Old", "ADJ", 0.5), ("dogs", "NOUN", 1.0), ("swim", "VERB", 1.0)],
        ),
    ]:
        family = fitted(Tag, rows)
        prediction = {"tags": tags, "scores": [0.5, 1.0, 1.0, 0.0]}
        found = family.answer(family.ask({"text": text}), prediction, [])
        assert [(e["text"], e["label"], e["score"]) for e in found] == expected


def test_words_cut_off_are_outside_of_spans_and_wrong_as_words() -> None:
    for rows, cut in ((ANIMALS, "O"), (WORD_CLASSES, None)):
        family = fitted(Tag, rows)
        batch, _ = packed(family, rows[:1], reader(), 8)
        found = batch.rows["task"]
        tags = family.decode(family.head(WIDTH, 0.0)(torch.randn(8, WIDTH), found), found)[0][
            "tags"
        ]
        assert len(tags) == len(rows[0]["tokens"])
        assert tags[int(found.word_counts) :] == [cut] * (len(tags) - int(found.word_counts))


def test_labels_in_files_may_be_numbers_or_truth_values() -> None:
    assert fitted(Classify, [{"label": value} for value in (10, 9)]).labels == ["9", "10"]
    family = fitted(Classify, [{"label": value} for value in (True, False)])
    assert family.gold({"label": True}) == {"label": "true"}
    assert family.encode({"label": True}, []) == {"label": [1]}


def test_classification_scores_are_those_worked_out_by_hand() -> None:
    family = fitted(Classify, TEXTS)
    golds = [{"label": label} for label in ("animal", "animal", "book", "river")]
    found = [{"label": label} for label in ("animal", "book", "book", "film")]
    scores = family.score(found, golds)
    assert scores["accuracy"] == 0.5
    # F1 of animal 2/3, of book 2/3, of film and river 0.
    assert scores["macro_f1"] == pytest.approx(1 / 3)
    # Gorodkin 2004: (c s - sum p t) / sqrt((s^2 - sum p^2) (s^2 - sum t^2))
    assert scores["mcc"] == pytest.approx((2 * 4 - (1 * 2 + 2 * 1)) / ((16 - 6) * (16 - 6)) ** 0.5)
    assert family.score(found[1:3], golds[:2])["mcc"] == 0
    assert family.confusion(found, golds) == {
        "labels": ["animal", "book", "film", "river"],
        "counts": [[1, 1, 0, 0], [0, 1, 0, 0], [0, 0, 0, 0], [0, 0, 1, 0]],
    }


@pytest.mark.parametrize("kind", ["bert", "roberta"])
def test_a_classify_head_is_the_classifier_of_bert_and_of_roberta(kind: Any) -> None:
    family = fitted(Classify, TEXTS)
    head = family.head(WIDTH, 0.1).eval()
    described = family.export(head)
    assert (described["kind"], described["labels"]) == ("sequence-classification", family.labels)
    sizes = {
        "vocab_size": 40,
        "hidden_size": WIDTH,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "intermediate_size": 32,
        "num_labels": 3,
    }
    if kind == "bert":
        model = BertForSequenceClassification(BertConfig(**sizes)).eval()
        dense, out, encoder = model.bert.pooler.dense, model.classifier, model.bert
    else:
        model = RobertaForSequenceClassification(RobertaConfig(**sizes)).eval()
        dense, out, encoder = model.classifier.dense, model.classifier.out_proj, model.roberta
    for layer, name in ((dense, "dense"), (out, "out")):
        for parameter in ("weight", "bias"):
            getattr(layer, parameter).data = described["weights"][f"{name}.{parameter}"]
    ids = torch.tensor([[5, 6, 7, 8]])
    hidden = encoder(ids).last_hidden_state[0]
    batch, _ = packed(family, TEXTS[:1], reader())
    torch.testing.assert_close(head(hidden, batch.rows["task"]), model(ids).logits)
