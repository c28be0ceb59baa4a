"""Arguments with their pieces, counted by hand; predicates marked, found and asked for."""

from typing import Any

import pytest
import torch

from orchestrator.batch import OWN
from tasks.arguments import read_arguments
from tasks.roles import FIRST, PREDICATES, Roles, RolesData
from tests.reading import WIDTH, example, fitted, packed, reader

# Ten rows: the true tags, the predicted tags, and what follows from both by the rules of the
# family, worked out by hand. Counts: arguments predicted, true, and right.
TEN: list[tuple[str, str, list[Any], list[Any], tuple[int, int, int]]] = [
    # 1. All right; V is no argument.
    (
        "B-ARG0 B-V B-ARG1 I-ARG1",
        "B-ARG0 B-V B-ARG1 I-ARG1",
        [["ARG0", [[0, 1]]], ["ARG1", [[2, 4]]]],
        [["ARG0", [[0, 1]]], ["ARG1", [[2, 4]]]],
        (2, 2, 2),
    ),
    # 2. One word short: wrong on both sides.
    (
        "B-ARG0 I-ARG0 B-V",
        "O B-ARG0 B-V",
        [["ARG0", [[0, 2]]]],
        [["ARG0", [[1, 2]]]],
        (1, 1, 0),
    ),
    # 3. C-ARG1 joins ARG1; both pieces found: one argument, right.
    (
        "B-ARG1 B-V B-C-ARG1 I-C-ARG1",
        "B-ARG1 B-V B-C-ARG1 I-C-ARG1",
        [["ARG1", [[0, 1], [2, 4]]]],
        [["ARG1", [[0, 1], [2, 4]]]],
        (1, 1, 1),
    ),
    # 4. The second piece was missed: the whole argument is wrong.
    (
        "B-ARG1 B-V B-C-ARG1",
        "B-ARG1 B-V O",
        [["ARG1", [[0, 1], [2, 3]]]],
        [["ARG1", [[0, 1]]]],
        (1, 1, 0),
    ),
    # 5. R-ARG0 is a label of its own; it was taken for ARG0.
    (
        "B-ARG0 B-R-ARG0 B-V",
        "B-ARG0 B-ARG0 B-V",
        [["ARG0", [[0, 1]]], ["R-ARG0", [[1, 2]]]],
        [["ARG0", [[0, 1]]], ["ARG0", [[1, 2]]]],
        (2, 2, 1),
    ),
    # 6. C-V is left out, found or not.
    (
        "B-V B-ARG1 B-C-V",
        "B-V B-ARG1 O",
        [["ARG1", [[1, 2]]]],
        [["ARG1", [[1, 2]]]],
        (1, 1, 1),
    ),
    # 7. No argument at all, and one predicted.
    ("O B-V O", "O B-V B-ARGM-TMP", [], [["ARGM-TMP", [[2, 3]]]], (1, 0, 0)),
    # 8. C-ARG1 before any ARG1 stands for itself; the later ARG1 does not take it up.
    (
        "B-C-ARG1 B-V B-ARG1",
        "B-ARG1 B-V B-ARG1",
        [["ARG1", [[0, 1]]], ["ARG1", [[2, 3]]]],
        [["ARG1", [[0, 1]]], ["ARG1", [[2, 3]]]],
        (2, 2, 2),
    ),
    # 9. Of two ARG1, C-ARG1 joins the nearer; predicted, it follows only one.
    (
        "B-ARG1 B-ARG1 B-V B-C-ARG1",
        "B-ARG1 O B-V B-C-ARG1",
        [["ARG1", [[0, 1]]], ["ARG1", [[1, 2], [3, 4]]]],
        [["ARG1", [[0, 1], [3, 4]]]],
        (1, 2, 0),
    ),
    # 10. Neighbours of one label are two arguments; the predicate's own tag may be missing.
    (
        "B-ARG2 B-ARG2 O B-ARGM-LOC I-ARGM-LOC",
        "B-ARG2 I-ARG2 O B-ARGM-LOC I-ARGM-LOC",
        [["ARG2", [[0, 1]]], ["ARG2", [[1, 2]]], ["ARGM-LOC", [[3, 5]]]],
        [["ARG2", [[0, 2]]], ["ARGM-LOC", [[3, 5]]]],
        (2, 3, 1),
    ),
]


def row(tokens: str, predicate: int, tags: str) -> dict[str, Any]:
    return {"tokens": tokens.split(), "predicate": predicate, "tags": tags.split()}


