"""Mixout: in training, weights of linear layers go back to their first values now and then."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers.pytorch_utils import Conv1D

from encoders import dropout


def mix(weight: Tensor, first: Tensor, rate: float) -> Tensor:
    """Put the first value in place of each weight with probability ``rate``, and correct the rest.

    Lee et al. 2020, equation 2: ``(m w0 + (1 - m) w - p w0) / (1 - p)``; the mean is ``w``.
    """
    kept = dropout.keep(weight.shape, rate, weight.device)
    scale = dropout.scale(rate)
    return first + torch.where(kept, weight - first, torch.zeros((), device=first.device)) * scale


class _Linear(nn.Linear):
    first: Tensor
    rate: float

    def forward(self, input: Tensor) -> Tensor:
        if not self.training:
            return super().forward(input)
        return functional.linear(input, mix(self.weight, self.first, self.rate), self.bias)


class _Conv1D(Conv1D):
    first: Tensor
    rate: float

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            plain: Tensor = super().forward(x)
            return plain
        return x @ mix(self.weight, self.first, self.rate) + self.bias


KINDS: dict[type[nn.Module], Any] = {nn.Linear: _Linear, Conv1D: _Conv1D}
"""The layers that are mixed; GPT-2 has the second. Embeddings, norms and biases are not."""


def apply(network: nn.Module, rate: float, first: Mapping[str, Tensor]) -> None:
    """Mix the linear layers of ``network`` that ``first`` has the first weights of, by name.

    Parameters keep their names and order; nothing is added to what is saved.
    """
    for name, module in network.named_modules():
        mixed, begun = KINDS.get(type(module)), first.get(f"{name}.weight")
        if mixed is not None and begun is not None:
            begun = begun.to(module.weight.device, copy=True)  # type: ignore[union-attr, arg-type]
            module.__class__ = mixed
            module.register_buffer("first", begun, persistent=False)
            module.rate = rate  # type: ignore[assignment]
