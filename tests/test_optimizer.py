"""The composite optimizer: plain torch algorithms, each group alone; schedules by hand."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import nn

from orchestrator.optimizer import CompositeOptimizer, Layers, groups, schedule
from orchestrator.sections import Optimizer

SETTINGS = {
    "adamw": {"name": "adamw", "lr": 0.01, "weight_decay": 0.3, "betas": (0.8, 0.95), "eps": 1e-6},
    "adam": {"name": "adam", "lr": 0.02, "weight_decay": 0.2},
    "sgd": {"name": "sgd", "lr": 0.1, "weight_decay": 0.1, "momentum": 0.7},
    "bare": {"name": "sgd", "lr": 0.1, "weight_decay": 0.0, "momentum": 0.0},
    "lion": {"name": "lion", "lr": 0.01, "weight_decay": 0.2, "betas": (0.9, 0.99)},
    "adafactor": {"name": "adafactor", "lr": 0.01, "weight_decay": 0.1},
}
PLAIN: dict[str, Any] = {
    "adamw": lambda p, decay: torch.optim.AdamW(
        p, lr=0.01, weight_decay=decay, betas=(0.8, 0.95), eps=1e-6
    ),
    "adam": lambda p, decay: torch.optim.Adam(p, lr=0.02, weight_decay=decay),
    "sgd": lambda p, decay: torch.optim.SGD(p, lr=0.1, weight_decay=decay, momentum=0.7),
    "bare": lambda p, decay: torch.optim.SGD(p, lr=0.1, weight_decay=decay),
    "adafactor": lambda p, decay: torch.optim.Adafactor(p, lr=0.01, weight_decay=decay),
}


class Parameters:
    """A matrix and a vector for the encoder and for each task, with gradients keyed by step."""

    def __init__(self, *tasks: str) -> None:
        torch.manual_seed(0)
        self.named = [
            (f"{task or 'encoder'}.{kind}", task, nn.Parameter(torch.randn(size)))
            for task in (None, *tasks)
            for kind, size in (("weight", (3, 2)), ("bias", (4,)))
        ]

    def gradients(self, step: int) -> None:
        for place, (_, _, parameter) in enumerate(self.named):
            random = torch.Generator().manual_seed(100 * step + place)
            parameter.grad = torch.randn(parameter.shape, generator=random)

    def of(self, task: str | None) -> list[nn.Parameter]:
        return [parameter for _, own, parameter in self.named if own == task]

    def copies(self) -> dict[str, torch.Tensor]:
        return {name: parameter.detach().clone() for name, _, parameter in self.named}


def settings(**tasks: str) -> dict[str | None, Optimizer]:
    """Give task (and ``encoder``) to algorithm."""
    return {
        None if task == "encoder" else task: Optimizer(**{**SETTINGS[name], "warmup": 0.0})
        for task, name in tasks.items()
    }


def composite(own: Parameters, **tasks: str) -> CompositeOptimizer:
    return CompositeOptimizer(groups(own.named, settings(**tasks)))


def test_each_group_is_stepped_by_the_plain_algorithm_of_its_name() -> None:
    tasks = {"encoder": "adamw", "a": "adam", "b": "sgd", "c": "bare", "d": "adafactor"}
    own, plain = Parameters(*"abcd"), Parameters(*"abcd")
    optimizer = composite(own, **tasks)
    others = []
    for task, name in tasks.items():
        weight, bias = plain.of(None if task == "encoder" else task)
        others += [PLAIN[name]([weight], SETTINGS[name]["weight_decay"]), PLAIN[name]([bias], 0.0)]
    optimizer.present = set("abcd")
    for step in range(4):
        own.gradients(step)
        optimizer.step()
        plain.gradients(step)
        for other in others:
            other.step()
    for name, value in plain.copies().items():
        torch.testing.assert_close(own.copies()[name], value, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("name", SETTINGS)
def test_an_absent_group_keeps_its_bits_and_its_step_count(name: str) -> None:
    own, never = Parameters("a"), Parameters("a")
    optimizers = [composite(p, encoder="adamw", a=name) for p in (own, never)]
    for step, present in enumerate(({"a"}, set(), set(), {"a"})):
        before = own.copies()
        own.gradients(step)
        optimizers[0].present = present
        optimizers[0].step()
        moved = {n for n, value in own.copies().items() if not torch.equal(value, before[n])}
        expected = {"encoder.weight", "encoder.bias"}
        assert moved == expected | ({"a.weight", "a.bias"} if present else set())
    for step in (0, 3):  # the same without the steps at which it was absent
        never.gradients(step)
        optimizers[1].present = {"a"}
        optimizers[1].step()
    for one, other in zip(own.of("a"), never.of("a"), strict=True):
        assert torch.equal(one, other)
        states = [o.state[p] for o, p in zip(optimizers, (one, other), strict=True)]
        torch.testing.assert_close(states[0], states[1], rtol=0, atol=0)


def test_lion_is_its_formula() -> None:
    """Chen et al. 2023, algorithm 2, written out."""
    own = Parameters("a")
    optimizer = composite(own, encoder="bare", a="lion")
    optimizer.present = {"a"}
    weight = own.of("a")[0]
    expected, momentum = weight.detach().clone(), torch.zeros(3, 2)
    for step in range(5):
        own.gradients(step)
        assert weight.grad is not None
        direction = (0.9 * momentum + 0.1 * weight.grad).sign()
        expected = expected - 0.01 * (direction + 0.2 * expected)
        momentum = 0.99 * momentum + 0.01 * weight.grad
        optimizer.step()
    torch.testing.assert_close(weight.detach(), expected)


def test_l2_sp_adds_the_way_back_to_the_first_weights_to_the_gradient() -> None:
    """Li et al. 2018: the penalty alpha / 2 |w - w0|^2 has the gradient alpha (w - w0)."""
    own = Parameters()
    layers = Layers(lambda name: 1, 1, penalties={"l2_sp": 0.3})
    optimizer = CompositeOptimizer(groups(own.named, settings(encoder="bare"), layers))
    weight, bias = own.of(None)
    optimizer.anchors = {p: torch.full_like(p, 2.0) for p in (weight, bias)}
    before = weight.detach().clone()
    own.gradients(0)
    assert weight.grad is not None
    expected = before - 0.1 * (weight.grad + 0.3 * (before - 2.0))
    optimizer.step()
    torch.testing.assert_close(weight.detach(), expected)


def test_rates_fall_from_layer_to_layer_and_fresh_layers_are_not_drawn_back() -> None:
    """Howard and Ruder 2018, section 3.2: the rate of layer l is that of l + 1 times a factor."""
    named = [(f"encoder.{n}.weight", None, nn.Parameter(torch.ones(2, 2))) for n in (0, 1, 2, 3)]
    own = {None: settings(encoder="bare")[None]}
    layers = Layers(
        lambda name: int(name.split(".")[1]), 3, 0.5, redrawn=1, penalties={"l2_sp": 0.2}
    )
    found = groups(named, own, layers)
    assert [(g["name"], g["base_lr"], g["penalties"]) for g in found] == [
        ("encoder.0", pytest.approx(0.1 * 0.125), {"l2_sp": 0.2}),
        ("encoder.1", pytest.approx(0.1 * 0.25), {"l2_sp": 0.2}),
        ("encoder.2", pytest.approx(0.1 * 0.5), {"l2_sp": 0.2}),
        ("encoder.3", pytest.approx(0.1), {}),
    ]
    apart = groups(named, own, Layers(layers.depth, 3, 1.0, redrawn=1, penalties={"l2_sp": 0.2}))
    assert [(g["name"], len(g["params"])) for g in apart] == [("encoder", 3), ("encoder.fresh", 1)]


def test_parameters_without_a_gradient_rest() -> None:
    own = Parameters("a")
    optimizer = composite(own, encoder="adamw", a="sgd")
    before = own.copies()
    optimizer.present = {"a"}
    optimizer.step()
    for name, value in own.copies().items():
        assert torch.equal(value, before[name])


def test_vectors_take_no_weight_decay_and_frozen_parameters_have_no_group() -> None:
    own = Parameters("a", "b")
    for parameter in own.of("b"):
        parameter.requires_grad_(False)
    found = groups(own.named, settings(encoder="adamw", a="sgd", b="adam"))
    assert [(g["name"], g["task"], g["weight_decay"], g["names"]) for g in found] == [
        ("encoder", None, 0.3, ["encoder.weight"]),
        ("encoder.no_decay", None, 0.0, ["encoder.bias"]),
        ("a", "a", 0.1, ["a.weight"]),
        ("a.no_decay", "a", 0.0, ["a.bias"]),
    ]


def test_rates_follow_each_groups_own_schedule_and_reach_the_step() -> None:
    own = Parameters("a")
    made = settings(encoder="bare", a="bare")
    made["a"] = made["a"].model_copy(update={"schedule": "constant", "lr": 0.5})
    optimizer = CompositeOptimizer(groups(own.named, made))
    optimizer.set_rates(5, 10)
    assert optimizer.rates() == pytest.approx(
        {"encoder": 0.05, "encoder.no_decay": 0.05, "a": 0.5, "a.no_decay": 0.5}
    )
    before = own.copies()
    own.gradients(0)
    optimizer.present = {"a"}
    optimizer.step()
    for name, task, parameter in own.named:
        rate = 0.05 if task is None else 0.5
        torch.testing.assert_close(parameter.detach(), before[name] - rate * parameter.grad)


HALF = math.sqrt(0.5)


@pytest.mark.parametrize(
    ("name", "warmup", "factors"),
    [
        ("constant", 0.0, [1, 1, 1, 1]),
        ("constant", 0.5, [0.5, 1, 1, 1]),
        ("linear", 0.0, [1, 0.75, 0.5, 0.25]),
        ("linear", 0.5, [0.5, 1, 1, 0.5]),
        ("cosine", 0.0, [1, 0.5 + HALF / 2, 0.5, 0.5 - HALF / 2]),
        ("cosine", 0.25, [1, 1, 0.75, 0.25]),
    ],
)
def test_schedules_have_the_values_worked_out_by_hand(
    name: str, warmup: float, factors: list[float]
) -> None:
    assert [schedule(name, warmup, step, 4) for step in range(4)] == pytest.approx(factors)


@pytest.mark.parametrize("name", ["linear", "cosine"])
def test_schedules_rise_then_fall_to_nothing_at_the_end(name: str) -> None:
    factors = [schedule(name, 0.1, step, 1000) for step in range(1001)]
    assert factors[:100] == sorted(factors[:100])
    assert factors[100:] == sorted(factors[100:], reverse=True)
    assert max(factors) == 1
    assert factors[1000] == pytest.approx(0, abs=1e-9)
    assert all(factor > 0 for factor in factors[:1000])


@pytest.mark.parametrize("name", ["constant", "linear", "cosine"])
def test_a_run_of_one_step_learns(name: str) -> None:
    assert schedule(name, 0.1, 0, 1) == 1
