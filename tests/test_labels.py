"""Label sets have one order, B-/I-/O stays legal, spans are counted as others count them."""

import itertools
import math
import random
from typing import Any

import pytest
import torch
from nervaluate import Evaluator

from tasks import labels

SET = labels.closed(["B-A", "I-B"])


def random_tags(chance: random.Random, words: int) -> list[str]:
    tags: list[str] = []
    for _ in range(words):
        before = tags[-1][2:] if tags and tags[-1] != "O" else None
        tags.append(chance.choice(["O", "B-A", "B-B", *([f"I-{before}"] * 2 if before else [])]))
    return tags


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([10, 9, 2], ["2", "9", "10"]),
        (["10", "9", "2"], ["2", "9", "10"]),
        ([1.0, 0.0], ["0", "1"]),
        ([True, False], ["false", "true"]),
        (["b", "a", "10"], ["10", "a", "b"]),
        (["2", "1", "01", "0001", "001", "00001"], ["00001", "0001", "001", "01", "1", "2"]),
    ],
)
def test_a_label_set_is_the_same_in_every_file_format(values: Any, expected: Any) -> None:
    assert labels.ordered(labels.name(value) for value in values) == expected


@pytest.mark.parametrize("value", [None, "", "  ", 0.5, math.nan, ["a"], {}])
def test_what_can_be_no_label_is_none(value: Any) -> None:
    assert labels.name(value) is None


def test_a_label_set_has_two_labels_and_none_twice() -> None:
    assert labels.fitted(["x", "y"], (), "label") == ["x", "y"]
    with pytest.raises(ValueError, match="'label' of the training rows holds only 'x'"):
        labels.fitted(None, {"x"}, "label")
    with pytest.raises(ValueError, match="holds no label"):
        labels.fitted(None, (), "label")
    with pytest.raises(ValueError, match="'x' twice"):
        labels.fitted(["x", "y", "x"], (), "label")


def test_an_unknown_label_comes_with_the_nearest_known_one() -> None:
    fault = labels.unknown("label", "sport", ["business", "sports"])
    assert fault.expected == "one of the 2 labels 'business', 'sports'; did you mean 'sports'?"


def test_only_o_b_and_i_make_spans() -> None:
    assert labels.is_bio(["O", "B-PER", "I-PER"])
    assert labels.is_bio(["B-C-ARG1"])
    for no_spans in (["O"], ["NOUN", "X"], ["O", "B-A", "E-A"], ["O", "B"], ["B-", "O"]):
        assert not labels.is_bio(no_spans)


def test_every_type_gets_both_its_tags() -> None:
    assert SET == ["O", "B-A", "I-A", "B-B", "I-B"]
    assert labels.closed(["B-ARG1-DSP"]) == ["O", "B-ARG1-DSP", "I-ARG1-DSP"]


@pytest.mark.parametrize(
    ("tags", "stray"),
    [
        (["O", "B-A", "I-A", "I-A", "B-A"], None),
        (["I-A"], 0),
        (["O", "I-A"], 1),
        (["B-A", "I-B"], 1),
        (["B-A", "I-A", "O", "I-A"], 3),
    ],
)
def test_an_inside_tag_continues_its_own_span(tags: Any, stray: Any) -> None:
    assert labels.first_illegal(tags) == stray


def test_spans_are_read_off_in_order() -> None:
    tags = ["B-A", "I-A", "B-A", "O", "B-B", "I-B"]
    assert labels.spans(tags) == [("A", 0, 2), ("A", 2, 3), ("B", 4, 6)]
    assert labels.spans(["I-A", "I-A", "I-B"]) == [("A", 0, 2), ("B", 2, 3)]
    assert labels.spans([]) == []


def test_legal_decoding_finds_the_best_of_all_legal_sequences() -> None:
    counts = [4, 1, 0, 3, 5]
    logits = 3 * torch.randn(sum(counts), len(SET))
    found = labels.best_legal(logits, torch.tensor(counts), SET).split(counts)
    for scores, path in zip(logits.split(counts), found, strict=True):
        legal = [
            way
            for way in itertools.product(range(len(SET)), repeat=len(scores))
            if labels.first_illegal([SET[tag] for tag in way]) is None
        ]
        best = max(legal, key=lambda way: sum(scores[w, tag].item() for w, tag in enumerate(way)))
        assert path.tolist() == list(best)


def test_legal_decoding_changes_no_legal_choice_and_takes_no_words() -> None:
    sentence = torch.tensor([SET.index(tag) for tag in ["B-A", "I-A", "O", "B-B", "I-B", "B-B"]])
    logits = 20 * torch.nn.functional.one_hot(sentence, len(SET)).float()
    assert labels.best_legal(logits, torch.tensor([3, 3]), SET).tolist() == sentence.tolist()
    assert (
        labels.best_legal(torch.empty(0, 5), torch.tensor([], dtype=torch.int64), SET).numel() == 0
    )
    assert labels.best_legal(torch.empty(0, 5), torch.tensor([0, 0]), SET).numel() == 0


def test_span_scores_agree_with_nervaluate() -> None:
    chance = random.Random(1)
    true = [random_tags(chance, words) for words in range(1, 30)]
    found = [random_tags(chance, words) for words in range(1, 30)]
    for gold, predicted in zip(true, found, strict=True):  # so that some spans are right
        for place, tag in enumerate(gold[: len(gold) // 2]):
            predicted[place] = tag
        half = len(gold) // 2
        if labels.first_illegal(predicted) == half:
            predicted[half] = "O"
            while (stray := labels.first_illegal(predicted)) is not None:
                predicted[stray] = "O"
    pairs = [(set(labels.spans(p)), set(labels.spans(g))) for p, g in zip(found, true, strict=True)]
    strict = Evaluator(true, found, tags=["A", "B"], loader="list").evaluate()["overall"]["strict"]
    precision, recall, f1 = labels.micro(pairs)
    assert 0.2 < f1 < 0.9
    assert (precision, recall, f1) == pytest.approx((strict.precision, strict.recall, strict.f1))


def test_undefined_precision_recall_and_f1_are_zero() -> None:
    assert labels.micro([]) == (0, 0, 0)
    assert labels.micro([({1}, set())]) == (0, 0, 0)
    assert labels.micro([({1, 2}, {2}), ({3}, {3, 4})]) == (2 / 3, 2 / 3, 2 / 3)


def test_cross_entropy_is_counted_in_units_of_an_even_guess() -> None:
    logits, true = torch.zeros(6, 7), torch.tensor([0, 1, 2, 3, -100, -100])
    assert labels.cross_entropy(logits, true).item() == pytest.approx(4)
    assert labels.cross_entropy(logits, true, smoothing=0.1).item() == pytest.approx(4)
