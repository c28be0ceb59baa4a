"""What a study still has to run: each distinct trial once, whoever has run it before."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from orchestrator.experiment import ExperimentError
from orchestrator.prepare import Prepared
from orchestrator.studies import study as studies
from orchestrator.studies.proposals import WAIT, Known, Search
from orchestrator.studies.study import Asked, Kind, Result, Study
from orchestrator.studies.trial import Part
from orchestrator.studies.trials import Planned, Trials

EXPERIMENT = "experiment.yaml"
PREPARED = "prepared"
"""In a trial's folder: where the data are that it was run on."""


@dataclass(frozen=True)
class Wanted:
    """A trial that is wished for, before it is known what it comes to."""

    arm: str
    kind: Kind
    changes: Mapping[str, Any]
    seed: int
    point: Mapping[str, float] = field(default_factory=dict)
    parent: str | None = None
    """Of a part of a trial: the hash of the one before; empty for the first. None: it is whole."""


class Agenda:
    """Turns wishes into trials; ``next`` gives those that must be run."""

    def __init__(
        self,
        study: Study,
        trials: Trials,
        earlier: Iterable[Path] = (),
        tell: Callable[[Asked, Result, bool], None] = lambda asked, result, reused: None,
    ) -> None:
        """``earlier`` are folders of studies whose finished trials count; ``tell`` hears of ends.

        ``tell`` is given the trial, what became of it, and whether that was known before.
        """
        self.study, self.trials = study, trials
        self._earlier, self._tell = list(earlier), tell
        self._asked = {(own.arm, own.seed, own.hash): own for own in study.lines()}
        self.running: dict[str, list[Asked]] = {}
        """By hash, those whose end is not known yet."""
        self._ended: set[str] = set()
        self._places: dict[int, Path] = {}

    def take(self, wanted: Wanted) -> Path | None:
        """Ask for a trial; give its folder if it must be run, None if that is not so."""
        planned = self._planned(wanted)
        digest = planned.hash if isinstance(planned, Planned) else _impossible(wanted)
        if wanted.parent is not None:
            digest = hashlib.sha256(f"{wanted.parent} {digest}".encode()).hexdigest()
        asked = Asked(**{**vars(wanted), "hash": digest})
        if (asked.arm, asked.seed, asked.hash) not in self._asked:
            self.study.ask(asked)
            self._asked[asked.arm, asked.seed, asked.hash] = asked
        if digest in self.running:
            self.running[digest].append(asked)
            return None
        if not isinstance(planned, Planned):
            found = Result(digest, "failed", wanted.seed, error=planned)
            studies.write(self.study.trial(digest), found)
            self._ended.add(digest)
        known = self.known(digest, wanted.kind == "part")
        if known is not None:
            self._tell(asked, known, isinstance(planned, Planned))
            return None
        assert isinstance(planned, Planned)
        self.running[digest] = [asked]
        folder = self._laid_out(planned, digest)
        if wanted.parent is not None:
            parent = str(self.study.trial(wanted.parent)) if wanted.parent else None
            Part(parent).write(folder)
        return folder

    def ahead(self) -> None:
        """Get ready what ``next`` will give, where that is known before any trial ends."""

    def known(self, digest: str, part: bool = False) -> Result | None:
        """Find a trial that needs no running: ended now, or finished before, here or elsewhere.

        A part of a trial counts however it ended: others have been chosen by that.
        """
        found = self.study.result(digest)
        if found is not None and (found.status == "finished" or digest in self._ended or part):
            return found
        for place in self._earlier:
            there = place / "trials" / digest
            own = studies.result(there)
            if own is not None and own.status == "finished":
                _copy(there, self.study.trial(digest))
                return own
        return None

    def ended(self, result: Result) -> None:
        """Take in what became of a trial."""
        self._ended.add(result.hash)
        for asked in self.running.pop(result.hash, []):
            self._tell(asked, result, False)

    def _planned(self, wanted: Wanted) -> Planned | str:
        """Plan a trial, or say why that cannot be."""
        try:
            return self.trials.plan(wanted.changes, wanted.seed)
        except (ExperimentError, ValueError, LookupError) as error:
            return str(error)

    def _laid_out(self, planned: Planned, digest: str) -> Path:
        """Make the folder of a trial that is to be run."""
        folder = self.study.trial(digest)
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        (folder / EXPERIMENT).write_text(planned.experiment.yaml(), encoding="utf-8")
        (folder / PREPARED).write_text(str(self._place(planned.prepared)), encoding="utf-8")
        return folder

    def _place(self, prepared: Prepared) -> Path:
        """Give the folder that holds the data of a trial."""
        if id(prepared) not in self._places:
            text = prepared.model_dump_json()
            place = self.study.folder
            if text != self.study.prepared.model_dump_json():
                digest = hashlib.sha256(text.encode()).hexdigest()[:16]
                place = self.study.folder / PREPARED / digest
                place.mkdir(parents=True, exist_ok=True)
                prepared.write(place)
            self._places[id(prepared)] = place.resolve()
        return self._places[id(prepared)]


