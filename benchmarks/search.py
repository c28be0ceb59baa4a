"""Searches of mixtures in a simulator whose best mixture is known; nothing is trained.

    python benchmarks/search.py [--worlds 12] [--tasks 3 5 10] [--noise 0.002 0.01 0.03]

Each world draws how much each task's data help each other task, and scores follow a power law of
effective data (``tests/mixtures.py``), which is none of the surrogate's laws. At four trials a task
(twelve at least), *random* and *Optuna* recommend the best mixture that they saw, the surrogate
the one that it says. Prints the mean regret: how far the true mean score of what is recommended is
below the best there is, with its standard error over worlds.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from orchestrator.studies.proposals import SHARES, Known, Optuna
from tests import mixtures
from tests.mixtures import Array, Trials, World


def optuna(trials: Trials, count: int, seed: int) -> Array:
    """Search with Optuna over the simplex; give the mixture whose score was best."""
    search = Optuna({SHARES: ("simplex", trials.names)}, seed, trials.names, lambda s: s.mean(-1))
    known: list[Known] = []
    seen: list[tuple[float, Array]] = []
    for _ in range(count):
        proposed = search.propose(known)
        shares = np.array([proposed.changes[SHARES][name] for name in trials.names])
        seen.append((trials.run(shares), shares))
        known.append(Known(proposed.changes, proposed.point, trials.tried[-1].scores, {}))
    return max(seen, key=lambda own: own[0])[1]


SEARCHES = {"surrogate": mixtures.surrogate, "random": mixtures.random, "optuna": optuna}


def main() -> None:
    """Search all worlds and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--worlds", type=int, default=12)
    parser.add_argument("--tasks", type=int, nargs="+", default=[3, 5, 10])
    parser.add_argument("--noise", type=float, nargs="+", default=[0.002, 0.01, 0.03])
    asked = parser.parse_args()
    print(f"| tasks | noise | trials | {' | '.join(SEARCHES)} |")
    print(f"|---|---|---|{'---|' * len(SEARCHES)}")
    for tasks in asked.tasks:
        count = max(12, 4 * tasks)
        for noise in asked.noise:
            told = []
            for search in SEARCHES.values():
                found = []
                for seed in range(asked.worlds):
                    trials = Trials(World.drawn(tasks, seed), noise, seed)
                    found.append(trials.regret(search(trials, count, seed)))
                error = np.std(found, ddof=1) / np.sqrt(len(found))
                told.append(f"{np.mean(found):.4f} ± {error:.4f}")
            print(f"| {tasks} | {noise} | {count} | {' | '.join(told)} |", flush=True)


if __name__ == "__main__":
    main()
