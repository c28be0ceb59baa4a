"""Words: what can be one in a row, and how a raw text is split into them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from tasks.family import Fault, Row

WORD = re.compile(
    r"https?://\S+"
    r"|\d+(?:[.,:]\d+)+"  # 3.5  1,000  10:30
    r"|\w+?(?=n['\u2019]t\b)|n['\u2019]t\b"  # do n't
    r"|['\u2019](?:s|m|d|re|ve|ll)\b"  # she 's
    r"|\w+"
    r"|([^\w\s])\1*",  # one mark, or the same again: ...
    re.IGNORECASE,
)
"""Words and punctuation, English contractions split as in the Penn Treebank and UD English."""

TEXT, OFFSETS = "given text", "offsets"
"""Columns of rows made from raw texts: the text, and each word's characters in it."""

Offsets = list[tuple[int, int]]


def split(text: str) -> tuple[list[str], Offsets]:
    """Split a text into words, with the characters ``(start, end)`` of each; end exclusive."""
    offsets = [match.span() for match in WORD.finditer(text)]
    return [text[start:end] for start, end in offsets], offsets


def row(record: Row, column: str) -> dict[str, Any] | None:
    """Make a row of the words of a record's ``text``, or None if it has none."""
    text = record.get("text")
    if text_fault("text", text):
        return None
    tokens, offsets = split(str(text))
    return {column: tokens, TEXT: text, OFFSETS: offsets} if tokens else None


def index(value: Any, size: int) -> int | None:
    """Read the index of one of ``size`` words, or None for what is none.

    It may be 3.0: pandas makes decimals of indices where a record has none. It may be text: a
    CSV column of numbers stays text where one cell is no number.
    """
    if isinstance(value, str) and re.fullmatch(r"[0-9]{1,9}", value):
        value = int(value)
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int):
        return None
    return value if 0 <= value < size else None


def place(field: str, value: Any, tokens: Sequence[str], offsets: Offsets) -> int:
    """Find a word by its index, its characters ``[start, end]``, or itself (where it first stands).

    Raises ``ValueError`` if the text has no such word.
    """
    if isinstance(value, str):
        for found in (list(tokens), [token.casefold() for token in tokens]):
            for spelling in (value, value.casefold()):
                if spelling in found:
                    return found.index(spelling)
    elif isinstance(value, (list, tuple)) and len(value) == 2:
        if tuple(value) in offsets:
            return offsets.index((value[0], value[1]))
    elif (at := index(value, len(tokens))) is not None:
        return at
    raise ValueError(
        f"{field} is {value!r}; expected a word of the text, its characters [start, end], or its "
        f"index from 0 to {len(tokens) - 1}. The words are: {' | '.join(tokens)}"
    )


def piece(text: str, offsets: Sequence[tuple[int, int]], start: int, end: int) -> dict[str, Any]:
    """Give the stretch of a text from word ``start`` to before word ``end``."""
    first, last = offsets[start][0], offsets[end - 1][1]
    return {"start": first, "end": last, "text": text[first:last]}


def text_fault(column: str, value: Any) -> Fault | None:
    """Say what is wrong with a text."""
    if not isinstance(value, str):
        return Fault(column, value, "a text")
    return None if value.strip() else Fault(column, value, "a text that is not empty")


def words_fault(column: str, value: Any) -> Fault | None:
    """Say what is wrong with a list of words."""
    if not isinstance(value, (list, tuple)):
        return Fault(column, value, "a list of words")
    if not value:
        return Fault(column, value, "at least one word")
    for place, word in enumerate(value):
        if not isinstance(word, str) or not word.strip():
            return Fault(column, word, f"a word that is not empty at place {place}")
    return None
