"""Rows into tokens: once per content, by all cores, into the Arrow files of a shared cache."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import sys
import unicodedata
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import asdict, dataclass
from multiprocessing import current_process, get_context
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc
from filelock import FileLock

import tasks
from orchestrator import keyed
from orchestrator.tokens import MEDIA, OWN, PACKING, Counts, whole
from tasks.family import Family, Row, Text

if TYPE_CHECKING:
    from encoders import AnyReader

TOKENS = 3
"""Version of what this file writes; a new one makes every cache anew."""

ELSEWHERE = {
    "path", "revision", "config", "limit", "group", "max_bad_rows", "gazetteer", "shuffled"
}  # fmt: skip
"""Keys of ``data`` that say where to look: rows' digest and what was fitted stand for them."""

CHUNK_ROWS = 1024
"""Rows tokenised in one go."""
BATCH_ROWS, BATCH_TOKENS, BATCH_BYTES = 1 << 16, 1 << 22, 1 << 28
"""Bounds of one record batch of a file, and so of the memory that writing takes."""
POOL_ROWS = 30_000
"""Rows from which starting processes (some seconds each) pays."""


@dataclass(frozen=True)
class Work:
    """How to tokenise the rows of one split; it travels to other processes."""

    family: Family[Any]
    reader: AnyReader
    gold: bool
    """Whether to keep the true answers, for scoring."""

    def schema(self) -> pa.Schema:
        """Give the columns of the file."""
        fields: list[tuple[str, pa.DataType]] = [(name, pa.list_(pa.int32())) for name in PACKING]
        fields += [("terms", pa.int32()), ("length", pa.int32()), ("texts", pa.list_(pa.uint64()))]
        for name, dtype in self.family.columns.items():
            kind = pa.float32() if dtype.is_floating_point else pa.int32()
            fields.append((OWN + name, pa.list_(kind)))
        fields += [("gold", pa.string())] if self.gold else []
        return pa.schema([*fields, *([] if self.reader.kind == "text" else MEDIA)])

    def name(self, split: str, digest: str) -> str:
        """Hash all that decides the content of the file of a split with this content digest."""
        family = type(self.family)
        data = self.family.data.model_dump(mode="json", exclude=ELSEWHERE)
        parts = {
            "version": TOKENS,
            "split": split,
            "rows": digest,
            "family": f"{family.__module__}:{family.__qualname__}",
            "code": _code(family),
            "data": data,
            "fitted": self.family.fitted,
            "reader": self.reader.digest(),
            "gold": self.gold,
        }
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()

    def encode(self, rows: list[Row]) -> tuple[pa.RecordBatch, int]:
        """Tokenise some rows: their record batch, and how many were truncated."""
        texts = [self.family.texts(row) for row in rows]
        flat = self.reader([t for own in texts for t in own], self.family.data.max_length)
        # What begins a text; the windows after the first go on with theirs.
        first = [place for place, one in enumerate(flat) if not one.before] + [len(flat)]
        schema, truncated, done = self.schema(), 0, 0
        columns: dict[str, list[Any]] = {name: [] for name in schema.names}
        for row, own in zip(rows, texts, strict=True):
            encoded = flat[first[done] : first[done + len(own)]]
            done += len(own)
            truncated += any(one.truncated for one in encoded)
            lengths = [len(one) for one in encoded]
            starts = [sum(lengths[:place]) for place in range(len(lengths))]
            columns["input_ids"].append([token for one in encoded for token in one.input_ids])
            columns["sequences"].append(lengths)
            columns["second"].append([one.second for one in encoded])
            words = [s + w for s, one in zip(starts, encoded, strict=True) for w in one.words]
            columns["words"].append(words)
            columns["word_counts"].append([len(one.words) for one in encoded])
            family_columns = self.family.encode(row, encoded)
            for name in self.family.columns:
                columns[OWN + name].append(family_columns[name])
            columns["terms"].append(self.family.terms(row, family_columns))
            columns["length"].append(sum(lengths))
            columns["texts"].append(sorted({_hash(text) for text in _strings(own)}))
            if self.reader.kind != "text":
                for name in MEDIA.names:
                    columns[name].append(getattr(own[0], name))
            if self.gold:
                columns["gold"].append(json.dumps(self.family.gold(row), ensure_ascii=False))
        arrays = [pa.array(columns[field.name], field.type) for field in schema]
        return pa.record_batch(arrays, schema=schema), truncated


def _strings(texts: Iterable[Text]) -> Iterator[str]:
    """Give each text of a row, words as the text that they make."""
    for text in texts:
        if isinstance(text, tuple):
            yield from text
        else:
            yield text if isinstance(text, str) else " ".join(text)


def _hash(text: str) -> int:
    """Hash the letters and digits of a text.

    Case, spaces, punctuation and ways to encode a character do not make it another one.
    """
    bare = re.sub(r"\W+", "", unicodedata.normalize("NFKC", text).casefold())
    return keyed.number("text", bare or text)


