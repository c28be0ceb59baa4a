"""What MLflow knows of a study: a run for the study, in it one for each arm, in those the trials.

A trial's run is made when the trial has ended. Runs are found again by their tags, so nothing is
there twice; no score on test rows is ever sent.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path

import yaml

from orchestrator import registry
from orchestrator.access import held
from orchestrator.prepare import FILE as PREPARED
from orchestrator.store import OUTAGES, Store, own_store, without_secrets
from orchestrator.studies.study import FILE, Asked, Study
from orchestrator.studies.summary import (
    STATUS,
    Ended,
    Trials,
    digest,
    identity,
    note,
    parts,
    spread,
    status,
    tally,
)
from orchestrator.summary import flattened
from orchestrator.tracking import STATE, State, Tracker

FILES = (FILE, "report.html", "*.csv", "results.parquet")
"""Files of a study that its run holds."""
LOCK = ".tracking.lock"
PARENT, NOTE = "mlflow.parentRunId", "mlflow.note.content"
NAMES = {"study": (), "arm": ("tlmt.arm",), "trial": ("tlmt.hash", "tlmt.arm")}
"""Which tags tell runs of a stage apart, in one study."""
SENT = "tlmt.result"
"""The tag that holds a digest of what was sent."""


@dataclass
class StudyState(State):
    """What MLflow already has of a study; kept beside it."""

    whole: bool = False
    """Whether all runs that MLflow has are listed here. Otherwise they are looked for first."""
    runs: dict[str, list[str]] = field(default_factory=dict)
    """By what a run stands for: MLflow's id and status of it, and a digest of what it was sent."""


