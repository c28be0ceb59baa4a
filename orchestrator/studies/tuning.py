"""Many trials on a cluster: Ray Tune over processes that go from one trial to the next."""

from __future__ import annotations

import json
import os
import shutil
import time
import traceback
from dataclasses import asdict
from enum import Enum
from pathlib import Path
from typing import Any, Protocol

os.environ.setdefault("TUNE_DISABLE_AUTO_CALLBACK_LOGGERS", "1")
os.environ.setdefault("TUNE_GLOBAL_CHECKPOINT_S", "3600")  # a study's own folder is what it resumes
os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")

import ray
import torch
from ray import tune
from ray.tune.schedulers import ASHAScheduler, TrialScheduler
from ray.tune.search import Searcher

from orchestrator import cluster
from orchestrator.experiment import Experiment, load
from orchestrator.prepare import Prepared
from orchestrator.studies import study, trial
from orchestrator.studies.study import Result
from orchestrator.weights import Remembered

TRIAL = "trial"
"""The one setting that Tune hands over: the trial's folder."""
SCORE, STEP, PARTIAL = "score", "step", "partial"
LOST = "its process was lost; the cluster may have run out of memory"


REDUCTION = 3
"""Of as many trials one goes on to the next rung."""


PREPARED = "prepared"
"""In a trial's folder: where the data are that it is run on."""


TRACEBACK = "error.txt"
"""In the folder of a trial that failed: where it did."""


class How(Enum):
    """How a process runs a trial."""

    WHOLE = "whole"
    """To its end, on the plain twin."""
    WATCHED = "watched"
    """The same, from evaluation to evaluation, so that a scheduler may end it."""
    NESTED = "nested"
    """To its end, by workers of its own."""


class Source(Protocol):
    """Says which trial comes next, and is told what became of them."""

    def next(self) -> Path | None:
        """Give the folder of a trial, ready to run; None if nothing can be said for now.

        Raises ``StopIteration`` when there are no more.
        """

    def ahead(self) -> None:
        """Get ready what ``next`` will give, where that is known before any trial ends."""

    def ended(self, result: Result) -> None:
        """Take in what became of a trial."""


