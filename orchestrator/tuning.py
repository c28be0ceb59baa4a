"""Many trials on a cluster: Ray Tune over processes that go from one trial to the next."""

from __future__ import annotations

import logging
import os
import shutil
import time
import traceback
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any, Protocol

os.environ.setdefault("TUNE_DISABLE_AUTO_CALLBACK_LOGGERS", "1")
os.environ.setdefault("TUNE_GLOBAL_CHECKPOINT_S", "3600")  # a study's own folder is what it resumes
os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")

import ray
import torch
from ray import tune
from ray.tune.schedulers import TrialScheduler
from ray.tune.search import Searcher

from orchestrator import cluster, study, trial
from orchestrator.experiment import Experiment, load
from orchestrator.prepare import Prepared
from orchestrator.study import Result

TRIAL = "trial"
"""The one setting that Tune hands over: the trial's folder."""
SCORE, STEP, PARTIAL = "score", "step", "partial"
LOST = "its process was lost; the cluster may have run out of memory"

log = logging.getLogger(__name__)


class Source(Protocol):
    """Says which trial comes next, and is told what became of them."""

    def next(self) -> Path | None:
        """Give the folder of a trial, ready to run; None if nothing can be said for now.

        Raises ``StopIteration`` when there are no more.
        """

    def ended(self, result: Result) -> None:
        """Take in what became of a trial."""


class Kept(tune.Trainable):
    """A process that runs one trial after another."""

    def setup(self, config: dict[str, Any]) -> None:
        """Begin with the first trial."""
        self._trial: trial.Trial | None = None
        self._data: dict[str, Prepared] = {}
        self._begin(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Go on with another trial."""
        self._leave()
        self._begin(new_config)
        return True

    def _begin(self, config: dict[str, Any]) -> None:
        self._folder, self._watched = Path(config[TRIAL]), bool(config["watched"])
        self._began, self._trial = time.monotonic(), None

    def step(self) -> dict[str, Any]:
        """Train to the next evaluation, or to the end where nobody looks on before."""
        try:
            return self._step()
        except Exception as error:  # whatever went wrong with this trial, the next one may go well
            log.debug("%s", traceback.format_exc())
            self._leave()
            took = time.monotonic() - self._began
            experiment = load(self._folder / "experiment.yaml")
            text = f"{type(error).__name__}: {error}"
            trial.failed(self._folder, experiment, text, took)
            return {"done": True, SCORE: float("-inf"), STEP: 0}

    def _step(self) -> dict[str, Any]:
        if self._trial is None:
            self._trial = self._made()
        more = self._trial.look()
        while more and not self._watched:
            more = self._trial.look()
        if more:
            step, score = self._trial.curve[-1]
            return {"done": False, SCORE: score, STEP: step, PARTIAL: asdict(self._trial.partial())}
        found = self._trial.finish()
        self._trial = None
        return {"done": True, SCORE: found.score, STEP: found.steps}

    def _made(self) -> trial.Trial:
        experiment = load(self._folder / "experiment.yaml")
        scaling = experiment.scaling
        torch.set_num_threads(scaling.cpus if scaling.threads == "auto" else scaling.threads)
        device = torch.device("cuda" if scaling.gpus and torch.cuda.is_available() else "cpu")
        place = (self._folder / "prepared").read_text(encoding="utf-8")
        if place not in self._data:
            self._data[place] = Prepared.read(Path(place))
        return trial.Trial(self._folder, experiment, self._data[place].under(experiment), device)

    def _leave(self) -> None:
        if self._trial is not None:
            self._trial.close()
            self._trial = None

    def cleanup(self) -> None:
        """Leave nothing of a trial that was ended early."""
        self._leave()


class _Asker(Searcher):
    """Tune's view of a source."""

    def __init__(self, source: Source, folder: Path, watched: bool) -> None:
        super().__init__(metric=SCORE, mode="max")
        self._source, self._study, self._watched = source, folder, watched
        self._running: dict[str, Path] = {}
        self._seen: dict[str, dict[str, Any]] = {}

    def suggest(self, trial_id: str) -> Any:
        try:
            folder = self._source.next()
        except StopIteration:
            return Searcher.FINISHED
        if folder is None:
            return None
        self._running[trial_id] = folder
        return {TRIAL: str(folder), "watched": self._watched}

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        if PARTIAL in result:
            self._seen[trial_id] = result[PARTIAL]

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        folder = self._running.pop(trial_id, None)
        if folder is None:
            return
        partial = self._seen.pop(trial_id, None)
        if (result or {}).get(PARTIAL):
            partial = (result or {})[PARTIAL]
        found = study.result(folder)
        if found is None and error:
            found = trial.failed(folder, load(folder / "experiment.yaml"), LOST, 0.0)
        elif found is None and partial is not None:
            found = Result(**partial)
            study.write(folder, found)
        if found is not None:
            self._source.ended(found)

    def save(self, checkpoint_path: str) -> None:
        """Keep nothing: the study's folder holds all there is."""

    def restore(self, checkpoint_path: str) -> None:
        """Take nothing back."""


def run(
    folder: Path,
    source: Source,
    experiment: Experiment,
    parallel: int | None = None,
    scheduler: Callable[[], TrialScheduler] | None = None,
) -> None:
    """Run a source's trials to their end, so many at a time as the cluster has room for.

    ``experiment`` says what a trial needs. With a scheduler, trials report each evaluation and may
    be ended early. Raises ``ValueError`` before anything starts if there is no such room.
    """
    cluster.connect()
    try:
        count = cluster.at_once(experiment, parallel)
        own = folder / ".tune"
        shutil.rmtree(own, ignore_errors=True)
        tuner = tune.Tuner(
            tune.with_resources(Kept, tune.PlacementGroupFactory([cluster.per_worker(experiment)])),
            tune_config=tune.TuneConfig(
                search_alg=_Asker(source, folder, scheduler is not None),
                scheduler=None if scheduler is None else scheduler(),
                num_samples=-1,
                max_concurrent_trials=count,
                reuse_actors=True,
                metric=SCORE if scheduler is not None else None,
                mode="max" if scheduler is not None else None,
            ),
            run_config=tune.RunConfig(
                storage_path=str(own),
                name="tune",
                verbose=0,
                checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),
            ),
        )
        tuner.fit()
        shutil.rmtree(own, ignore_errors=True)
    finally:
        ray.shutdown()
