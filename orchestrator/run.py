"""One run from the driver's side: its folder, its journal as it grows, and how it ends."""

from __future__ import annotations

import json
import os
import secrets
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

from orchestrator import checkpoint, folds, identity, journal, stages, staging, weights
from orchestrator.access import held, secure_ray
from orchestrator.aggregation import uninstalled
from orchestrator.coherence import unscored
from orchestrator.experiment import Experiment, ExperimentError, load
from orchestrator.journal import Journal, Record, Tail
from orchestrator.prepare import Prepared, prepare
from orchestrator.tracking import Tracker

EXPERIMENT = "experiment.yaml"
LOOK = 0.25
"""Seconds between two looks at the journal."""


class Mirror(Protocol):
    """What brings MLflow up to date."""

    def sync(self, now: bool = False) -> bool:
        """Send what is not yet sent."""


class Interrupted(RuntimeError):
    """The user asked a run to stop; it did, and can go on."""


def ready(
    experiment: Experiment, places: Sequence[Path], origin: str = "the experiment"
) -> tuple[Prepared, dict[str, Any]]:
    """Prepare the data of an experiment; give it with all that the run's result depends on.

    Raises ``ExperimentError`` with every problem of the data of every task.
    """
    cache = Path(experiment.storage.path).resolve() / "cache"  # workers have other working folders
    prepared = prepare(experiment, places, cache, origin=origin)
    checked(experiment, prepared, origin)
    prepared.notes.extend([*staging.told(experiment), *folds.leaks(experiment, prepared)])
    return prepared, identity.ingredients(experiment, contents(experiment, prepared))


def checked(experiment: Experiment, prepared: Prepared, origin: str = "the experiment") -> None:
    """Raise ``ExperimentError`` or ``ValueError`` for what only the data show to be impossible."""
    families = {task: prepared.family(task) for task in experiment.tasks}
    if problems := [*unscored(experiment, families), *uninstalled(experiment.weighting)]:
        raise ExperimentError(problems, origin)
    if problems := folds.refused(experiment, prepared):
        raise ExperimentError(problems, origin)
    for stage in folds.stretches(experiment, prepared):
        rows = folds.training_rows(experiment, prepared, stage)
        stages.planned(experiment, {task: own.lengths for task, own in rows.items()}, stage)


def create(experiment: Experiment, places: Sequence[Path], origin: str = "the experiment") -> Path:
    """Prepare the data of an experiment and make a run's folder for it; raises as ``ready``."""
    prepared, ingredients = ready(experiment, places, origin)
    stamp = time.strftime("%Y%m%d-%H%M%S", time.gmtime())
    storage = Path(experiment.storage.path).resolve()
    folder = storage / experiment.name / f"{stamp}-{secrets.token_hex(3)}"
    lay_out(folder, experiment, prepared, ingredients)
    return folder


def lay_out(
    folder: Path, experiment: Experiment, prepared: Prepared, ingredients: Mapping[str, Any]
) -> None:
    """Make a run's folder with all that ``train`` needs."""
    folder.mkdir(parents=True)
    prepared.write(folder)
    identity.write(folder, ingredients)
    journal.replace_text(folder / EXPERIMENT, anchored(experiment, prepared).yaml())


def resume(folder: Path, path: Path | None, overrides: Sequence[str]) -> Path:
    """Take up a run again, perhaps with other workers, ZeRO stage, retries or tracking.

    ``path`` is an experiment file to compare with, default the run's own. Raises ``ValueError``
    naming every setting that would change the result.
    """
    prepared, before = Prepared.read(folder), identity.kept(folder)
    experiment = anchored(load(path or folder / EXPERIMENT, overrides), prepared)
    named = [
        {"tasks": sorted(one.tasks), "encoder": one.encoder.model_dump()}
        for one in (load(folder / EXPERIMENT), experiment)
    ]
    changed = identity.difference(*named)
    if not changed:
        now = identity.ingredients(experiment, contents(experiment, prepared, before["encoder"]))
        changed = identity.difference(before, now)
    if changed:
        raise ValueError(
            f"{folder} cannot go on with other settings, since they change its result:\n  "
            + "\n  ".join(changed)
            + "\nSet them back, or begin a new run: tlmt train EXPERIMENT"
        )
    with held(folder, ".driver.lock"):
        journal.replace_text(folder / EXPERIMENT, experiment.yaml())
    return folder


def anchored(experiment: Experiment, prepared: Prepared) -> Experiment:
    """Give the experiment with absolute folders, as workers and later commands can find them.

    What lies under ``$TLMT_DATA`` stays relative to it: the variable goes with the machine.
    """
    from encoders import sources

    shared = os.environ.get("TLMT_DATA")
    tasks = dict(experiment.tasks)
    for name in tasks.keys() & prepared.tasks.keys():
        file = Path(prepared.tasks[name].splits["train"].source)
        if file.is_file() and not (shared and file.is_relative_to(Path(shared).resolve())):
            data = tasks[name].data.model_copy(update={"path": str(file.resolve().parent)})
            tasks[name] = tasks[name].model_copy(update={"data": data})
    encoder, folder = experiment.encoder, Path(experiment.encoder.model).expanduser()
    if folder.is_dir() and encoder.model not in (sources.TINY, sources.MINILM):
        encoder = encoder.model_copy(update={"model": str(folder.resolve())})
    return experiment.model_copy(update={"tasks": tasks, "encoder": encoder})


