"""The records of a run: an append-only file, a JSON line a value, from which all views are made."""

from __future__ import annotations

import difflib
import json
import logging
import os
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

FILE = "journal.jsonl"
EVENT = "event/"

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Record:
    """One value at one step: a number for ``task/split/metric``, JSON data for ``event/<name>``."""

    run: str
    attempt: int
    stage: int
    step: int
    key: str
    value: Any
    time: float = field(default_factory=time.time)
    """Seconds since 1970."""

    @property
    def event(self) -> str | None:
        """The event's name, or None for a metric."""
        return self.key.removeprefix(EVENT) if self.key.startswith(EVENT) else None

    def values(self) -> Iterator[tuple[str, float]]:
        """Give the numbers told: a metric's own, or the scores of the event ``test``."""
        if self.event is None:
            yield self.key, float(self.value)
        elif self.event == "test":
            for task, scores in self.value["scores"].items():
                for metric, value in scores.items():
                    yield f"{task}/test/{metric}", float(value)


class Journal:
    """Appends records to a run's journal. Lines of several writers do not mix.

    A writer that was killed may leave half a line; the next one starts a new line after it, and
    readers skip the fragment.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.path = folder / FILE
        self._file = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
        size = os.fstat(self._file).st_size
        if size and os.pread(self._file, 1, size - 1) != b"\n":
            os.write(self._file, b"\n")

    def append(self, records: Iterable[Record]) -> None:
        """Write the records in order; with an event among them, wait until the disk has them."""
        records = list(records)
        data = b"".join(json.dumps(asdict(record)).encode() + b"\n" for record in records)
        while data:
            data = data[os.write(self._file, data) :]
        if any(record.event for record in records):
            os.fsync(self._file)

    def close(self) -> None:
        """Let go of the file. Closing twice does no harm."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def __enter__(self) -> Journal:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


class Tail:
    """Reads a journal as it grows, from a byte offset on."""

    def __init__(self, folder: Path, offset: int = 0) -> None:
        self.path = folder / FILE
        self.offset = offset
        """Where the first line not yet read begins."""

    def read(self) -> list[Record]:
        """Give the records of all lines completed since the last call, void ones included."""
        if not self.path.exists():
            return []
        with self.path.open("rb") as file:
            file.seek(self.offset)
            data = file.read()
        whole = data[: data.rfind(b"\n") + 1]
        records = []
        for line in whole.splitlines(keepends=True):
            try:
                records.append(Record(**json.loads(line)))
            except (ValueError, TypeError):
                log.warning(
                    "%s, byte %d: this line is no record and is skipped; "
                    "its writer was probably killed here.",
                    self.path,
                    self.offset,
                )
            self.offset += len(line)
        return records


def valid(records: Sequence[Record]) -> list[Record]:
    """Leave out what was taken back: a run that goes on from step s makes all beyond s void.

    One that starts again, because it was lost before its first checkpoint, goes on from step 0.
    One that was lost between its test and its end is tested again.
    """
    kept: list[Record] = []
    for record in records:
        if record.event in ("start", "resume"):
            last = int(record.value.get("from_step", 0))
            kept = [r for r in kept if r.step <= last and r.event not in ("trained", "test")]
        kept.append(record)
    return kept


def read(folder: Path) -> list[Record]:
    """Give the valid records of a run, in order."""
    return valid(Tail(folder).read())


def series(records: Iterable[Record]) -> dict[str, list[tuple[int, float]]]:
    """Group the metrics among the records by key, each as (step, value) in order."""
    found: dict[str, list[tuple[int, float]]] = {}
    for record in records:
        for key, value in record.values():
            found.setdefault(key, []).append((record.step, value))
    return found


def last_event(records: Sequence[Record], *names: str) -> Record | None:
    """Give the latest event with one of these names."""
    return next((record for record in reversed(records) if record.event in names), None)


def runs(storage: Path) -> list[Path]:
    """Give the folders of all runs below a storage folder, oldest first."""
    return sorted((file.parent for file in storage.glob("*/*/experiment.yaml")), key=_age)


def _age(folder: Path) -> tuple[str, str]:
    return folder.name, folder.parent.name


def find(run: str, storage: Path) -> Path:
    """Find the folder of a run by its path, its id, or its name (then the newest of that name).

    It is absolute: workers and servers have working folders of their own.
    """
    if (Path(run) / "experiment.yaml").is_file():
        return Path(run).resolve()
    known = runs(storage.resolve())
    matches = [folder for folder in known if run in (folder.name, folder.parent.name)]
    if matches:
        return matches[-1]
    names = sorted({name for folder in known for name in (folder.name, folder.parent.name)})
    close = difflib.get_close_matches(run, names, n=1)
    hint = f" Did you mean {close[0]!r}?" if close else ""
    raise LookupError(
        f"There is no run {run!r}: it is no folder with an experiment.yaml, and no id or name of a "
        f"run below {storage}.{hint} Give the folder, the id or the name of a run; "
        f"'tlmt train' makes one."
    )


def replace_text(path: Path, text: str) -> None:
    """Write a file whole or not at all."""
    temporary = path.with_name(f".{path.name}.tmp")
    temporary.write_text(text, encoding="utf-8")
    temporary.replace(path)
