"""Classify: one label, or the chances of all labels, for a text, a pair, a picture or a sound."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from pydantic import BaseModel, Field, model_validator
from sklearn import metrics
from torch import Tensor

from tasks import chances, items, labels
from tasks.agreement import Chances, Comparable
from tasks.family import IGNORED, CrossEntropy, Encoded, Fault, Head, Row, Rows
from tasks.helper import Helper
from tasks.texts import InputData, InputFamily, TextHead


class ClassifyData(InputData):
    """Where the input stands (see ``InputData``), and its label or the chances of all labels."""

    label: str = "label"
    """A text, a whole number, or true and false."""
    distribution: str | None = None
    """A list of chances instead, one for each of ``classes``: soft labels."""
    classes: list[str] | None = None
    """What the chances are of, in their order."""
    labels: list[str] | None = Field(None, min_length=1)
    """The label set, where it should not be read off the training rows."""
    positive: str | None = None
    """The label whose own F1 is a score beside the others."""

    @model_validator(mode="after")
    def _both(self) -> ClassifyData:
        if (self.distribution is None) != (self.classes is None):
            raise ValueError("distribution and classes go together: give both, or neither")
        if self.distribution and (beside := _HARD & self.model_fields_set):
            raise ValueError(f"{min(beside)} stands beside distribution, which takes its place")
        return self


_HARD = {"label", "labels", "positive"}
"""Keys of ``ClassifyData`` that soft labels leave nothing to say."""


class Classify(InputFamily[ClassifyData], Comparable, Helper):
    """One label a row. Predictions: ``{"label": ..., "probabilities": {label: p}}``.

    With ``distribution`` the truth is as soft as a prediction, and its likeliest label the mode.
    """

    Data = ClassifyData
    losses = {"cross_entropy": CrossEntropy, **chances.LOSSES}  # noqa: RUF012 (a constant)
    columns = {"label": torch.int64, "chances": torch.float32}  # noqa: RUF012 (a constant)
    gives = "row"
    main = "accuracy"

    def bind(self) -> None:
        """Number the labels."""
        self.labels: list[str] = list(self.fitted["labels"])
        self.places = {label: index for index, label in enumerate(self.labels)}
        if self.data.distribution:
            self.main = "js_similarity"

    @classmethod
    def fitting(cls, data: ClassifyData) -> Mapping[str, type[BaseModel]]:
        """Soft labels have losses of their own."""
        return chances.LOSSES if data.distribution else {"cross_entropy": CrossEntropy}

    @classmethod
    def fit(cls, data: ClassifyData, rows: Iterable[Row]) -> dict[str, Any]:
        """Collect the label set of the training rows, unless it was given."""
        if data.classes is not None:
            return {"labels": labels.fitted(data.classes, (), "", key="classes")}
        given = (labels.name(row.get(data.label)) for row in (() if data.labels else rows))
        found = labels.fitted(data.labels, {name for name in given if name is not None}, data.label)
        if data.positive is not None and data.positive not in found:
            shown = ", ".join(map(repr, found))
            raise ValueError(f"positive is {data.positive!r}; expected one of the labels: {shown}.")
        return {"labels": found}

    @classmethod
    def column_names(cls, data: ClassifyData) -> list[str]:
        """Name the columns in use."""
        return [*cls.text_columns(data), data.distribution or data.label]

    @classmethod
    def label_columns(cls, data: ClassifyData) -> list[str]:
        """Name the column of the answer."""
        return [data.distribution or data.label]

    def fault(self, row: Row, training: bool) -> Fault | None:
        """Say what is wrong with a row."""
        if fault := self.text_fault(row):
            return fault
        if column := self.data.distribution:
            return chances.fault(column, row.get(column), len(self.labels))
        value = row.get(self.data.label)
        label = labels.name(value)
        if label is None:
            return Fault(self.data.label, value, "a label (a text, a whole number or true/false)")
        if training and label not in self.places:
            return labels.unknown(self.data.label, label, self.labels)
        return None

    def encode(self, row: Row, encoded: Sequence[Encoded]) -> dict[str, list[int] | list[float]]:
        """Number the label, or take the chances; a row from ``ask`` has neither."""
        if column := self.data.distribution:
            return {"label": [], "chances": chances.read(row.get(column)) or []}
        return {"label": [labels.index(row.get(self.data.label), self.places)], "chances": []}

    def terms(self, row: Row, columns: Mapping[str, Sequence[Any]]) -> int:
        """Count the label; one outside the set costs nothing."""
        if self.data.distribution:
            return int(bool(columns["chances"]))
        return int(columns["label"][0] != IGNORED)

    def gold(self, row: Row) -> dict[str, Any]:
        """Give the true label, also one outside the set."""
        if column := self.data.distribution:
            return self._prediction(chances.read(row[column]) or [])
        return {"label": labels.name(row[self.data.label])}

    def head(self, width: int, dropout: float) -> TextHead:
        """Build the classifier."""
        return TextHead(width, len(self.labels), dropout)

    def loss(self, output: Tensor, rows: Rows) -> Tensor:
        """Sum the cross entropy or, on soft labels, its kin, in units of log(labels)."""
        if self.data.distribution:
            known = output[rows.counts["chances"] > 0]
            true = rows.columns["chances"].view(-1, len(self.labels))
            return chances.loss(self.loss_options, known, true, self.label_smoothing)
        return labels.cross_entropy(output, rows.columns["label"], self.label_smoothing)

    def log_chances(self, output: Tensor, rows: Rows) -> list[Chances]:
        """Give those of the labels."""
        if self.data.distribution:
            known = rows.counts["chances"] > 0
            return [(output.log_softmax(1), known / math.log(len(self.labels)))]
        return [labels.log_chances(output, rows.columns["label"])]

    def probabilities(self, logits: Tensor) -> Tensor:
        """Give those of the labels."""
        return logits.softmax(-1)

    def decode(self, output: Tensor, rows: Rows) -> list[dict[str, Any]]:
        """Choose the likeliest label."""
        return [self._prediction(own) for own in output.float().softmax(1).tolist()]

    def _prediction(self, given: Sequence[float]) -> dict[str, Any]:
        probabilities = dict(zip(self.labels, given, strict=True))
        label = max(probabilities, key=probabilities.__getitem__)
        return {"label": label, "probabilities": probabilities}

    def score(
        self, predictions: Sequence[dict[str, Any]], golds: Sequence[dict[str, Any]]
    ) -> dict[str, float]:
        """Give accuracy, macro F1 over the labels seen, Matthews' correlation, F1 of ``positive``.

        On soft labels: accuracy against the mode, and how far the chances are from the true ones.
        """
        if self.data.distribution:
            pairs = [
                (list(p["probabilities"].values()), list(g["probabilities"].values()))
                for p, g in zip(predictions, golds, strict=True)
            ]
            hits = [p["label"] == g["label"] for p, g in zip(predictions, golds, strict=True)]
            return {"accuracy": sum(hits) / max(1, len(hits)), **chances.scores(pairs)}
        own = ("f1",) if self.data.positive else ()
        if not golds:
            return dict.fromkeys(("accuracy", "macro_f1", "mcc", *own), 0.0)
        true, predicted = [g["label"] for g in golds], [p["label"] for p in predictions]
        one = {"labels": [self.data.positive], "average": "micro", "zero_division": 0}
        return {
            "accuracy": float(metrics.accuracy_score(true, predicted)),
            "macro_f1": float(metrics.f1_score(true, predicted, average="macro", zero_division=0)),
            "mcc": _correlation(true, predicted),
            **{name: float(metrics.f1_score(true, predicted, **one)) for name in own},
        }

    def parts(
        self, predictions: Sequence[dict[str, Any]], golds: Sequence[dict[str, Any]]
    ) -> items.Array:
        """Give hits or, on soft labels, how near the chances are."""
        both = list(zip(predictions, golds, strict=True))
        if self.data.distribution:
            return items.means(
                1 - d
                for d in chances.distances(
                    [
                        (list(p["probabilities"].values()), list(g["probabilities"].values()))
                        for p, g in both
                    ]
                )
            )
        return items.means(float(p["label"] == g["label"]) for p, g in both)

    def confusion(
        self, predictions: Sequence[dict[str, Any]], golds: Sequence[dict[str, Any]]
    ) -> dict[str, Any]:
        """Count gold (rows) against predicted labels; labels outside the set come last."""
        true = [g["label"] for g in golds]
        shown = [*self.labels, *labels.ordered(set(true) - set(self.labels))]
        counts = [[0] * len(shown) for _ in shown]
        place = {label: index for index, label in enumerate(shown)}
        for label, prediction in zip(true, predictions, strict=True):
            counts[place[label]][place[prediction["label"]]] += 1
        return {"labels": shown, "counts": counts}

    def export(self, head: Head) -> dict[str, Any]:
        """Describe the two layers."""
        weights = {name: tensor.detach() for name, tensor in head.state_dict().items()}
        return {"kind": "sequence-classification", "labels": self.labels, "weights": weights}


def _correlation(true: Sequence[str], predicted: Sequence[str]) -> float:
    """Give Matthews' correlation; 0 where either side is constant (scikit-learn then warns)."""
    if len(set(true)) < 2 or len(set(predicted)) < 2:
        return 0.0
    return float(metrics.matthews_corrcoef(true, predicted))