class StudyTracker(Tracker):
    """Brings MLflow up to date with a study's folder, in the manner of ``Tracker``.

    A trial that ended once more, otherwise than before, gets a new run in place of its old one. Of
    two processes that are at it, one does the work.
    """

    state: StudyState

    def __init__(self, study: Study) -> None:
        """Read what was sent before; contact nothing yet."""
        self.study, self.folder = study, study.folder
        self.question = study.question
        self.settings = self.question["experiment"]
        tracking = self.settings.get("tracking") or {}
        self.tracking = {key: None if own == "none" else own for key, own in tracking.items()}
        self.state = self._remembered()
        self.trials = Trials(study)
        self._store: Store | None = None
        self._wait, self._next_try, self._warned = 1.0, 0.0, False
        self._seen: object = None  # of the folder, when MLflow last had all of it

    def sync(self, now: bool = False) -> bool:
        """Send what is not yet sent; say whether MLflow now has all that the folder holds."""
        with ExitStack() as stack:
            try:
                stack.enter_context(held(self.folder, LOCK, wait=10.0 if now else 0.0))
            except ValueError:
                return False  # another process sends
            self.state = self._remembered()  # it may have sent since
            return super().sync(now)

    def champion(self, folder: Path | None) -> str | None:
        """Register the model of a run's folder; see ``champion``."""
        description = folder and folder / "model" / "MLmodel"
        if not description or not description.is_file() or not self.sync(now=True):
            return None
        own = str(yaml.safe_load(description.read_text(encoding="utf-8"))["model_uuid"])
        try:
            store = self._contact()
            model = registry.ready(store, own)
            if model is None:
                model = store.model(self.state.run_id, own, description.parent, [])
            return registry.register(store, self.settings["name"], model, own)
        except OUTAGES as error:
            self._outage(error)
            return None

    def _remembered(self) -> StudyState:
        named = without_secrets(self.tracking.get("uri") or "") or None
        path = self.folder / STATE
        if path.is_file():
            kept = StudyState(**json.loads(path.read_text(encoding="utf-8")))
            if named in (kept.asked, kept.uri):
                return kept
        return StudyState(without_secrets(self._named or own_store()), named)

    def _contact(self) -> Store:
        """Open the store, look for runs of the study that are not known here, make the first."""
        name = self.tracking.get("experiment") or self.settings["name"]
        store = self._store or Store(self._address, name)
        if self._store is None and self.state.run_id and not store.holds(self.state.run_id):
            self.state = StudyState(self.state.uri, self.state.asked)
        if not self.state.whole:
            self._find(store)
        if "study" not in self.state.runs:
            tags = {"tlmt.stage": "study", "tlmt.kind": self.question["kind"]}
            self._begin(store, self._id, tags, self._since)
        self.state.run_id = self.state.runs["study"][0]
        self._store = store
        return store

    def _find(self, store: Store) -> None:
        """List what the store has, from the study down.

        Of two runs for the same one is taken away, and so is one whose parent is no more.
        """
        self.state.runs, known = {}, {""}
        found = store.runs("tlmt.question", self._identity)
        for own in sorted(found, key=lambda own: list(NAMES).index(own.tags["tlmt.stage"])):
            key = _key(own.tags)
            if key in self.state.runs or own.tags.get(PARENT, "") not in known:
                store.delete(own.id)
            else:
                self.state.runs[key] = [own.id, own.status, own.tags.get(SENT, "")]
                known.add(own.id)

    @property
    def _identity(self) -> str:
        return identity(self._id, self.question)

    @property
    def _since(self) -> int:
        """When the study was made, in milliseconds since 1970."""
        places = [self.folder / name for name in (PREPARED, FILE)]
        return next(int(1000 * path.stat().st_mtime) for path in places if path.is_file())

    def _begin(self, store: Store, name: str, tags: Mapping[str, str], start: int) -> str:
        """Make a run; its tags tell what it stands for."""
        self._unlisted()
        own = {"tlmt.study": self._id, "tlmt.question": self._identity, **tags}
        made = store.begin(name, start, own)
        self.state.runs[_key(own)] = [made, "RUNNING", own.get(SENT, "")]
        return made

    def _unlisted(self) -> None:
        """Note, before it is so, that the list of runs may be wrong."""
        if self.state.whole:
            self.state.whole = False
            self._save()

    def _outage(self, error: Exception) -> None:
        """Look for all runs the next time: perhaps somebody took one away."""
        super()._outage(error)
        self._unlisted()

    def _send(self, store: Store) -> None:
        asked = list({(own.hash, own.arm): own for own in self.study.asked}.values())
        ended, files = self.trials.ended(asked), self._files()
        seen = asked, {own: one.stamp for own, one in ended.items()}, files
        if self.state.whole and seen == self._seen:
            return
        before = asdict(self.state)
        arms: dict[str, list[Asked]] = {}
        for own in asked:
            arms.setdefault(own.arm, []).append(own)
        start = self._since
        for place, trials in enumerate(arms.values(), 1):
            self._send_arm(store, trials, ended, start + place)  # their order
        done = [ended[own.hash] for own in asked if own.hash in ended]
        self._tell(store, "study", start, len(asked), done, tally(done))
        self._send_files(store, files)
        self.state.whole, self._seen = True, seen
        if asdict(self.state) != before:
            self._save()

    def _send_arm(
        self, store: Store, trials: Sequence[Asked], ended: Mapping[str, Ended], start: int
    ) -> None:
        first, done = trials[0], [ended[own.hash] for own in trials if own.hash in ended]
        tags = {"tlmt.stage": "arm", "tlmt.arm": first.arm, "tlmt.kind": first.kind}
        if _key(tags) not in self.state.runs:
            tags[PARENT] = self.state.run_id
            self._begin(store, first.arm, tags, start)
        for own in trials:
            if own.hash in ended:
                self._send_trial(store, own, ended[own.hash])
        values, params = {**spread(done), **tally(done)}, dict(flattened(first.changes))
        self._tell(store, _key(tags), start, len(trials), done, values, params)

    def _send_trial(self, store: Store, own: Asked, ended: Ended) -> None:
        """Make a trial's run, or what is missing of it; its status comes last and says so."""
        found = ended.result
        tags = {"tlmt.stage": "trial", "tlmt.arm": own.arm, "tlmt.hash": own.hash}
        key, parent = _key(tags), self.state.runs[_key({**tags, "tlmt.stage": "arm"})][0]
        run, state, sent = self.state.runs.get(key, ["", "", ""])
        if (state, sent) == (STATUS[found.status], ended.digest):
            return
        if run and sent != ended.digest:
            self._unlisted()
            store.delete(run)
            run = ""
        if not run:
            tags |= {"tlmt.seed": str(own.seed), "tlmt.kind": own.kind, PARENT: parent}
            tags |= {"tlmt.error": found.error, NOTE: found.error} if found.error else {}
            tags |= {SENT: ended.digest}
            run = self._begin(store, f"{own.arm} seed {own.seed}", tags, ended.start)
        params = {**dict(flattened(own.changes)), "seed": str(own.seed), "status": found.status}
        store.send(run, list(ended.values()), params)
        store.status(run, STATUS[found.status], ended.moment)
        self.state.runs[key] = [run, STATUS[found.status], ended.digest]

    def _tell(
        self,
        store: Store,
        key: str,
        start: int,
        asked: int,
        done: Sequence[Ended],
        values: Mapping[str, float],
        params: Mapping[str, str] | None = None,
    ) -> None:
        """Bring the run of an arm, or the study's, up to date with its trials that have ended."""
        run, state, sent = self.state.runs[key]
        now, moment = status(done, asked), max([start, *(own.moment for own in done)])
        same = digest(json.dumps([now, moment, values]))
        if (state, sent) == (now, same):
            return
        if not now == state == "RUNNING":
            store.status(run, now, moment)
        told = [(name, own, moment, len(done)) for name, own in values.items()]
        store.send(run, told, params, {SENT: same})  # last: the digest says that all is there
        self.state.runs[key] = [run, now, same]

    def _files(self) -> dict[str, list[int]]:
        """Give size and time of change of each file that MLflow is to have."""
        found = sorted(file for pattern in FILES for file in self.folder.glob(pattern))
        return {file.name: [file.stat().st_size, file.stat().st_mtime_ns] for file in found}

    def _send_files(self, store: Store, files: Mapping[str, list[int]]) -> None:
        """Send the files that changed, and with its question what the study asks."""
        for name, stamp in files.items():
            if self.state.artifacts.get(name) == stamp:
                continue
            if name == FILE:
                question = self.study.question
                params, tags = parts(question)
                tags[NOTE] = note(self._id, question, store.experiment)
                store.params(self.state.run_id, params.items())
                store.send(self.state.run_id, tags=tags)
            store.artifact(self.state.run_id, self.folder / name, None)
            self.state.artifacts[name] = stamp


def _key(tags: Mapping[str, str]) -> str:
    """Name what a run stands for: the study, an arm, or a trial of an arm."""
    stage = tags["tlmt.stage"]
    return " ".join([stage, *(tags[name] for name in NAMES[stage])])


def champion(study: Study, folder: Path | None) -> str | None:
    """Register the model of the run in a folder as the study's best; give its address.

    It gets the name of the study's experiment and the alias ``champion``, once, and only after it
    answered in a fresh process. None where the run saved no model, or the store is away.
    Raises ``ModelError`` for a model that does not answer.
    """
    return StudyTracker(study).champion(folder)


def sync(folders: Iterable[Path]) -> dict[Path, bool]:
    """Send what is not yet sent of each run or study; say whether MLflow now has all of it."""
    return {
        folder: (
            StudyTracker(Study(folder)) if (folder / FILE).is_file() else Tracker(folder)
        ).sync(now=True)
        for folder in folders
    }
