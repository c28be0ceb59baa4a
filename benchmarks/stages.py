"""Arms of experiments/low_resource_roles.yaml over paired seeds: the table of their test scores.

    TLMT_DATA=... python benchmarks/stages.py --seeds 5 --folder runs/stages

Trains every arm and seed whose score is not known yet, ``--parallel`` of them at a time, and goes
on with those that were interrupted. Scores are kept, a line each, in ``--scores``: on another
machine the program goes on from there. Prints each arm's mean F1 of roles on test with a 95 %
bootstrap interval over seeds (percentiles of 10,000 resamples), and the same of its paired
difference from the single task. Nothing is chosen by test scores.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

EXPERIMENT = Path(__file__).parent.parent / "experiments" / "low_resource_roles.yaml"
HELPERS = ("speech", "entities", "topic")
ARMS = {
    "single": ["target=none", *(f"tasks.{helper}=null" for helper in HELPERS)],
    "joint": [],
    "frozen_heads": ["stages=frozen_heads"],
    "lp_ft": ["stages=lp_ft"],
    "tlmt": ["stages=tlmt"],
}
RESAMPLES = 10_000


def known(scores: Path) -> dict[tuple[str, int], float]:
    """Read the scores that were kept."""
    lines = scores.read_text().splitlines() if scores.exists() else []
    rows = [json.loads(line) for line in lines]
    return {(row["arm"], row["seed"]): row["f1"] for row in rows}


def train(folder: Path, scores: Path, arm: str, seed: int) -> float | None:
    """Train one arm on one seed, or find it done; keep and give the F1 of roles on test."""
    name = f"{arm.replace('_', '-')}-{seed}"
    done = sorted((folder / name).glob("*/results.json"))
    begun = sorted((folder / name).glob("*/experiment.yaml"))
    if not done:
        command = [sys.executable, "-m", "orchestrator", "train"]
        if begun:
            command += ["--resume", str(begun[-1].parent)]
        else:
            command += [str(EXPERIMENT), f"name={name}", f"train.seed={seed}", *ARMS[arm]]
            command += [f"storage.path={folder}", "tracking.log_model=false"]
        with (folder / f"{name}.log").open("a") as log:
            env = {**os.environ, "OMP_NUM_THREADS": "1"}
            subprocess.run(command, check=False, stdout=log, stderr=log, env=env, cwd=folder)
        done = sorted((folder / name).glob("*/results.json"))
    if not done:
        return None
    results = json.loads(done[-1].read_text())
    found: float = results["tasks"]["roles"]["test"]["f1"]
    row = {"arm": arm, "seed": seed, "f1": found, "hash": results["experiment_hash"]}
    with scores.open("a") as kept:
        kept.write(json.dumps(row) + "\n")
    print(f"{name}: {found:.4f}", flush=True)
    return found


def interval(values: NDArray[np.float64]) -> str:
    """Give the mean over seeds, and between which values 95 % of resampled means lie."""
    draws = np.random.default_rng(0).integers(0, len(values), (RESAMPLES, len(values)))
    low, high = np.percentile(values[draws].mean(axis=1), [2.5, 97.5])
    return f"{values.mean():+.4f} [{low:+.4f}, {high:+.4f}]"


def main() -> None:
    """Train what is missing, then print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--folder", type=Path, default=Path("runs/stages"))
    parser.add_argument("--scores", type=Path, default=Path(__file__).with_suffix(".jsonl"))
    parser.add_argument("--parallel", type=int, default=2)
    asked = parser.parse_args()
    folder = asked.folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    scores: dict[tuple[str, int], float | None] = {**known(asked.scores)}
    jobs = [(arm, seed) for seed in range(asked.seeds) for arm in ARMS if (arm, seed) not in scores]
    with ThreadPoolExecutor(asked.parallel) as pool:
        found = pool.map(lambda job: train(folder, asked.scores, *job), jobs)
        scores |= dict(zip(jobs, found, strict=True))
    if missing := [f"{arm} on seed {seed}" for (arm, seed), f1 in scores.items() if f1 is None]:
        sys.exit(
            f"no results of {', '.join(missing)}; the logs lie in {folder}. Run again to go on."
        )
    table = {arm: np.array([scores[arm, seed] for seed in range(asked.seeds)]) for arm in ARMS}
    print(f"| arm | F1 of roles on test, {asked.seeds} seeds | difference from single |")
    print("|---|---|---|")
    for arm, found in table.items():
        print(f"| {arm} | {interval(found)} | {interval(found - table['single'])} |")


if __name__ == "__main__":
    main()
