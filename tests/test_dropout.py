"""Dropout of our own keeps what PyTorch's promises: the rate, the mean, the gradient."""

from __future__ import annotations

import pytest
import torch

from encoders import dropout


@pytest.mark.parametrize("rate", [0.1, 0.5, 0.9])
@pytest.mark.parametrize("kind", [torch.float32, torch.bfloat16])
def test_dropout_keeps_its_rate_and_the_mean(rate: float, kind: torch.dtype) -> None:
    torch.manual_seed(0)
    drop = dropout.Dropout(rate)
    ones = torch.ones(301, 333, dtype=kind, requires_grad=True)
    dropped = drop(ones)
    dropped.sum().backward()
    share = float((dropped == 0).float().mean())
    assert share == pytest.approx(rate, abs=4 * (rate * (1 - rate) / ones.numel()) ** 0.5)
    assert float(dropped.detach().float().mean()) == pytest.approx(1, abs=0.02)
    assert ones.grad is not None
    assert torch.equal(ones.grad, dropped)
    assert torch.equal(drop.eval()(ones), ones)


def test_dropout_takes_the_place_of_pytorchs_with_its_rate() -> None:
    network = torch.nn.Sequential(torch.nn.Dropout(0.3), torch.nn.Sequential(torch.nn.Dropout(0.2)))
    dropout.replace(network)
    found = [module for module in network.modules() if isinstance(module, dropout.Dropout)]
    assert [module.p for module in found] == [0.3, 0.2]
