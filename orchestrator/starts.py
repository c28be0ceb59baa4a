"""Weights that a stage begins from: those of a checkpoint, or some that are held in memory."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor

from orchestrator import checkpoint, weights
from orchestrator.checkpoint import Progress
from orchestrator.experiment import Experiment
from orchestrator.model import MultiTaskModel
from orchestrator.stages import STACK
from orchestrator.weights import Loader
from tasks.family import Family

Families = Mapping[str, Family]


class Start(Protocol):
    """Weights that a stage begins from."""

    @property
    def progress(self) -> Progress:
        """Where training stood."""

    def model(self, own: Experiment, families: Families, stacks: bool = False) -> MultiTaskModel:
        """Build the model; with ``stacks`` its target reads its helpers from now on."""

    def state(self) -> dict[str, Tensor]:
        """Give the optimizer's tensors, to go on inside a stage."""


@dataclass(frozen=True)
class Saved:
    """A checkpoint's folder."""

    folder: Path

    @property
    def progress(self) -> Progress:
        return checkpoint.progress(self.folder)

    def model(self, own: Experiment, families: Families, stacks: bool = False) -> MultiTaskModel:
        return weights.restored(own, families, self.folder, stacks)

    def state(self) -> dict[str, Tensor]:
        return checkpoint.load_state(self.folder)


@dataclass(frozen=True)
class Held:
    """Weights in memory, by parameter name; nothing to go on with inside a stage."""

    progress: Progress
    weights: Mapping[str, Tensor]
    reader: Path
    load: Loader

    def model(self, own: Experiment, families: Families, stacks: bool = False) -> MultiTaskModel:
        known = any(name.endswith(f".{STACK}") for name in self.weights)
        model = weights.first(own, families, self.reader, stacks=stacks or known, load=self.load)
        with torch.no_grad():
            for name, _, parameter in model.named():
                if name in self.weights:
                    parameter.copy_(self.weights[name])
        return model

    def state(self) -> dict[str, Tensor]:
        return {}
