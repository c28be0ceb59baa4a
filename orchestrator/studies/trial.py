"""A trial in this process: the plain twin, weights in memory, one small folder left behind."""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist

import encoders
from orchestrator import checkpoint, loop, stages
from orchestrator.engine import Engine, PlainEngine
from orchestrator.evaluate import Ranks, chosen_rows, evaluate, finite, flat
from orchestrator.experiment import Experiment
from orchestrator.keeping import Handed, Memory
from orchestrator.model import MultiTaskModel
from orchestrator.prepare import Prepared
from orchestrator.studies import sealed, study
from orchestrator.studies.study import Result
from orchestrator.tokens import Split
from orchestrator.weights import Loader
from orchestrator.work import Work

SCRATCH = "scratch"
"""What only training needs, in a trial's folder."""
PART = "part.json"
"""In a part's folder: what it is a part of."""
MakeEngine = Callable[[MultiTaskModel, list[dict[str, Any]]], Engine]


@dataclass(frozen=True)
class Part:
    """A piece of a trial, up to its next evaluation, that hands its weights over.

    The next piece may have other settings, and more than one may go on from the same.
    """

    parent: str | None
    """The folder of the piece before it; None: this is the first."""

    def write(self, folder: Path) -> None:
        """Say in a trial's folder that it is a part."""
        (folder / PART).write_text(json.dumps(asdict(self)), encoding="utf-8")

    @staticmethod
    def read(folder: Path) -> Part | None:
        """Say which part a folder is; None if it is a whole trial."""
        file = folder / PART
        return Part(**json.loads(file.read_text(encoding="utf-8"))) if file.is_file() else None


class Trial:
    """One trial, from evaluation to evaluation."""

    def __init__(
        self,
        folder: Path,
        experiment: Experiment,
        prepared: Prepared,
        device: torch.device,
        world: Ranks | None = None,
        make_engine: MakeEngine | None = None,
        load: Loader = encoders.load,
        part: Part | None = None,
    ) -> None:
        """Begin; ``folder`` is the trial's own, named by its hash.

        Of several ranks each has a ``Trial``, and an engine that they share; rank 0 writes.
        ``load`` may remember an encoder from trial to trial (see ``weights.Remembered``).
        ``part`` says that this is a part of one, from which others may go on (see ``advance``).
        """
        self._began = time.monotonic()
        self._folder, self._scratch = folder, folder / SCRATCH
        self._world = world or Ranks()
        self.curve: list[tuple[int, float]] = []
        """Step and score of each evaluation so far."""
        if self._world.rank == 0:
            shutil.rmtree(self._scratch, ignore_errors=True)
            self._scratch.mkdir(parents=True)
            if part is not None and part.parent is not None:
                self._take_over(Path(part.parent))
        if self._world.ranks > 1:
            dist.barrier()
        clip = experiment.regularization.clip
        self._work = Work(
            run=self._scratch,
            experiment=experiment,
            prepared=prepared,
            fingerprint=folder.name,
            world=self._world,
            device=device,
            make_engine=make_engine or (lambda model, groups: PlainEngine(model, groups, clip)),
            stop=bool,
            load=load,
            parts=True,
        )
        self._keeper = Memory(self._work) if part is None else Handed(self._work)
        self._news = loop.train(self._work, self._keeper)

    def look(self) -> bool:
        """Train up to the next evaluation, or say that there is none.

        Raises ``FloatingPointError`` if weights are beyond use.
        """
        for news in self._news:
            if "score" in news.values:
                self.curve.append((news.step, news.values["score"]))
                next(self._news)  # weights are kept, and it is told where this stage began
                return True
        return False

    def _take_over(self, parent: Path) -> None:
        """Begin with the checkpoints of another part; they are never written to, so links do."""
        before = study.result(parent)
        assert before is not None, f"{parent} has not ended"
        self.curve = list(before.curve)
        kept = self._scratch / checkpoint.FOLDER
        shutil.copytree(parent / SCRATCH / checkpoint.FOLDER, kept, copy_function=os.link)

    def advance(self) -> Result:
        """Train a part up to its next evaluation, and leave its weights for who goes on.

        The last one ends as any trial does.
        """
        self.look()
        if self.curve[-1][0] >= self._work.experiment.train.steps:
            return self.finish()
        result = self.partial()
        self._news.close()
        if self._world.rank == 0:
            study.write(self._folder, result)
        return result

    def finish(self) -> Result:
        """Score the best weights, write the items of both splits, and last the result."""
        work, own = self._work, self._work.experiment
        held = self._keeper.best()
        families = {task: work.prepared.family(task) for task in own.tasks}
        model = held.model(own, families)
        rows = None if own.train.evaluate_rows == "all" else int(own.train.evaluate_rows)
        asked = {task: work.prepared.open(task, "validation") for task in families}
        parts = self._keeper.parts  # of other ranks than 0 empty, and all of them go one way
        if parts is None:
            parts = self._parts(model.to(work.device), asked, rows)
        seen = dict(_items(parts, asked, rows, own.train.seed))
        tested = {
            task: work.prepared.open(task, "test")
            for task in families
            if "test" in work.prepared.tasks[task].splits
        }
        evaluated = evaluate(
            model.to(work.device), tested, own.batch.micro_tokens, work.world, parts=True
        )
        finite(flat(evaluated.scores, "test"), "after training")
        result = self._result(
            "finished",
            best_step=held.progress.step,
            score=held.progress.score,
            scores={task: dict(scores) for task, scores in held.progress.scores.items()},
            drift=loop.drift(work, model),
        )
        self.close()
        if self._world.rank == 0:
            sealed.write(self._folder, "validation", seen)
            sealed.write(self._folder, "test", dict(_items(evaluated.parts, tested, None, 0)))
            study.write(self._folder, result)
        return result

    def _parts(
        self, model: MultiTaskModel, asked: Mapping[str, Split], rows: int | None
    ) -> Mapping[str, Any]:
        """Score the rows of validation again, where weights of a part before this are the best."""
        own, seed = self._work.experiment, self._work.experiment.train.seed
        limit = own.batch.micro_tokens
        return evaluate(model, asked, limit, self._work.world, rows, seed, parts=True).parts

    def partial(self) -> Result:
        """Give what is known so far, for when a scheduler ends the trial here."""
        step, score = max(self.curve, key=lambda own: (own[1], -own[0]))
        return self._result("stopped", best_step=step, score=score)

    def _result(self, status: study.Status, **found: Any) -> Result:
        work = self._work
        steps = self.curve[-1][0] if self.curve else 0
        began = self._keeper.began
        lengths = work.prepared.lengths()
        seen = stages.seen(work.experiment, lengths, work.stages, began, steps)
        total = max(1, sum(seen.values()))
        return Result(
            hash=self._folder.name,
            status=status,
            seed=work.experiment.train.seed,
            steps=steps,
            curve=self.curve,
            examples_seen=seen,
            shares={task: count / total for task, count in seen.items()},
            settings=settings(work.experiment),
            seconds=time.monotonic() - self._began,
            **found,
        )

    def close(self) -> None:
        """Remove what only training needed."""
        self._news.close()
        if self._world.rank == 0:
            shutil.rmtree(self._scratch, ignore_errors=True)


