"""A random stream for each weight, by a seed and the weight's own name."""

from __future__ import annotations

import hashlib

import torch


def stream(seed: int, purpose: str, name: str) -> torch.Generator:
    """Give the generator that draws one weight, whatever was drawn before it."""
    key = hashlib.sha256(f"{seed}/{purpose}/{name}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(key[:8], "little") >> 1)
