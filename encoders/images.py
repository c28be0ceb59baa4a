"""Encoders of pictures: ViT and its kin, one vector for each patch."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor
from transformers import AutoImageProcessor, PreTrainedConfig, PreTrainedModel

from encoders import network as networks
from encoders.media import Media, MediaEncoder, MediaReader, Sized, content, each, sequences
from encoders.sources import Source, configuration, plain_errors

CLASS_TOKENS = ("cls_token", "class_embedding")
"""What networks call the embedding of a token that stands for the whole picture."""


class ImageReader(MediaReader):
    """Turns pictures into pixels of one size."""

    kind = "image"
    fixed = True

    def __init__(self, processor: Any, config: PreTrainedConfig) -> None:
        """Count the states of a blank picture, by a network without weights.

        Raises ``ValueError`` if pictures would come in different sizes.
        """
        super().__init__(processor, config)
        shapes = {self._pixels(Image.new("RGB", size)).shape for size in ((40, 60), (60, 40))}
        if len(shapes) > 1:
            raise ValueError(
                f"encoder.model has a {type(processor).__name__} that leaves pictures of different "
                "shapes as they are; expected one that brings all to one size. Choose another."
            )
        self.shape: tuple[int, ...] = shapes.pop()
        """Channels, height and width."""
        blank = networks.blank(config)
        hidden = blank(pixel_values=torch.zeros(1, *self.shape, device="meta")).last_hidden_state
        names = [name.rpartition(".")[2] for name, _ in blank.named_parameters()]
        self.pooled = not any(name in CLASS_TOKENS for name in names)
        """Whether the mean of all states goes before them, for want of a class token."""
        self.limit = sequences(hidden).shape[1] + self.pooled

    def __call__(self, pictures: Sequence[Media], max_length: int | None = None) -> list[Sized]:
        """Say how long each will be."""
        return [Sized(self.limit) for _ in pictures]

    def read(self, pictures: Sequence[Media], lengths: Sequence[int]) -> tuple[Tensor]:
        """Open pictures: pixels ``[pictures, channels, height, width]``."""
        if not pictures:
            return (torch.zeros(0, *self.shape),)
        opened = each(lambda one: self._pixels(Image.open(io.BytesIO(content(one)))), pictures)
        return (torch.from_numpy(np.stack(opened)),)

    def _pixels(self, picture: Image.Image) -> Any:
        given = self.processor(images=[colours(picture)], return_tensors="np")
        return np.asarray(given["pixel_values"][0], np.float32)


def colours(picture: Image.Image) -> Image.Image:
    """Give a picture in eight bits of red, green and blue, turned as its camera was held.

    Sixteen bits of grey keep their range; Pillow's own way would cut off all above 255.
    """
    picture = ImageOps.exif_transpose(picture)
    if picture.mode.startswith("I"):
        picture = Image.fromarray((np.asarray(picture) // 257).clip(0, 255).astype(np.uint8))
    return picture.convert("RGB")


class ImageEncoder(MediaEncoder):
    """A pretrained network that reads pixels."""

    def __init__(self, network: PreTrainedModel, reader: ImageReader) -> None:
        """Take over ``network``."""
        blank = torch.zeros(1, *reader.shape, device="meta")
        super().__init__(network, reader, {"pixel_values": blank})
        self.pooled = reader.pooled
        self.signals = reader.read

    def forward(self, pixels: Tensor, offsets: Tensor, additions: Sequence[Any] = ()) -> Tensor:
        """Give the hidden states ``[tokens, width]`` of all pictures, one after the other.

        The first of each is its class token's, or else the mean of the others. ``additions`` are
        for texts.
        """
        if not len(pixels):  # every rank must make gradients for every parameter
            return self(pixels.new_zeros(1, *pixels.shape[1:]), offsets)[:0]
        hidden = sequences(self.network(pixel_values=pixels).last_hidden_state)
        if self.pooled:
            hidden = torch.cat([hidden.mean(1, keepdim=True), hidden], 1)
        return hidden.flatten(0, 1)


def reader(source: Source) -> ImageReader:
    """Load the image processor of a model; raises as ``sources.reader`` does."""
    with plain_errors(source), networks.quiet():
        # The other backend, torchvision's, computes other pixels: results must not depend on it.
        processor = AutoImageProcessor.from_pretrained(source.path, backend="pil", **source.options)
    return ImageReader(processor, configuration(source))