def failed(folder: Path, experiment: Experiment, error: str, seconds: float) -> Result:
    """Write why a trial has no result."""
    found = Result(
        folder.name,
        "failed",
        experiment.train.seed,
        error=error,
        seconds=seconds,
        settings=settings(experiment),
    )
    study.write(folder, found)
    return found


def settings(experiment: Experiment) -> dict[str, float]:
    """Give every strength, weight and rate of an experiment, by dotted name."""
    tree = experiment.resolved()
    found = dict(_numbers({key: tree[key] for key in ("optimizer", "regularization", "mixture")}))
    for task, own in tree["tasks"].items():
        found[f"tasks.{task}.weight"] = float(own["weight"])
        found[f"tasks.{task}.optimizer.lr"] = float(own["optimizer"]["lr"])
    return found


def _numbers(tree: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, float]]:
    for key, value in tree.items():
        if isinstance(value, Mapping):
            yield from _numbers(value, f"{before}{key}.")
        elif isinstance(value, int | float) and not isinstance(value, bool):
            yield f"{before}{key}", float(value)


def _items(
    parts: Mapping[str, Any], data: Mapping[str, Split], rows: int | None, seed: int
) -> Iterator[tuple[str, sealed.Items]]:
    """Put rows and the groups of their texts beside their parts."""
    chosen: dict[str, list[int]] = {}
    for task, index in chosen_rows(data, rows, seed):
        chosen.setdefault(task, []).append(index)
    for task, own in parts.items():
        if own is not None:
            item = np.array(sorted(chosen[task]), np.int64)
            group = data[task].contents[item].astype(np.int64)
            yield task, sealed.Items(item, group, own)
