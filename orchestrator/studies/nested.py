"""A trial with several workers: Ray Train and DeepSpeed inside Ray Tune, weights in memory."""

from __future__ import annotations

import shutil
from functools import partial
from pathlib import Path
from typing import Any

from orchestrator import launch
from orchestrator.experiment import load
from orchestrator.prepare import Prepared
from orchestrator.studies import study, trial

PLACE = "nested"
"""Where Ray Train keeps its own files, in a trial's folder."""


def run(folder: Path, prepared: Path) -> study.Result:
    """Run the trial in a folder to its end; ``prepared`` is the folder of its data.

    Raises ``RuntimeError`` if its workers left no result.
    """
    experiment = load(folder / "experiment.yaml")
    config = {"folder": str(folder), "prepared": str(prepared)}
    place = folder / PLACE
    try:
        launch.training(_work, config, experiment, place, retries=0).fit()
    finally:
        shutil.rmtree(place, ignore_errors=True)
        shutil.rmtree(folder / trial.SCRATCH, ignore_errors=True)
    found = study.result(folder)
    if found is None:
        raise RuntimeError("its workers ended without a result")
    return found


def _work(config: dict[str, Any]) -> None:
    """Do one rank's part."""
    folder = Path(config["folder"])
    experiment = load(folder / "experiment.yaml")
    world, device = launch.joined(experiment)
    prepared = Prepared.read(Path(config["prepared"])).under(experiment)
    engine = partial(launch.engine, experiment)
    own = trial.Trial(folder, experiment, prepared, device, world, engine)
    while own.look():
        pass
    own.finish()