def _code(family: type[Family[Any]]) -> list[str]:
    """Hash the files that columns and answers come from, a family's own and those of its parts.

    So a changed family finds no tokens of its former self.
    """
    kinds = [kind for kind in family.__mro__ if issubclass(kind, Family)]
    own = [getattr(sys.modules[kind.__module__], "__file__", None) for kind in kinds]
    parts = [Path(tasks.__path__[0]) / f"{part}.py" for part in sorted(tasks.PARTS)]
    files = dict.fromkeys(Path(file) for file in (*own, *parts) if file)
    return [hashlib.sha256(file.read_bytes()).hexdigest() for file in files]


def tokenise(
    work: Work, split: str, rows: pa.Table, digest: str, cache: Path, processes: int | None = None
) -> Path:
    """Give the file of tokens of a split, making it unless the cache has it.

    Several processes may ask at once: one works, the others wait. ``digest`` stands for the
    content of ``rows``; ``processes`` defaults to one a core where there are many rows.
    """
    if getattr(current_process(), "_inheriting", False):
        # It would wait for the lock of its parent, which waits for it.
        raise RuntimeError(
            "a process of the pool is running its parent's script from the top; expected a script"
            " that does its work under `if __name__ == '__main__':`"
        )
    root = cache / "tokens"
    root.mkdir(parents=True, exist_ok=True)
    folder = root / work.name(split, _placed(work, rows, digest))
    file = folder / f"{split}.arrow"
    with FileLock(f"{folder}.lock"):
        if not whole(file):
            shutil.rmtree(folder, ignore_errors=True)
            made = root / f".{folder.name}.tmp"
            shutil.rmtree(made, ignore_errors=True)  # left by a process that was killed
            made.mkdir()
            counts = _write(work, rows, made / file.name, processes)
            meta = asdict(counts) | {"bytes": (made / file.name).stat().st_size}
            (made / "meta.json").write_text(json.dumps(meta), encoding="utf-8")
            os.replace(made, folder)
    return file


def _placed(work: Work, rows: pa.Table, digest: str) -> str:
    """Add to a digest where pictures or sounds lie: a file of tokens leads to them."""
    if work.reader.kind == "text":
        return digest
    column = rows.column(getattr(work.family.data, work.reader.kind))
    found = hashlib.sha256(digest.encode())
    for path in pc.struct_field(column, "path").to_pylist():
        found.update(f"{path}\n".encode())
    return found.hexdigest()


def _write(work: Work, rows: pa.Table, path: Path, processes: int | None) -> Counts:
    """Write record batches in the order of the rows, holding one at a time."""
    totals = {"rows": 0, "tokens": 0, "terms": 0, "truncated": 0, "longest": 0}
    held: list[pa.RecordBatch] = []
    schema = work.schema()

    def flush() -> None:
        if held:
            for batch in pa.Table.from_batches(held, schema).combine_chunks().to_batches():
                file.write_batch(batch)
            held.clear()

    with path.open("wb") as raw:
        with pa.ipc.new_file(raw, schema) as file:
            size = 0
            for batch, truncated in _encoded(work, rows, processes):
                lengths = batch.column("length").to_numpy()
                totals["rows"] += len(lengths)
                totals["tokens"] += int(lengths.sum())
                totals["terms"] += int(batch.column("terms").to_numpy().sum())
                totals["truncated"] += truncated
                totals["longest"] = max(totals["longest"], int(lengths.max(initial=0)))
                held.append(batch)
                size += int(lengths.sum())
                full = sum(map(len, held)) >= BATCH_ROWS or size >= BATCH_TOKENS
                if full or sum(one.nbytes for one in held) >= BATCH_BYTES:
                    flush()
                    size = 0
            flush()
        raw.flush()
        os.fsync(raw.fileno())
    return Counts(**totals)


def _chunks(rows: pa.Table) -> Iterator[list[Row]]:
    for batch in rows.to_batches(max_chunksize=CHUNK_ROWS):
        yield batch.to_pylist()


def _encoded(
    work: Work, rows: pa.Table, processes: int | None
) -> Iterator[tuple[pa.RecordBatch, int]]:
    """Tokenise chunk by chunk, in this process or, for many rows, in one a core."""
    if processes is None:
        processes = len(os.sched_getaffinity(0)) if rows.num_rows >= POOL_ROWS else 1
    if processes == 1:
        yield from map(work.encode, _chunks(rows))
        return
    # Spawned, not forked: the parent may have threads, of torch or of Ray.
    with ProcessPoolExecutor(processes, get_context("spawn"), _begin, (work,)) as pool:
        yield from _in_order(pool, _chunks(rows), ahead=3 * processes)


def _in_order(
    pool: ProcessPoolExecutor, chunks: Iterable[list[Row]], ahead: int
) -> Iterator[tuple[pa.RecordBatch, int]]:
    """Keep a few chunks under way, not all: memory stays bounded."""
    waiting: deque[Future[tuple[pa.RecordBatch, int]]] = deque()
    for chunk in chunks:
        waiting.append(pool.submit(_encode_there, chunk))
        if len(waiting) >= ahead:
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()


_THERE: list[Work] = []
"""The work of this process, when it is one of the pool."""


def _begin(work: Work) -> None:
    _THERE[:] = [work]


def _encode_there(rows: list[Row]) -> tuple[pa.RecordBatch, int]:
    return _THERE[0].encode(rows)