# Two rows of one sentence with another between them.
GAVE = row(
    "Ann gave Bob the book that he asked for",
    1,
    "B-ARG0 B-V B-ARG2 B-ARG1 I-ARG1 I-ARG1 I-ARG1 I-ARG1 I-ARG1",
)
RAN = row("two men ran home", 2, "B-ARG0 I-ARG0 B-V B-ARG4")
ASKED = row(
    "Ann gave Bob the book that he asked for", 7, "O O O B-ARG1 I-ARG1 B-R-ARG1 B-ARG0 B-V O"
)
ROWS = [GAVE, RAN, ASKED]


def gathered(mark: str = "input") -> list[Any]:
    return Roles.gather(RolesData(path="rows", mark=mark), list(ROWS))


@pytest.fixture(params=["input", "head"])
def roles(request: pytest.FixtureRequest) -> Roles:
    return fitted(Roles, ROWS, mark=request.param)


def test_ten_rows_give_the_arguments_worked_out_by_hand() -> None:
    for true, predicted, arguments, found, _ in TEN:
        assert read_arguments(true.split()) == arguments
        assert read_arguments(predicted.split()) == found


def test_ten_rows_give_the_scores_worked_out_by_hand() -> None:
    family = fitted(Roles, ROWS)
    golds = [{"arguments": gold, "predicates": None} for _, _, gold, _, _ in TEN]
    predictions = [{"arguments": found, "predicates": None} for _, _, _, found, _ in TEN]
    for prediction, gold, (*_, (predicted, true, right)) in zip(
        predictions, golds, TEN, strict=True
    ):
        scores = family.score([prediction], [gold])
        assert scores["precision"] == (right / predicted if predicted else 0)
        assert scores["recall"] == (right / true if true else 0)
    # Predicted 2+1+1+1+2+1+1+2+1+2 = 14, true 2+1+1+1+2+1+0+2+2+3 = 15,
    # right 2+0+1+0+1+1+0+2+0+1 = 8; F1 = 2 * 8 / (14 + 15).
    scores = family.score(predictions, golds)
    assert scores["precision"] == pytest.approx(8 / 14)
    assert scores["recall"] == pytest.approx(8 / 15)
    assert scores["f1"] == pytest.approx(16 / 29)
    assert scores["predicate_f1"] == 0


def test_predicates_are_scored_once_a_sentence() -> None:
    family = fitted(Roles, ROWS)
    golds = [family.gold(r) for r in gathered()]
    assert [gold["predicates"] for gold in golds] == [[1, 7], [2], None]
    predictions = [
        {"arguments": [], "predicates": [1]},
        {"arguments": [], "predicates": [0, 2]},
        {"arguments": [], "predicates": [5]},
    ]
    assert family.score(predictions, golds)["predicate_f1"] == pytest.approx(2 * 2 / (3 + 3))


def test_each_row_knows_all_predicates_of_its_sentence() -> None:
    rows = gathered()
    assert [(r[PREDICATES], r[FIRST]) for r in rows] == [
        ([1, 7], True),
        ([2], True),
        ([1, 7], False),
    ]
    assert [r["predicate"] for r in rows] == [1, 2, 7]


def test_a_predicate_of_3_0_or_of_digits_is_the_index_3(roles: Roles) -> None:
    for value in (7.0, "7"):
        again = ASKED | {"predicate": value}
        assert roles.fault(again, True) is None
        assert example(roles, again, reader())[OWN + "predicate"] == [7]
        (gathered_row,) = Roles.gather(roles.data, [again])
        assert type(gathered_row["predicate"]) is int
        assert gathered_row == Roles.gather(roles.data, [ASKED])[0]


def test_the_plain_copy_comes_once_a_sentence_and_only_where_the_input_is_marked() -> None:
    assert [len(fitted(Roles, ROWS).texts(r)) for r in gathered()] == [2, 2, 1]
    assert [len(fitted(Roles, ROWS, mark="head").texts(r)) for r in gathered("head")] == [1, 1, 1]


def test_both_marks_learn_the_same_terms(roles: Roles) -> None:
    terms = [example(roles, r, reader())["terms"] for r in gathered()]
    assert terms == [9 + 9, 4 + 4, 9]  # roles of each row, predicates of each sentence


def test_the_mark_lies_on_the_first_token_of_the_predicate() -> None:
    family, reads = fitted(Roles, ROWS), reader()
    batch, _ = packed(family, gathered(), reads)
    positions, vectors = family.head(WIDTH, 0.0).inputs(batch.rows["task"])
    pieces = [reads.tokenizer.id_to_token(int(i)) for i in batch.input_ids[positions]]
    assert [piece[0] for piece in pieces] == ["g", "r", "a"]  # gave, ran, asked
    assert vectors.shape == (3, WIDTH)
    assert vectors.std() < 0.1


