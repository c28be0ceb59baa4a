"""The whole of an experiment: its sections, and what follows from them."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field

from orchestrator.document import text
from orchestrator.precision import resolve_precision
from orchestrator.sections import (
    NAME,
    NAMED,
    NONE,
    Batch,
    DeepSpeed,
    Encoder,
    HeadRegularization,
    Mixture,
    Optimizer,
    Regularization,
    Scaling,
    Section,
    Stacking,
    Stage,
    Storage,
    Task,
    Tracking,
    Train,
    Weighting,
)

TASK_NAME = r"^[A-Za-z][A-Za-z0-9_-]*$"
"""A task's name: it stands in metric names, keys of weights and dotted settings."""


class Experiment(Section):
    """One run as data. ``parse`` and ``load`` make it; no other way checks all of it."""

    name: str = Field(pattern=NAME)
    encoder: Encoder
    tasks: dict[str, Task]
    target: Annotated[str | None, NONE] = None
    """The task that the run is about; the others are its helpers."""
    score: Annotated[str | None, NONE] = None
    """``task/metric`` that ranks checkpoints; default is the target's main score, else the mean."""
    mixture: Mixture = Mixture()
    weighting: Annotated[Weighting, NAMED] = Weighting()
    optimizer: Optimizer = Optimizer()
    """The encoder's."""
    regularization: Regularization = Regularization()
    stages: str | list[Stage] = "joint"
    """A preset of ``presets.py``, ``package.module:function``, or stages of one's own."""
    stacking: Stacking = Stacking()
    batch: Batch = Batch()
    train: Train = Train()
    scaling: Scaling = Scaling()
    deepspeed: DeepSpeed = DeepSpeed()
    tracking: Tracking = Tracking()
    storage: Storage = Storage()

    def task_optimizer(self, task: str) -> Optimizer:
        """Give the optimizer of a task's head."""
        return self.tasks[task].optimizer

    def task_regularization(self, task: str) -> HeadRegularization:
        """Give the regularization of a task's head."""
        return self.tasks[task].regularization

    def resolved(self) -> dict[str, Any]:
        """Give all settings as plain data, defaults and ``precision: auto`` filled in."""
        tree = self.model_dump(mode="json")
        if self.train.precision == "auto":
            tree["train"]["precision"] = resolve_precision(self.scaling.gpus)
        return tree

    def yaml(self) -> str:
        """Give ``resolved`` as a YAML file."""
        return text(self.resolved())
