"""R-Drop: the formula by hand, and chances that are those of each family's loss."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor
from toy import ToyRun

from orchestrator.batch import collate
from orchestrator.model import MultiTaskModel
from tasks.agreement import Comparable, agreed
from tests.family_cases import CASES, Case
from tests.reading import WIDTH, fitted, packed, reader

COMPARED = [name for name, case in CASES.items() if issubclass(case.family, Comparable)]


def test_two_readings_cost_what_the_paper_says_over_two() -> None:
    """Wu et al. 2021, equation 4: the losses of both readings and alpha times the mean KL."""
    one, other = torch.tensor([0.5, 0.3, 0.2]), torch.tensor([0.2, 0.2, 0.6])
    label, alpha, unit = 1, 1.5, math.log(3)
    there = sum(p * math.log(p / q) for p, q in zip(one.tolist(), other.tolist(), strict=True))
    back = sum(q * math.log(q / p) for p, q in zip(one.tolist(), other.tolist(), strict=True))
    paper = -math.log(one[label]) - math.log(other[label]) + alpha * (there + back) / 2
    chances = torch.stack([one, other]).log()
    loss = -chances[:, label].sum() / unit
    found = agreed(loss, [(chances, torch.full((2,), 1 / unit))], alpha)
    assert found.item() == pytest.approx(paper / 2 / unit, rel=1e-6)
    same = [(chances[:1].repeat(2, 1), torch.ones(2))]
    assert agreed(loss, same, alpha) == loss / 2


@pytest.fixture(params=COMPARED, ids=[name.replace(" ", "-") for name in COMPARED])
def case(request: pytest.FixtureRequest) -> Case:
    return CASES[request.param]


def read(case: Case, times: int) -> tuple[Any, Any, Any, int]:
    """Give the family, the output of its first head, the rows, and the number of their terms."""
    family = fitted(case.family, case.rows, **case.options)
    rows = family.gather(family.data, list(case.rows))
    batch, terms = packed(family, rows * times, reader())
    table = torch.randn(4000, WIDTH, generator=torch.Generator().manual_seed(0))
    torch.manual_seed(0)
    found = batch.rows["task"]
    return family, family.head(WIDTH, 0.0)(table[batch.input_ids], found), found, terms


def test_readings_that_agree_cost_what_one_does(case: Case) -> None:
    family, output, rows, _ = read(case, 1)
    twin, outputs, both, _ = read(case, 2)
    found = agreed(twin.loss(outputs, both), twin.log_chances(outputs, both), 3.0)
    assert found.item() == pytest.approx(family.loss(output, rows).item(), rel=1e-5)


def test_chances_are_finite_sum_to_one_and_count_where_the_loss_has_terms(case: Case) -> None:
    family, output, rows, terms = read(case, 1)
    found = family.log_chances(output, rows)
    for chances, counts in found:
        assert chances.isfinite().all()
        assert len(chances) == len(counts)
        torch.testing.assert_close(chances.exp().sum(1), torch.ones(len(chances)))
    counted = sum(int((counts > 0).sum()) for _, counts in found)
    assert counted == terms * (2 if case.family.__name__ == "Span" else 1)


def test_readings_that_differ_cost_more_and_pull_at_every_logit(case: Case) -> None:
    family, output, rows, _ = read(case, 2)
    parts = [output] if isinstance(output, Tensor) else list(output)
    moved = [(part + torch.randn_like(part)).detach().requires_grad_() for part in parts]
    changed = moved[0] if isinstance(output, Tensor) else tuple(moved)
    loss = family.loss(changed, rows)
    found = agreed(loss, family.log_chances(changed, rows), 1.0) - loss / 2
    assert found.item() > 0
    gradients = torch.autograd.grad(found, moved)
    assert all(own.isfinite().all() and own.any() for own in gradients)


def gradients(model: MultiTaskModel, run: ToyRun, strength: float | None) -> tuple[Tensor, ...]:
    rows = {"tags": run.data["tags"][:3], "texts": run.data["texts"][:2]}
    twice = {} if strength is None else {"tags": strength, "rare": strength}
    batch = collate(rows, run.families, "first", twice=twice)
    torch.manual_seed(1)
    losses = model.loss_sums(model(batch), batch)
    named = [p for _, _, p in model.named()]
    return torch.autograd.grad(torch.stack(list(losses.values())).sum(), named)


def test_without_dropout_gradients_are_those_of_rows_read_once() -> None:
    run = ToyRun()
    model = run.model()
    once, twice = gradients(model, run, None), gradients(model, run, 5.0)
    torch.testing.assert_close(twice, once, rtol=1e-5, atol=1e-6)


def test_each_reading_has_a_mask_of_its_own() -> None:
    run = ToyRun()
    model = run.model(0.5)
    weak, strong = gradients(model, run, 0.0), gradients(model, run, 5.0)
    assert not torch.allclose(weak[0], strong[0])
