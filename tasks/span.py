"""Span: the stretch of a context that answers a question, or none."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from tasks import items, squad, windows, words
from tasks.agreement import Chances, Comparable
from tasks.family import (
    CrossEntropy,
    Data,
    Encoded,
    Family,
    Fault,
    Head,
    Row,
    Rows,
    Text,
    Windows,
)

LABEL = "answer"
"""The label of the span that ``answer`` gives."""


class SpanData(Data):
    """Where the question, the context and the answer stand."""

    question: str = "question"
    context: str = "context"
    answer: str = "answer"
    """The answer as it stands in the context; null or empty where there is none."""
    start: str = "start"
    """The place of the answer's first character in the context, from 0."""
    answers: str | None = None
    """A list of all answers that count as right in scores; default is the one answer."""
    stride: int = Field(128, ge=0)
    """Tokens that neighbouring windows over a long context share, at most half a window."""


class SpanHead(Head):
    """One linear layer for starts and ends: the shape of Transformers' heads for questions.

    It has no bias, which would move all that compete alike.
    """

    def __init__(self, width: int, dropout: float) -> None:
        super().__init__()
        self.dropout = nn.Dropout(dropout)
        self.out = nn.Linear(width, 2, bias=False)

    def forward(self, hidden: Tensor, rows: Rows) -> tuple[Tensor, Tensor]:
        """Give logits of starts and ends, ``[rows, 2]`` for none and ``[tokens, 2]``."""
        none = self.out(self.dropout(windows.summary(hidden, rows)))
        return none, self.out(self.dropout(hidden[windows.tokens(rows)]))


