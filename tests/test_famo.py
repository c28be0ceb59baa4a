"""FAMO: its algorithm by hand, absent tasks at rest, and the losses it is told."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from toy import SIZES, ToyRun

from orchestrator import famo as famo_module
from orchestrator.engine import PlainEngine
from orchestrator.famo import Famo, famo_step

CPU = torch.device("cpu")
Numbers = NDArray[np.float64]


class ByHand:
    """Liu et al. 2023, algorithm 1, in NumPy: the weights' logits learn by Adam with L2 decay."""

    def __init__(self, tasks: int, lr: float, decay: float) -> None:
        self.xi, self.m, self.v = np.zeros((3, tasks))
        self.lr, self.decay, self.steps = lr, decay, 0

    @property
    def z(self) -> Numbers:
        return np.exp(self.xi) / np.exp(self.xi).sum()

    def factors(self, losses: Numbers) -> Numbers:
        return self.z / losses / (self.z / losses).sum()

    def update(self, before: Numbers, after: Numbers) -> None:
        jacobian = np.diag(self.z) - np.outer(self.z, self.z)
        gradient = jacobian.T @ np.log(before / after) + self.decay * self.xi
        self.steps += 1
        self.m = 0.9 * self.m + 0.1 * gradient
        self.v = 0.999 * self.v + 0.001 * gradient**2
        down = np.sqrt(self.v / (1 - 0.999**self.steps)) + 1e-8
        self.xi = self.xi - self.lr * self.m / (1 - 0.9**self.steps) / down


def test_on_a_toy_problem_it_takes_the_steps_of_the_papers_algorithm() -> None:
    """Two quadratic losses of different size, as in the paper's toy, by gradient descent."""
    centres, sizes = np.array([[1.0, 2.0], [-1.0, 0.5]]), np.array([5.0, 0.1])
    tasks = ("left", "right")
    famo, hand = Famo(tasks, 0.05, 0.01, CPU), ByHand(2, 0.05, 0.01)

    def losses(x: Numbers) -> Numbers:
        return sizes * ((x - centres) ** 2).sum(1) + 0.3

    ours, right = np.array([3.0, -1.0]), np.array([3.0, -1.0])
    for _ in range(60):
        before, told = losses(right), torch.tensor(losses(ours), dtype=torch.float32)
        factors = famo.factors(told, tasks)
        assert factors.tolist() == pytest.approx(hand.factors(before), abs=1e-6)
        slopes = [2 * sizes[:, None] * (x - centres) for x in (ours, right)]
        ours = ours - 0.1 * factors.double().numpy() @ slopes[0]
        right = right - 0.1 * hand.factors(before) @ slopes[1]
        famo.update(told, torch.tensor(losses(ours), dtype=torch.float32), tasks)
        hand.update(before, losses(right))
        assert famo.shares(tasks).tolist() == pytest.approx(hand.z, abs=1e-6)
    assert abs(hand.z[0] - 0.5) > 0.05, "the weights have not moved: the test shows nothing"


def test_an_absent_task_takes_no_part_and_keeps_its_bits() -> None:
    famo, among = Famo(("a", "b", "c"), 0.1, 0.01, CPU), ("a", "c")
    famo.update(torch.tensor([1.0, 2.0, 3.0]), torch.tensor([0.9, 1.0, 2.9]), ("a", "b", "c"))
    left = famo.state()
    fewer = Famo(among, 0.1, 0.01, CPU)
    fewer.restore({name: value for name, value in left.items() if "/b/" not in name})
    before, after = torch.tensor([0.9, 0.0, 2.9]), torch.tensor([0.5, 0.0, 2.8])
    present = torch.tensor([0, 2])
    assert famo.shares(among)[1] == 0
    assert torch.equal(famo.factors(before, among)[present], fewer.factors(before[present], among))
    famo.update(before, after, among)
    fewer.update(before[present], after[present], among)
    now = famo.state()
    assert all(torch.equal(now[name], value) for name, value in fewer.state().items())
    assert all(torch.equal(now[name], value) for name, value in left.items() if "/b/" in name)


def test_a_loss_that_is_nothing_does_not_outweigh_the_others() -> None:
    famo, fewer = Famo(("a", "b", "c"), 0.1, 0.01, CPU), Famo(("a", "c"), 0.1, 0.01, CPU)
    before, after = torch.tensor([1.0, 0.0, 0.8]), torch.tensor([0.7, 0.3, 0.7])
    rest = torch.tensor([0, 2])
    found, expected = famo.factors(before, "abc"), fewer.factors(before[rest], "ac")
    assert torch.equal(found[rest], expected)
    assert found[1] == 0
    famo.update(before, after, "abc")
    fewer.update(before[rest], after[rest], "ac")
    assert all(torch.equal(famo.state()[n], value) for n, value in fewer.state().items())
    assert famo.factors(torch.zeros(3), "abc").isfinite().all()


@pytest.mark.parametrize("micro", [25, 1000])
def test_a_step_minimises_the_weighed_losses_and_looks_at_them_again(
    micro: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = ToyRun("famo")
    batches, factors = run.batches(0, 0, 1, micro)
    assert (len(batches) == 1) == (micro == 1000)
    famo = Famo(sorted(SIZES), 0.025, 0.01, CPU)
    told = []
    monkeypatch.setattr(Famo, "update", lambda self, *given: told.append(given))
    model = run.model(0.4)
    plain = run.model(0.4)
    engine = PlainEngine(model, run.groups(model), 0.0)
    seeds = list(range(len(batches)))
    sums = famo_step(engine, batches, factors, 1, seeds, famo)
    ((before, after, present),) = told
    assert set(present) == set(factors)
    scale = torch.tensor([factors.get(task, 0.0) for task in sorted(SIZES)])
    torch.testing.assert_close(before, sums * scale)

    weights = famo.factors(before, factors) * scale
    twin = PlainEngine(plain, run.groups(plain), 0.0)
    for batch, seed in zip(batches, seeds, strict=True):
        torch.manual_seed(seed)
        losses = plain.loss_sums(plain(batch), batch)
        twin.backward((torch.stack([losses[t] for t in sorted(SIZES)]) * weights).sum(), True)
    twin.step(set(factors))
    for (name, found), (_, expected) in zip(engine.weights(), twin.weights(), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-7, msg=name)
    again = famo_module._losses(twin, batches, factors, 1, seeds)
    torch.testing.assert_close(after, again, rtol=1e-5, atol=1e-6)
    assert not torch.allclose(after, before)
