"""A finished run, scored once more."""

from __future__ import annotations

from pathlib import Path

from orchestrator import checkpoint, weights
from orchestrator.evaluate import Ranks, evaluate
from orchestrator.experiment import load
from orchestrator.prepare import Prepared


def scores(folder: Path, split: str) -> dict[str, dict[str, float]]:
    """Score a run's best checkpoint on a split; task to metric to value.

    Raises ``ValueError`` for a split that is neither validation nor test.
    """
    if split not in ("validation", "test"):
        raise ValueError(f"--split is {split!r}; expected validation or test.")
    prepared = Prepared.read(folder)
    rows = {t: prepared.open(t, split) for t, own in prepared.tasks.items() if split in own.splits}
    families = {task: prepared.family(task) for task in prepared.tasks}
    experiment = load(folder / "experiment.yaml")
    model = weights.restored(experiment, families, checkpoint.best(folder))
    return evaluate(model, rows, experiment.batch.micro_tokens, Ranks()).scores
