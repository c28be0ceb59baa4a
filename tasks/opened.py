"""Pictures and sounds of rows: found, looked at, and named by their content."""

from __future__ import annotations

import base64
import hashlib
import importlib
import io
import os
import re
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from tasks.family import Data, Fault
from tasks.files import Sheet
from tasks.media import CELL, KINDS, reads

URI = "data:"
"""Begins a text that is a file itself, in base 64 (RFC 2397)."""


def looked_at(sheet: Sheet, data: Data, folder: Path | None = None) -> Sheet:
    """Open every picture or sound of a sheet; what cannot be read becomes a fault of its row.

    Relative paths begin at ``folder``. Every file is read whole: its content is what counts.
    """
    kind = reads(data)
    column = getattr(data, kind)
    values = sheet.table.column(column).to_pylist()
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        found = list(pool.map(lambda value: look(kind, column, value, folder), values))
    faults = [(sheet.number(i), one) for i, one in enumerate(found) if isinstance(one, Fault)]
    cells = [None if isinstance(one, Fault) else one for one in found]
    place = sheet.table.column_names.index(column)
    sheet.table = sheet.table.set_column(place, column, pa.array(cells, CELL))
    if faults:
        sheet = sheet.only([index for index, cell in enumerate(cells) if cell is not None])
        sheet.faults = sorted([*sheet.faults, *faults], key=lambda pair: pair[0])
    return sheet


def look(kind: str, column: str, value: Any, folder: Path | None) -> dict[str, Any] | Fault:
    """Open one: its cell, or what is wrong with it.

    It is a path, the bytes of a file, a data URI, or both as ``datasets`` keeps them.
    """
    path, content = _placed(value, folder)
    shown = value if isinstance(value, str) else path
    if content is None:
        if not path:
            return Fault(column, shown, f"the path of {KINDS[kind]}, or the bytes of one")
        try:
            content = Path(path).read_bytes()
        except OSError as error:
            return Fault(column, shown, f"{KINDS[kind]} at {path} ({error.strerror})")
    else:
        path = None
    library, opened = OPENED[kind]
    importlib.import_module(library)  # where it is broken, no row is to blame
    try:
        opened(content)
    except Exception as error:  # of broken files: SyntaxError, struct.error, OSError, ...
        why = re.sub(r" ?'?<_io\.BytesIO[^>]*>'?:?", "", str(error))
        return Fault(column, shown, f"{KINDS[kind]} that can be read ({why})")
    kept = None if path else content
    return {"sha256": hashlib.sha256(content).hexdigest(), "path": path, "bytes": kept}


def _placed(value: Any, folder: Path | None) -> tuple[str | None, bytes | None]:
    """Give the absolute path and the bytes that a value holds."""
    if isinstance(value, bytes):
        return None, value
    if isinstance(value, Mapping):
        path, content = _placed(value.get("path"), folder)
        given = value.get("bytes")
        return path, given if isinstance(given, bytes) else content
    if not isinstance(value, str) or not value:
        return None, None
    if value.startswith(URI):
        try:
            return None, base64.b64decode(value.partition(",")[2], validate=True)
        except ValueError:
            return None, b""
    return str((folder or Path.cwd()) / Path(value).expanduser()), None


def _open_picture(content: bytes) -> None:
    from PIL import Image

    with Image.open(io.BytesIO(content)) as picture:
        if picture.mode == "F":
            raise ValueError("it holds decimals, of which no one says what is black and white")
        picture.draft("RGB", (32, 32))  # a JPEG is read to its end, and computed at an eighth
        picture.load()


def _open_sound(content: bytes) -> None:
    import soundfile

    with soundfile.SoundFile(io.BytesIO(content)) as sound:
        size = 0
        for block in sound.blocks(1 << 16, dtype="float32"):
            size += len(block)
            if not np.isfinite(block).all():
                raise ValueError("it holds numbers that are not finite")
        if not size:
            raise ValueError("it is empty")


OPENED = {"image": ("PIL.Image", _open_picture), "audio": ("soundfile", _open_sound)}
"""Library and test of a file, by kind."""