def contents(
    experiment: Experiment, prepared: Prepared, encoder: str | None = None
) -> identity.Contents:
    """Gather what stands behind the names in an experiment, first weights included."""
    return identity.Contents(
        {t: {s: own.digest for s, own in p.splits.items()} for t, p in prepared.tasks.items()},
        {task: own.fitted for task, own in prepared.tasks.items()},
        encoder or first_encoder(experiment, prepared),
        [stage.plain() for stage in folds.stretches(experiment, prepared)],
    )


def first_encoder(experiment: Experiment, prepared: Prepared) -> str:
    """Give the digest of the encoder's first weights and its vocabulary."""
    first = weights.encoder(experiment, Path(prepared.reader))
    return f"{first.digest()} {prepared.reader_digest}"


def train(folder: Path, show: Callable[[list[Record]], None]) -> dict[str, Any]:
    """Train the run in a folder to its end, from where it stands; give its results.

    ``show`` gets new records as they come. The first SIGINT or SIGTERM ends all ranks after the
    same step, with a checkpoint, and raises ``Interrupted``; the second ends at once.
    """
    secure_ray()
    from orchestrator.launch import Launch

    experiment = load(folder / EXPERIMENT)
    with held(folder, ".driver.lock"):
        attempt = 1 + max((record.attempt for record in journal.read(folder)), default=0)
        tail, tracker = Tail(folder), Tracker(folder)
        tail.read()
        launch = Launch(experiment, folder, attempt)
        try:
            with _stopping(launch.stop), mirrored(tracker):
                while launch.running:
                    show(tail.read())
                    time.sleep(LOOK)
            show(tail.read())
        finally:
            launch.close()
        return _ended(folder, attempt, launch.error, tracker)


def _ended(
    folder: Path, attempt: int, error: BaseException | None, tracker: Tracker
) -> dict[str, Any]:
    records = journal.read(folder)
    own = [record for record in records if record.attempt == attempt]
    told = journal.last_event(own, "stop", "test", "failed")
    event = "failed" if told is None else told.event
    finished = event == "test"
    cause = "its workers ended without a word" if told is None else told.value.get("error")
    if error is not None:
        cause = str(error)
    ending = "end" if finished else "stop" if cause is None else "failed"
    step = records[-1].step if records else 0
    if ending != event or told is None:
        value = {} if cause is None else {"error": cause}
        with Journal(folder) as writer:
            writer.append([Record(folder.name, attempt, 0, step, f"event/{ending}", value)])
    if not finished:
        tracker.sync(now=True)
        if cause is not None:
            raise RuntimeError(f"the run failed: {cause}") from error
        raise Interrupted(f"stopped after step {step}. Go on with: tlmt train --resume {folder}")
    found = results(folder, journal.read(folder))
    journal.replace_text(folder / "results.json", json.dumps(found, indent=1))
    return found


@contextmanager
def mirrored(tracker: Mirror, every: float = LOOK) -> Iterator[None]:
    """Keep MLflow up to date from a thread of its own: a server that hangs holds nothing up."""
    ended = threading.Event()

    def mirror() -> None:
        while not ended.wait(every):
            tracker.sync()

    thread = threading.Thread(target=mirror, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


@contextmanager
def _stopping(stop: Callable[[], None]) -> Iterator[None]:
    """Turn the first signal into a request, the second into the end of this process."""
    asked = False

    def handle(number: int, frame: object) -> None:
        nonlocal asked
        if asked:
            os._exit(128 + number)
        asked = True
        sys.stderr.write("\nStopping after this step; once more ends at once.\n")
        stop()

    before = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def results(folder: Path, records: list[Record]) -> dict[str, Any]:
    """Make ``results.json`` of a finished run from its journal and its best checkpoint."""
    experiment, prepared = load(folder / EXPERIMENT), Prepared.read(folder)
    best = checkpoint.manifest(checkpoint.best(folder))
    test = journal.last_event(records, "test")
    assert test is not None
    scores = {
        task: {"validation": best["scores"].get(task, {}), "test": test.value["scores"].get(task)}
        for task in sorted(experiment.tasks)
    }
    last = checkpoint.progress(checkpoint.newest(folder) or checkpoint.best(folder))
    stretches = folds.stretches(experiment, prepared)
    seen = stages.seen(experiment, prepared.lengths(), stretches, last.began, last.step)
    ends = zip(stretches, last.began, [*last.began[1:], last.step], strict=False)
    own = sum(end - begin for stage, begin, end in ends if stage.fold is None)
    series = journal.series(records)
    return {
        "run_id": folder.name,
        "mlflow_run_id": Tracker(folder).mlflow_run_id,
        "experiment_hash": identity.read(folder),
        "steps": last.step,
        "best_step": best["step"],
        "examples_seen": seen,
        "tasks": scores,
        "target": {"task": experiment.target, "score": best["score"]},
        "drift": series.get("encoder/drift", [(0, 0.0)])[-1][1],
        "speed": _speed(series, sum(seen.values()) / max(1, own)),
    }


def _speed(series: Mapping[str, list[tuple[int, float]]], examples: float) -> dict[str, float]:
    """Medians over steps, so that a pause of the machine does not count."""
    rates = sorted(value for _, value in series.get("speed/tokens_per_second", []))
    times = sorted(value for _, value in series.get("speed/seconds_per_step", []))
    median = rates[len(rates) // 2] if rates else 0.0
    pace = times[len(times) // 2] if times else 0.0

    def told(key: str, place: int) -> float:
        return series.get(key, [(0, 0.0)])[place][1]

    return {
        "tokens_per_second": median,
        "examples_per_second": examples / pace if pace else 0.0,
        "useful_token_share": told("speed/useful_token_share", -1),
        "seconds_to_first_step": told("speed/seconds_to_first_step", 0),
        "peak_memory_mb": told("speed/peak_memory_mb", -1),
    }
