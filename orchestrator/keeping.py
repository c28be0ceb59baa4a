"""Where weights go after evaluations: a run's to its folder, a trial's stay in memory."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from orchestrator import checkpoint
from orchestrator.starts import Held, Saved, Start
from orchestrator.training import Training
from orchestrator.work import Work


class Keeper(Protocol):
    """Keeps the newest weights and the best ones."""

    def newest(self) -> Start | None:
        """Give those from which training goes on; None before the first."""

    def best(self) -> Start:
        """Give those of the highest score."""

    def keep(self, training: Training) -> Path | None:
        """Take them over. Collective. Give the checkpoint, if there is one."""


class Disk:
    """Checkpoints in a run's folder."""

    def __init__(self, work: Work) -> None:
        self._run = work.run

    def newest(self) -> Saved | None:
        found = checkpoint.newest(self._run)
        return None if found is None else Saved(found)

    def best(self) -> Saved:
        return Saved(checkpoint.best(self._run))

    def keep(self, training: Training) -> Path:
        return training.save()


class Handed(Disk):
    """Checkpoints in a trial's folder, from which another trial may go on."""

    def __init__(self, work: Work) -> None:
        super().__init__(work)
        last = self.newest()
        self.began = last.progress.began if last else (0,)
        self.parts: Mapping[str, Any] | None = None
        """Of the best evaluation (see ``Evaluation``); None if that was before this trial."""

    def keep(self, training: Training) -> Path:
        progress = training.progress
        self.began = progress.began
        if progress.best_step == progress.step:
            self.parts = training.found.parts
        return super().keep(training)


class Memory:
    """One process's own: gone when it ends. Copies only what will be asked for."""

    def __init__(self, work: Work) -> None:
        self._reader, self._load = Path(work.prepared.reader), work.load
        self._newest: Held | None = None
        self._best: Held | None = None
        self.parts: Mapping[str, Any] = {}
        """Of the best evaluation (see ``Evaluation``)."""
        self.began: tuple[int, ...] = (0,)
        """The step at which each stage so far began."""

    def newest(self) -> Held | None:
        return self._newest

    def best(self) -> Held:
        assert self._best is not None, "a stage ends with an evaluation"
        return self._best

    def keep(self, training: Training) -> None:
        progress = training.progress
        self.began = progress.began
        scored = training.stage.fold is None
        improved = scored and progress.best_step == progress.step
        if not improved and not training.done:
            return
        copied = {name: value.detach().clone() for name, value in training.engine.averaged()}
        self._newest = Held(progress, copied, self._reader, self._load)
        if improved:
            self._best, self.parts = self._newest, training.found.parts
