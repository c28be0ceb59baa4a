"""What families have in common that answer for a whole text, or for a pair of texts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from torch import Tensor, nn

from tasks import words
from tasks.family import Data, Family, Fault, Head, Row, Rows, Text


class TextData(Data):
    """Where a text and, if it has one, its second part stand."""

    text: str = "text"
    pair: str | None = None
    """The column of a second text, read together with the first."""


Keys = TypeVar("Keys", bound=TextData)


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
