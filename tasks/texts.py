"""What families have in common that answer for a whole text, a pair, a picture or a sound."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from pydantic import model_validator
from torch import Tensor, nn

from tasks import media, opened, words
from tasks.family import Data, Family, Fault, Head, Row, Rows, Text


class TextData(Data):
    """Where a text and, if it has one, its second part stand."""

    text: str = "text"
    pair: str | None = None
    """The column of a second text, read together with the first."""


class InputData(TextData):
    """The same, or where a picture or a sound stands instead."""

    image: str | None = None
    """The column of a picture: a path from the data's folder, or the bytes of a file."""
    audio: str | None = None
    """The column of a sound, likewise."""

    @model_validator(mode="after")
    def _one_input(self) -> InputData:
        given = [key for key in ("image", "audio") if getattr(self, key) is not None]
        others = [key for key in ("text", "pair") if getattr(self, key) != _DEFAULTS[key]]
        if given and len(given + others) > 1:
            raise ValueError(f"{' and '.join([*given, *others])} are given: a row has one input")
        if self.image and self.max_length:
            raise ValueError("max_length is for texts and sounds; a picture is never cut")
        return self


_DEFAULTS = {"text": "text", "pair": None}

Keys = TypeVar("Keys", bound=TextData)
Inputs = TypeVar("Inputs", bound=InputData)


class TextHead(Head):
    """A dense layer with tanh, then the outputs: the shape of BERT's and RoBERTa's classifier."""

    reads = "summary"

    def __init__(self, width: int, outputs: int, dropout: float) -> None:
        super().__init__()
        self.dense = nn.Linear(width, width)
        self.dropout = nn.Dropout(dropout)
        self.out = nn.Linear(width, outputs)

    def forward(self, hidden: Tensor, rows: Rows) -> Tensor:
        """Give ``[rows, outputs]``."""
        outputs: Tensor = self.out(self.dropout(self.states(hidden, rows)))
        return outputs

    def states(self, hidden: Tensor, rows: Rows) -> Tensor:
        """Give what the last layer reads, ``[sequences, width]``."""
        states: Tensor = self.dense(hidden[rows.summary]).tanh()
        return states


class TextFamily(Family[Keys]):
    """One answer for a text or a pair. The family adds what is learnt about it."""

    @classmethod
    def text_columns(cls, data: Keys) -> list[str]:
        """Name the columns of the texts."""
        return [data.text, *([data.pair] if data.pair else [])]

    @classmethod
    def plain_columns(cls, data: Keys) -> list[str]:
        """Name the columns of the texts."""
        return cls.text_columns(data)

    def text_fault(self, row: Row) -> Fault | None:
        """Say what is wrong with the texts of a row."""
        for column in self.text_columns(self.data):
            if fault := words.text_fault(column, row.get(column)):
                return fault
        return None

    def texts(self, row: Row) -> list[Text]:
        """Give the text, or the pair."""
        text = str(row[self.data.text])
        return [(text, str(row[self.data.pair])) if self.data.pair else text]

    def ask(self, record: Row) -> Row | None:
        """Read ``text``, and ``pair`` where the task has one."""
        fields: Mapping[str, str] = dict(
            zip(self.text_columns(self.data), ("text", "pair"), strict=False)
        )
        row = {column: record.get(field) for column, field in fields.items()}
        return None if self.text_fault(row) else row

    def answer(self, row: Row, prediction: Any, again: Sequence[tuple[Row, Any]]) -> Any:
        """Give the prediction as it is."""
        return prediction


class InputFamily(TextFamily[Inputs]):
    """One answer for a text, a pair, a picture or a sound."""

    @classmethod
    def text_columns(cls, data: Inputs) -> list[str]:
        """Name the columns of what is read."""
        kind = media.reads(data)
        return super().text_columns(data) if kind == "text" else [getattr(data, kind)]

    def text_fault(self, row: Row) -> Fault | None:
        """Say what is wrong with the texts of a row; pictures and sounds were looked at before."""
        return super().text_fault(row) if media.reads(self.data) == "text" else None

    def texts(self, row: Row) -> list[Text]:
        """Give what is to be read."""
        kind = media.reads(self.data)
        return (
            super().texts(row) if kind == "text" else [media.Media(row[getattr(self.data, kind)])]
        )

    def ask(self, record: Row) -> Row | None:
        """Read ``text`` and ``pair``, or ``image`` or ``audio``: a path or a data URI."""
        kind = media.reads(self.data)
        if kind == "text":
            return super().ask(record)
        given = record.get(kind)
        if given is None or (isinstance(given, str) and not given.strip()):
            return None
        found = opened.look(kind, kind, record[kind], None)
        if isinstance(found, Fault):
            raise ValueError(f"{kind} is {str(found.found)[:80]!r}; expected {found.expected}")
        return {getattr(self.data, kind): found}
