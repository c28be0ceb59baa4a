"""Dropout that costs a third of PyTorch's on a CPU, with the same distribution."""

from __future__ import annotations

import torch
from torch import Tensor, nn

STEPS = 1 << 16
"""Rates are rounded to multiples of 1 / STEPS: 64 random bits then decide four elements."""


def keep(shape: torch.Size | tuple[int, ...], rate: float, device: torch.device) -> Tensor:
    """Draw a boolean mask, false with probability ``rate``, from the global random state."""
    size = torch.Size(shape).numel()
    draws = torch.empty((size + 3) // 4, dtype=torch.int64, device=device)
    draws.random_(-(1 << 63), None)  # all 64 bits
    return draws.view(torch.int16)[:size].view(shape) >= _steps(rate) - STEPS // 2


def scale(rate: float) -> float:
    """Give the factor of the elements kept, which leaves the expectation as it was."""
    return STEPS / (STEPS - _steps(rate))


def _steps(rate: float) -> int:
    return min(round(rate * STEPS), STEPS - 1)


class Dropout(nn.Dropout):
    """``nn.Dropout`` (Srivastava et al. 2014); drawn by ``keep`` on a CPU."""

    def forward(self, input: Tensor) -> Tensor:
        """Zero elements with probability ``p`` in training, and scale the others."""
        if not self.training or self.p == 0 or input.device.type != "cpu":
            return super().forward(input)
        factor = keep(input.shape, self.p, input.device).to(input.dtype).mul_(scale(self.p))
        return input * factor


def replace(network: nn.Module) -> None:
    """Put ``Dropout`` in place of every ``nn.Dropout``; names and rates stay."""
    for module in list(network.modules()):
        for name, child in list(module.named_children()):
            if type(child) is nn.Dropout and not child.inplace:
                setattr(module, name, Dropout(child.p))
