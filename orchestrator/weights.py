"""A run's model with its weights: the first ones, or those of a checkpoint."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

import encoders
from encoders import layers
from orchestrator import checkpoint, keyed
from orchestrator.experiment import Experiment
from orchestrator.model import MultiTaskModel
from orchestrator.stacking import Stacked
from tasks.family import Family

ROWS = 1024
"""Rows of a tensor that are compared at a time."""

Loader = Callable[..., Any]
"""Takes what ``encoders.load`` takes."""


class Remembered:
    """Loads an encoder once, and gives copies of it while the same one is asked for."""

    def __init__(self) -> None:
        self._key, self._kept = "", cast(Any, None)

    def __call__(self, model: str, **named: Any) -> Any:
        told = dict(named)
        if not encoders.draws(model, named.get("lora")):
            told.pop("seed", None)
        key = repr((model, sorted(told.items())))
        if key != self._key:
            self._kept, self._key = encoders.load(model, **named), key
        reader = self._kept.reader  # nobody changes it, and it is slow to copy
        return copy.deepcopy(self._kept, {id(reader): reader})


def first(
    experiment: Experiment,
    families: Mapping[str, Family],
    reader: Path,
    seed: int | None = None,
    stacks: bool = False,
    load: Loader = encoders.load,
) -> MultiTaskModel:
    """Build the model with its first weights; ``reader`` is the folder of the run's tokenizer.

    Each head's weights depend on seed and task name alone, so runs that differ by a helper share
    them. With ``stacks`` the target reads its helpers. ``load`` stands in for ``encoders.load``.
    """
    seed = experiment.train.seed if seed is None else seed
    own = encoder(experiment, reader, seed, load)
    return _assembled(own, experiment, families, seed, stacks)


def encoder(
    experiment: Experiment, reader: Path, seed: int | None = None, load: Loader = encoders.load
) -> Any:
    """Build the encoder with its first weights, as ``first`` does."""
    seed = experiment.train.seed if seed is None else seed
    own, lora = experiment.encoder.lora, None
    if own is not None:
        lora = encoders.Lora(own.rank, own.alpha or 2 * own.rank, own.dropout)
    found = load(
        experiment.encoder.model,
        revision=experiment.encoder.revision,
        folder=reader,
        dropout=experiment.regularization.dropout,
        attention_dropout=experiment.regularization.attention_dropout,
        seed=keyed.torch_seed(seed, "encoder"),
        lora=lora,
    )
    if top := experiment.regularization.reinit_layers:
        layers.redraw(found, top, keyed.torch_seed(seed, "redrawn"))
    return found


def restored(
    experiment: Experiment, families: Mapping[str, Family], folder: Path, stacks: bool = False
) -> MultiTaskModel:
    """Build the model of a checkpoint's folder; needs no data and no hub.

    With ``stacks`` its target reads its helpers from now on, if it did not before.
    """
    encoder = encoders.load(
        str(folder / "encoder"),
        dropout=experiment.regularization.dropout,
        attention_dropout=experiment.regularization.attention_dropout,
        apart=True,
    )
    seed, reads = experiment.train.seed, stacks or checkpoint.stacks(folder)
    model = _assembled(encoder, experiment, families, seed, reads)
    checkpoint.load_heads(model, folder)
    return model


def _assembled(
    encoder: object,
    experiment: Experiment,
    families: Mapping[str, Family],
    seed: int,
    stacks: bool,
) -> MultiTaskModel:
    stacked = Stacked.of(experiment.stacking, experiment.target, families) if stacks else None
    dropouts = {task: experiment.task_regularization(task).head_dropout for task in families}
    precision = experiment.resolved()["train"]["precision"]
    weighting = experiment.weighting.name
    return MultiTaskModel(encoder, families, dropouts, seed, precision, weighting, stacked)


def drift(now: nn.Module, first: nn.Module) -> float:
    """Give how far an encoder went from its first weights w0: |w - w0| / |w0|, over all of them."""
    before = dict(first.named_parameters())
    way = length = 0.0
    for name, own in now.named_parameters():
        if name in before:
            start = before[name].detach().to(own.device)
            for ours, theirs in zip(_blocks(own.detach()), _blocks(start), strict=True):
                way += _square(ours - theirs)
                length += _square(theirs)
    return math.sqrt(way / length) if length else 0.0


def _blocks(value: Tensor) -> tuple[Tensor, ...]:
    """Cut a tensor into so few rows at a time that a difference of two stays in the cache."""
    return torch.atleast_1d(value).split(ROWS)


def _square(value: Tensor) -> float:
    """Give the sum of squares, row by row: one pass over memory, and exact enough for any size."""
    return float(torch.linalg.vector_norm(value, dim=-1).double().square().sum())
