"""What MLflow knows of a run: all that its folder holds, sent once, whenever the store answers."""

from __future__ import annotations

import json
import logging
import os
import time
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import yaml

from orchestrator.journal import Record, Tail, last_event, read, replace_text, valid
from orchestrator.store import (
    METRICS_PER_REQUEST,
    OUTAGES,
    Store,
    Value,
    own_store,
    without_secrets,
)
from orchestrator.summary import Summary

STATE = "tracking.json"
ARTIFACTS = ("experiment.yaml", "results.json", "report.html", "charts/*.png")
STATUS = {
    "start": "RUNNING",
    "resume": "RUNNING",
    "stop": "KILLED",
    "failed": "FAILED",
    "end": "FINISHED",
}
"""What an event in the journal means to MLflow."""
LONGEST_WAIT = 60.0  # seconds between two tries during an outage

log = logging.getLogger(__name__)


@dataclass
class State:
    """What MLflow already has of a run; kept beside the run."""

    uri: str
    """The store's address, without user and password."""
    asked: str | None = None
    """``tracking.uri`` as it was then, likewise."""
    run_id: str = ""
    """MLflow's id; empty until the first contact."""
    offset: int = 0
    """Bytes of the journal that are sent."""
    sent: dict[str, int] = field(default_factory=dict)
    """The highest step sent of each metric."""
    described: bool = False
    """Whether parameters and data sets are sent."""
    artifacts: dict[str, list[int]] = field(default_factory=dict)
    """Size and time of change of each file when it was sent."""
    models: dict[str, str] = field(default_factory=dict)
    """MLflow's id of each model sent, by the id in its own ``MLmodel``."""
    turn: tuple[str, int] = ("RUNNING", 0)
    """The status that the journal last told, and when, in milliseconds."""
    status: str = "RUNNING"
    """The status that MLflow has."""