class Span(Family[SpanData], Comparable):
    """An answer a row. Predictions: ``{"start": ..., "end": ..., "score": p}``, null for none.

    Start and end are characters of the context, end exclusive; golds have the context beside them.
    A start and an end are chosen among all tokens of the context and one place for none, whatever
    the number of windows: what windows say on their own cannot be compared (shared normalisation,
    Clark and Gardner 2018, arXiv:1710.10723). No answer has more characters than the longest one
    of the training rows.
    """

    Data = SpanData
    losses = {"cross_entropy": CrossEntropy}  # noqa: RUF012 (a constant of the class)
    columns = {**windows.COLUMNS, "answer": torch.int64}  # noqa: RUF012 (a constant of the class)
    main = "f1"

    @classmethod
    def fit(cls, data: SpanData, rows: Iterable[Row]) -> dict[str, Any]:
        """Find the longest answer."""
        answers = (row.get(data.answer) for row in rows)
        given = (text for text in answers if isinstance(text, str) and not _blank(text))
        longest = max(map(len, given), default=0)
        if not longest:
            raise ValueError(f"column {data.answer!r} of the training rows holds no answer.")
        return {"longest": longest}

    @classmethod
    def column_names(cls, data: SpanData) -> list[str]:
        """Name the columns in use."""
        names = [data.question, data.context, data.answer, data.start]
        return names + ([data.answers] if data.answers else [])

    @classmethod
    def plain_columns(cls, data: SpanData) -> list[str]:
        """Name the columns of question, context and answer."""
        return [data.question, data.context, data.answer]

    def fault(self, row: Row, training: bool) -> Fault | None:
        """Say what is wrong with a row. The start of no answer may be anything."""
        data = self.data
        for column in (data.question, data.context):
            if fault := words.text_fault(column, row.get(column)):
                return fault
        answer, context = row.get(data.answer), str(row[data.context])
        if answer is not None and not isinstance(answer, str):
            return Fault(data.answer, answer, "a text, or null for none")
        if not _blank(answer):
            at = words.index(row.get(data.start), len(context))
            if at is None:
                expected = f"a number of characters from 0 to {len(context) - 1}"
                return Fault(data.start, row.get(data.start), expected)
            there = context[at : at + len(str(answer))]
            if there != answer:
                expected = f"where the answer {answer!r} begins in the context, counted from 0"
                return Fault(data.start, f"{at}, where {there!r} stands", expected)
        return self._answers_fault(row) if data.answers else None

    def _answers_fault(self, row: Row) -> Fault | None:
        column, value = str(self.data.answers), row.get(str(self.data.answers))
        if value is None:
            return None
        if not isinstance(value, (list, tuple)) or not all(isinstance(text, str) for text in value):
            return Fault(column, value, "a list of texts, or null")
        if _blank(row.get(self.data.answer)) and not all(map(_blank, value)):
            return Fault(column, value, f"no answers, since {self.data.answer!r} has none")
        return None

    def texts(self, row: Row) -> list[Text]:
        """Give the question with the context, which is read in windows if it is long."""
        question, context = row[self.data.question], row[self.data.context]
        return [Windows(str(question), str(context), self.data.stride)]

    def encode(self, row: Row, encoded: Sequence[Encoded]) -> dict[str, list[int] | list[float]]:
        """Lay out the context's tokens and find the answer's first and last among them.

        The answer is a pair of places from 1, (0, 0) for none; a row from ``ask`` has none of both,
        like one whose answer has no tokens.
        """
        found = windows.columns(encoded)
        answer: list[int] = []
        if self.data.answer in row:
            answer = self._places(row, found["begins"], found["ends"])
        return {**found, "answer": answer}

    def _places(self, row: Row, begins: Sequence[int], ends: Sequence[int]) -> list[int]:
        start, end = self._characters(row)
        if start is None or end is None:
            return [0, 0]
        try:
            first, last = windows.locate(begins, ends, start, end)
        except LookupError:
            return []
        return [first + 1, last + 1]

    def _characters(self, row: Row) -> tuple[int, int] | tuple[None, None]:
        """Give the answer's characters."""
        answer = row[self.data.answer]
        at = words.index(row.get(self.data.start), len(row[self.data.context]))
        return (None, None) if _blank(answer) or at is None else (at, at + len(answer))

    def terms(self, row: Row, columns: Mapping[str, Sequence[Any]]) -> int:
        """Count the answer."""
        return int(bool(columns["answer"]))

    def gold(self, row: Row) -> dict[str, Any]:
        """Give the true answer, all that count as right, and the context they stand in."""
        start, end = self._characters(row)
        given = row.get(self.data.answers) if self.data.answers else None
        both = [row[self.data.answer], *(given or ())]
        answers = list(dict.fromkeys(text for text in both if not _blank(text)))
        context = row[self.data.context]
        return {"start": start, "end": end, "answers": answers, "context": context}

    def head(self, width: int, dropout: float) -> SpanHead:
        """Build the linear layer."""
        return SpanHead(width, dropout)

    def loss(self, output: tuple[Tensor, Tensor], rows: Rows) -> Tensor:
        """Sum the cross entropies over starts and over ends, in units of what an even guess costs.

        That is log(tokens of the context and one for none) for each of the two.
        """
        chances, real = _chances(output, rows)
        known = rows.counts["answer"] > 0
        chances, real = chances[known], real[known]
        places = rows.columns["answer"].view(-1, 1, 2)
        right = chances.gather(1, places)[:, 0]
        sizes = real.sum(1)[:, None]
        even = torch.where(real[..., None], chances, 0).sum(1) / sizes
        costs = -(1 - self.label_smoothing) * right - self.label_smoothing * even
        # A context without tokens leaves only none to choose, at no cost.
        return (costs / (2 * sizes.clamp_min(2).log())).sum()

    def log_chances(self, output: tuple[Tensor, Tensor], rows: Rows) -> list[Chances]:
        """Give those of each row's starts and ends, ``[rows * 2, places]``."""
        chances, real = _chances(output, rows)
        finite = chances.masked_fill(~real[..., None], torch.finfo(chances.dtype).min)
        counts = (rows.counts["answer"] > 0) / (2 * real.sum(1).clamp_min(2).log())
        return [(finite.transpose(1, 2).flatten(0, 1), counts.repeat_interleave(2))]

    def decode(self, output: tuple[Tensor, Tensor], rows: Rows) -> list[dict[str, Any]]:
        """Choose each row's likeliest legal pair of a start and an end, or none if that is."""
        chances, real = (each.detach().cpu() for each in _chances(output, rows))
        sizes = (real.sum(1) - 1).tolist()
        begins = rows.columns["begins"].cpu().split(sizes)
        ends = rows.columns["ends"].cpu().split(sizes)
        return [
            self._best(own[: size + 1], begin, end)
            for own, size, begin, end in zip(chances, sizes, begins, ends, strict=True)
        ]

    def _best(self, chances: Tensor, begins: Tensor, ends: Tensor) -> dict[str, Any]:
        """Search the pairs of one row: ``chances [1 + tokens, 2]``, characters ``[tokens]``."""
        none = float(chances[0].sum())
        found: dict[str, Any] = {"start": None, "end": None, "score": math.exp(none)}
        if not len(begins):
            return found
        longest = begins + self.fitted["longest"]
        after = torch.searchsorted(ends, longest, right=True) - torch.arange(len(ends))
        reach = max(1, int(after.max()))
        # [tokens, reach]: the pair of a start and the end that many tokens on
        pairs = chances[1:, :1] + _ahead(chances[1:, 1], reach, -math.inf)
        legal = _ahead(ends, reach, 0) <= longest[:, None]
        legal[:, 0] = True  # a single token always is
        best, place = torch.where(legal, pairs, -math.inf).flatten().max(0)
        if best > none:
            first, further = divmod(int(place), reach)
            start, end = int(begins[first]), int(ends[first + further])
            found = {"start": start, "end": end, "score": math.exp(float(best))}
        return found

    def score(
        self, predictions: Sequence[dict[str, Any]], golds: Sequence[dict[str, Any]]
    ) -> dict[str, float]:
        """Give exact match and F1 of words (see ``squad.scores``)."""
        return squad.scores(self._pairs(predictions, golds))

    def _pairs(
        self, predictions: Sequence[dict[str, Any]], golds: Sequence[dict[str, Any]]
    ) -> list[tuple[str, Sequence[str]]]:
        """Give each answer with all that are right."""
        both = zip(predictions, golds, strict=True)
        return [(_text(gold["context"], own), gold["answers"]) for own, gold in both]

    def parts(
        self, predictions: Sequence[dict[str, Any]], golds: Sequence[dict[str, Any]]
    ) -> items.Array:
        """Give the F1 of each row."""
        pairs = self._pairs(predictions, golds)
        return items.means(squad.scores([pair])["f1"] for pair in pairs)

    def ask(self, record: Row) -> Row | None:
        """Read ``question``, and ``text`` or else ``context`` for the context."""
        context = record.get("context") if record.get("text") is None else record["text"]
        row = {self.data.question: record.get("question"), self.data.context: context}
        return None if any(words.text_fault(*cell) for cell in row.items()) else row

    def answer(
        self, row: Row, prediction: dict[str, Any], again: Sequence[tuple[Row, Any]]
    ) -> list[dict[str, Any]]:
        """Give the stretch of the context, or nothing for none."""
        if prediction["start"] is None:
            return []
        text = _text(row[self.data.context], prediction)
        return [prediction | {"text": text, "label": LABEL}]

    def export(self, head: Head) -> dict[str, Any]:
        """Describe the linear layer; Transformers' has a bias, which is 0 here."""
        weights = {name: tensor.detach() for name, tensor in head.state_dict().items()}
        weights["out.bias"] = weights["out.weight"].new_zeros(2)
        return {"kind": "question-answering", "labels": ["start", "end"], "weights": weights}


def _blank(answer: Any) -> bool:
    """Say whether an answer stands for none."""
    return answer is None or not answer.strip()


def _text(context: str, span: Mapping[str, Any]) -> str:
    return "" if span["start"] is None else context[span["start"] : span["end"]]


def _chances(output: tuple[Tensor, Tensor], rows: Rows) -> tuple[Tensor, Tensor]:
    """Give log chances ``[rows, 1 + tokens of the longest, 2]``, none first, and which are real."""
    none, tokens = (logits.float() for logits in output)
    sizes = rows.counts["begins"]
    places = torch.arange(1 + max(sizes.tolist(), default=0), device=sizes.device)
    real = places <= sizes[:, None]
    padded = none.new_full((*real.shape, 2), -math.inf)
    padded[:, 0] = none
    padded[:, 1:][real[:, 1:]] = tokens
    return padded.log_softmax(1), real


def _ahead(values: Tensor, reach: int, beyond: float) -> Tensor:
    """Give each value and the ``reach - 1`` that follow it, ``[tokens, reach]``."""
    return functional.pad(values, (0, reach - 1), value=beyond).unfold(0, reach, 1)
