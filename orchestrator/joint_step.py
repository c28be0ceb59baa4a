"""The joint step: one optimizer step on a global batch of examples of many tasks."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Protocol

import torch
from torch import Tensor

from orchestrator.batch import Batch
from orchestrator.model import MultiTaskModel, Pull
from orchestrator.weighting import price, weighed


class Engine(Protocol):
    """What the step needs (see ``engine.py``)."""

    model: MultiTaskModel

    def forward(self, batch: Batch | Pull) -> Mapping[str, object]: ...
    def backward(self, loss: Tensor, last: bool) -> None: ...
    def step(self, present: set[str]) -> None: ...


def joint_step(
    engine: Engine,
    micro_batches: Iterable[Batch],
    coefficients: Mapping[str, float],
    ranks: int,
    seeds: Iterable[int],
    weigh: Callable[[Tensor], Tensor] | None = None,
) -> Tensor:
    """Take one optimizer step on this rank's micro-batches of a global batch.

    The objective is sum_t c_t S_t, where S_t is task t's loss sum over the *global* batch and c_t
    its coefficient; tasks absent from the global batch have none and their heads rest. Engines
    average over ranks, hence the factor ``ranks``. Every rank passes every head, in sorted order,
    in every micro-batch: ZeRO's collectives line up. ``seeds`` has one for each micro-batch.
    Where weights are learnt, ``weighting.py`` says what is minimised instead. ``weigh`` gives
    factors of its own, ``[tasks]``, from c_t S_t of this rank's micro-batch, ``[tasks]``.

    Returns this rank's loss sums, ``[tasks]`` in sorted order, on the device.
    """
    batches = list(micro_batches)
    sums: Tensor | None = None
    for place, (batch, seed) in enumerate(zip(batches, seeds, strict=True)):
        torch.manual_seed(seed)
        outputs = engine.forward(batch)
        losses = engine.model.loss_sums(outputs, batch)
        variances = engine.model.variances(outputs)
        scaled = weighed(losses, variances)
        stacked = torch.stack([scaled[task] for task in sorted(losses)])
        scale = stacked.new_tensor([coefficients.get(task, 0.0) for task in sorted(losses)])
        if weigh is not None:
            scale = scale * weigh((stacked * scale).detach() * batch.weight)
        objective = (stacked * scale).sum() * (ranks * batch.weight)
        # Once a step: micro-batches are added, ranks averaged.
        objective = objective + price(variances, coefficients.keys()) / len(batches)
        engine.backward(objective, last=place == len(batches) - 1)
        local = local_sums(losses, batch)
        sums = local if sums is None else sums + local
    engine.step(set(coefficients))
    assert sums is not None, "a rank has at least one micro-batch"
    return sums


def local_sums(losses: Mapping[str, Tensor], batch: Batch) -> Tensor:
    """Give the loss sums of this rank's micro-batch, ``[tasks]`` in sorted order."""
    return torch.stack([losses[task] for task in sorted(losses)]).detach() * batch.weight
