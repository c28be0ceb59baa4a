"""LoRA: a network rests, and beside each of its linear layers two small matrices learn."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from encoders import Lora, network, sources
from encoders.seeded import stream

FOLDER = "adapter"
"""Where ``save`` puts the matrices, beside the files of their network."""
CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
PREFIX = "base_model.model."
"""What peft puts before the names of weights in its files."""
NAME = ".default."
"""The part of a weight's name that tells adapters of one layer apart; there is only one here."""


def add(own: PreTrainedModel, lora: Lora, seed: int) -> None:
    """Put matrices beside every linear layer (Hu et al. 2022); all other weights rest.

    A is drawn from the seed and its layer's name, with the deviation of a linear layer; B is zero,
    so the network computes what it did.
    """
    from peft import LoraConfig  # takes a while: only where it is wanted

    kinds = (nn.Linear, Conv1D)
    layers = sorted(name for name, layer in own.named_modules() if isinstance(layer, kinds))
    config = LoraConfig(
        r=lora.rank,
        lora_alpha=lora.alpha,  # type: ignore[arg-type]  # peft's hint is narrower than its code
        lora_dropout=lora.dropout,
        target_modules=layers,
        fan_in_fan_out=any(isinstance(layer, Conv1D) for layer in own.modules()),
    )
    _inject(own, config)
    with torch.no_grad():
        for name, weight in own.named_parameters():
            if ".lora_A." in name:
                nn.init.kaiming_uniform_(weight, math.sqrt(5), generator=stream(seed, "lora", name))


def _inject(own: PreTrainedModel, config: Any) -> None:
    from peft import inject_adapter_in_model

    with torch.random.fork_rng(devices=[]):  # the library's own draws are thrown away
        inject_adapter_in_model(config, own)


def parted(state: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Part a network's state: its own weights by their plain names, and those of LoRA."""
    added = {name: value for name, value in state.items() if ".lora_" in name}
    rest = {n.replace(".base_layer.", "."): v for n, v in state.items() if n not in added}
    return rest, added


def save(own: PreTrainedModel, added: Mapping[str, Tensor], folder: Path) -> None:
    """Write the weights that ``parted`` gave as a folder that peft reads, if there are any."""
    if not added:
        return
    folder.mkdir(parents=True)
    config = own.peft_config["default"].to_dict()
    told = {
        key: sorted(value) if isinstance(value, set) else value for key, value in config.items()
    }
    (folder / CONFIG).write_text(
        json.dumps(told, indent=2, sort_keys=True) + "\n", encoding="utf-8"
    )
    weights = {PREFIX + name.replace(NAME, "."): value for name, value in added.items()}
    save_file({name: value.contiguous() for name, value in weights.items()}, folder / WEIGHTS)


def load(own: PreTrainedModel, folder: Path) -> None:
    """Put the matrices of a folder that ``save`` wrote beside the layers of their network."""
    from peft import LoraConfig

    _inject(own, LoraConfig.from_pretrained(str(folder)))
    stored = load_file(folder / WEIGHTS)
    with torch.no_grad():
        for name, weight in own.named_parameters():
            if ".lora_" in name:
                weight.copy_(stored[PREFIX + name.replace(NAME, ".")])


def merge(own: PreTrainedModel, folder: Path) -> None:
    """Add each product of a folder's matrices to its weight: the network stays a plain one."""
    from peft.tuners.lora import LoraLayer

    rests = [weight for weight in own.parameters() if not weight.requires_grad]
    load(own, folder)
    for name, layer in list(own.named_modules()):
        if isinstance(layer, LoraLayer):
            layer.merge()
            above, _, last = name.rpartition(".")
            setattr(own.get_submodule(above), last, layer.get_base_layer())
    del own.peft_config
    own.requires_grad_(True)
    for weight in rests:
        weight.requires_grad_(False)


def settle(folder: Path) -> None:
    """Merge LoRA's matrices into the network in a folder that ``Encoder.save`` wrote."""
    if not (folder / FOLDER).is_dir():
        return
    own = network.pretrained(sources.find(str(folder)))
    merge(own, folder / FOLDER)
    with network.quiet():
        own.save_pretrained(folder)
    shutil.rmtree(folder / FOLDER)
