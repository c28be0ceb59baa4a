"""Mixout is its formula, means the weights themselves, and rests outside training."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers import GPT2Config, GPT2Model

import encoders
from encoders import mixout
from tests.reading import reader


def test_weights_are_mixed_by_the_formula_and_mean_themselves() -> None:
    """Lee et al. 2020, equation 2, for each weight alone."""
    weight, first = torch.randn(2, 64, 64)
    draws = torch.stack([mixout.mix(weight, first, 0.4) for _ in range(400)])
    kept = (weight - 0.4 * first) / 0.6
    back = (first - 0.4 * first) / 0.6
    near = [(draws - value).abs() < 1e-3 for value in (kept, back)]
    assert (near[0] | near[1]).all()
    assert near[1].float().mean().item() == pytest.approx(0.4, abs=0.01)
    spread = (draws.mean(0) - weight).abs().mean()
    assert spread < 3 * (draws.std(0) / 20).mean()


def test_a_network_is_mixed_in_training_alone_and_saved_as_it_was(tmp_path: Path) -> None:
    reader().save(tmp_path)
    encoder = encoders.load("tiny", folder=tmp_path)
    names = [name for name, _ in encoder.named_parameters()]
    states = set(encoder.network.state_dict())
    first = {n: torch.zeros_like(p) for n, p in encoder.network.named_parameters()}
    given = (torch.tensor([5, 6, 7]), torch.zeros(3, dtype=torch.int64), torch.tensor([0, 3]))
    encoder.eval()
    plain = encoder(*given)
    mixout.apply(encoder.network, 0.5, first)
    assert torch.equal(encoder(*given), plain)
    encoder.train()
    assert not torch.allclose(encoder(*given), plain)
    encoder(*given).sum().backward()
    assert [name for name, _ in encoder.named_parameters()] == names
    assert set(encoder.network.state_dict()) == states
    assert all(p.grad is not None for n, p in encoder.named_parameters() if "query" in n)


def test_gpt2s_own_kind_of_linear_layer_is_mixed_too() -> None:
    network = GPT2Model(GPT2Config(n_layer=1, n_head=2, n_embd=8, vocab_size=20)).train()
    for module in network.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    ids = torch.tensor([[1, 2, 3]])
    plain = network(ids).last_hidden_state
    same = {n: p.detach().clone() for n, p in network.named_parameters()}
    mixout.apply(network, 0.5, same)
    torch.testing.assert_close(network(ids).last_hidden_state, plain)
    for module in network.modules():
        if hasattr(module, "first"):
            module.first.zero_()
    assert not torch.allclose(network(ids).last_hidden_state, plain)
