"""Multilabel: any of n labels for a text, a pair, a picture or a sound."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from pydantic import Field
from sklearn import metrics
from torch import Tensor
from torch.nn import functional

from tasks import items, labels
from tasks.agreement import Chances, Comparable
from tasks.family import Encoded, Fault, Head, Row, Rows
from tasks.helper import Helper
from tasks.numbers import Plain
from tasks.texts import InputData, InputFamily, TextHead

CHOSEN = 0.5
"""Probability from which a label is given."""


class MultilabelData(InputData):
    """Where the input (see ``InputData``) and its list of labels stand."""

    labels: str = "labels"
    """The column of the labels, a list that may be empty."""
    classes: list[str] | None = None
    """The label set, where it should not be read off the training rows."""


class Focal(Plain):
    """The options of ``loss: {name: focal}`` (Lin et al. 2017)."""

    gamma: float = Field(2.0, ge=0)
    """How much less a label counts that is nearly right; 0 is the binary cross entropy."""


class Multilabel(InputFamily[MultilabelData], Comparable, Helper):
    """Any labels a row. Predictions: ``{"labels": [...], "probabilities": {label: p}}``."""

    Data = MultilabelData
    losses = {"binary_cross_entropy": Plain, "focal": Focal}  # noqa: RUF012 (a constant)
    columns = {"chosen": torch.float32}  # noqa: RUF012 (a constant of the class)
    gives = "row"
    main = "macro_f1"

    def bind(self) -> None:
        """Number the labels."""
        self.labels: list[str] = list(self.fitted["labels"])
        self.places = {label: index for index, label in enumerate(self.labels)}

    @classmethod
    def fit(cls, data: MultilabelData, rows: Iterable[Row]) -> dict[str, Any]:
        """Collect the label set of the training rows, unless it was given."""
        found = data.classes or labels.tags_in(rows, data.labels)
        return {"labels": labels.fitted(data.classes, found, data.labels, key="classes")}

    @classmethod
    def column_names(cls, data: MultilabelData) -> list[str]:
        """Name the columns in use."""
        return [*cls.text_columns(data), data.labels]

    @classmethod
    def label_columns(cls, data: MultilabelData) -> list[str]:
        """Name the column of the answer."""
        return [data.labels]

    def fault(self, row: Row, training: bool) -> Fault | None:
        """Say what is wrong with a row."""
        if fault := self.text_fault(row):
            return fault
        column, value = self.data.labels, row.get(self.data.labels)
        if not isinstance(value, (list, tuple)):
            return Fault(column, value, "a list of labels, which may be empty")
        for place, entry in enumerate(value):
            label = labels.name(entry)
            if label is None:
                return Fault(column, entry, f"a label (a text or a whole number) at place {place}")
            if training and label not in self.places:
                return labels.unknown(column, label, self.labels)
        return None

    def encode(self, row: Row, encoded: Sequence[Encoded]) -> dict[str, list[int] | list[float]]:
        """Give 1 or 0 for each label; a row from ``ask`` has none."""
        value = row.get(self.data.labels)
        if value is None:
            return {"chosen": []}
        given = {labels.name(label) for label in value}
        return {"chosen": [float(label in given) for label in self.labels]}

    def terms(self, row: Row, columns: Mapping[str, Sequence[Any]]) -> int:
        """Count every label of the set: each is a question of its own."""
        return len(columns["chosen"])

    def gold(self, row: Row) -> dict[str, Any]:
        """Give the true labels, also those outside the set."""
        given = (labels.name(label) for label in row[self.data.labels])
        return {"labels": labels.ordered(label for label in given if label is not None)}

    def head(self, width: int, dropout: float) -> Head:
        """Build the head of a classifier."""
        return TextHead(width, len(self.labels), dropout)

    def loss(self, output: Tensor, rows: Rows) -> Tensor:
        """Sum the binary losses of all labels, in units of what an even guess costs.

        Label smoothing moves 1 and 0 towards one half.
        """
        known = output[rows.counts["chosen"] > 0]
        chosen = rows.columns["chosen"].view(-1, len(self.labels))
        target = chosen * (1 - self.label_smoothing) + self.label_smoothing / 2
        gamma = float(self.loss_options.get("gamma", 0.0))
        costs = functional.binary_cross_entropy_with_logits(known, target, reduction="none")
        if gamma:
            right = torch.where(chosen > 0, known, -known).sigmoid()
            costs = costs * (1 - right) ** gamma
        return costs.sum() / (math.log(2) * 0.5**gamma)

    def log_chances(self, output: Tensor, rows: Rows) -> list[Chances]:
        """Give those of each label, yes and no, ``[rows * labels, 2]``."""
        both = torch.stack([output, -output], -1).flatten(0, 1)
        known = (rows.counts["chosen"] > 0).repeat_interleave(len(self.labels))
        return [(functional.logsigmoid(both), known / math.log(2))]

    def probabilities(self, logits: Tensor) -> Tensor:
        """Give that of each label."""
        return logits.sigmoid()

    def decode(self, output: Tensor, rows: Rows) -> list[dict[str, Any]]:
        """Give every label of at least even chances."""
        found = []
        for chances in output.float().sigmoid().tolist():
            probabilities = dict(zip(self.labels, chances, strict=True))
            chosen = [label for label, chance in probabilities.items() if chance >= CHOSEN]
            found.append({"labels": chosen, "probabilities": probabilities})
        return found

    def score(
        self, predictions: Sequence[dict[str, Any]], golds: Sequence[dict[str, Any]]
    ) -> dict[str, float]:
        """Give macro F1 and average precision over the labels that occur, and micro F1.

        A true label outside the set cannot be given: both count 0 for it.
        """
        names = ("macro_f1", "micro_f1", "average_precision")
        true = [set(gold["labels"]) for gold in golds]
        given = [set(prediction["labels"]) for prediction in predictions]
        seen = labels.ordered(set().union(*true, *given))
        if not seen:
            return dict.fromkeys(names, 0.0)
        gold = np.array([[label in own for label in seen] for own in true])
        found = np.array([[label in own for label in seen] for own in given])
        chances = np.array([[_chance(p, label) for label in seen] for p in predictions])
        hits, all_of_both = (gold & found).sum(0), gold.sum(0) + found.sum(0)
        there = gold.any(0)
        ranked = [
            metrics.average_precision_score(gold[:, place], chances[:, place])
            if seen[place] in self.places
            else 0.0
            for place in np.flatnonzero(there)
        ]
        return {
            "macro_f1": float((2 * hits / all_of_both).mean()),
            "micro_f1": float(2 * hits.sum() / all_of_both.sum()),
            "average_precision": float(np.mean(ranked)) if ranked else 0.0,
        }

    def parts(
        self, predictions: Sequence[dict[str, Any]], golds: Sequence[dict[str, Any]]
    ) -> items.Array:
        """Give hits and answers of each label that occurs."""
        true, given = ([set(one["labels"]) for one in side] for side in (golds, predictions))
        seen = labels.ordered(set().union(*true, *given))
        shape = len(true), len(seen)
        gold, found = (
            np.array([[label in own for label in seen] for own in side], np.float64).reshape(shape)
            for side in (true, given)
        )
        return np.concatenate([2 * gold * found, gold + found], axis=1)

    def whole(self, sums: items.Array) -> items.Array:
        """Give macro F1."""
        return items.macro(sums)


def _chance(prediction: Mapping[str, Any], label: str) -> float:
    """Give a label's probability; what gives none is sure of its labels."""
    known = prediction.get("probabilities")
    return float(label in prediction["labels"]) if known is None else float(known.get(label, 0.0))