def test_only_the_predicate_tells_two_rows_of_a_sentence_apart(roles: Roles) -> None:
    head = roles.head(WIDTH, 0.0)
    batch, _ = packed(roles, [r | {FIRST: False} for r in gathered()[::2]], reader())
    rows = batch.rows["task"]
    assert rows.word_counts.tolist() == [9, 9]
    hidden = torch.randn(len(batch.input_ids) // 2, WIDTH).repeat(2, 1)
    logits, _ = head(hidden, rows)
    assert not torch.allclose(logits[:9], logits[9:])


def test_a_predicate_cut_off_loses_its_arguments_but_not_its_row(roles: Roles) -> None:
    batch, terms = packed(roles, gathered(), reader(), limit=8)
    rows = batch.rows["task"]
    assert rows.columns["predicate"].max() < rows.word_counts.max()
    head = roles.head(WIDTH, 0.0)
    output = head(torch.randn(len(batch.input_ids), WIDTH), rows)
    predictions = roles.decode(output, rows)
    assert len(predictions) == 3
    assert predictions[2]["arguments"] == []
    golds = [roles.gold(r) for r in gathered()]
    assert golds[2]["arguments"][0] == ["ARG1", [[3, 5]]]
    assert 0 <= roles.score(predictions, golds)["f1"] < 1
    assert 0 < terms < sum(example(roles, r, reader())["terms"] for r in gathered())


def test_decoded_arguments_are_legal_whatever_the_logits_say(roles: Roles) -> None:
    batch, _ = packed(roles, gathered(), reader())
    rows = batch.rows["task"]
    words = sum(len(r["tokens"]) for r in ROWS)
    inside = torch.zeros(words, len(roles.labels))
    inside[:, roles.places["I-ARG1"]] = 9
    found = roles.decode((inside, torch.zeros(int(rows.word_counts.sum()), 2)), rows)
    for prediction, gold in zip(found, ROWS, strict=True):
        assert prediction["arguments"] == [["ARG1", [[0, len(gold["tokens"])]]]]


def test_raw_text_is_read_for_predicates_and_then_for_each_ones_roles(roles: Roles) -> None:
    text = "Ann gave Bob the book that he asked for"
    asked = roles.ask({"text": text})
    batch, terms = packed(roles, [asked], reader())
    rows = batch.rows["task"]
    assert terms == 0
    assert rows.sequences.tolist() == [1]
    output = roles.head(WIDTH, 0.0)(torch.randn(len(batch.input_ids), WIDTH), rows)
    assert output[0].shape == (0, len(roles.labels))
    found = torch.zeros(9, 2)
    found[[1, 7], 1] = 1
    prediction = roles.decode((output[0], found), rows)[0]
    assert prediction == {"arguments": [], "predicates": [1, 7]}

    again = roles.ask_again(asked, prediction)
    assert [r["predicate"] for r in again] == [1, 7]
    assert [len(roles.texts(r)) for r in again] == [1, 1]
    both = [
        (again[0], {"arguments": [["ARG0", [[0, 1]]], ["ARG1", [[3, 5], [7, 8]]]]}),
        (again[1], {"arguments": []}),
    ]
    gave, had = roles.answer(asked, prediction, both)
    assert gave["predicate"] == {"start": 4, "end": 8, "text": "gave"}
    assert gave["arguments"][1] == {
        "label": "ARG1",
        "start": 13,
        "end": 35,
        "text": "the book that he asked",
        "pieces": [
            {"start": 13, "end": 21, "text": "the book"},
            {"start": 30, "end": 35, "text": "asked"},
        ],
    }
    assert had == {"predicate": {"start": 30, "end": 35, "text": "asked"}, "arguments": []}


@pytest.mark.parametrize("predicate", [2, "ran", [8, 11]])
def test_a_predicate_asked_for_is_answered_alone(roles: Roles, predicate: Any) -> None:
    asked = roles.ask({"text": "Two men ran home.", "predicate": predicate})
    assert asked["predicate"] == 2
    assert roles.ask_again(asked, {"arguments": [], "predicates": [0]}) == []
    found = roles.answer(asked, {"arguments": [["ARG0", [[0, 2]]]], "predicates": None}, [])
    assert [frame["predicate"]["text"] for frame in found] == ["ran"]
    assert found[0]["arguments"][0]["text"] == "Two men"


def test_a_predicate_that_is_not_in_the_text_is_refused(roles: Roles) -> None:
    with pytest.raises(ValueError, match="predicate is 'sang'"):
        roles.ask({"text": "Two men ran home.", "predicate": "sang"})


def test_label_sets_hold_nothing_but_spans() -> None:
    data = RolesData(path="rows", labels=["O", "ARG0"])
    with pytest.raises(ValueError, match="'ARG0'; expected O, B-X or I-X"):
        Roles.fit(data, iter(ROWS))
    with pytest.raises(ValueError, match="no B-X tag"):
        Roles.fit(RolesData(path="rows"), iter([RAN | {"tags": ["O"] * 4}]))
