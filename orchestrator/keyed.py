"""Random numbers that are pure functions of a key: no global state, no order of calls."""

from __future__ import annotations

import hashlib
from typing import cast

import numpy as np
from numpy.typing import NDArray

Integers = NDArray[np.int64]
_ROUNDS = 6


def number(*key: object) -> int:
    """Hash a key, such as ``(seed, "head", "topic")``, to 64 bits."""
    digest = hashlib.sha256("\x1f".join(map(str, key)).encode()).digest()
    return int.from_bytes(digest[:8], "little")


def torch_seed(*key: object) -> int:
    """Hash a key to a seed that ``torch.manual_seed`` takes."""
    return number(*key) >> 1


def generator(*key: object) -> np.random.Generator:
    """Give a counter-based generator (Philox, Salmon 2011) that belongs to this key alone."""
    return np.random.Generator(np.random.Philox(key=[number(*key), number("high", *key)]))


def permuted(positions: Integers, size: int, *key: object) -> Integers:
    """Send positions in ``[0, size)`` through the bijection of this key, without storing it.

    A balanced Feistel network over the next power of four, walked until it lands inside
    (Black and Rogaway 2002, "Ciphers with Arbitrary Finite Domains").
    """
    half = max(1, (max(size - 1, 1).bit_length() + 1) // 2)
    rounds = [np.uint64(number("round", i, *key)) for i in range(_ROUNDS)]
    found = _feistel(positions.astype(np.uint64), half, rounds)
    outside = found >= size
    while outside.any():
        found[outside] = _feistel(found[outside], half, rounds)
        outside = found >= size
    return cast(Integers, found.astype(np.int64))


def _feistel(x: NDArray[np.uint64], half: int, rounds: list[np.uint64]) -> NDArray[np.uint64]:
    mask, shift = np.uint64((1 << half) - 1), np.uint64(half)
    left, right = x >> shift, x & mask
    for key in rounds:
        left, right = right, left ^ (mixed(right ^ key) & mask)
    return (left << shift) | right


def mixed(x: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Mix the bits (the finalizer of SplitMix64, Steele 2014); products wrap around."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return cast(NDArray[np.uint64], x ^ (x >> np.uint64(31)))
