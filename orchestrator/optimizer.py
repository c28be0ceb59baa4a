"""Every task's own optimizer, as groups of one composite optimizer, and their schedules."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any, Protocol

import torch
from torch import nn


class Settings(Protocol):
    """What a group needs to know (see ``experiment.Optimizer``)."""

    name: str
    lr: float
    weight_decay: float
    momentum: float
    betas: tuple[float, float]
    eps: float
    warmup: float
    schedule: str


def schedule(name: str, warmup: float, step: int, steps: int) -> float:
    """Give the factor on the learning rate at a step (from 0) of so many.

    Rises linearly over the first ``warmup`` share of the steps, then stays (``constant``), falls
    on a line to 0 (``linear``), or on half a cosine (``cosine``, Loshchilov and Hutter 2017).
    """
    rise = round(warmup * steps)
    if step < rise:
        return (step + 1) / rise
    rest = (step - rise) / max(1, steps - rise)
    if name == "constant":
        return 1.0
    return 1.0 - rest if name == "linear" else 0.5 * (1.0 + math.cos(math.pi * rest))


def groups(
    parameters: Iterable[tuple[str, str | None, nn.Parameter]],
    settings: Mapping[str | None, Settings],
) -> list[dict[str, Any]]:
    """Sort parameters into groups: by task (None for the encoder), and by weight decay.

    Vectors (biases, norms) take no weight decay. ``settings`` maps each task, and None, to its
    optimizer. Each group carries ``names``, the model's names of its parameters, in order.
    """
    found: dict[tuple[str | None, bool], dict[str, Any]] = {}
    for name, task, parameter in parameters:
        if not parameter.requires_grad:
            continue
        own, decays = settings[task], parameter.ndim > 1
        label = (task or "encoder") + ("" if decays else ".no_decay")
        group = found.setdefault(
            (task, decays),
            {
                "params": [],
                "names": [],
                "name": label,
                "task": task,
                "algorithm": own.name,
                "base_lr": own.lr,
                "lr": own.lr,
                "schedule": own.schedule,
                "warmup": own.warmup,
                **_options(own, own.weight_decay if decays else 0.0),
            },
        )
        group["params"].append(parameter)
        group["names"].append(name)
    return list(found.values())


def _options(own: Settings, weight_decay: float) -> dict[str, Any]:
    if own.name == "sgd":
        return {"momentum": own.momentum, "weight_decay": weight_decay}
    return {"betas": tuple(own.betas), "eps": own.eps, "weight_decay": weight_decay}


ALGORITHMS: dict[str, Callable[..., torch.optim.Optimizer]] = {
    "adamw": torch.optim.AdamW,
    "adam": torch.optim.Adam,
    "sgd": torch.optim.SGD,
}


class CompositeOptimizer(torch.optim.Optimizer):
    """One optimizer to its engine, an algorithm of its own to each group.

    ``present`` names the tasks with examples in the global batch. A group of any other task is
    skipped whole: no decay, no momentum, no step count, so its head keeps its bits.
    """

    def __init__(self, groups: list[dict[str, Any]]) -> None:
        self.present: Collection[str] | None = None
        self._makers = {group["name"]: ALGORITHMS[group["algorithm"]] for group in groups}
        for group in groups:
            inner = self._makers[group["name"]]([torch.zeros(1, requires_grad=True)], fused=True)
            for option, value in inner.param_groups[0].items():
                group.setdefault(option, value)
        super().__init__(groups, {})

    def set_rates(self, step: int, steps: int) -> None:
        """Set every group's learning rate for a step (from 0) of a stage of so many."""
        for group in self.param_groups:
            factor = schedule(group["schedule"], group["warmup"], step, steps)
            group["lr"] = group["base_lr"] * factor

    def rates(self) -> dict[str, float]:
        """Give the learning rate of each group by its name."""
        return {group["name"]: float(group["lr"]) for group in self.param_groups}

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Step each present group by its own algorithm."""
        for group in self.param_groups:
            absent = group["task"] is not None and group["task"] not in (self.present or ())
            if absent and self.present is not None:
                continue
            parameters = [p for p in group["params"] if p.grad is not None]
            if not parameters:
                continue
            inner = self._makers[group["name"]](parameters, lr=group["lr"], fused=True)
            inner.param_groups = [group]
            inner.state = self.state
            inner.step()
