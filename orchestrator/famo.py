"""FAMO: weights that follow from how far each loss fell in the step before."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import torch
import torch.distributed as dist
from torch import Tensor

from orchestrator.batch import Batch
from orchestrator.joint_step import Engine, joint_step, local_sums

SMALL = 1e-8
"""Added to each loss, whose least value is 0, before its logarithm is taken."""
NAME = "famo/"
"""Begins the name of each tensor of the state."""


class Famo:
    """The weights of Liu et al. 2023 (algorithm 1), which let all losses fall at one rate.

    With logits xi and z = softmax(xi) a step minimises sum_t z_t log L_t, scaled so that the
    factors of the losses have the sum 1. Then xi takes a step of Adam, with L2 decay, against
    J' (log L - log L'), J the Jacobian of the softmax and L' the losses after the step on the same
    rows. A task that is absent from the global batch takes no part: z is the softmax of the others,
    and its own logit rests with its moments. One whose loss is 0, which is its least, counts
    nothing in that step: its logarithm would outweigh all others'.
    """

    def __init__(self, tasks: Sequence[str], lr: float, decay: float, device: torch.device) -> None:
        """``tasks`` are sorted."""
        self._logits = {task: torch.zeros(1, device=device, requires_grad=True) for task in tasks}
        self._adam = torch.optim.Adam(self._logits.values(), lr=lr, weight_decay=decay)

    def shares(self, present: Iterable[str], losses: Tensor | None = None) -> Tensor:
        """Give z, ``[tasks]``: the present tasks' have the sum 1, the others' are 0.

        So are those of ``losses`` that are 0, unless all are.
        """
        among = set(present)
        parts = [own if t in among else own.detach() - torch.inf for t, own in self._logits.items()]
        logits = torch.cat(parts)
        if losses is not None:
            logits = logits.masked_fill((losses == 0) & (losses > 0).any(), -torch.inf)
        return logits.softmax(0)

    def factors(self, losses: Tensor, present: Iterable[str]) -> Tensor:
        """Give the factor of each loss, from all losses ``[tasks]``."""
        raw = self.shares(present, losses).detach() / (losses + SMALL)
        return raw / raw.sum()

    def update(self, before: Tensor, after: Tensor, present: Iterable[str]) -> None:
        """Learn from the losses ``[tasks]`` before and after a step on the same rows."""
        fell = (before + SMALL).log() - (after + SMALL).log()
        self.shares(present, before).backward(fell)
        self._adam.step()  # passes over logits without a gradient
        self._adam.zero_grad()

    def state(self) -> dict[str, Tensor]:
        """Give all that decides its future; equal on all ranks."""
        return {
            f"{NAME}{task}/{key}": value.detach().clone()
            for task, logit in self._logits.items()
            for key, value in {"logit": logit, **self._adam.state.get(logit, {})}.items()
        }

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Take back what ``state`` gave, from among other tensors."""
        for label in (label for label in state if label.startswith(NAME)):
            task, key = label.removeprefix(NAME).split("/")
            logit, value = self._logits[task], state[label].clone()
            if key == "logit":
                logit.data.copy_(value)
            else:  # Adam counts its steps on the CPU
                self._adam.state[logit][key] = value if key == "step" else value.to(logit.device)


def famo_step(
    engine: Engine,
    batches: Sequence[Batch],
    coefficients: Mapping[str, float],
    ranks: int,
    seeds: Sequence[int],
    famo: Famo,
) -> Tensor:
    """Take a joint step whose losses FAMO weighs, and tell it what came of it.

    ``coefficients`` make means of loss sums. The losses after the step are those of one more
    forward without gradient. It has the same seeds, so what is compared is one function of the
    weights at two points, with the same dropout and not with another draw. The losses before it
    come out of the step's own forward, unless there are several micro-batches: then all of them
    must be known before the first backward, at the price of another forward.
    """
    if not coefficients:  # no row has a term: there is nothing to weigh
        return joint_step(engine, batches, coefficients, ranks, seeds)
    known = [] if len(batches) == 1 else [_losses(engine, batches, coefficients, ranks, seeds)]

    def weigh(own: Tensor) -> Tensor:
        if not known:
            known.append(_over_ranks(own, ranks))
        return famo.factors(known[0], coefficients)

    sums = joint_step(engine, batches, coefficients, ranks, seeds, weigh)
    after = _losses(engine, batches, coefficients, ranks, seeds)
    famo.update(known[0], after, coefficients)
    return sums


@torch.no_grad()
def _losses(
    engine: Engine,
    batches: Sequence[Batch],
    coefficients: Mapping[str, float],
    ranks: int,
    seeds: Sequence[int],
) -> Tensor:
    """Read the global batch once more; give all tasks' mean losses, ``[tasks]``."""
    sums = []
    for batch, seed in zip(batches, seeds, strict=True):
        torch.manual_seed(seed)
        sums.append(local_sums(engine.model.loss_sums(engine.model(batch), batch), batch))
    total = torch.stack(sums).sum(0)
    scale = [coefficients.get(task, 0.0) for task in sorted(engine.model.families)]
    return _over_ranks(total * total.new_tensor(scale), ranks)


def _over_ranks(own: Tensor, ranks: int) -> Tensor:
    if ranks > 1:
        dist.all_reduce(own)
    return own
