"""Attention inside each sequence of a packed batch, for all networks on the attention interface."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import groupby
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedConfig

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
    """``[tokens]``: place of each token in its sequence, as the network lies."""
    groups: list[tuple[int, int]]
    """Number and length of the sequences of each block."""

    @classmethod
    def of(cls, offsets: Tensor) -> Packing:
        """Read the packing off the cumulative lengths ``[sequences + 1]``."""
        edges = offsets.tolist()
        lengths = [end - start for start, end in zip(edges, edges[1:], strict=False)]
        ranked = sorted((n, start) for n, start in zip(lengths, edges, strict=False) if n)
        groups = [(len(list(same)), n) for n, same in groupby(n for n, _ in ranked)]
        size = torch.tensor([n for n, _ in ranked], dtype=torch.long)
        first = torch.tensor([start for _, start in ranked], dtype=torch.long)
        begin = size.cumsum(0) - size
        positions = torch.arange(int(size.sum())) - begin.repeat_interleave(size)
        order = first.repeat_interleave(size) + positions
        back = torch.empty_like(order)
        back[order] = torch.arange(len(order))
        device = offsets.device
        return cls(order.to(device), back.to(device), positions.to(device), groups)


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
    """Attend inside each sequence; all ``[1, heads, tokens, width of a head]``, as packed."""
    if packing is None:
        raise ValueError(f"the attention {NAME!r} reads packed batches only; use encoders.Encoder")
    causal = bool(getattr(module, "is_causal", False))
    sizes = [count * length for count, length in packing.groups]
    out = []
    parts = (tensor[0].transpose(0, 1).split(sizes) for tensor in (query, key, value))
    for (count, length), q, k, v in zip(packing.groups, *parts, strict=True):
        q, k, v = (x.unflatten(0, (count, length)).transpose(1, 2) for x in (q, k, v))
        mixed = functional.scaled_dot_product_attention(
            q, k, v, dropout_p=dropout, is_causal=causal, scale=scaling
        )
        out.append(mixed.transpose(1, 2).flatten(0, 1))
    return torch.cat(out).unsqueeze(0), None


def _no_mask(*args: Any, **kwargs: Any) -> None:
    """Stand where networks ask for a mask: the packing says who sees whom."""


AttentionInterface.register(NAME, attend)
AttentionMaskInterface.register(NAME, _no_mask)


def first_position(network: nn.Module) -> int:
    """Give the position id of a sequence's first token: RoBERTa's start after the padding's."""
    embeddings = getattr(network, "embeddings", None)
    if hasattr(type(embeddings), "create_position_ids_from_input_ids"):
        return int(embeddings.padding_idx) + 1
    return 0


def readable(config: PreTrainedConfig) -> int:
    """Give the number of tokens that the position embeddings of a network can tell apart."""
    positions = getattr(config, "max_position_embeddings", None)
    if not isinstance(positions, int) or positions < 1:
        return 1 << 20
    skipped = config.pad_token_id + 1 if config.model_type in AFTER_PADDING else 0
    return positions - skipped


AFTER_PADDING = (
    "roberta",
    "xlm-roberta",
    "xlm-roberta-xl",
    "camembert",
    "roberta-prelayernorm",
    "mpnet",
    "longformer",
    "data2vec-text",
    "esm",
    "xmod",
    "ibert",
    "layoutlmv3",
)
"""Model types whose position ids start after the padding's, as in fairseq."""
