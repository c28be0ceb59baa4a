"""The shared encoder: packed tokens in, one vector per token out."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from encoders import packed, positions
from encoders.packed import Packing
from encoders.stored import Stored
from encoders.tokenizer import Reader


class Encoder(Stored):
    """A pretrained network that reads packed batches, and the tokenizer that goes with it."""

    def __init__(self, network: PreTrainedModel, reader: Reader) -> None:
        """Take over ``network``; where it cannot attend packed, sequences are padded inside."""
        super().__init__(network, reader)
        config = network.config
        self.width = config.hidden_size
        self.vocabulary: int = config.vocab_size
        """The number of input embeddings."""
        causal = any(getattr(module, "is_causal", False) for module in network.modules())
        self.summary = "last" if causal else "first"
        self.limit = positions.readable(config)
        """The number of tokens a sequence may have."""
        self._own_attention: str = config._attn_implementation
        self._first_position = positions.first_position(config)
        self._options = _options(network)
        self.packs = False
        """Whether no token of padding is computed."""
        if packed.fits(network):
            self._pack()
        self.train()

    def _pack(self) -> None:
        """Switch to packed attention, and back if hidden states should then differ."""
        ids = torch.arange(8, device=self.network.device) % self.vocabulary
        given = (ids, torch.zeros_like(ids), torch.tensor([0, 3, 8]))
        self.eval()
        with torch.no_grad():
            padded = self(*given)
            self.network.set_attn_implementation(packed.NAME)
            self.packs = True
            if not torch.allclose(self(*given), padded, rtol=1e-3, atol=1e-4):
                self.network.set_attn_implementation(self._own_attention)
                self.packs = False

    def forward(
        self,
        input_ids: Tensor,
        type_ids: Tensor,
        offsets: Tensor,
        additions: Sequence[tuple[Tensor, Tensor]] = (),
    ) -> Tensor:
        """Give the hidden states ``[tokens, width]`` of ``input_ids [tokens]``.

        ``type_ids [tokens]`` is 1 in second texts of pairs, ``offsets [sequences + 1]`` are the
        cumulative lengths, ``additions`` are positions ``[n]`` and vectors ``[n, width]`` to be
        added to the input embeddings there. A sequence longer than ``limit`` is a ``ValueError``.
        """
        if not len(input_ids):
            # Read one token and give none: every rank must make gradients for every parameter.
            one = input_ids.new_zeros(1)
            return self(one, one, torch.tensor([0, 1]))[:0]
        tokens = len(input_ids)
        if self.packs:
            input_ids, type_ids, offsets = _filled(input_ids, type_ids, offsets)
        packing = Packing.of(offsets, input_ids.device)
        longest = packing.blocks[-1][1]
        if longest > self.limit:
            raise ValueError(
                f"a sequence has {longest} tokens; this encoder reads at most {self.limit}. "
                "Tokenise with its Reader, which cuts longer ones."
            )
        embedded = self.network.get_input_embeddings()(input_ids[packing.order])
        for where, vectors in additions:
            embedded = embedded.index_add(0, packing.back[where], vectors.to(embedded.dtype))
        read = self._read_packed if self.packs else self._read_padded
        return read(embedded, type_ids[packing.order], packing)[packing.back[:tokens]]

    def _read_packed(self, embedded: Tensor, types: Tensor, packing: Packing) -> Tensor:
        places = packing.positions + self._first_position
        return self._run(embedded[None], types[None], places[None], packing=packing)[0]

    def _read_padded(self, embedded: Tensor, types: Tensor, packing: Packing) -> Tensor:
        lengths = torch.tensor(packing.lengths, device=embedded.device)
        places = torch.arange(int(lengths.max()), device=embedded.device)
        mask = places < lengths[:, None]
        vectors = embedded.new_zeros((*mask.shape, embedded.shape[1]))
        vectors[mask] = embedded
        kinds = types.new_zeros(mask.shape)
        kinds[mask] = types
        places = (places + self._first_position).expand(mask.shape)
        return self._run(vectors, kinds, places, attention_mask=mask.long())[mask]

    def _run(self, vectors: Tensor, types: Tensor, places: Tensor, **given: Any) -> Tensor:
        offered = {"token_type_ids": types, "position_ids": places, "use_cache": False}
        given.update((name, offered[name]) for name in self._options)
        hidden: Tensor = self.network(inputs_embeds=vectors, **given).last_hidden_state
        return hidden

    def save(self, folder: Path | str, weights: Mapping[str, Tensor] | None = None) -> None:
        """Write the folder, with the network's own attention named in it; see ``Stored.save``."""
        self.network.set_attn_implementation(self._own_attention)
        try:
            super().save(folder, weights)
        finally:
            if self.packs:
                self.network.set_attn_implementation(packed.NAME)


def _options(network: PreTrainedModel) -> list[str]:
    """Name what to tell the network beside the input embeddings."""
    arguments = inspect.signature(type(network).forward).parameters
    types = sum(
        len(parameter)
        for name, parameter in network.named_parameters()
        if name.endswith("token_type_embeddings.weight")
    )
    # GPT-2 takes token types as well, but looks them up among its words.
    wanted = {"token_type_ids": types > 1, "position_ids": True, "use_cache": True}
    return [name for name, wants in wanted.items() if wants and name in arguments]


GRAIN = 64
"""Tokens to whose multiple a packed batch is filled."""


def _filled(input_ids: Tensor, type_ids: Tensor, offsets: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Add sequences of one token until the tokens are a multiple of ``GRAIN``.

    PyTorch's matrix products on a CPU prepare and keep something for every new shape: with a
    number of tokens of its own in each batch, memory grows from step to step, and steps take
    longer. At most 63 tokens in some thousands are read for nothing; their states are dropped.
    """
    lacking = -len(input_ids) % GRAIN
    nothing = input_ids.new_zeros(lacking)
    more = offsets[-1:] + torch.arange(1, lacking + 1, device=offsets.device)
    return (
        torch.cat([input_ids, nothing]),
        torch.cat([type_ids, nothing]),
        torch.cat([offsets, more]),
    )
