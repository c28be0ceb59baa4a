"""Subsets of many helpers, few enough to be run, from which a linear model tells what each adds."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import numpy as np

PER_HELPER = 2.5
"""Subsets for each helper."""
FEWEST = 2
"""Helpers that are in a subset, and that are not: less is a baseline's business."""
DRAWS = 100
"""Designs among which the best is taken."""


def subsets(helpers: Sequence[str], seed: int = 0) -> list[tuple[str, ...]]:
    """Draw subsets of at least six helpers, each helper in half of them.

    They are random and a few times as many as helpers (Li et al. 2023, arXiv:2303.14582), each with
    its opposite. Of several draws the one whose linear model is best determined is taken: by the
    least singular value of its design matrix.
    """
    size = len(helpers)
    random = np.random.default_rng(seed)
    best, most = np.zeros((0, size), np.int64), -1.0
    for _ in range(DRAWS):
        rows: list[tuple[int, ...]] = []
        while len(rows) < 2 * math.ceil(PER_HELPER * size / 2):
            row = tuple(random.integers(0, 2, size).tolist())
            if FEWEST <= sum(row) <= size - FEWEST and row not in rows:
                rows += [row, tuple(1 - entry for entry in row)]
        table = np.array(rows)
        matrix = np.hstack([np.ones((len(table), 1)), 2 * table - 1])
        least = float(np.linalg.svd(matrix, compute_uv=False)[-1])
        if least > most:
            best, most = table, least
    return [tuple(itertools.compress(helpers, row)) for row in best.tolist()]
