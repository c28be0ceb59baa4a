"""Every task's own optimizer, as groups of one composite optimizer, and their schedules."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from orchestrator import penalties


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


@dataclass(frozen=True)
class Layers:
    """What sets the layers of the encoder apart."""

    depth: Callable[[str], int]
    """Of a parameter by its name: 0 for embeddings, 1 for the first layer."""
    count: int
    decay: float = 1.0
    """Rates fall by this factor from each layer to the one below (Howard and Ruder 2018)."""
    redrawn: int = 0
    """Top layers that began anew; there is nothing to draw them back to."""
    penalties: Mapping[str, float] = field(default_factory=dict)
    """Strengths by name; see ``penalties.py``."""

    def options(self, name: str) -> tuple[str, float, Mapping[str, float]]:
        """Give the suffix of a parameter's group, its factor on the rate, and its penalties."""
        depth = self.depth(name)
        fresh = depth > self.count - self.redrawn
        scaled = f".{depth}" if self.decay < 1 else ".fresh" if fresh and self.penalties else ""
        return scaled, self.decay ** (self.count - depth), {} if fresh else self.penalties


def groups(
    parameters: Iterable[tuple[str, str | None, nn.Parameter]],
    settings: Mapping[str | None, Settings],
    layers: Layers | None = None,
) -> list[dict[str, Any]]:
    """Sort parameters into groups: by task (None for the encoder), layer, and weight decay.

    Vectors (biases, norms) take no weight decay. ``settings`` maps each task, and None, to its
    optimizer. Each group carries ``names``, the model's names of its parameters, in order.
    """
    found: dict[str, dict[str, Any]] = {}
    for name, task, parameter in parameters:
        if not parameter.requires_grad:
            continue
        own, decays = settings[task], parameter.ndim > 1
        apart = ("", 1.0, {}) if task is not None or layers is None else layers.options(name)
        suffix, factor, drawn = apart
        label = (task or "encoder") + suffix + ("" if decays else ".no_decay")
        group = found.setdefault(
            label,
            {
                "params": [],
                "names": [],
                "name": label,
                "task": task,
                "algorithm": own.name,
                "base_lr": own.lr * factor,
                "lr": own.lr * factor,
                "schedule": own.schedule,
                "warmup": own.warmup,
                "penalties": dict(drawn),
                **_options(own, own.weight_decay if decays else 0.0),
            },
        )
        group["params"].append(parameter)
        group["names"].append(name)
    return list(found.values())


def _options(own: Settings, weight_decay: float) -> dict[str, Any]:
    options: dict[str, Any] = {"weight_decay": weight_decay}
    if own.name == "sgd":
        options["momentum"] = own.momentum
    if own.name in ("adamw", "adam", "lion"):
        options["betas"] = tuple(own.betas)
    if own.name in ("adamw", "adam"):
        options["eps"] = own.eps
    return options


class Lion(torch.optim.Optimizer):
    """Steps by the sign of an interpolated momentum (Chen et al. 2023, algorithm 2)."""

    def __init__(
        self,
        params: Any,
        lr: float = 1e-4,
        betas: tuple[float, float] = (0.9, 0.99),
        weight_decay: float = 0.0,
    ) -> None:
        super().__init__(params, {"lr": lr, "betas": betas, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Step every parameter that has a gradient."""
        for group in self.param_groups:
            (now, later), rate = group["betas"], group["lr"]
            for p in (p for p in group["params"] if p.grad is not None):
                state = self.state[p]
                momentum = state.setdefault("exp_avg", torch.zeros_like(p))
                p.mul_(1 - rate * group["weight_decay"])
                p.add_(momentum.lerp(p.grad, 1 - now).sign_(), alpha=-rate)
                momentum.lerp_(p.grad, 1 - later)


ALGORITHMS: dict[str, Callable[..., torch.optim.Optimizer]] = {
    "adamw": partial(torch.optim.AdamW, fused=True),
    "adam": partial(torch.optim.Adam, fused=True),
    "sgd": partial(torch.optim.SGD, fused=True),
    "lion": Lion,
    "adafactor": torch.optim.Adafactor,
}


class CompositeOptimizer(torch.optim.Optimizer):
    """One optimizer to its engine, an algorithm of its own to each group.

    ``present`` names the tasks with examples in the global batch. A group of any other task is
    skipped whole: no decay, no momentum, no step count, so its head keeps its bits.

    Penalties draw weights somewhere (see ``penalties.py``): the gradient, already clipped, grows by
    strength times theirs. ``anchors`` holds the first weights by parameter, which under ZeRO is
    this rank's partition.

    ``averages``, if filled, follow the weights they are keyed by: each step brings them nearer by
    1 - ``keep`` (Polyak and Juditsky 1992, with exponential weights).
    """

    def __init__(self, groups: list[dict[str, Any]]) -> None:
        self.present: Collection[str] | None = None
        self.anchors: dict[Tensor, Tensor] = {}
        self.averages: dict[Tensor, Tensor] = {}
        self.keep = 0.0
        self._makers = {group["name"]: ALGORITHMS[group["algorithm"]] for group in groups}
        for group in groups:
            inner = self._makers[group["name"]]([torch.zeros(1, requires_grad=True)])
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
            for name, strength in group["penalties"].items():
                for p in parameters:
                    p.grad.add_(penalties.get(name)(p, self.anchors[p]), alpha=strength)
            inner = self._makers[group["name"]](parameters, lr=group["lr"])
            inner.param_groups = [group]
            inner.state = self.state
            inner.step()
            for p in parameters:
                if p in self.averages:
                    self.averages[p].lerp_(p, 1 - self.keep)
