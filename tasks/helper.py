"""What a helper tells another task: the outputs of its head, as features."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, ClassVar, Literal

from torch import Tensor

from tasks.head import Rows

Kind = Literal["probabilities", "logits", "hidden"]


class Helper(ABC):
    """What a family offers whose outputs can be features of the target's head."""

    gives: ClassVar[Literal["row", "word"]]
    """What each of its outputs is about."""
    asks: ClassVar[tuple[str, ...]] = ()
    """Columns of the target's rows, where it has them, that are part of the question."""

    @classmethod
    def silent(cls, data: Any, target: type) -> str | None:
        """Say why a task with these keys can tell a target of this family nothing, if so."""
        return None

    def features(self, head: Any, hidden: Tensor, rows: Rows, kind: Kind) -> Tensor:
        """Let a head answer on sequences of another task, each of them a row.

        Gives ``[sequences, n]`` or ``[words, n]``, after ``gives``. The family's own columns are
        empty. ``hidden`` are the states before the head's last layer.
        """
        if kind == "hidden":
            states: Tensor = head.states(hidden, rows)
            return states
        logits = head(hidden, rows)
        return self.probabilities(logits) if kind == "probabilities" else logits

    @abstractmethod
    def probabilities(self, logits: Tensor) -> Tensor:
        """Turn the outputs of the last layer into chances (a number stays what it is)."""
