"""Topics: what texts without labels are about, as a topic model of the training texts tells it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from tasks import chances, items, themes, words
from tasks.chances import Divergence
from tasks.family import Encoded, Fault, Finding, Row, Rows
from tasks.helper import Helper
from tasks.texts import TextData, TextFamily, TextHead

ASKED = "asked"
"""Marks rows made from records: the head answers them, not the topic model."""


class TopicsData(TextData):
    """Where the text stands, and the topic model that is fitted on the training texts."""

    topics: int = Field(20, ge=2)
    method: Literal["nmf", "lda"] = "nmf"
    words: int = Field(5000, ge=2)
    """Words that the topic model knows: the most frequent ones."""


class Topics(TextFamily[TopicsData], Helper):
    """The shares of topics in a text.

    Predictions: ``{"topic": number, "words": [...], "distribution": [...]}``, the likeliest topic
    with its top words. The truth is what the topic model says. A text without a word of any topic
    has no truth: it takes no part in the loss, and counts in ``coverage`` alone.
    """

    Data = TopicsData
    losses = {"kl": Divergence}  # noqa: RUF012 (a constant of the class)
    columns = {"distribution": torch.float32}  # noqa: RUF012 (a constant of the class)
    gives = "row"
    main = "js_similarity"

    def bind(self) -> None:
        """Take the topic model."""
        self.themes = themes.Themes(self.fitted, self.data.method)
        self.words = self.themes.words()

    @classmethod
    def fit(cls, data: TopicsData, rows: Iterable[Row]) -> dict[str, Any]:
        """Fit the topic model."""
        columns = cls.text_columns(data)
        texts = [
            _joined(row, columns)
            for row in rows
            if not any(words.text_fault(column, row.get(column)) for column in columns)
        ]
        return themes.fit(texts, data.topics, data.method, data.words)

    @classmethod
    def column_names(cls, data: TopicsData) -> list[str]:
        """Name the columns in use."""
        return cls.text_columns(data)

    def fault(self, row: Row, training: bool) -> Fault | None:
        """Say what is wrong with a row."""
        return self.text_fault(row)

    def encode(self, row: Row, encoded: Sequence[Encoded]) -> dict[str, list[int] | list[float]]:
        """Give the shares of the topics; a row from ``ask``, or without any topic, has none."""
        return {"distribution": [] if row.get(ASKED) else self._true(row) or []}

    def terms(self, row: Row, columns: Mapping[str, Sequence[Any]]) -> int:
        """Count the distribution."""
        return int(bool(columns["distribution"]))

    def gold(self, row: Row) -> dict[str, Any]:
        """Give what the topic model says; ``topic`` and ``distribution`` are None without topic."""
        found = self._true(row)
        if found is None:
            return {"topic": None, "words": [], "distribution": None}
        return self._prediction(found)

    def head(self, width: int, dropout: float) -> TextHead:
        """Build the head of a classifier."""
        return TextHead(width, self.data.topics, dropout)

    def loss(self, output: Tensor, rows: Rows) -> Tensor:
        """Sum KL(true || predicted) over the rows that have a topic, in units of log(topics)."""
        known = output[rows.counts["distribution"] > 0]
        true = rows.columns["distribution"].view(-1, self.data.topics)
        return chances.loss(self.loss_options, known, true, self.label_smoothing)

    def probabilities(self, logits: Tensor) -> Tensor:
        """Give the shares of the topics."""
        return logits.softmax(-1)

    def decode(self, output: Tensor, rows: Rows) -> list[dict[str, Any]]:
        """Give the shares of the topics, and the likeliest."""
        return [self._prediction(own) for own in output.float().softmax(1).tolist()]

    def score(
        self, predictions: Sequence[dict[str, Any]], golds: Sequence[dict[str, Any]]
    ) -> dict[str, float]:
        """Give how near the distributions are, the accuracy of the likeliest topic, and coverage.

        Coverage is the share of texts with a topic; the other scores are over these.
        """
        both = [
            (p, g) for p, g in zip(predictions, golds, strict=True) if g["distribution"] is not None
        ]
        right = sum(p["topic"] == g["topic"] for p, g in both)
        return {
            **chances.scores([(p["distribution"], g["distribution"]) for p, g in both]),
            "accuracy": right / max(1, len(both)),
            "coverage": len(both) / max(1, len(golds)),
        }

    def parts(
        self, predictions: Sequence[dict[str, Any]], golds: Sequence[dict[str, Any]]
    ) -> items.Array:
        """Give how near the distributions are, for texts that have one."""
        there = [gold["distribution"] is not None for gold in golds]
        found = np.zeros((len(golds), 2))
        pairs = [
            (p["distribution"], g["distribution"])
            for p, g, known in zip(predictions, golds, there, strict=True)
            if known
        ]
        found[np.array(there, bool)] = items.means(1 - d for d in chances.distances(pairs))
        return found

    def ask(self, record: Row) -> Row | None:
        """Read ``text``, and ``pair`` where the task has one."""
        row = super().ask(record)
        return None if row is None else {**row, ASKED: True}

    def findings(self, splits: Mapping[str, Iterable[Row]]) -> list[Finding]:
        """Tell how many rows have no topic, how the topics cohere, and their words."""
        found, columns = [], self.text_columns(self.data)
        for split, rows in splits.items():
            texts = [_joined(row, columns) for row in rows]
            blank = sum(not self.themes.knows(text) for text in texts)
            if blank:
                found.append(
                    Finding(
                        f"{blank} of {len(texts)} {split} rows have no word of any topic and take"
                        " no part"
                    )
                )
            if split == "validation":
                coherence = themes.npmi(self.words, texts)
                words = [(str(place), " ".join(own)) for place, own in enumerate(self.words)]
                about = f"mean NPMI of their {themes.TOP} top words in the validation texts"
                found.append(
                    Finding(f"its {len(words)} topics cohere by {coherence:.3f} ({about})", words)
                )
        return found

    def _true(self, row: Row) -> list[float] | None:
        return self.themes.distribution(_joined(row, self.text_columns(self.data)))

    def _prediction(self, given: Sequence[float]) -> dict[str, Any]:
        topic = max(range(len(given)), key=given.__getitem__)
        return {"topic": topic, "words": self.words[topic], "distribution": list(given)}


def _joined(row: Row, columns: Sequence[str]) -> str:
    """Give what the topic model reads: both texts of a pair."""
    return "\n".join(str(row[column]) for column in columns)
