"""CoNLL and CoNLL-U files: a word a line, its columns beside it, a blank line after a sentence."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Any

from tasks.family import Fault

UNIVERSAL = ("ID", "FORM", "LEMMA", "UPOS", "XPOS", "FEATS", "HEAD", "DEPREL", "DEPS", "MISC")
"""The ten columns of CoNLL-U (Nivre et al. 2020, https://universaldependencies.org/format.html)."""

_REMARK = re.compile(r"#\s*([\w.:-]+)\s*=\s*(.*)")


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
    number = 0
    names: tuple[str, ...] = UNIVERSAL if universal else ()
    remarks: dict[str, str] = {}
    words: list[list[str]] = []
    width: int | None = None
    for line in _and_a_blank(lines):
        if not line.strip():
            if words:
                number += 1
                yield number, _row(words, names, remarks, universal)
            words, remarks = [], {}
            continue
        remark = _REMARK.fullmatch(line.strip()) if not words else None
        if remark is not None and remark[1] == "global.columns":
            names = tuple(remark[2].split())
        elif remark is not None:
            remarks[remark[1]] = remark[2]
        else:
            cells = _cells(line, universal)
            if not _is_comment(line, cells, width, bool(words)):
                width = width or len(cells)
                words.append(cells)


def _and_a_blank(lines: Iterable[str]) -> Iterator[str]:
    for line in lines:
        yield line.rstrip("\r\n")
    yield ""


def _cells(line: str, universal: bool) -> list[str]:
    """Split at tabs where there are any: a word of CoNLL-U may hold a blank."""
    return line.split("\t") if universal or "\t" in line else line.split()


def _is_comment(line: str, cells: list[str], width: int | None, inside: bool) -> bool:
    """Tell a comment from the word ``#``, which has as many columns as the other words."""
    if cells[0] == "-DOCSTART-":
        return True
    return line.startswith("#") and not inside and len(cells) != (width or 0) and "\t" not in line


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
