"""A finished run with three families, made once per test run; its weights are the first ones."""

from __future__ import annotations

import atexit
import json
import math
import shutil
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

from orchestrator.journal import Journal, Record

CORPUS = "builtin:demo?size=240"
TEXT = "The old baker sold a warm loaf to the quiet farmer."
TASKS = {
    "sentiment": {
        "family": "classify",
        "data": {"path": CORPUS, "text": "text", "label": "sentiment"},
    },
    "roles": {
        "family": "roles",
        "data": {"path": CORPUS, "tokens": "tokens", "predicate": "predicate", "tags": "tags"},
    },
    "marks": {"family": "tag", "data": {"path": CORPUS, "tokens": "tokens", "tags": "tags"}},
}


@cache
def run() -> Path:
    """Give the run's folder. Tests read it; those that write take a copy."""
    import encoders
    from orchestrator import checkpoint, identity
    from orchestrator.engine import PlainEngine
    from orchestrator.experiment import parse
    from orchestrator.model import MultiTaskModel
    from orchestrator.optimizer import groups
    from orchestrator.prepare import prepare

    root = Path(tempfile.mkdtemp(prefix="tlmt-trained-"))
    atexit.register(shutil.rmtree, root, ignore_errors=True)
    folder = root / "runs" / "small" / "20250101-000000-abc"
    folder.mkdir(parents=True)
    experiment = parse({"name": "small", "encoder": {"model": "tiny"}, "tasks": TASKS})
    (folder / "experiment.yaml").write_text(experiment.yaml())
    prepared = prepare(experiment, [], root / "cache", processes=1)
    prepared.write(folder)
    encoder = encoders.load("tiny", folder=prepared.reader)
    families = {task: prepared.family(task) for task in prepared.tasks}
    model = MultiTaskModel(encoder, families, {}, seed=0)
    settings = {task: experiment.task_optimizer(task) for task in families}
    engine = PlainEngine(
        model, groups(model.named(), {None: experiment.optimizer, **settings}), 1.0
    )
    progress = checkpoint.Progress(step=20, score=0.5, best_step=20, best_score=0.5)
    checkpoint.save(folder, engine, progress, "f" * 64, rank=0)
    identity.write(folder, {"small": True})
    write_records(folder)
    (folder / "results.json").write_text(json.dumps(results(folder), indent=2))
    return folder


def write_records(folder: Path) -> None:
    """Write the journal of twenty steps."""
    with Journal(folder) as journal:
        journal.append([Record(folder.name, 0, 0, 0, "event/start", {}, 1.7e9)])
        for step in range(1, 21):
            found = {f"{task}/train/loss": math.exp(-step / 10) for task in TASKS}
            found["speed/tokens_per_second"] = 1000.0 + step
            if step % 5 == 0:
                found |= {f"{task}/validation/loss": 0.2 + math.exp(-step / 9) for task in TASKS}
                found["sentiment/validation/accuracy"] = 0.4 + step / 50
                found["roles/validation/f1"] = step / 50
                found["marks/validation/span_f1"] = step / 40
            moment = 1.7e9 + step
            journal.append(
                Record(folder.name, 0, 0, step, key, value, moment) for key, value in found.items()
            )
        confusion = {"labels": ["negative", "positive"], "counts": [[9, 3], [2, 10]]}
        scores = {task: own["test"] for task, own in results(folder)["tasks"].items()}
        test = {"scores": scores, "confusions": {"sentiment": confusion}}
        journal.append(
            Record(folder.name, 0, 0, 20, f"event/{name}", value, 1.7e9 + 21)
            for name, value in (("test", test), ("end", {}))
        )


def results(folder: Path) -> dict[str, Any]:
    """Give results in the agreed form."""
    scores = {
        "sentiment": {"accuracy": 0.8, "macro_f1": 0.79, "mcc": 0.6, "loss": 0.33},
        "roles": {"precision": 0.5, "recall": 0.4, "f1": 0.444, "loss": 0.5},
        "marks": {"span_f1": 0.5, "token_accuracy": 0.9, "loss": 0.4},
    }
    return {
        "run_id": folder.name,
        "mlflow_run_id": None,
        "experiment_hash": "f" * 64,
        "steps": 20,
        "examples_seen": {"sentiment": 300, "roles": 200, "marks": 100},
        "tasks": {t: {"validation": own, "test": own} for t, own in scores.items()},
        "target": {},
        "speed": {
            "tokens_per_second": 1010.0,
            "examples_per_second": 70.0,
            "useful_token_share": 1.0,
            "seconds_to_first_step": 12.0,
            "peak_memory_mb": 900.0,
        },
    }
