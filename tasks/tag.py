"""Tag: one label for every word, which may mark spans in the B-/I-/O scheme."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn

from tasks import gazetteer, items, labels, words
from tasks.agreement import Chances, Comparable
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
from tasks.gazetteer import Gazetteer
from tasks.helper import Helper
from tasks.shuffled import ByWord, Order, pieces


class TagData(Data):
    """Where the words and their tags stand."""

    tokens: str = "tokens"
    tags: str = "tags"
    labels: list[str] | None = Field(None, min_length=1)
    """The label set, where it should not be read off the training rows."""
    gazetteer: str | None = None
    """A file of phrases with their types, which the head is told of."""


class TagHead(Head):
    """One linear layer on the first token of each word: the shape of Transformers' token heads.

    With a gazetteer it also sees, for each type, whether the word is inside a phrase of it.
    """

    reads = "words"

    def __init__(self, width: int, classes: int, dropout: float, types: int = 0) -> None:
        """``types`` counts those of the gazetteer."""
        super().__init__()
        self.types = types
        self.dropout = nn.Dropout(dropout)
        self.out = nn.Linear(width + types, classes)

    def forward(self, hidden: Tensor, rows: Rows) -> Tensor:
        """Give logits ``[words, classes]``."""
        state = self.dropout(self.states(hidden, rows))
        if self.types:
            state = torch.cat([state, self._known(rows).to(state.dtype)], dim=1)
        logits: Tensor = self.out(state)
        return logits

    def states(self, hidden: Tensor, rows: Rows) -> Tensor:
        """Give what the last layer reads of the encoder, ``[words, width]``."""
        return hidden[rows.words]

    def _known(self, rows: Rows) -> Tensor:
        """Give 1 or 0 for each word and type, ``[words, types]``."""
        first = (rows.word_counts.cumsum(0) - rows.word_counts) * self.types
        places = rows.columns["known"]
        row = torch.repeat_interleave(first, rows.counts["known"], output_size=len(places))
        flat = torch.zeros(len(rows.words) * self.types, device=places.device)
        return flat.index_fill(0, row + places, 1.0).view(-1, self.types)


class Tag(Family[TagData], Comparable, Helper, ByWord):
    """One label a word. Predictions: ``{"tags": [...], "scores": [...]}``, one entry a word.

    A label set of nothing but O, B-X and I-X marks spans: it is completed with the missing B-X and
    I-X, decoded legally, and ranked by strict span F1 (Tjong Kim Sang and De Meulder 2003). Where
    nearly all tags are of this kind, a row with another is bad.
    Words beyond the encoder's reach are predicted O, or None without spans, which is never right.
    """

    Data = TagData
    losses = {"cross_entropy": CrossEntropy}  # noqa: RUF012 (a constant of the class)
    columns = {"tags": torch.int64, "size": torch.int64, "known": torch.int64}  # noqa: RUF012
    gives = "word"

    def bind(self) -> None:
        """Number the labels, and see whether they mark spans."""
        self.labels: list[str] = list(self.fitted["labels"])
        self.places = {label: index for index, label in enumerate(self.labels)}
        self.bio = labels.is_bio(self.labels)
        self.main = "span_f1" if self.bio else "token_accuracy"
        self.gazetteer = Gazetteer(self.fitted.get("gazetteer", {}))

    @classmethod
    def fit(cls, data: TagData, rows: Iterable[Row]) -> dict[str, Any]:
        """Collect the label set of the training rows, unless it was given."""
        found = data.labels or labels.meant(labels.tags_in(rows, data.tags))
        if labels.is_bio(found):
            return {"labels": labels.closed(found)}
        return {"labels": labels.fitted(data.labels, found, data.tags)}

    @classmethod
    def consult(cls, data: TagData, find: Callable[[str], Path]) -> dict[str, Any]:
        """Read the gazetteer, if there is one."""
        if data.gazetteer is None:
            return {}
        return {"gazetteer": gazetteer.read(find(data.gazetteer))}

    @classmethod
    def column_names(cls, data: TagData) -> list[str]:
        """Name the columns in use."""
        return [data.tokens, data.tags]

    @classmethod
    def label_columns(cls, data: TagData) -> list[str]:
        """Name the column of the answer."""
        return [data.tags]

    @classmethod
    def dealt(cls, data: TagData, row: Row, order: Order) -> dict[str, Any]:
        """Give the tags to other words; a span stays whole."""
        return {data.tags: pieces(row[data.tags], order)}

    def fault(self, row: Row, training: bool) -> Fault | None:
        """Say what is wrong with a row."""
        tokens = row.get(self.data.tokens)
        if fault := words.words_fault(self.data.tokens, tokens):
            return fault
        known = self.places if training else None
        tags = row.get(self.data.tags)
        return labels.tag_fault(self.data.tags, tags, len(tokens or ()), self.bio, known)

    def texts(self, row: Row) -> list[Text]:
        """Give the words."""
        return [list(row[self.data.tokens])]

    def encode(self, row: Row, encoded: Sequence[Encoded]) -> dict[str, list[int] | list[float]]:
        """Number the tags of the words that the encoder sees; ``size`` counts all words.

        ``known`` has word x types + type for each word of a type of the gazetteer.
        """
        tokens, tags, seen = row[self.data.tokens], row.get(self.data.tags), len(encoded[0].words)
        types = len(self.gazetteer.types)
        hits = [word * types + kind for word, kind in self.gazetteer(tokens) if word < seen]
        found = [IGNORED] * seen
        if tags is not None:
            found = [labels.index(tag, self.places) for tag in tags[:seen]]
        return {"tags": found, "size": [len(tokens)], "known": hits}

    def terms(self, row: Row, columns: Mapping[str, Sequence[Any]]) -> int:
        """Count the words with a known tag."""
        return sum(int(tag != IGNORED) for tag in columns["tags"])

    def gold(self, row: Row) -> dict[str, Any]:
        """Give the true tags of all words."""
        return {"tags": [labels.name(tag) for tag in row[self.data.tags]]}

    def head(self, width: int, dropout: float) -> TagHead:
        """Build the linear layer."""
        return TagHead(width, len(self.labels), dropout, len(self.gazetteer.types))

    def loss(self, output: Tensor, rows: Rows) -> Tensor:
        """Sum the cross entropy in units of log(labels)."""
        return labels.cross_entropy(output, rows.columns["tags"], self.label_smoothing)

    def log_chances(self, output: Tensor, rows: Rows) -> list[Chances]:
        """Give those of each word's labels."""
        return [labels.log_chances(output, rows.columns["tags"])]

    def probabilities(self, logits: Tensor) -> Tensor:
        """Give those of each word's labels."""
        return logits.softmax(-1)

    def decode(self, output: Tensor, rows: Rows) -> list[dict[str, Any]]:
        """Choose each sentence's likeliest legal tags; a score is the tag's probability."""
        output = output.float()
        if self.bio:
            best = labels.best_legal(output, rows.word_counts, self.labels)
        else:
            best = output.argmax(1)
        chances = output.softmax(1).gather(1, best[:, None])[:, 0]
        seen = rows.word_counts.tolist()
        found = []
        for tags, scores, size in zip(
            torch.split(best, seen),
            torch.split(chances, seen),
            rows.columns["size"].tolist(),
            strict=True,
        ):
            cut = size - len(tags)
            rest = [labels.OUTSIDE if self.bio else None] * cut
            names = [self.labels[tag] for tag in tags.tolist()]
            found.append({"tags": names + rest, "scores": scores.tolist() + [0.0] * cut})
        return found

    def score(
        self, predictions: Sequence[dict[str, Any]], golds: Sequence[dict[str, Any]]
    ) -> dict[str, float]:
        """Give the share of right tags and, for B-/I-/O, the strict micro F1 of spans."""
        pairs = [(p["tags"], g["tags"]) for p, g in zip(predictions, golds, strict=True)]
        right = sum(a == b for p, g in pairs for a, b in zip(p, g, strict=True))
        size = sum(len(g) for _, g in pairs)
        scores = {"token_accuracy": right / size if size else 0.0}
        if self.bio:
            both = [(set(labels.spans(p)), set(labels.spans(g))) for p, g in pairs]
            scores["span_f1"] = labels.micro(both)[2]
        return scores

    def parts(
        self, predictions: Sequence[dict[str, Any]], golds: Sequence[dict[str, Any]]
    ) -> items.Array:
        """Give hits and answers of spans or, without them, of words."""
        pairs = [(p["tags"], g["tags"]) for p, g in zip(predictions, golds, strict=True)]
        if self.bio:
            return items.f1((set(labels.spans(p)), set(labels.spans(g))) for p, g in pairs)
        right = [sum(a == b for a, b in zip(p, g, strict=True)) for p, g in pairs]
        sizes = [len(g) for _, g in pairs]
        return np.array([right, sizes], np.float64).T.reshape(len(pairs), 2)

    def ask(self, record: Row) -> Row | None:
        """Split ``text`` into words."""
        return words.row(record, self.data.tokens)

    def answer(
        self, row: Row, prediction: dict[str, Any], again: Sequence[tuple[Row, Any]]
    ) -> list[dict[str, Any]]:
        """List the spans (their score is the mean of their words), or else each word."""
        text, offsets, tags = row[words.TEXT], row[words.OFFSETS], prediction["tags"]
        if self.bio:
            spans = labels.spans(tags)
        else:
            spans = [(tag, place, place + 1) for place, tag in enumerate(tags) if tag is not None]
        return [
            words.piece(text, offsets, start, end)
            | {"label": kind, "score": sum(prediction["scores"][start:end]) / (end - start)}
            for kind, start, end in spans
        ]

    def export(self, head: Head) -> dict[str, Any] | None:
        """Describe the linear layer; Transformers has none that sees a gazetteer."""
        if self.gazetteer.types:
            return None
        weights = {name: tensor.detach() for name, tensor in head.state_dict().items()}
        return {"kind": "token-classification", "labels": self.labels, "weights": weights}
