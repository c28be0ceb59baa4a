"""The step that a way of weighing takes, and what it remembers from step to step."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from orchestrator.aggregation import aggregated_step, combined
from orchestrator.batch import Batch
from orchestrator.famo import Famo, famo_step
from orchestrator.joint_step import Engine, joint_step
from orchestrator.sections import AGGREGATED, Weighting


class Balance:
    """How tasks are weighed against each other while a stage lasts."""

    def __init__(
        self, weighting: Weighting, tasks: Sequence[str], seed: int, device: torch.device
    ) -> None:
        """``tasks`` are sorted."""
        self._way, self._seed = weighting, seed
        self._famo: Famo | None = None
        if weighting.name == "famo":
            self._famo = Famo(tasks, weighting.lr, weighting.decay, device)

    def step(
        self,
        step: int,
        engine: Engine,
        batches: Sequence[Batch],
        coefficients: Mapping[str, float],
        ranks: int,
        seeds: Sequence[int],
    ) -> Tensor:
        """Take this step; give what ``joint_step`` gives."""
        given = (engine, batches, coefficients, ranks, seeds)
        if self._famo is not None:
            return famo_step(*given, self._famo)
        if self._way.name in AGGREGATED:
            return aggregated_step(*given, lambda each: combined(each, self._way, self._seed, step))
        return joint_step(*given)

    def state(self) -> dict[str, Tensor]:
        """Give what decides its future; equal on all ranks."""
        return self._famo.state() if self._famo else {}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Take back what ``state`` gave, from among other tensors."""
        if self._famo is not None:
            self._famo.restore(state)