class Tracker:
    """Brings MLflow up to date with a run's folder. Makes no duplicates, also after a restart."""

    def __init__(self, folder: Path) -> None:
        """Read what was sent before; contact nothing yet."""
        self.folder = folder
        self.settings: dict[str, Any] = Summary(folder).experiment
        self.tracking: dict[str, Any] = self.settings.get("tracking") or {}
        self.state = self._remembered()
        self._store: Store | None = None
        self._wait, self._next_try, self._warned = 1.0, 0.0, False

    @property
    def mlflow_run_id(self) -> str | None:
        """MLflow's id of the run, or None before the first contact."""
        return self.state.run_id or None

    def sync(self, now: bool = False) -> bool:
        """Send what is not yet sent; say whether MLflow now has all that the folder holds.

        A store that is away is told of once and tried again after growing pauses; inside a pause
        this returns at once, unless ``now``.
        """
        if not now and time.monotonic() < self._next_try:
            return False
        try:
            self._send(self._contact())
        except OUTAGES as error:
            self._outage(error)
            return False
        if self._warned:
            log.warning("MLflow answers again; nothing was lost.")
        self._wait, self._next_try, self._warned = 1.0, 0.0, False
        return True

    def _send(self, store: Store) -> None:
        if not self.state.described:
            self._describe(store)
        self._send_journal(store)
        self._send_artifacts(store)
        self._send_model(store)
        self._send_status(store)

    def _outage(self, error: Exception) -> None:
        self._store = None
        self._next_try = time.monotonic() + self._wait
        self._wait = min(2 * self._wait, LONGEST_WAIT)
        if not self._warned:
            log.warning(
                "MLflow at %s takes no records (%s). Training goes on and nothing is lost: they "
                "wait in %s until it answers; 'tlmt sync %s' sends them later.",
                without_secrets(self.state.uri),
                without_secrets(f"{type(error).__name__}: {error}".splitlines()[0][:200]),
                self.folder,
                self.folder,
            )
        self._warned = True

    def _remembered(self) -> State:
        """Read what was sent; nothing was yet to a store that the settings name only now."""
        asked = without_secrets(self.tracking.get("uri") or "") or None
        path = self.folder / STATE
        if path.is_file():
            kept = State(**json.loads(path.read_text(encoding="utf-8")))
            if asked in (kept.asked, kept.uri):
                return kept
        return State(without_secrets(self._named or own_store()), asked)

    @property
    def _named(self) -> str:
        return self.tracking.get("uri") or os.getenv("MLFLOW_TRACKING_URI") or ""

    @property
    def _address(self) -> str:
        """Give the store's address with user and password, which no file of the run holds."""
        return self._named if without_secrets(self._named) == self.state.uri else self.state.uri

    def _save(self) -> None:
        replace_text(self.folder / STATE, json.dumps(asdict(self.state), indent=1))

    def _contact(self) -> Store:
        """Open the store and find or make the run."""
        if self._store is not None:
            return self._store
        store = Store(self._address, self.tracking.get("experiment") or self.settings["name"])
        if self.state.run_id and not store.holds(self.state.run_id):
            log.warning(
                "MLflow at %s no longer holds %s; all of it is sent anew.",
                self.state.uri,
                self.folder,
            )
            self.state = State(self.state.uri, self.state.asked)
        if not self.state.run_id:
            found = store.find(self._id)
            # What was sent before our own memory of it was lost is asked back.
            self.state.run_id, self.state.sent = found or (self._create(store), {})
            self._save()
            self._name_in_results()
        self._store = store
        return store

    @property
    def _id(self) -> str:
        return self.folder.resolve().name

    def _create(self, store: Store) -> str:
        records = Tail(self.folder).read()
        start = records[0].time if records else time.time()
        return store.create(self._id, int(1000 * start), {"tlmt.name": self.settings["name"]})

    def _name_in_results(self) -> None:
        """Put in MLflow's id where the run ended with none, or with one that is no more."""
        path = self.folder / "results.json"
        if path.is_file():
            results = json.loads(path.read_text(encoding="utf-8"))
            if results.get("mlflow_run_id") != self.state.run_id:
                results["mlflow_run_id"] = self.state.run_id
                replace_text(path, json.dumps(results, indent=2))

    def _describe(self, store: Store) -> None:
        summary = Summary(self.folder)
        if not summary.prepared:
            return  # the data is still being prepared
        store.params(self.state.run_id, summary.settings())
        store.inputs(self.state.run_id, summary.data())
        if summary.hash:
            store.tag(self.state.run_id, "tlmt.experiment_hash", summary.hash)
        self.state.described = True
        self._save()

    def _send_journal(self, store: Store) -> None:
        tail = Tail(self.folder, self.state.offset)
        records = valid(tail.read())
        values = list(self._news(records))
        for start in range(0, len(values), METRICS_PER_REQUEST):
            batch = values[start : start + METRICS_PER_REQUEST]
            store.metrics(self.state.run_id, batch)
            self.state.sent |= {key: step for key, _, _, step in batch}
            self._save()
        for record in records:
            if record.event in STATUS:
                self.state.turn = (STATUS[record.event], int(1000 * record.time))
        if tail.offset != self.state.offset:
            self.state.offset = tail.offset
            self._save()

    def _news(self, records: Iterable[Record]) -> Iterator[Value]:
        """Give the values beyond the highest step sent: what a resumed run repeats is the same."""
        highest = dict(self.state.sent)
        for record in records:
            for value in _values(record):
                key, *_, step = value
                if step > highest.get(key, -1):
                    highest[key] = step
                    yield value

    def _send_artifacts(self, store: Store) -> None:
        for path in sorted(file for pattern in ARTIFACTS for file in self.folder.glob(pattern)):
            name = path.relative_to(self.folder)
            stamp = [path.stat().st_size, path.stat().st_mtime_ns]
            if self.state.artifacts.get(str(name)) != stamp:
                below = str(name.parent) if len(name.parts) > 1 else None
                store.artifact(self.state.run_id, path, below)
                self.state.artifacts[str(name)] = stamp
                self._save()

    def _send_model(self, store: Store) -> None:
        description = self.folder / "model" / "MLmodel"
        if not self.tracking.get("log_model", True) or not description.is_file():
            return
        own = str(yaml.safe_load(description.read_text(encoding="utf-8"))["model_uuid"])
        if own not in self.state.models:
            test = last_event(read(self.folder), "test")
            scores = list(_values(test)) if test is not None else []
            run = self.state.run_id
            self.state.models[own] = store.model(run, own, description.parent, scores)
            self._save()

    def _send_status(self, store: Store) -> None:
        status, moment = self.state.turn
        if status != self.state.status:
            store.status(self.state.run_id, status, moment)
            self.state.status = status
            self._save()


def _values(record: Record) -> Iterator[Value]:
    for key, value in record.values():
        yield key, value, int(1000 * record.time), record.step


def sync_runs(folders: Iterable[Path]) -> dict[Path, bool]:
    """Send what is not yet sent of each run; say of each whether MLflow now has all of it."""
    return {folder: Tracker(folder).sync(now=True) for folder in folders}
