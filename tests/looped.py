"""Runs of the loop in this process: train them, stop them, compare what they leave."""

from __future__ import annotations

from torch import Tensor

from orchestrator import checkpoint, loop, weights
from orchestrator.loop import News
from orchestrator.training import Work


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
