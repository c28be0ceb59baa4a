"""Attention inside each sequence of a packed batch, for all networks on the attention interface."""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel

from encoders import dropout as dropouts

NAME = "tlmt_packed"
"""What a configuration calls this attention."""


@dataclass
class Packing:
    """How the sequences of a packed batch lie inside the network: sorted by length.

    Sequences of one length then are one block that attention views as ``[count, length]``: no
    padding, no mask, no gathering in any layer.
    """

    order: Tensor
    """``[tokens]``: where each token inside the network comes from."""
    back: Tensor
    """``[tokens]``: where each token of the batch lies inside the network."""
    positions: Tensor
    """``[tokens]``: place of each token in its sequence, in the order inside the network."""
    blocks: list[tuple[int, int]]
    """Number and length of the sequences of each block, shortest first."""

    @classmethod
    def of(cls, offsets: Tensor, device: torch.device) -> Packing:
        """Read the packing off the cumulative lengths ``[sequences + 1]``."""
        edges = offsets.cpu().long()
        lengths, rank = edges.diff().sort(stable=True)
        begin = lengths.cumsum(0) - lengths
        tokens = int(edges[-1])
        positions = torch.arange(tokens) - begin.repeat_interleave(lengths)
        order = edges[:-1][rank].repeat_interleave(lengths) + positions
        back = torch.empty_like(order)
        back[order] = torch.arange(tokens)
        blocks = [(len(list(same)), n) for n, same in groupby(lengths.tolist()) if n]
        return cls(order.to(device), back.to(device), positions.to(device), blocks)

    @property
    def lengths(self) -> list[int]:
        """Give the length of every sequence, in the order inside the network."""
        return [length for count, length in self.blocks for _ in range(count)]


def attend(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    packing: Packing | None = None,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """Attend inside each sequence, ``[1, heads, tokens, size]`` to ``[1, tokens, heads, size]``.

    On a CPU all is done in fp32, also under bf16 autocast: lengths differ from batch to batch, and
    preparing a bf16 product for a shape not seen before costs more than bf16 saves at these sizes.
    """
    if packing is None:
        raise ValueError(f"the attention {NAME!r} reads packed batches only; use encoders.Encoder")
    kind = query.device.type
    work = torch.float32 if kind == "cpu" else query.dtype
    causal = bool(getattr(module, "is_causal", False))
    repeats = query.shape[1] // key.shape[1]
    sizes = [count * length for count, length in packing.blocks]
    mixed = []
    with torch.autocast(kind, enabled=False):
        parts = (x[0].transpose(0, 1).to(work).split(sizes) for x in (query, key, value))
        for (count, length), *block in zip(packing.blocks, *parts, strict=True):
            q, k, v = (x.unflatten(0, (count, length)).transpose(1, 2) for x in block)
            if repeats > 1:
                k, v = (x.repeat_interleave(repeats, dim=1) for x in (k, v))
            mixed.append(_mix(q, k, v, scaling, dropout, causal).transpose(1, 2).flatten(0, 1))
        return torch.cat(mixed).to(query.dtype).unsqueeze(0), None


def _mix(
    q: Tensor, k: Tensor, v: Tensor, scaling: float | None, rate: float, causal: bool
) -> Tensor:
    """Give ``softmax(q k') v``; all ``[sequences, heads, length, size]``."""
    if rate == 0 or q.device.type != "cpu":
        return functional.scaled_dot_product_attention(
            q, k, v, dropout_p=rate, is_causal=causal, scale=scaling
        )
    # The same, since PyTorch's is several times slower on a CPU once it has to drop.
    scores = q * (q.shape[-1] ** -0.5 if scaling is None else scaling) @ k.transpose(-1, -2)
    if causal:
        hidden = torch.ones(scores.shape[-2:], dtype=torch.bool, device=q.device).triu(1)
        scores = scores.masked_fill(hidden, float("-inf"))
    weights = scores.softmax(-1) * dropouts.keep(scores.shape, rate, q.device)
    return (weights @ v) * dropouts.scale(rate)


def _no_mask(*args: Any, **kwargs: Any) -> None:
    """Stand where networks ask for a mask: the packing says who sees whom."""


AttentionInterface.register(NAME, attend)
AttentionMaskInterface.register(NAME, _no_mask)


def fits(network: PreTrainedModel) -> bool:
    """Say whether ``attend`` may take the place of the network's own attention.

    What cannot be read off its class and configuration (relative positions, soft caps, ...) shows
    when ``Encoder`` compares the two.
    """
    config = network.config
    layers = set(getattr(config, "layer_types", None) or ["full_attention"])
    windows = (getattr(config, name, None) for name in ("sliding_window", "local_attention"))
    arguments = inspect.signature(type(network).forward).parameters
    return bool(
        network._supports_attention_backend
        and layers == {"full_attention"}
        and not any(windows)
        and {"inputs_embeds", "position_ids"} <= set(arguments)
        and any(argument.kind is argument.VAR_KEYWORD for argument in arguments.values())
    )
