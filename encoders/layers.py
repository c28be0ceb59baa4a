"""Which layer a weight belongs to, and drawing top layers anew."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from encoders.stored import Stored

NUMBER = re.compile(r"(?:^|\.)(?:layers?|h|blocks?)\.(\d+)\.")
BELOW = re.compile(r"embed|(?:^|\.)w[tp]e\.|conv|feature_|patch|stem")


def depth(name: str, layers: int) -> int:
    """Give the place of a parameter from the input on: 0 for embeddings, 1 for the first layer.

    What comes after the last of ``layers`` layers (a final norm) counts to the last.
    """
    if found := NUMBER.search(name):
        return int(found[1]) + 1
    return 0 if BELOW.search(name) else layers


def redraw(encoder: Stored, top: int, seed: int) -> None:
    """Draw the top layers' weights anew, as the network's class does (Zhang et al. 2021).

    Raises ``ValueError`` if the encoder has fewer layers. Leaves the global random state as it was.
    """
    if top > encoder.layers:
        raise ValueError(
            f"regularization.reinit_layers is {top}; this encoder has {encoder.layers} layers."
        )
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(seed)
        for name, module in encoder.network.named_modules():
            own = dict(module.named_parameters(recurse=False))
            if own and depth(f"{name}.", encoder.layers) > encoder.layers - top:
                for parameter in own.values():
                    parameter._is_hf_initialized = False  # type: ignore[attr-defined]
                encoder.network._init_weights(module)
