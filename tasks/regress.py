"""Regress: a number for a text, a pair, a picture or a sound."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from tasks import items, numbers
from tasks.family import Encoded, Fault, Head, Row, Rows
from tasks.helper import Helper
from tasks.texts import InputData, InputFamily, TextHead


class RegressData(InputData):
    """Where the input (see ``InputData``) and its number stand."""

    target: str = "target"


class Regress(InputFamily[RegressData], Helper):
    """One number a row. Predictions: ``{"value": x}``, in the units of the data.

    The head learns numbers standardised by mean and deviation of the training rows.
    """

    Data = RegressData
    losses = numbers.LOSSES
    columns = {"target": torch.float32}  # noqa: RUF012 (a constant of the class)
    gives = "row"
    main = "pearson"
    smooths = False

    def bind(self) -> None:
        """Take the scale of the numbers."""
        self.mean, self.sd = float(self.fitted["mean"]), float(self.fitted["sd"])

    @classmethod
    def fit(cls, data: RegressData, rows: Iterable[Row]) -> dict[str, Any]:
        """Find mean and deviation of the training targets."""
        return numbers.scale((row.get(data.target) for row in rows), data.target)

    @classmethod
    def column_names(cls, data: RegressData) -> list[str]:
        """Name the columns in use."""
        return [*cls.text_columns(data), data.target]

    @classmethod
    def label_columns(cls, data: RegressData) -> list[str]:
        """Name the column of the answer."""
        return [data.target]

    def fault(self, row: Row, training: bool) -> Fault | None:
        """Say what is wrong with a row."""
        return self.text_fault(row) or numbers.fault(self.data.target, row.get(self.data.target))

    def encode(self, row: Row, encoded: Sequence[Encoded]) -> dict[str, list[int] | list[float]]:
        """Standardise the number; a row from ``ask`` has none."""
        value = numbers.read(row.get(self.data.target))
        return {"target": [] if value is None else [(value - self.mean) / self.sd]}

    def terms(self, row: Row, columns: Mapping[str, Sequence[Any]]) -> int:
        """Count the number."""
        return len(columns["target"])

    def gold(self, row: Row) -> dict[str, Any]:
        """Give the true number."""
        return {"value": numbers.read(row[self.data.target])}

    def head(self, width: int, dropout: float) -> Head:
        """Build the head of a classifier with one output."""
        return TextHead(width, 1, dropout)

    def loss(self, output: Tensor, rows: Rows) -> Tensor:
        """Sum the loss over the rows that have a number."""
        known = rows.counts["target"] > 0
        return numbers.loss(self.loss_options, output[known, 0], rows.columns["target"])

    def probabilities(self, logits: Tensor) -> Tensor:
        """Leave the number, in standard deviations from the mean, as it is."""
        return logits

    def decode(self, output: Tensor, rows: Rows) -> list[dict[str, Any]]:
        """Give the numbers in the units of the data."""
        return [{"value": value * self.sd + self.mean} for value in output[:, 0].float().tolist()]

    def score(
        self, predictions: Sequence[dict[str, Any]], golds: Sequence[dict[str, Any]]
    ) -> dict[str, float]:
        """Give the correlations of Pearson and Spearman, and the mean errors."""
        return numbers.scores([p["value"] for p in predictions], [g["value"] for g in golds])

    def parts(
        self, predictions: Sequence[dict[str, Any]], golds: Sequence[dict[str, Any]]
    ) -> items.Array:
        """Give the moments of the standardised numbers."""
        sides = ([(one["value"] - self.mean) / self.sd for one in s] for s in (predictions, golds))
        return items.moments(*sides)

    def whole(self, sums: items.Array) -> items.Array:
        """Give Pearson's correlation."""
        return items.correlation(sums)
