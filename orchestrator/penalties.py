"""What draws the encoder's weights somewhere: the gradients of penalties on them."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

Penalty = Callable[["Tensor", "Tensor"], "Tensor"]
"""From weights and their first values to the gradient of a penalty, element by element: under ZeRO
each rank sees a part of a matrix, and not in its shape."""


def l2_sp(weights: Tensor, first: Tensor) -> Tensor:
    """Draw back to the first values (Li et al. 2018, equation 1): half the squared distance."""
    return weights - first


@cache
def get(name: str) -> Penalty:
    """Find ``l2_sp``, or a function of the user's own by ``package.module:function``.

    Raises ``ValueError`` where there is none.
    """
    if name == l2_sp.__name__:
        return l2_sp
    module, _, attribute = name.partition(":")
    try:
        own: Penalty = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError, ValueError) as error:
        raise ValueError(
            f"cannot be imported: {error}; expected package.module:function"
        ) from error
    return own
