"""The way of records: from rank 0, through an actor beside the driver, to the journal."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import ray

from orchestrator import loop
from orchestrator.journal import Journal, Record

EVERY = 1.0
"""Seconds between two sendings of records."""


class Recorder:
    """Stands beside the driver and appends rank 0's records to the journal, in order."""

    def __init__(self, folder: str, attempt: int) -> None:
        self._journal = Journal(Path(folder))
        self._run = Path(folder).name
        self._attempt = attempt
        self._stop = False

    def append(self, rows: list[tuple[int, int, str, Any]]) -> bool:
        """Write (stage, step, key, value) rows; answer whether the run should stop."""
        self._journal.append(Record(self._run, self._attempt, *row) for row in rows)
        return self._stop

    def stop(self) -> None:
        """Ask the run to end after its current step."""
        self._stop = True


class Sender:
    """Rank 0's end of the way to the recorder: never waits, at most one sending on its way."""

    def __init__(self, recorder: Any) -> None:
        self._recorder = recorder
        self._rows: list[tuple[int, int, str, Any]] = []
        self._sent = 0.0
        self._answer: Any = None
        self.asked_to_stop = False

    def add(self, news: loop.News) -> None:
        """Take in what a step has to tell."""
        events = {f"event/{name}": value for name, value in news.events.items()}
        if news.checkpoint is not None:
            events["event/checkpoint"] = {"folder": news.checkpoint.name}
        told = (news.values | events).items()
        self._rows += [(news.stage, news.step, key, value) for key, value in told]
        self._listen(wait=False)
        if self._answer is None and time.monotonic() - self._sent > EVERY:
            self._send()

    def _listen(self, wait: bool) -> None:
        if self._answer is not None and (wait or ray.wait([self._answer], timeout=0)[0]):
            self.asked_to_stop |= bool(ray.get(self._answer))
            self._answer = None

    def _send(self) -> None:
        self._answer = self._recorder.append.remote(self._rows)
        self._rows, self._sent = [], time.monotonic()

    def settle(self) -> None:
        """Send the rest and wait until it is written."""
        self._listen(wait=True)
        self._send()
        self._listen(wait=True)
