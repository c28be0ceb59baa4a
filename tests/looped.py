"""Runs of the loop in this process: train them, stop them, compare what they leave."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from orchestrator import checkpoint, loop, weights
from orchestrator.engine import PlainEngine
from orchestrator.evaluate import Ranks
from orchestrator.experiment import parse
from orchestrator.loop import News
from orchestrator.prepare import Prepared
from orchestrator.work import Work

MakeWork = Callable[..., Work]


def making(build: Callable[..., dict[str, Any]], folder: Path, prepared: Prepared) -> MakeWork:
    """Make the work of runs: a name of its folder, whom to ask about stopping, changes."""

    def make(name: str = "run", stop: Callable[[], bool] = bool, **changes: Any) -> Work:
        settings = {
            "train.steps": 6,
            "train.evaluate_rows": 20,
            "train.precision": "fp32",
            "batch": {"tokens": 128, "micro_tokens": 80},
            **changes,
        }
        experiment = parse(build(**settings))
        return Work(
            run=folder / name,
            experiment=experiment,
            prepared=prepared,
            fingerprint="f" * 64,
            world=Ranks(),
            device=torch.device("cpu"),
            make_engine=lambda model, groups: PlainEngine(
                model, groups, experiment.regularization.clip
            ),
            stop=stop,
        )

    return make


def trained(work: Work) -> list[News]:
    work.run.mkdir(exist_ok=True)
    return list(loop.train(work))


def last(work: Work) -> dict[str, Tensor]:
    """Give weights and optimizer state of the newest checkpoint."""
    folder = checkpoint.newest(work.run)
    assert folder is not None
    families = {task: work.prepared.family(task) for task in work.experiment.tasks}
    model = weights.restored(work.experiment, families, folder)
    return {n: p.detach() for n, _, p in model.named()} | checkpoint.load_state(folder)


def events(news: list[News]) -> list[tuple[int, str]]:
    return [(own.step, name) for own in news for name in own.events]


def values(news: list[News]) -> dict[tuple[int, str], float]:
    """Give all numbers but those of the clock."""
    return {
        (own.step, key): value
        for own in news
        for key, value in own.values.items()
        if not key.startswith("speed/")
    }


class Stopping:
    """Asks a run to stop at some of its steps."""

    def __init__(self, *steps: int) -> None:
        self._steps, self._asked = steps, 0

    def __call__(self) -> bool:
        self._asked += 1
        return self._asked in self._steps
