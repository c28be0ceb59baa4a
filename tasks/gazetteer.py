"""A gazetteer: phrases that are known beforehand, each with a type, and the words they match."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

Phrases = Mapping[str, Sequence[str]]
"""Type to phrases."""

_NAMED = 10
"""Bad lines whose numbers a message lists."""


def read(path: Path) -> dict[str, list[str]]:
    """Read a file with a phrase, a tab and its type a line; blank lines are passed over.

    Order and repetitions do not matter. Raises ``ValueError`` naming the first bad line.
    """
    found: dict[str, set[str]] = {}
    bad: list[int] = []
    lines = path.read_bytes().removeprefix(b"\xef\xbb\xbf").splitlines()
    for number, line in enumerate(lines, 1):
        try:
            phrase, kind = line.decode("utf-8").split("\t")
        except ValueError:  # also bytes that are no UTF-8
            phrase = kind = ""
        words = phrase.casefold().split()
        if words and kind.strip():
            found.setdefault(kind.strip(), set()).add(" ".join(words))
        elif line.strip():
            bad.append(number)
    if bad:
        others = ", ".join(map(str, bad[1 : _NAMED + 1])) + ", ..." * (len(bad) > _NAMED + 1)
        more = f" Other bad lines: {others}." if others else ""
        raise ValueError(
            f"{path}, line {bad[0]}: found {str(lines[bad[0] - 1])[1:80]}; expected a phrase, a"
            f" tab and its type, in UTF-8.{more} Correct the file."
        )
    if not found:
        raise ValueError(f"{path} holds no phrases; expected a phrase, a tab and its type a line.")
    return {kind: sorted(phrases) for kind, phrases in sorted(found.items())}


class Gazetteer:
    """Finds phrases among words, whatever their case."""

    def __init__(self, phrases: Phrases) -> None:
        """``phrases`` is what ``read`` gave; without any, nothing is found."""
        self.types = list(phrases)
        self._kinds: dict[tuple[str, ...], list[int]] = {}
        self._longest: dict[str, int] = {}
        for number, kind in enumerate(self.types):
            for phrase in phrases[kind]:
                words = tuple(phrase.split())
                self._kinds.setdefault(words, []).append(number)
                self._longest[words[0]] = max(self._longest.get(words[0], 0), len(words))

    def __call__(self, words: Sequence[str]) -> list[tuple[int, int]]:
        """Give word and number of the type for every word inside a match.

        Matches are sought from the left; the longest phrase at a place wins, with all its types,
        and the search goes on behind it.
        """
        folded = [word.casefold() for word in words]
        found: list[tuple[int, int]] = []
        start = 0
        while start < len(folded):
            size = min(self._longest.get(folded[start], 0), len(folded) - start)
            while size and tuple(folded[start : start + size]) not in self._kinds:
                size -= 1
            kinds = self._kinds[tuple(folded[start : start + size])] if size else []
            found += [(word, kind) for word in range(start, start + size) for kind in kinds]
            start += max(1, size)
        return found
