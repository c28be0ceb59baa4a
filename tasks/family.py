"""What a kind of answer must offer: how it reads rows, its head, loss, decoding and scores.

A family is one file in this folder (or a class of the user's own, named ``package.module:Class``).
The seam to the rest is plain data on one side (rows and columns) and two tensors on the other
(the packed hidden states and where the rows lie in them), so a family knows neither encoders nor
the training loop.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Generic, NamedTuple, TypeAlias, get_args

import torch
from pydantic import BaseModel, ConfigDict, Field, model_validator
from torch import Tensor
from typing_extensions import TypeVar

from tasks import items
from tasks.head import Head as Head
from tasks.head import Rows as Rows
from tasks.reads import Encoded as Encoded
from tasks.reads import Reads as Reads
from tasks.reads import Text as Text
from tasks.reads import Windows as Windows

IGNORED = -100
"""The label of a position that takes no part in a loss (PyTorch's ``ignore_index``)."""

Row = Mapping[str, Any]
"""One example as it stands in its file: column name to value."""

Prediction: TypeAlias = Any
"""What a family predicts for a row, as JSON data."""

Answer: TypeAlias = Any
"""The same in the form that users read, as JSON data."""

Output: TypeAlias = Any
"""What a family's head gives: a tensor or a tuple of tensors."""


class Data(BaseModel):
    """The keys of ``data`` that all families share. A family adds its columns by subclassing."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    path: str
    """A folder of split files, a hub id, or ``builtin:NAME``."""
    revision: str | None = None
    """Commit or tag of a hub data set; required there, so that a run can be repeated."""
    config: str | None = None
    """Configuration name of a hub data set."""
    limit: int | None = Field(None, ge=1)
    """Training rows (or groups) to keep; smaller limits nest in larger ones."""
    group: str | None = None
    """Rows with the same value here stay together in limits and cut splits."""
    max_length: int | None = Field(None, ge=8)
    """Tokens a sequence may have; default is what the encoder can read."""
    max_bad_rows: int = Field(0, ge=0)
    """Bad rows per split to set aside instead of stopping."""
    shuffled: bool = False
    """Whether the answers of the training rows are dealt out at random: a control."""

    @model_validator(mode="before")
    @classmethod
    def _none(cls, keys: Any) -> Any:
        """Read the word ``none`` as YAML's null wherever null may stand."""
        if not isinstance(keys, Mapping):
            return keys
        fields = cls.model_fields.items()
        free = {name for name, key in fields if type(None) in get_args(key.annotation)}
        return {k: None if k in free and value == "none" else value for k, value in keys.items()}


Keys = TypeVar("Keys", bound=Data, default=Any)
"""The ``Data`` of one family."""


class CrossEntropy(BaseModel):
    """The options of ``loss: {name: cross_entropy}``: none."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class Finding(NamedTuple):
    """What users should be told once of a task's data."""

    note: str
    """A sentence."""
    details: list[tuple[str, str]] = []  # noqa: RUF012 (a default of a tuple)
    """A table for the run's page, if there is more to say."""


@dataclass(frozen=True)
class Fault:
    """What is wrong with a row: the column, the value found, and what was expected."""

    column: str
    found: Any
    expected: str


class Family(ABC, Generic[Keys]):
    """One kind of answer, bound to the data of one task."""

    Data: ClassVar[type[BaseModel]]
    """The keys of ``data`` that this family reads."""
    losses: ClassVar[Mapping[str, type[BaseModel]]]
    """All its losses, each with its options (see ``fitting``)."""
    columns: ClassVar[Mapping[str, torch.dtype]]
    """The columns that ``encode`` makes for the head and the loss."""
    main: str
    """The score that ranks runs, in [0, 1] or [-1, 1], more is better."""
    smooths: ClassVar[bool] = True
    """Whether its losses know label smoothing."""

    def __init__(
        self,
        data: Keys,
        fitted: Mapping[str, Any],
        loss: Mapping[str, Any] | None = None,
        label_smoothing: float = 0.0,
    ) -> None:
        """``fitted`` is what ``fit`` found; ``loss`` is ``{"name": ..., option: value}``."""
        self.data = data
        self.fitted = fitted
        if loss is None:
            name, options = next(iter(self.fitting(data).items()))
            loss = {"name": name, **options().model_dump(mode="json")}
        self.loss_options = dict(loss)
        self.label_smoothing = label_smoothing
        self.bind()

    def bind(self) -> None:
        """Derive from ``data`` and ``fitted`` what the family works with; called once, at birth."""

    @classmethod
    def fitting(cls, data: Keys) -> Mapping[str, type[BaseModel]]:
        """Give the losses that fit these keys; the first is the default."""
        return cls.losses

    # Rows: plain data in, plain data out.

    @classmethod
    def plain_columns(cls, data: Keys) -> list[str]:
        """Name the columns whose cells are texts, also where a text file's look like numbers."""
        return []

    @classmethod
    @abstractmethod
    def fit(cls, data: Keys, rows: Iterable[Row]) -> dict[str, Any]:
        """Learn from all training rows what the task needs (label set, scale), as JSON data.

        Rows that ``fault`` will find bad may be among them: skip a value of the wrong type.
        """

    @classmethod
    @abstractmethod
    def column_names(cls, data: Keys) -> list[str]:
        """Name the columns of the data that this task reads; one that is missing is an error."""

    @classmethod
    def label_columns(cls, data: Keys) -> list[str]:
        """Name the columns of the answer: a row that has nothing there takes no part in the task.

        None of them where nothing is an answer, or where answers come from the texts themselves.
        ``data.shuffled`` deals them out among rows, unless the family is ``shuffled.ByWord``.
        """
        return []

    @classmethod
    def consult(cls, data: Keys, find: Callable[[str], Path]) -> dict[str, Any]:
        """Learn from files that ``data`` names beside the rows, as JSON data that joins the rest.

        ``find`` gives the path of one. While rows are checked it is not known yet. Raises
        ``ValueError`` for a file that cannot be used.
        """
        return {}

    @classmethod
    def reading(cls, reader: Reads) -> dict[str, Any]:
        """Learn from the tokenizer what the task needs, in the same way.

        Raises ``ValueError`` for a tokenizer that the
        family cannot do with, in words that go on from the family's name.
        """
        return {}

    @classmethod
    def gather(cls, data: Keys, rows: list[Row], whole: Iterable[Row] | None = None) -> list[Row]:
        """Add to the rows of one split what only the others tell; number and order stay.

        Called once for each split, after limits and before encoding. ``whole`` gives all rows of
        the split's file, also those that a limit left out and bad ones; None where ``rows`` is all.
        """
        return rows

    def findings(self, splits: Mapping[str, Iterable[Row]]) -> list[Finding]:
        """Tell what users should know of the rows as the family sees them; called once."""
        return []

    @abstractmethod
    def fault(self, row: Row, training: bool) -> Fault | None:
        """Say what is wrong with a row. A label outside the set is wrong in training only."""

    @abstractmethod
    def texts(self, row: Row) -> list[Text]:
        """Give what the encoder is to read: one entry per sequence, or per run of windows."""

    @abstractmethod
    def encode(self, row: Row, encoded: Sequence[Encoded]) -> dict[str, list[int] | list[float]]:
        """Give the family's columns for a row and its tokenised sequences.

        Called with rows that carry labels and, for prediction, with rows from ``ask`` that do not.
        """

    @abstractmethod
    def terms(self, row: Row, columns: Mapping[str, Sequence[Any]]) -> int:
        """Count the terms of this row's loss sum (1 for a label, words for tags)."""

    @abstractmethod
    def gold(self, row: Row) -> Prediction:
        """Give the true answer in the form that ``decode`` predicts, as JSON data, for scoring."""

    # Tensors.

    @abstractmethod
    def head(self, width: int, dropout: float) -> Head:
        """Build the task's own layers for hidden states of this width."""

    @abstractmethod
    def loss(self, output: Output, rows: Rows) -> Tensor:
        """Sum the loss over all terms of these rows, divided by the unit.

        The unit makes an untrained head cost about 1 a term (log of the number of classes for a
        cross entropy). Zero rows give zero, still connected to the head's parameters.
        """

    @abstractmethod
    def decode(self, output: Output, rows: Rows) -> list[Prediction]:
        """Turn the output of a head in eval mode into one prediction a row, as JSON data."""

    @abstractmethod
    def score(
        self, predictions: Sequence[Prediction], golds: Sequence[Prediction]
    ) -> dict[str, float]:
        """Compare predictions with true answers. Undefined scores are 0."""

    def parts(
        self, predictions: Sequence[Prediction], golds: Sequence[Prediction]
    ) -> items.Array | None:
        """Give what each row adds to the main score, ``[rows, n]``: it is ``whole`` of the sums.

        None where it is no function of sums over rows; studies then resample seeds alone.
        """
        return None

    def whole(self, sums: items.Array) -> items.Array:
        """Make main scores ``[...]`` of sums of parts, ``[..., n]``; undefined ones are 0."""
        return items.ratio(sums)

    # Use on new texts.

    @abstractmethod
    def ask(self, record: Row) -> Row | None:
        """Turn a record (``text``, ...) into an unlabelled row, or None if a field lacks.

        A field that is there but cannot be used is a ``ValueError``.
        """

    def ask_again(self, row: Row, prediction: Prediction) -> list[Row]:
        """Give rows for a second forward that the first answer calls for (each predicate found)."""
        return []

    @abstractmethod
    def answer(
        self, row: Row, prediction: Prediction, again: Sequence[tuple[Row, Prediction]]
    ) -> Answer:
        """Put a prediction into the form users read, with characters of the given text."""

    def export(self, head: Head) -> dict[str, Any] | None:
        """Describe the head for a plain Transformers model, if its shape allows.

        ``{"kind": "sequence-classification" | "token-classification" | "question-answering",
        "labels": [...], "weights": {name: tensor}}``; ``export.py`` knows each encoder's names.
        """
        return None

    def confusion(
        self, predictions: Sequence[Prediction], golds: Sequence[Prediction]
    ) -> dict[str, Any] | None:
        """Count gold against predicted labels: ``{"labels": [...], "counts": [[...]]}``."""
        return None
