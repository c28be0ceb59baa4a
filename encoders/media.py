"""What encoders of pictures and of sounds have in common: files opened, states laid out flat."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, TypeVar

import torch
from torch import Tensor, nn
from torch.func import functional_call
from transformers import PreTrainedConfig, PreTrainedModel

from encoders.stored import Stored


class Media(Protocol):
    """A picture or a sound: the bytes of its file, or where that lies."""

    sha256: str
    """Of the bytes as they were when rows were read."""
    path: str | None
    bytes: bytes | None


@dataclass(slots=True)
class Sized:
    """One picture or sound that will be a sequence of so many tokens."""

    tokens: int
    truncated: bool = False
    input_ids: list[int] = field(default_factory=list)
    """None: what stands in their place is opened batch by batch."""
    words: list[int] = field(default_factory=list)
    offsets: list[tuple[int, int]] = field(default_factory=list)
    before: int = 0

    @property
    def second(self) -> int:
        """Say that there is no second text."""
        return self.tokens

    def __len__(self) -> int:
        return self.tokens


def content(media: Media) -> bytes:
    """Give the bytes of a picture's or a sound's file.

    Raises ``ValueError`` if they are not those that were there when rows were read.
    """
    if media.bytes is not None:
        return media.bytes
    found = Path(media.path or "").read_bytes()
    if hashlib.sha256(found).hexdigest() != media.sha256:
        raise ValueError(
            f"{media.path} is not the file that it was when the run was prepared; expected sha256 "
            f"{media.sha256}. Put it back, or begin a new run."
        )
    return found


One = TypeVar("One")
Other = TypeVar("Other")


def each(function: Callable[[One], Other], given: Iterable[One]) -> list[Other]:
    """Open files in as many threads as PyTorch has; decoders leave Python's lock alone."""
    threads = torch.get_num_threads()
    if threads == 1:
        return list(map(function, given))
    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(function, given))


class MediaReader:
    """A processor of Transformers with the number of tokens that its network makes."""

    kind: str
    limit: int
    """The most tokens that a sequence has."""
    fixed: bool
    """Whether every sequence has so many."""

    def __init__(self, processor: Any, config: PreTrainedConfig) -> None:
        """``config`` is the network's; ``save`` puts it beside the processor's."""
        self.processor = processor
        self.config = config

    def digest(self) -> str:
        """Give the sha256 of all that decides what the network is given."""
        told = json.dumps([json.loads(self.processor.to_json_string()), self.limit], sort_keys=True)
        return hashlib.sha256(told.encode()).hexdigest()

    def save(self, folder: Path | str) -> None:
        """Write a folder that ``AutoImageProcessor`` or ``AutoFeatureExtractor`` reads."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        self.processor.save_pretrained(folder)
        if not (folder / "config.json").exists():
            self.config.save_pretrained(folder)


class MediaEncoder(Stored):
    """Reads pictures or sounds; the first state of each stands for all of it."""

    summary = "first"

    def __init__(
        self, network: PreTrainedModel, reader: MediaReader, given: dict[str, Any]
    ) -> None:
        """Let weights rest that do not reach the hidden states of a blank input (on ``meta``)."""
        super().__init__(network, reader)
        if any(isinstance(m, nn.modules.batchnorm._BatchNorm) for m in network.modules()):
            raise ValueError(
                f"encoder.model is a {type(network).__name__}, whose batch normalisation lets what "
                "is read together mix; expected a network that reads each input for itself. "
                "Choose another model."
            )
        state = {
            name: tensor.detach().to("meta").requires_grad_(tensor.requires_grad)
            for name, tensor in network.state_dict(keep_vars=True).items()
        }
        network.eval()
        hidden = functional_call(network, state, kwargs=given).last_hidden_state
        hidden.sum().backward()
        for name, weight in network.named_parameters():
            weight.requires_grad_(state[name].grad is not None)
        _, self.probed, self.width = sequences(hidden).shape
        self.limit = reader.limit
        self.train()


def sequences(hidden: Tensor) -> Tensor:
    """Give states as ``[rows, tokens, width]``; networks of convolutions lay them out in 2D."""
    return hidden.flatten(2).transpose(1, 2) if hidden.ndim == 4 else hidden
