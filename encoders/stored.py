"""What all encoders have in common: a network, what reads its inputs, and how both are kept."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from torch import Tensor, nn
from transformers import PreTrainedModel

from encoders import dropout, lora
from encoders.network import quiet


class Stored(nn.Module):
    """A pretrained network with its reader."""

    width: int
    """The size of the hidden states."""
    summary: Literal["first", "last"] = "first"
    """Which state of a sequence stands for all of it."""
    signals: Callable[[Sequence[Any], Sequence[int]], tuple[Tensor, ...]] | None = None
    """Opens pictures or sounds of so many tokens: what ``forward`` takes in place of token ids."""

    def __init__(self, network: PreTrainedModel, reader: Any) -> None:
        """Take over ``network``."""
        super().__init__()
        self.network = network
        self.reader = reader
        self.layers: int = getattr(network.config, "num_hidden_layers", 1)
        """The number of layers."""
        dropout.replace(network)

    def save(self, folder: Path | str, weights: Mapping[str, Tensor] | None = None) -> None:
        """Write network and reader as a folder that plain ``transformers`` loads.

        LoRA's matrices lie in a folder in it, as peft writes them. ``weights``, by this module's
        parameter names, stand in where parameters are sharded.
        """
        state = self.network.state_dict()
        state |= {name.removeprefix("network."): w for name, w in (weights or {}).items()}
        state, added = lora.parted(state)
        with quiet():
            self.network.save_pretrained(folder, state_dict=state)
        self.reader.save(folder)
        lora.save(self.network, added, Path(folder) / lora.FOLDER)

    def digest(self) -> str:
        """Give the sha256 of the weights as they are now, LoRA's aside, in whatever order."""
        sha = hashlib.sha256()
        own, _ = lora.parted(dict(self.network.named_parameters()))
        for name, parameter in sorted(own.items()):
            sha.update(f"{name} {parameter.dtype} {tuple(parameter.shape)}\n".encode())
            sha.update(parameter.detach().cpu().numpy().tobytes())
        return sha.hexdigest()
