"""One label a word: spans and words as users read them, words beyond the encoder's reach."""

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import BertConfig, BertForTokenClassification

from tasks import labels
from tasks.rows import RowError
from tasks.tag import Tag
from tests.family_cases import ANIMALS, WORD_CLASSES
from tests.reading import WIDTH, fitted, packed, reader
from tests.written import load, write


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


def test_labels_of_nothing_but_spans_are_completed_and_ranked_by_spans() -> None:
    family = fitted(Tag, ANIMALS)
    assert family.labels == labels.closed(["B-BEAST", "B-PERSON", "B-PLACE"])
    assert family.main == "span_f1"
    assert fitted(Tag, WORD_CLASSES).main == "token_accuracy"


def test_a_stray_tag_among_spans_makes_its_row_bad(tmp_path: Path) -> None:
    found: list[dict[str, Any]] = [{"tokens": ["a", "b"], "tags": ["B-X", "I-X"]}] * 30
    found[7] = {"tokens": ["a", "b"], "tags": ["PER", "O"]}
    write(tmp_path, train=found, validation=found[:1])
    with pytest.raises(RowError, match=r"row 8, column 'tags': found 'PER'; expected O, B-X or"):
        load(tmp_path, Tag)
    fitted_labels, _ = load(tmp_path, Tag, max_bad_rows=1)
    assert fitted_labels["labels"] == ["O", "B-X", "I-X"]
    fitted_labels, _ = load(tmp_path, Tag, labels=["B-X", "I-X", "O", "PER"])
    assert fitted_labels["labels"] == ["B-X", "I-X", "O", "PER"]


def test_tags_of_another_scheme_are_plain_labels_however_few() -> None:
    many = {"tokens": ["a"] * 100, "tags": ["O"] * 100}
    for tags in (["B-X", "E-X"], ["B-X", "U-X"], ["I-X", "PER"], ["PER"] * 9 + ["B-X"]):
        family = fitted(Tag, [many, {"tokens": ["a"] * len(tags), "tags": tags}])
        assert family.labels == sorted({"O", *tags})
        assert not family.bio


def test_span_scores_are_those_worked_out_by_hand() -> None:
    family = fitted(Tag, ANIMALS)
    golds = [{"tags": ["B-BEAST", "I-BEAST", "O", "B-PLACE"]}, {"tags": ["O", "B-BEAST"]}]
    found = [{"tags": ["B-BEAST", "O", "O", "B-PLACE"]}, {"tags": ["O", "B-PERSON"]}]
    # Of 3 predicted and 3 true spans one is right; 4 of 6 words.
    assert family.score(found, golds) == {"token_accuracy": 4 / 6, "span_f1": 1 / 3}


def test_a_tag_head_is_the_token_classifier_of_bert() -> None:
    family = fitted(Tag, WORD_CLASSES)
    head = family.head(WIDTH, 0.1).eval()
    described = family.export(head)
    assert (described["kind"], described["labels"]) == ("token-classification", family.labels)
    config = BertConfig(
        vocab_size=40,
        hidden_size=WIDTH,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=32,
        num_labels=len(family.labels),
    )
    model = BertForTokenClassification(config).eval()
    model.classifier.weight.data = described["weights"]["out.weight"]
    model.classifier.bias.data = described["weights"]["out.bias"]
    batch, _ = packed(family, WORD_CLASSES[:1], reader())
    rows = batch.rows["task"]
    ids = torch.arange(len(batch.input_ids))[None]
    logits = head(model.bert(ids).last_hidden_state[0], rows)
    torch.testing.assert_close(logits, model(ids).logits[0, rows.words])
