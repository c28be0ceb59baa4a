"""One gradient of the encoder out of one for each task: PCGrad, and the aggregators of TorchJD."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Mapping, Sequence

import torch
import torch.distributed as dist
from torch import Tensor

from orchestrator import keyed
from orchestrator.batch import Batch
from orchestrator.joint_step import Engine, local_sums
from orchestrator.model import MultiTaskModel, Pull
from orchestrator.problems import Problem
from orchestrator.sections import Weighting


def uninstalled(weighting: Weighting) -> list[Problem]:
    """Find that a library lacks which training needs, and nothing else."""
    if weighting.name != "torchjd" or importlib.util.find_spec("torchjd"):
        return []
    advice = "install it with: pip install 'tlmt[torchjd]'"
    return [Problem("weighting.name", f"is 'torchjd', a package that is not here; {advice}")]


def pcgrad(gramian: Tensor, orders: Sequence[Sequence[int]]) -> Tensor:
    """Give each gradient's weight in the sum of PCGrad (Yu et al. 2020, algorithm 1).

    Each task's gradient is held against the others', ``orders[task]``; where its inner product with
    one is negative, it is projected onto the plane normal to that one. All that comes of it are
    combinations of the gradients, so their inner products, ``gramian [tasks, tasks]``, tell all.
    """
    weights = torch.zeros_like(gramian)
    least = torch.finfo(gramian.dtype).tiny
    for task, order in enumerate(orders):
        own = weights[task]
        own[task] = 1.0
        for other in order:
            if other != task:
                against = (gramian[other] @ own).clamp(max=0)
                own[other] -= against / gramian[other, other].clamp(min=least)
    return weights.sum(0)


def combined(gradients: Tensor, weighting: Weighting, seed: int, step: int) -> Tensor:
    """Combine ``gradients [tasks, parameters]`` into one; random choices follow from the step."""
    if not gradients.numel():
        return gradients.sum(0)  # the encoder rests
    if weighting.name == "pcgrad":
        draws, tasks = keyed.generator(seed, "pcgrad", step), len(gradients)
        orders = [draws.permutation(tasks).tolist() for _ in range(tasks)]
        return pcgrad(gradients @ gradients.T, orders) @ gradients
    from torchjd import aggregation

    torch.manual_seed(keyed.torch_seed(seed, "aggregator", step))
    one: Tensor = getattr(aggregation, weighting.aggregator)()(gradients)
    return one


def aggregated_step(
    engine: Engine,
    batches: Sequence[Batch],
    coefficients: Mapping[str, float],
    ranks: int,
    seeds: Sequence[int],
    combine: Callable[[Tensor], Tensor],
) -> Tensor:
    """Take a step in which the encoder's gradient is ``combine`` of one for each present task.

    These are the gradients of c_t S_t over the *global* batch (see ``joint_step``): added up over
    micro-batches and ranks, then combined alike on every rank. Heads learn from their own losses.
    That takes as many backwards as tasks are present, and the memory of as many gradients of the
    encoder. The result goes to the engine in one backward, so that it averages, clips and divides
    as ever; only parameters that are divided themselves (ZeRO 3) cannot be had this way.
    Returns what ``joint_step`` does.
    """
    gathered = _Gathered(engine.model, sorted(coefficients))
    sums = []
    for batch, seed in zip(batches, seeds, strict=True):
        torch.manual_seed(seed)
        # Not the engine's forward, which would take what follows for its one backward.
        losses = engine.model.loss_sums(engine.model(batch), batch)
        gathered.add({t: losses[t] * (c * batch.weight) for t, c in coefficients.items()}, batch)
        sums.append(local_sums(losses, batch))
    if ranks > 1 and gathered.each.numel():
        dist.all_reduce(gathered.each)
    pull = gathered.pull(combine(gathered.each), ranks)
    engine.backward(engine.model.pulled(engine.forward(pull)), last=True)
    engine.step(set(coefficients))
    return torch.stack(sums).sum(0)


class _Gathered:
    """The gradients of a global batch: of the encoder for each task, of each head for its own."""

    def __init__(self, model: MultiTaskModel, present: Sequence[str]) -> None:
        named = [(name, task, p) for name, task, p in model.named() if p.requires_grad]
        self._tasks = present
        self._encoder = {name: p for name, task, p in named if task is None}
        self._heads = {t: {n: p for n, task, p in named if task == t} for t in model.families}
        self._of_heads = {n: torch.zeros_like(p) for n, task, p in named if task is not None}
        self._reached: set[str] = set()
        sizes = [p.numel() for p in self._encoder.values()]
        self.each = torch.zeros(len(present), sum(sizes), device=named[0][2].device)
        """``[tasks, parameters]``"""

    def add(self, losses: Mapping[str, Tensor], batch: Batch) -> None:
        """Take the gradients of each task that has rows in a micro-batch."""
        tasks = [t for t in self._tasks if len(batch.rows[t]) and losses[t].requires_grad]
        for task in tasks:
            head = self._heads[task]
            parameters = [*self._encoder.values(), *head.values()]
            found = torch.autograd.grad(
                losses[task], parameters, retain_graph=task != tasks[-1], allow_unused=True
            )
            slopes = dict(zip([*self._encoder, *head], found, strict=True))
            for name, part in self._parts(self.each[self._tasks.index(task)]).items():
                if (slope := slopes[name]) is not None:
                    part += slope
                    self._reached.add(name)
            for name in head:
                if (slope := slopes[name]) is not None:
                    self._of_heads[name] += slope

    def pull(self, one: Tensor, ranks: int) -> Pull:
        """Lay out the combined gradient of the encoder, and those of all heads.

        Absent heads have one of zeros, as in ``joint_step``; parameters that no loss depends on
        have none. Engines average over ranks: what all have alike stays, the heads' are added up.
        """
        shared = {n: part for n, part in self._parts(one).items() if n in self._reached}
        return Pull({**shared, **{name: own * ranks for name, own in self._of_heads.items()}})

    def _parts(self, flat: Tensor) -> dict[str, Tensor]:
        """View a flat gradient of the encoder by parameter."""
        parts = flat.split([p.numel() for p in self._encoder.values()])
        return {
            n: part.view_as(p) for (n, p), part in zip(self._encoder.items(), parts, strict=True)
        }
