"""One run, as one of its workers sees it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

import encoders
from orchestrator import folds
from orchestrator.engine import Engine
from orchestrator.evaluate import Ranks
from orchestrator.experiment import Experiment
from orchestrator.model import MultiTaskModel
from orchestrator.prepare import Prepared
from orchestrator.stages import Stretch
from orchestrator.weights import Loader


@dataclass(frozen=True)
class Work:
    """One run, as one of its workers sees it."""

    run: Path
    experiment: Experiment
    prepared: Prepared
    fingerprint: str
    """The run's hash (see ``identity.py``)."""
    world: Ranks
    device: torch.device
    make_engine: Callable[[MultiTaskModel, list[dict[str, Any]]], Engine]
    stop: Callable[[], bool]
    """Whether someone asked this process to end after the current step."""
    load: Loader = encoders.load
    """How first weights are had (see ``weights.first``)."""
    parts: bool = False
    """Whether evaluations also tell what each row adds to its task's main score."""

    @cached_property
    def stages(self) -> list[Stretch]:
        """List the stages of the run, in order."""
        return folds.stretches(self.experiment, self.prepared)
