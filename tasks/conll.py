"""CoNLL and CoNLL-U files: a word a line, its columns beside it, a blank line after a sentence."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from tasks.family import Fault

UNIVERSAL = ("ID", "FORM", "LEMMA", "UPOS", "XPOS", "FEATS", "HEAD", "DEPREL", "DEPS", "MISC")
"""The ten columns of CoNLL-U (Nivre et al. 2020, https://universaldependencies.org/format.html)."""

_REMARK = re.compile(r"#\s*([\w.:-]+)\s*=\s*(.*)")
_SPAN = re.compile(r"O|[BI]-.+")
"""A tag of the B-/I-/O scheme, which needs no other word to be known for one."""


@dataclass
class _Block:
    """The lines of one sentence, as they stand in the file."""

    names: tuple[str, ...]
    """What the columns are called, from the left."""
    remarks: dict[str, str] = field(default_factory=dict)
    hashes: list[list[str]] = field(default_factory=list)
    """Lines before the first sure word that begin with # and have no tab: comments or words."""
    words: list[list[str]] = field(default_factory=list)
    tabs: bool = False
    """Whether the sure words stand in columns apart by tabs."""


def sentences(
    lines: Iterable[str], universal: bool
) -> Iterator[tuple[int, dict[str, Any] | Fault]]:
    """Read sentences as rows, each with its number in the file, counted from 1.

    A row holds every column as a list of strings, one a word, and every remark ``# key = value``
    before the sentence as a string. CoNLL columns are called by their position, from the left
    ("0", "1", ...) and from the right ("-1", "-2", ...), and by name after a line
    ``# global.columns = FORM TAG`` (CoNLL-U Plus). CoNLL-U columns are called by their names;
    multi-word ranges and empty nodes are left out.
    """
    blocks = list(_blocks(lines, universal))
    if not universal and any(block.hashes for block in blocks):
        known = {_mark(w) for block in blocks if not block.tabs for w in block.words}
        for block in blocks:
            comments = itertools.takewhile(lambda cells: not _is_word(cells, known), block.hashes)
            block.words = block.hashes[len(list(comments)) :] + block.words
    for number, block in enumerate((block for block in blocks if block.words), 1):
        yield number, _row(block.words, block.names, block.remarks, universal)


def _blocks(lines: Iterable[str], universal: bool) -> Iterator[_Block]:
    """Divide a file into sentences; only the whole file tells which lines with # are words."""
    block = _Block(UNIVERSAL if universal else ())
    for line in _and_a_blank(lines):
        if not line.strip():
            yield block
            block = _Block(block.names)
            continue
        remark = _REMARK.fullmatch(line.strip()) if not block.words else None
        if remark is not None and remark[1] == "global.columns":
            block.names = tuple(remark[2].split())
        elif remark is not None:
            block.remarks[remark[1]] = remark[2]
        elif line.startswith("#") and "\t" not in line and not block.words:
            block.hashes.append(line.split())
        elif (cells := _cells(line, universal))[0] != "-DOCSTART-":
            block.words.append(cells)
            block.tabs |= "\t" in line


def _and_a_blank(lines: Iterable[str]) -> Iterator[str]:
    for line in lines:
        yield line.rstrip("\r\n")
    yield ""


def _cells(line: str, universal: bool) -> list[str]:
    """Split at tabs where there are any: a word of CoNLL-U may hold a blank."""
    return line.split("\t") if universal or "\t" in line else line.split()


def _mark(cells: list[str]) -> tuple[int, str]:
    """Give what a word like ``#`` shares with other words: its columns, and what the last holds."""
    return len(cells), cells[-1] if len(cells) > 1 else ""


def _is_word(cells: list[str], known: set[tuple[int, str]]) -> bool:
    """Tell the word ``#`` from a comment, which seldom ends in a tag that other words have."""
    columns, last = _mark(cells)
    return (columns, last) in known or (
        _SPAN.fullmatch(last) is not None and any(columns == other for other, _ in known)
    )


def _row(
    words: list[list[str]], names: tuple[str, ...], remarks: dict[str, str], universal: bool
) -> dict[str, Any] | Fault:
    if universal:
        words = [cells for cells in words if not re.search(r"[-.]", cells[0])]
    width = len(names) or len(words[0]) if words else 0
    for cells in words:
        if len(cells) != width:
            found = " ".join(cells)
            return Fault("", found, f"{width} columns in every line, not {len(cells)}")
    columns = [list(column) for column in zip(*words, strict=True)]
    row: dict[str, Any] = dict(remarks)
    if not universal:
        row.update({str(place): column for place, column in enumerate(columns)})
        row.update({str(place - width): column for place, column in enumerate(columns)})
    row.update(zip(names, columns, strict=False))
    return row
