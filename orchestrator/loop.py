"""One worker's training of one run, as a generator of news; no Ray, no MLflow."""

from __future__ import annotations

import time
from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from orchestrator import weights
from orchestrator.checkpoint import Progress
from orchestrator.evaluate import Evaluation, evaluate, finite, flat
from orchestrator.keeping import Disk, Keeper
from orchestrator.model import MultiTaskModel
from orchestrator.training import Training, ended
from orchestrator.work import Work


@dataclass
class News:
    """What one step has to tell. ``values`` and ``events`` matter on rank 0 only."""

    step: int
    values: dict[str, float] = field(default_factory=dict)
    """Key ``task/split/metric`` to number."""
    events: dict[str, Any] = field(default_factory=dict)
    checkpoint: Path | None = None
    """A checkpoint written at this step, on every rank."""
    settle: bool = False
    """Whether all that was told so far must be on record before the run goes on."""
    stage: int = 0
    """The stage's place in the run."""


def train(work: Work, keeper: Keeper | None = None) -> Generator[News, None, None]:
    """Train a run to its end, or until someone asks to stop; goes on where it was left.

    ``keeper`` says where weights go; by default to checkpoints in the run's folder. Every rank
    yields alike: after each step, evaluation and checkpoint, and a last time with the event
    ``trained`` or ``stop``.
    """
    keeper = keeper or Disk(work)
    here = keeper.newest()
    progress = here.progress if here else Progress(0)
    start = progress.step
    yield News(start, events={"resume": {"from_step": start}} if start else {"start": {}})
    for place, stage in enumerate(work.stages):
        if place < progress.stage or (place == progress.stage and ended(stage, progress)):
            continue
        if place > progress.stage:
            progress = progress.entered()
            here = None if stage.anew else keeper.newest()
        if progress.taken == 0 and len(work.stages) > 1:
            yield News(progress.step, events={"stage": {"name": stage.name}}, stage=place)
        training = Training(work, stage, progress, here)
        for news in _steps(training, keeper):
            yield replace(news, stage=place)
        progress = training.progress
        training.close()
        if "stop" in news.events:
            return
    yield News(
        progress.step, events={"trained": {"best": progress.best_step}}, stage=progress.stage
    )


def _steps(training: Training, keeper: Keeper) -> Iterator[News]:
    """Take the steps of a stage that are left; ends with the event ``stop`` if someone asks."""
    every = training.experiment.train.evaluate_every
    while not training.done:
        began = time.perf_counter()
        told, part = training.step()
        *sums, asked = told.tolist()
        took = time.perf_counter() - began
        progress = training.progress
        spent = progress.seconds + took
        training.progress = replace(progress, seconds=spent, score=None, scores={})
        split = "train" if training.stage.fold is None else training.stage.name
        values = _losses(training.tasks, sums, part.terms, split, progress.step)
        values["speed/tokens_per_second"] = part.tokens / took
        values["speed/seconds_per_step"] = took
        values["speed/useful_token_share"] = part.tokens / (part.tokens + part.borrowed)
        yield News(progress.step, values | _rates(training))
        ends = progress.taken >= training.stage.steps
        if training.stage.answers and ends:
            training.answer()
        if training.stage.fold is None and (ends or progress.step % every == 0):
            yield from _look(training, keeper)
        elif asked or ends or progress.step % every == 0:
            yield News(progress.step, settle=True)
            yield News(progress.step, checkpoint=keeper.keep(training))
        if asked and not (training.done and training.stage == training.work.stages[-1]):
            yield News(progress.step, events={"stop": {}})
            return


def _look(training: Training, keeper: Keeper) -> Iterator[News]:
    """Evaluate on validation, put that on record, then save, unless weights are beyond use."""
    found = training.evaluate()
    values = flat(found.scores, "validation")
    values["score"] = float(training.progress.score or 0.0)
    yield News(training.progress.step, values, settle=True)
    yield News(training.progress.step, checkpoint=keeper.keep(training))


def _losses(
    tasks: Sequence[str], sums: Sequence[float], terms: Mapping[str, int], split: str, step: int
) -> dict[str, float]:
    """Give each present task's mean loss."""
    values = {
        f"{task}/{split}/loss": total / terms[task]
        for task, total in zip(tasks, sums, strict=True)
        if terms.get(task)
    }
    finite(values, f"step {step}")
    return values


def _rates(training: Training) -> dict[str, float]:
    rates = training.engine.optimizer.rates()
    return {f"lr/{name}": rate for name, rate in rates.items() if not name.endswith(".no_decay")}


def best(work: Work) -> MultiTaskModel:
    """Build the model of the best checkpoint, where this worker computes."""
    families = {task: work.prepared.family(task) for task in work.experiment.tasks}
    return Disk(work).best().model(work.experiment, families).to(work.device)


def test_scores(work: Work, model: MultiTaskModel) -> Evaluation:
    """Score a model on the test splits, once, by all ranks together."""
    present = {
        task: work.prepared.open(task, "test")
        for task in model.families
        if "test" in work.prepared.tasks[task].splits
    }
    found = evaluate(model, present, work.experiment.batch.micro_tokens, work.world)
    finite(flat(found.scores, "test"), "after training")
    return found


def drift(work: Work, model: MultiTaskModel) -> float:
    """Say how far the encoder of a model went from where it began."""
    first = weights.encoder(work.experiment, Path(work.prepared.reader), load=work.load)
    return weights.drift(model.encoder, first)
