"""Encoders of sounds: wav2vec 2.0 and its kin, and Whisper's; one vector for each frame."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import soundfile
import torch
from numpy.typing import NDArray
from scipy import signal
from torch import Tensor, nn
from transformers import AutoFeatureExtractor, PreTrainedConfig, PreTrainedModel

from encoders import network as networks
from encoders.media import Media, MediaEncoder, MediaReader, Sized, content, each
from encoders.sources import Source, configuration, plain_errors

LONGEST = 1 << 20
"""Tokens of a sound, where the network knows no bound."""
PROBED = 8
"""Frames on which a network must keep its word."""
FRAMES = "_get_feat_extract_output_lengths"
"""What Transformers calls the method that counts frames."""


class SpeechReader(MediaReader):
    """Turns sounds into samples or spectra, at the rate that the network knows.

    A sequence is a sound's frames, after their mean.
    """

    kind = "audio"

    def __init__(self, processor: Any, config: PreTrainedConfig) -> None:
        """Find how many frames the network makes of how many samples.

        Raises ``ValueError`` for a network that does not tell.
        """
        super().__init__(processor, config)
        self.rate: int = processor.sampling_rate
        self.fixed = hasattr(processor, "n_samples")
        """Whether all sounds are padded to one length, as Whisper's are."""
        kernels: Any = getattr(config, "conv_kernel", None)
        blank = networks.blank(config)
        if not hasattr(blank, FRAMES) or not (self.fixed or kernels):
            raise ValueError(
                f"encoder.model is a {type(blank).__name__}, which does not tell its frames; "
                "expected wav2vec 2.0, one of its kin, or Whisper. Choose another model."
            )
        self.layers = [] if self.fixed else list(zip(kernels, config.conv_stride, strict=True))
        self.limit = 1 + config.max_source_positions if self.fixed else LONGEST
        self.least = self.samples(1)
        """Samples of one frame; shorter sounds are padded."""

    def __call__(self, sounds: Sequence[Media], max_length: int | None = None) -> list[Sized]:
        """Say how long each will be; a sound longer than ``max_length`` tokens is cut."""
        limit = min(max_length or self.limit, self.limit)
        return [self._sized(self._samples(sound), limit) for sound in sounds]

    def _sized(self, samples: int, limit: int) -> Sized:
        if self.fixed:
            return Sized(self.limit, samples > self.processor.n_samples)
        tokens = 1 + self.frames(samples)
        return Sized(min(tokens, limit), tokens > limit)

    def _samples(self, sound: Media) -> int:
        """Count the samples of a sound at the network's rate."""
        with soundfile.SoundFile(io.BytesIO(content(sound))) as file:
            return max(self.least, -(-file.frames * self.rate // file.samplerate))

    def frames(self, samples: int) -> int:
        """Count the frames that convolutions make of so many samples."""
        for kernel, stride in self.layers:
            samples = (samples - kernel) // stride + 1
        return samples

    def samples(self, frames: int) -> int:
        """Count the samples that so many frames come from."""
        for kernel, stride in reversed(self.layers):
            frames = (frames - 1) * stride + kernel
        return frames

    def read(self, sounds: Sequence[Media], lengths: Sequence[int]) -> tuple[Tensor, Tensor]:
        """Open sounds that will have so many tokens.

        Gives samples ``[sounds, samples]`` or spectra ``[sounds, bands, steps]``, padded, and how
        many of the samples or steps are a sound's own, ``[sounds]``.
        """
        if not sounds:
            values, steps = self._given([np.zeros(self.samples(PROBED), np.float32)])
            return values[:0], steps[:0]
        return self._given(each(self._opened, zip(sounds, lengths, strict=True)))

    def _opened(self, asked: tuple[Media, int]) -> NDArray[np.float32]:
        """Give a sound's samples at the network's rate, channels mixed, cut to its tokens."""
        sound, length = asked
        found, rate = soundfile.read(io.BytesIO(content(sound)), dtype="float32", always_2d=True)
        mixed = found.mean(1)
        if rate != self.rate:
            common = math.gcd(rate, self.rate)
            mixed = signal.resample_poly(mixed, self.rate // common, rate // common)
        if not self.fixed:  # one frame fewer than tokens, whatever the file's header said
            lacking = max(0, self.samples(length - 1) - len(mixed))
            mixed = np.pad(mixed[: self.samples(length) - 1], (0, lacking))
        return np.asarray(mixed, np.float32)

    def _given(self, sounds: list[NDArray[np.float32]]) -> tuple[Tensor, Tensor]:
        found = self.processor(
            sounds,
            sampling_rate=self.rate,
            padding="max_length" if self.fixed else True,
            return_attention_mask=True,
            return_tensors="pt",
        )
        return found[self.processor.model_input_names[0]], found["attention_mask"].sum(1)


class SpeechEncoder(MediaEncoder):
    """A pretrained network that reads sounds, each as if it were alone."""

    def __init__(self, network: PreTrainedModel, reader: SpeechReader) -> None:
        """Take over ``network``."""
        values, _ = reader.read([], [])
        name = reader.processor.model_input_names[0]
        blank = torch.zeros(1, *values.shape[1:], device="meta")
        super().__init__(network, reader, {name: blank})
        expected = reader.limit - 1 if reader.fixed else PROBED
        if self.probed != expected:
            raise ValueError(
                f"encoder.model is a {type(network).__name__}, which makes {self.probed} frames "
                f"where its convolutions make {expected}; expected as many. Choose another model."
            )
        self._name = name
        self.signals = reader.read
        for module in network.modules():
            if type(module) is nn.GroupNorm:
                module.__class__ = _Alone

    def forward(
        self, values: Tensor, steps: Tensor, offsets: Tensor, additions: Sequence[Any] = ()
    ) -> Tensor:
        """Give the hidden states ``[tokens, width]`` of all sounds, one after the other.

        Before the states of a sound's frames comes the mean of those that are its own: Whisper's
        silence up to 30 seconds does not count. ``additions`` are for texts.
        """
        if not len(values):  # every rank must make gradients for every parameter
            blank, whole = (
                values.new_zeros(1, *values.shape[1:]),
                steps.new_tensor([values.shape[-1]]),
            )
            ends = torch.cat([whole * 0, 1 + self._frames(whole)])
            return self(blank, whole, ends)[:0]
        hidden = self._run(values, steps)
        places = torch.arange(hidden.shape[1], device=hidden.device)
        own = (places < self._frames(steps)[:, None]).to(hidden.dtype)
        mean = (hidden * own[:, :, None]).sum(1) / own.sum(1, keepdim=True)
        kept = places < (offsets.diff() - 1)[:, None]
        kept = torch.cat([torch.ones_like(kept[:, :1]), kept], 1)
        return torch.cat([mean[:, None], hidden], 1)[kept]

    def _frames(self, steps: Tensor) -> Tensor:
        found: Tensor = getattr(self.network, FRAMES)(steps)
        return found.clamp(min=1)

    def _run(self, values: Tensor, steps: Tensor) -> Tensor:
        if self.reader.fixed:
            hidden: Tensor = self.network(**{self._name: values}).last_hidden_state
            return hidden
        kernel, stride = self.reader.layers[0]
        for module in self.network.modules():
            if isinstance(module, _Alone):
                module.frames = (steps - kernel) // stride + 1
        mask = torch.arange(values.shape[1], device=values.device) < steps[:, None]
        found: Tensor = self.network(
            **{self._name: values}, attention_mask=mask.long()
        ).last_hidden_state
        return found


class _Alone(nn.GroupNorm):
    """Normalises each sound over its own time.

    In wav2vec 2.0's base models the first convolution does so, padding included; they were trained
    on sounds without any.
    """

    frames: Tensor
    """``[sounds]``: what the first convolution makes of each."""

    def forward(self, input: Tensor) -> Tensor:
        """Normalise ``[sounds, channels, frames]``, each channel by itself."""
        wide = input.float()
        own = torch.arange(input.shape[2], device=input.device) < self.frames[:, None]
        share = (own / own.sum(1, keepdim=True))[:, None]
        mean = (wide * share).sum(2, keepdim=True)
        variance = ((wide - mean).square() * share).sum(2, keepdim=True)
        normal = (wide - mean) * (variance + self.eps).rsqrt()
        return (normal * self.weight[:, None] + self.bias[:, None]).to(input.dtype)


def reader(source: Source) -> SpeechReader:
    """Load the feature extractor of a model; raises as ``sources.reader`` does."""
    with plain_errors(source), networks.quiet():
        processor = AutoFeatureExtractor.from_pretrained(source.path, **source.options)
    return SpeechReader(processor, configuration(source))
