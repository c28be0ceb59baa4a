"""What a study will cost and what it can show, told before it starts."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from orchestrator import check
from orchestrator.experiment import Experiment
from orchestrator.prepare import Prepared
from orchestrator.studies import population, statistics
from orchestrator.studies.study import Study
from orchestrator.studies.trials import Trials

BYTES_A_ROW = 40
"""Of a trial's items, at most, as they are packed."""
BYTES_A_TRIAL = 60_000
"""Of its other files."""
LEVEL = 0.05
"""Below which a p is called significant."""


@dataclass(frozen=True)
class Price:
    """Of one study."""

    new: int
    reused: int
    seconds: float | None
    """Of one process for all new trials; None where nothing tells."""
    disk: int
    """Bytes of all new trials, at most."""
    seeds: int
    comparisons: int
    """Declared ones."""

    @property
    def least(self) -> float:
        """Give the smallest p that can come out after Holm's correction."""
        return statistics.least(self.seeds, max(1, self.comparisons))

    def lines(self) -> list[str]:
        """Say it to a person."""
        told = [f"{self.new} trials to run, {self.reused} known already."]
        if self.seconds is not None and self.new:
            told.append(f"About {duration(self.seconds)} of one process, {self.disk / 1e6:.1f} MB.")
        if self.comparisons:
            told.append(self._reach())
        return told

    def _reach(self) -> str:
        seeds, least = self.seeds, self.least
        start = f"{seeds} seeds and {self.comparisons} declared comparisons"
        if seeds < statistics.FEWEST:
            return (
                f"{start}: nothing can be called significant below {statistics.FEWEST} seeds. "
                f"Differences are told with their intervals."
            )
        if least > LEVEL:
            most = int(LEVEL / statistics.least(seeds))
            return (
                f"{start}: p cannot come below {least:.4f} after Holm's correction, so nothing can "
                f"be significant. These seeds allow {most} comparisons; or take more seeds."
            )
        return f"{start}: after Holm's correction p can come down to {least:.4f}."


def tell(own: Study, trials: Trials, new: int, reused: int, hear: Callable[[str], None]) -> None:
    """Say what so many new trials of a study will cost; ``OSError`` without the disk for it."""
    asked, report = own.question, check.check(trials.base, trials.prepared) if new else None
    needed = disk(trials.prepared, new)
    if report is not None and asked.get("scheduler") == "pbt":
        needed += population.weights(asked["trials"], report.parameters)
    require_disk(own.folder, needed)
    took = report.seconds * new if report else 0.0
    found = Price(new, reused, took, needed, len(asked["seeds"]), len(asked["comparisons"]))
    for line in (f"study: {own.folder}", *found.lines()):
        hear(line)


def disk(prepared: Prepared, trials: int) -> int:
    """Bound the bytes of so many trials."""
    splits = [s for task in prepared.tasks.values() for k, s in task.splits.items() if k != "train"]
    return trials * (BYTES_A_TRIAL + BYTES_A_ROW * sum(split.rows for split in splits))


def require_disk(folder: Path, needed: int) -> None:
    """Raise ``OSError`` if the disk has no room for so many bytes."""
    place = next(own for own in (folder, *folder.parents) if own.exists())
    free = shutil.disk_usage(place).free
    if needed > free:
        raise OSError(
            f"{folder} needs up to {needed / 1e6:.0f} MB for its trials, and the disk has "
            f"{free / 1e6:.0f} MB. Make room, or give --studies a folder elsewhere."
        )


def seconds(experiments: Sequence[Experiment], rate: float) -> float:
    """Estimate the time of trials from the steps of each, at so many tokens a second."""
    return sum(own.train.steps * own.batch.tokens / rate for own in experiments)


def duration(seconds: float) -> str:
    """Say a length of time in one unit."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
