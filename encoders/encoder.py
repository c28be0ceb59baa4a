"""The shared encoder: packed tokens in, one vector per token out."""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from encoders import packed
from encoders.packed import Packing
from encoders.tokenizer import Reader


class Encoder(nn.Module):
    """A pretrained network that reads packed batches, and the tokenizer that goes with it."""

    def __init__(self, network: PreTrainedModel, reader: Reader) -> None:
        """Take over ``network``; where it cannot attend packed, sequences are padded inside."""
        super().__init__()
        self.network = network
        self.reader = reader
        config = network.config
        self.width: int = config.hidden_size
        self.vocabulary: int = config.vocab_size
        causal = getattr(config, "is_decoder", False) or config.model_type in CAUSAL
        self.summary: Literal["first", "last"] = "last" if causal else "first"
        self._plain_attention = config._attn_implementation
        self._first_position = packed.first_position(network)
        self._has_types = _type_rows(network) > 1
        self.packs = bool(network._supports_attention_backend)
        if self.packs:
            network.set_attn_implementation(packed.NAME)
        self.train()

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
        added to the input embeddings there.
        """
        if not len(input_ids):
            # Still a function of every parameter: all ranks must make the same gradients.
            nothing = sum(parameter.sum() * 0 for parameter in self.parameters())
            return input_ids.new_zeros((0, self.width), dtype=torch.float32) + nothing
        packing = Packing.of(offsets)
        embedded = self.network.get_input_embeddings()(input_ids[packing.order])
        for positions, vectors in additions:
            embedded = embedded.index_add(0, packing.back[positions], vectors.to(embedded.dtype))
        read = self._read_packed if self.packs else self._read_padded
        return read(embedded, type_ids[packing.order], packing)[packing.back]

    def _read_packed(self, embedded: Tensor, types: Tensor, packing: Packing) -> Tensor:
        options = {"token_type_ids": types[None]} if self._has_types else {}
        if "use_cache" in inspect.signature(type(self.network).forward).parameters:
            options["use_cache"] = False
        hidden: Tensor = self.network(
            inputs_embeds=embedded[None],
            position_ids=(packing.positions + self._first_position)[None],
            packing=packing,
            **options,
        ).last_hidden_state
        return hidden[0]

    def _read_padded(self, embedded: Tensor, types: Tensor, packing: Packing) -> Tensor:
        raise NotImplementedError

    def save(self, folder: Path | str, weights: Mapping[str, Tensor] | None = None) -> None:
        """Write network and tokenizer as a folder that plain ``transformers`` loads.

        ``weights`` (by this module's parameter names) stand in where parameters are sharded.
        """
        state = self.network.state_dict()
        state |= {n.removeprefix("network."): w for n, w in (weights or {}).items()}
        self.network.set_attn_implementation(self._plain_attention)
        try:
            self.network.save_pretrained(folder, state_dict=state)
        finally:
            if self.packs:
                self.network.set_attn_implementation(packed.NAME)
        self.reader.save(folder)

    def digest(self) -> str:
        """Give the sha256 of all weights, in the order of their names."""
        sha = hashlib.sha256()
        for name, parameter in sorted(self.network.named_parameters()):
            sha.update(f"{name} {tuple(parameter.shape)}\n".encode())
            sha.update(parameter.detach().cpu().contiguous().numpy().tobytes())
        return sha.hexdigest()


CAUSAL = ("gpt2",)


def _type_rows(network: nn.Module) -> int:
    """Give the number of token types that a network tells apart."""
    for name, parameter in network.named_parameters():
        if name.endswith("token_type_embeddings.weight"):
            return len(parameter)
    return 0
