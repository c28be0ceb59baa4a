"""What an encoder reads for a family, and what its tokenizer makes of it."""

from __future__ import annotations

from typing import Protocol

Text = str | tuple[str, str] | list[str]
"""What an encoder reads as one sequence: a text, a pair of texts, or words."""


class Windows(tuple[str, str]):
    """A pair whose second text is never cut: it is read in as many sequences as it takes.

    Each is the first text with a window of the second; see ``Reader.__call__``.
    """

    overlap: int
    """Tokens that neighbouring windows share; never more than half a window."""

    def __new__(cls, first: str, second: str, overlap: int) -> Windows:
        made = super().__new__(cls, (first, second))
        made.overlap = overlap
        return made


class Encoded(Protocol):
    """One tokenised sequence, special tokens included."""

    input_ids: list[int]
    second: int
    """Index of the first token of the second text of a pair; ``len(input_ids)`` without one."""
    words: list[int]
    """For words: the index of each word's first token. Words cut off by truncation are missing."""
    offsets: list[tuple[int, int]]
    """For texts: the characters of each token in its text; ``(0, 0)`` for special tokens."""
    truncated: bool
    before: int
    """For ``Windows``: tokens of the second text that come before this window, 0 in the first."""

    def __len__(self) -> int: ...


class Reads(Protocol):
    """What a family may ask of a tokenizer."""

    @property
    def mask(self) -> int | None: ...
    @property
    def special(self) -> list[int]: ...
    def pieces(self) -> list[str]: ...