class Kept(tune.Trainable):
    """A process that runs one trial after another."""

    def setup(self, config: dict[str, Any]) -> None:
        """Begin with the first trial."""
        self._trial: trial.Trial | None = None
        self._data: dict[str, Prepared] = {}
        self._load = Remembered()
        self._begin(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Go on with another trial."""
        self._leave()
        self._begin(new_config)
        return True

    def _begin(self, config: dict[str, Any]) -> None:
        self._folder, self._how = Path(config[TRIAL]), How(config["how"])
        self._began, self._trial = time.monotonic(), None

    def step(self) -> dict[str, Any]:
        """Train to the next evaluation, or to the end where nobody looks on before."""
        try:
            return self._step()
        except Exception as error:  # whatever a user's own code raises; it is told and kept
            self._leave()
            (self._folder / TRACEBACK).write_text(traceback.format_exc(), encoding="utf-8")
            took = time.monotonic() - self._began
            experiment = load(self._folder / "experiment.yaml")
            text = f"{type(error).__name__}: {error}"
            trial.failed(self._folder, experiment, text, took)
            return {"done": True, SCORE: float("-inf"), STEP: 0}

    def _step(self) -> dict[str, Any]:
        if self._how is How.NESTED:
            from orchestrator.studies import nested

            place = (self._folder / PREPARED).read_text(encoding="utf-8")
            found = nested.run(self._folder, Path(place))
            return {"done": True, SCORE: found.score, STEP: found.steps}
        if self._trial is None:
            self._trial = self._made()
        if trial.Part.read(self._folder) is not None:
            found = self._trial.advance()
            self._trial = None
            return {"done": True, SCORE: found.score, STEP: found.steps}
        more = self._trial.look()
        while more and self._how is not How.WATCHED:
            more = self._trial.look()
        if more:
            step, score = self._trial.curve[-1]
            partial = json.dumps(asdict(self._trial.partial()))  # Tune takes mappings apart
            return {"done": False, SCORE: score, STEP: step, PARTIAL: partial}
        found = self._trial.finish()
        self._trial = None
        return {"done": True, SCORE: found.score, STEP: found.steps}

    def _made(self) -> trial.Trial:
        experiment = load(self._folder / "experiment.yaml")
        scaling = experiment.scaling
        torch.set_num_threads(scaling.cpus if scaling.threads == "auto" else scaling.threads)
        device = torch.device("cuda" if scaling.gpus and torch.cuda.is_available() else "cpu")
        place = (self._folder / PREPARED).read_text(encoding="utf-8")
        if place not in self._data:
            self._data[place] = Prepared.read(Path(place))
        data = self._data[place].under(experiment)
        part = trial.Part.read(self._folder)
        return trial.Trial(self._folder, experiment, data, device, load=self._load, part=part)

    def _leave(self) -> None:
        if self._trial is not None:
            self._trial.close()
            self._trial = None

    def cleanup(self) -> None:
        """Leave nothing of a trial that was ended early."""
        self._leave()


class _Asker(Searcher):
    """Tune's view of a source."""

    def __init__(self, source: Source, how: How, first: Path | None) -> None:
        super().__init__(metric=SCORE, mode="max")
        self._source, self._how, self._first = source, how, first
        self._running: dict[str, Path] = {}
        self._seen: dict[str, str] = {}
        self._last = False

    @property
    def done(self) -> bool:
        """Whether the source has no more trials, and all of them have ended."""
        return self._last and not self._running

    def suggest(self, trial_id: str) -> Any:
        folder, self._first = self._first, None
        try:
            folder = folder or self._source.next()
        except StopIteration:
            self._last = True
            return Searcher.FINISHED
        if folder is None:
            return None
        self._running[trial_id] = folder
        return {TRIAL: str(folder), "how": self._how.value}

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        if PARTIAL in result:
            self._seen[trial_id] = result[PARTIAL]

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        folder = self._running.pop(trial_id, None)
        if folder is None:
            return
        partial = (result or {}).get(PARTIAL) or self._seen.pop(trial_id, None)
        found = study.result(folder)
        if found is None and partial is not None and not error:
            study.write(folder, Result(**json.loads(partial)))
            found = study.result(folder)
        if found is None:
            found = trial.failed(folder, load(folder / "experiment.yaml"), LOST, 0.0)
        self._source.ended(found)

    def save(self, checkpoint_path: str) -> None:
        """Keep nothing: the study's folder holds all there is."""

    def restore(self, checkpoint_path: str) -> None:
        """Take nothing back."""


class _Ahead(tune.Callback):
    """Gets the next trial ready while others run, so that no process waits for it."""

    def __init__(self, source: Source) -> None:
        self._source = source

    def on_step_end(self, iteration: int, trials: list[Any], **info: Any) -> None:
        if all(own.status != "PENDING" for own in trials):  # each was told to begin
            self._source.ahead()


def run(
    folder: Path,
    source: Source,
    experiment: Experiment,
    parallel: int | None = None,
    scheduler: str = "none",
    nested: bool = False,
) -> None:
    """Run a source's trials to their end, so many at a time as the cluster has room for.

    ``experiment`` says what a trial needs; ``nested`` ones have its workers, others are one process
    each. With ``asha`` (Li et al. 2020) trials report each evaluation and may be ended early.
    Raises ``ValueError`` before anything starts if there is no such room, and
    ``KeyboardInterrupt`` after one, once Tune has ended what was running.
    """
    try:
        first = source.next()
    except StopIteration:
        return  # all is known
    cluster.connect()
    try:
        count = cluster.at_once(experiment, parallel, experiment.scaling.workers if nested else 1)
        own, asker = folder / ".tune", _Asker(source, _how(scheduler, nested), first)
        shutil.rmtree(own, ignore_errors=True)
        tuner = tune.Tuner(
            tune.with_resources(Kept, tune.PlacementGroupFactory([_needs(experiment, nested)])),
            tune_config=tune.TuneConfig(
                search_alg=asker,
                scheduler=_halving(experiment) if scheduler == "asha" else None,
                num_samples=-1,
                max_concurrent_trials=count,
                reuse_actors=True,
                metric=SCORE,
                mode="max",
            ),
            run_config=tune.RunConfig(
                storage_path=str(own),
                name="tune",
                verbose=0,
                callbacks=[_Ahead(source)],
                checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),
            ),
        )
        tuner.fit()
        shutil.rmtree(own, ignore_errors=True)
        if not asker.done:  # Tune takes the signal for itself
            raise KeyboardInterrupt
    finally:
        ray.shutdown()


def _how(scheduler: str, nested: bool) -> How:
    if nested:
        return How.NESTED
    return How.WATCHED if scheduler == "asha" else How.WHOLE


def _needs(experiment: Experiment, nested: bool) -> dict[str, float]:
    """Say what Tune sets aside: a process that only waits for its workers takes what they need."""
    return {"memory": 1} if nested else cluster.per_worker(experiment)


def _halving(experiment: Experiment) -> TrialScheduler:
    """Let the better third go on, from the first evaluation at which trials are compared.

    At the last one there is nothing left to save, so no trial is ended there.
    """
    own = experiment.train
    return ASHAScheduler(
        time_attr=STEP,
        max_t=max(own.evaluate_every, own.steps - 1),
        grace_period=own.evaluate_every,
        reduction_factor=REDUCTION,
        stop_last_trials=False,
    )
