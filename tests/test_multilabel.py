"""Multilabel: every label is a question of its own, and scores agree with scikit-learn."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from sklearn import metrics

from tasks.family import Row, Rows
from tasks.multilabel import Multilabel, MultilabelData

LABELS = ["a", "b", "c"]


def family(**options: Any) -> Multilabel:
    return Multilabel(MultilabelData(path="rows"), {"labels": LABELS}, **options)


def rows(chosen: list[list[float]]) -> Rows:
    none = torch.empty(0, dtype=torch.int64)
    columns = {"chosen": torch.tensor([x for own in chosen for x in own])}
    counts = {"chosen": torch.tensor([len(own) for own in chosen])}
    return Rows(torch.ones(len(chosen)), none, none, none, none, none, columns, counts)


LOGITS = torch.tensor([[2.0, -1.0, 0.5], [0.0, 0.0, 0.0], [-3.0, 1.0, 1.0]])
CHOSEN = [[1.0, 0.0, 1.0], [], [0.0, 1.0, 0.0]]
KNOWN = torch.tensor([CHOSEN[0], CHOSEN[2]])


def test_rows_without_labels_take_no_part() -> None:
    expected = torch.nn.functional.binary_cross_entropy_with_logits(
        LOGITS[[0, 2]], KNOWN, reduction="sum"
    )
    found = family().loss(LOGITS, rows(CHOSEN))
    assert found.item() == pytest.approx(expected.item() / math.log(2), rel=1e-6)


@pytest.mark.parametrize("gamma", [0.0, 1.0, 2.0])
def test_the_focal_loss_is_its_formula(gamma: float) -> None:
    """Lin et al. 2017, equation 4, in units of its value at one half."""
    right = torch.where(KNOWN > 0, LOGITS[[0, 2]].sigmoid(), 1 - LOGITS[[0, 2]].sigmoid())
    expected = -((1 - right) ** gamma * right.log()).sum() / (0.5**gamma * math.log(2))
    found = family(loss={"name": "focal", "gamma": gamma}).loss(LOGITS, rows(CHOSEN))
    assert found.item() == pytest.approx(expected.item(), rel=1e-5)


def test_scores_agree_with_scikit_learn() -> None:
    predictions = family().decode(LOGITS, rows(CHOSEN))
    golds: list[Row] = [{"labels": ["a", "c"]}, {"labels": ["b"]}, {"labels": ["b", "c"]}]
    true = [[label in gold["labels"] for label in LABELS] for gold in golds]
    given = [[label in p["labels"] for label in LABELS] for p in predictions]
    found = family().score(predictions, golds)
    assert found["macro_f1"] == pytest.approx(metrics.f1_score(true, given, average="macro"))
    assert found["micro_f1"] == pytest.approx(metrics.f1_score(true, given, average="micro"))
    chances = [list(p["probabilities"].values()) for p in predictions]
    expected = metrics.average_precision_score(true, chances, average="macro")
    assert found["average_precision"] == pytest.approx(expected)


def test_a_gold_label_outside_the_set_counts_as_missed() -> None:
    prediction = {"labels": ["a"], "probabilities": {"a": 0.9, "b": 0.1, "c": 0.1}}
    scores = family().score([prediction], [{"labels": ["a", "z"]}])
    assert scores["macro_f1"] == pytest.approx(0.5)
    assert scores["micro_f1"] == pytest.approx(2 / 3)


def test_a_gold_label_outside_the_set_has_no_precision() -> None:
    golds: list[Row] = [{"labels": ["a", "z"]}, {"labels": ["z"]}]
    given = [
        {"labels": ["a"], "probabilities": {"a": 0.9, "b": 0.1, "c": 0.0}},
        {"labels": [], "probabilities": {"a": 0.2, "b": 0.1, "c": 0.0}},
    ]
    assert family().score(given, golds)["average_precision"] == 0.5