class Listed(Agenda):
    """Trials that are all known beforehand."""

    def __init__(self, study: Study, trials: Trials, left: Sequence[Wanted], **rest: Any) -> None:
        super().__init__(study, trials, **rest)
        self._left = list(left)
        self._ready: Path | None = None

    def next(self) -> Path:
        """Give the folder of the next trial to run; raise ``StopIteration`` after the last."""
        self.ahead()
        folder, self._ready = self._ready, None
        if folder is None:
            raise StopIteration
        return folder

    def ahead(self) -> None:
        """Lay out the next trial to run, if that is not done yet."""
        while self._left and self._ready is None:
            self._ready = self.take(self._left.pop(0))


class Searched(Agenda):
    """Trials that a search proposes, each in view of those before."""

    def __init__(
        self,
        study: Study,
        trials: Trials,
        search: Search,
        count: int,
        baseline: Wanted,
        **rest: Any,
    ) -> None:
        """``count`` trials beside the baseline, fewer if the search sees no more to gain."""
        super().__init__(study, trials, **rest)
        self._search, self._count = search, count
        self._first = [baseline, *(_again(own) for own in study.asked if own.kind != "baseline")]
        """What was asked for before comes first: some of it may not have ended."""
        mains = {task: study.prepared.family(task).main for task in trials.base.tasks}
        self._mains: dict[str, str] = mains

    def next(self) -> Path | None:
        """As ``Listed.next``, but None while the search waits for trials to end."""
        while True:
            if self._first:
                folder = self.take(self._first.pop(0))
            else:
                wanted = self._proposed()
                if wanted is None:
                    return None
                folder = self.take(wanted)
            if folder is not None:
                return folder

    def _proposed(self) -> Wanted | None:
        own = [one for one in self.study.asked if one.kind != "baseline"]
        if len(own) >= self._count:
            raise StopIteration
        found = self._search.propose(self.view())
        if isinstance(found, str):
            assert found == WAIT
            return None
        if found is None:
            if self.running:
                return None
            raise StopIteration
        same = [one for one in own if one.changes == found.changes]
        seed = self.trials.base.train.seed + len(same)  # a point that comes again tells the noise
        arm = same[0].arm if same else f"{1 + len({one.arm for one in own}):03d}"
        return Wanted(arm, "arm", found.changes, seed, found.point)

    def view(self) -> list[Known]:
        """Give what a search may know: all trials asked for, but for the baseline."""
        results = self.study.results()
        found = []
        for one in self.study.asked:
            if one.kind == "baseline":
                continue
            result = results.get(one.hash)
            ended = result is not None and result.status == "finished"
            scores = (
                {
                    task: result.scores[task][main] if task in result.scores else 0.0
                    for task, main in self._mains.items()
                }
                if ended and result is not None
                else None
            )
            shares = dict(result.shares) if ended and result is not None else {}
            running = one.hash in self.running
            found.append(Known(one.changes, one.point, scores, shares, running))
        return found


def _again(asked: Asked) -> Wanted:
    return Wanted(asked.arm, asked.kind, asked.changes, asked.seed, asked.point)


def _impossible(wanted: Wanted) -> str:
    """Name a trial that has no experiment, and so no hash of one."""
    text = json.dumps([dict(wanted.changes), wanted.seed], sort_keys=True, default=str)
    return hashlib.sha256(f"impossible {text}".encode()).hexdigest()


def _copy(there: Path, here: Path) -> None:
    """Take over a finished trial: whole or not at all, with no bytes of its own where possible."""
    made = here.with_name(f".{here.name}.tmp")
    shutil.rmtree(made, ignore_errors=True)
    try:
        shutil.copytree(there, made, copy_function=os.link)
    except OSError:  # another file system
        shutil.rmtree(made, ignore_errors=True)
        shutil.copytree(there, made)
    shutil.rmtree(here, ignore_errors=True)
    made.rename(here)
