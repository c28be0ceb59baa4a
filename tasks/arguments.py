"""Predicates of a sentence, and the arguments of one, each a label with all its pieces."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import Any, TypeAlias

from tasks import labels, words
from tasks.family import Row

Argument: TypeAlias = list[Any]
"""``[label, [[start, end], ...]]`` in words, ends exclusive: JSON data."""

NO_ARGUMENT = ("V", "C-V")
"""The predicate itself, and a particle of it that stands apart."""


def predicates_of(
    sentences: Collection[tuple[str, ...]], rows: Iterable[Row], tokens: str, predicate: str
) -> dict[tuple[str, ...], set[int | None]]:
    """Collect each sentence's predicates from rows, also bad ones: None is one that is no index."""
    found: dict[tuple[str, ...], set[int | None]] = {sentence: set() for sentence in sentences}
    for row in rows:
        if isinstance(row.get(tokens), (list, tuple)):
            sentence = tuple(row[tokens])
            if sentence in found:
                found[sentence].add(words.index(row.get(predicate), len(sentence)))
    return found


def read_arguments(tags: Sequence[str]) -> list[Argument]:
    """Read the arguments off one predicate's tags, in the order of their first words.

    C-X continues the nearest X before it; with none before it, it is an argument X of its own
    (as in the CoNLL-2005 shared task's evaluation). R-X is a label like any other.
    """
    found: list[tuple[str, list[list[int]]]] = []
    for label, start, end in labels.spans(tags):
        if label in NO_ARGUMENT:
            continue
        whole = label.removeprefix("C-")
        earlier = [pieces for other, pieces in found if other == whole]
        if label != whole and earlier:
            earlier[-1].append([start, end])
        else:
            found.append((whole, [[start, end]]))
    return [[label, pieces] for label, pieces in found]


def frame(
    text: str, offsets: words.Offsets, predicate: int, found: Iterable[Argument]
) -> dict[str, Any]:
    """Give a predicate and its arguments in characters of the text.

    An argument has a label, its extent from the first piece to the last, and all its pieces.
    """
    spoken = []
    for label, pieces in found:
        whole = words.piece(text, offsets, pieces[0][0], pieces[-1][1])
        parts = [words.piece(text, offsets, start, end) for start, end in pieces]
        spoken.append({"label": label, **whole, "pieces": parts})
    said = words.piece(text, offsets, predicate, predicate + 1)
    return {"predicate": said, "arguments": spoken}


def as_set(arguments: Iterable[Argument]) -> set[str]:
    """Make arguments comparable: equal if label and all pieces are."""
    return {repr(argument) for argument in arguments}
