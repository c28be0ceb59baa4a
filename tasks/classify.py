"""Classify: one label out of a set for a text, or for a pair of texts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from sklearn import metrics
from torch import Tensor, nn

from tasks import labels, words
from tasks.family import (
    IGNORED,
    CrossEntropy,
    Data,
    Encoded,
    Family,
    Fault,
    Head,
    Row,
    Rows,
    Text,
)


class ClassifyData(Data):
    """Where the text, its second part and its label stand."""

    text: str = "text"
    pair: str | None = None
    """The column of a second text, read together with the first."""
    label: str = "label"
    """A text, a whole number, or true and false."""


class ClassifyHead(Head):
    """A dense layer with tanh, then the labels: the shape of BERT's and of RoBERTa's classifier."""

    def __init__(self, width: int, classes: int, dropout: float) -> None:
        super().__init__()
        self.dense = nn.Linear(width, width)
        self.dropout = nn.Dropout(dropout)
        self.out = nn.Linear(width, classes)

    def forward(self, hidden: Tensor, rows: Rows) -> Tensor:
        """Give logits ``[rows, classes]``."""
        state: Tensor = self.dense(hidden[rows.summary]).tanh()
        logits: Tensor = self.out(self.dropout(state))
        return logits


class Classify(Family[ClassifyData]):
    """One label a row. Predictions: ``{"label": ..., "probabilities": {label: p}}``."""

    Data = ClassifyData
    losses = {"cross_entropy": CrossEntropy}  # noqa: RUF012 (a constant of the class)
    columns = {"label": torch.int64}  # noqa: RUF012 (a constant of the class)
    main = "accuracy"

    def __init__(
        self,
        data: ClassifyData,
        fitted: Mapping[str, Any],
        loss: Mapping[str, Any] | None = None,
        label_smoothing: float = 0.0,
    ) -> None:
        super().__init__(data, fitted, loss, label_smoothing)
        self.labels: list[str] = list(fitted["labels"])
        self.places = {label: index for index, label in enumerate(self.labels)}

    @classmethod
    def fit(cls, data: ClassifyData, rows: Iterable[Row]) -> dict[str, Any]:
        """Collect the label set of the training rows, unless it was given."""
        if data.labels is None:
            found = {name for row in rows if (name := labels.name(row.get(data.label))) is not None}
            return {"labels": labels.fitted(None, found, data.label)}
        return {"labels": labels.fitted(data.labels, (), data.label)}

    @classmethod
    def column_names(cls, data: ClassifyData) -> list[str]:
        """Name the columns in use."""
        return [data.text, *([data.pair] if data.pair else []), data.label]

    def fault(self, row: Row, training: bool) -> Fault | None:
        """Say what is wrong with a row."""
        for column in filter(None, (self.data.text, self.data.pair)):
            if fault := words.text_fault(column, row.get(column)):
                return fault
        value = row.get(self.data.label)
        label = labels.name(value)
        if label is None:
            return Fault(self.data.label, value, "a label (a text, a whole number or true/false)")
        if training and label not in self.places:
            return labels.unknown(self.data.label, label, self.labels)
        return None

    def texts(self, row: Row) -> list[Text]:
        """Give the text, or the pair."""
        text = str(row[self.data.text])
        return [(text, str(row[self.data.pair])) if self.data.pair else text]

    def encode(self, row: Row, encoded: Sequence[Encoded]) -> dict[str, list[int] | list[float]]:
        """Number the label."""
        return {"label": [labels.index(row.get(self.data.label), self.places)]}

    def terms(self, row: Row, columns: Mapping[str, Sequence[Any]]) -> int:
        """Count the label; one outside the set costs nothing."""
        return int(columns["label"][0] != IGNORED)

    def gold(self, row: Row) -> dict[str, Any]:
        """Give the true label, also one outside the set."""
        return {"label": labels.name(row[self.data.label])}

    def head(self, width: int, dropout: float) -> ClassifyHead:
        """Build the classifier."""
        return ClassifyHead(width, len(self.labels), dropout)

    def loss(self, output: Tensor, rows: Rows) -> Tensor:
        """Sum the cross entropy in units of log(labels)."""
        return labels.cross_entropy(output, rows.columns["label"], self.label_smoothing)

    def decode(self, output: Tensor, rows: Rows) -> list[dict[str, Any]]:
        """Choose the likeliest label."""
        found = []
        for chances in output.float().softmax(1).tolist():
            probabilities = dict(zip(self.labels, chances, strict=True))
            label = max(probabilities, key=probabilities.__getitem__)
            found.append({"label": label, "probabilities": probabilities})
        return found

    def score(
        self, predictions: Sequence[dict[str, Any]], golds: Sequence[dict[str, Any]]
    ) -> dict[str, float]:
        """Give accuracy, macro F1 over the labels seen, and Matthews' correlation."""
        if not golds:
            return {"accuracy": 0.0, "macro_f1": 0.0, "mcc": 0.0}
        true, predicted = [g["label"] for g in golds], [p["label"] for p in predictions]
        return {
            "accuracy": float(metrics.accuracy_score(true, predicted)),
            "macro_f1": float(metrics.f1_score(true, predicted, average="macro", zero_division=0)),
            "mcc": _correlation(true, predicted),
        }

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

    def ask(self, record: Row) -> Row | None:
        """Read ``text``, and ``pair`` where the task has one."""
        fields = {self.data.text: "text"} | ({self.data.pair: "pair"} if self.data.pair else {})
        row = {column: record.get(field) for column, field in fields.items()}
        blank = any(words.text_fault(column, value) for column, value in row.items())
        return None if blank else row

    def answer(
        self, row: Row, prediction: dict[str, Any], again: Sequence[tuple[Row, Any]]
    ) -> dict[str, Any]:
        """Give the prediction as it is."""
        return prediction

    def export(self, head: Head) -> dict[str, Any]:
        """Describe the two layers."""
        weights = {name: tensor.detach() for name, tensor in head.state_dict().items()}
        return {"kind": "sequence-classification", "labels": self.labels, "weights": weights}


def _correlation(true: Sequence[str], predicted: Sequence[str]) -> float:
    """Give Matthews' correlation; 0 where either side is constant (scikit-learn then warns)."""
    if len(set(true)) < 2 or len(set(predicted)) < 2:
        return 0.0
    return float(metrics.matthews_corrcoef(true, predicted))
