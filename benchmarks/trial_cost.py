"""What one more short trial costs beyond its own steps, run in three ways; and 100 trials.

    python benchmarks/trial_cost.py [--encoder minilm] [--trials 64] [--hundred]

Trials of 2 and of 8 steps on a small built-in corpus run by turns: what is left at no steps is
the cost of a trial, evaluation and writing included. (The fewer steps, the less of their noise is
in it.) *kept* is what studies do, Ray Tune over a process that goes from trial to trial; *fresh*
starts a process for each; *nested* runs one through Ray Train and DeepSpeed. ``--hundred`` runs
100 trials of 20 steps on two processes and tells the time, and the memory of these processes at
trial 20 and at the end.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from itertools import count, cycle, islice, pairwise
from pathlib import Path
from statistics import median
from typing import Any

import psutil
import torch

from orchestrator import run, weights
from orchestrator.access import secure_ray
from orchestrator.evaluate import Ranks, evaluate
from orchestrator.experiment import parse
from orchestrator.studies import study
from orchestrator.studies.agenda import Listed, Wanted
from orchestrator.studies.trials import Trials

ACTORS = ("ray::Kept", "ray::ResourceTrainable")
"""What a process of trials is called between two of them, and amid one."""
SEED = count(1)
STEPS = (2, 8)
FRESH = """
import sys, torch
from pathlib import Path
from orchestrator.experiment import load
from orchestrator.prepare import Prepared
from orchestrator.studies.trial import Trial
torch.set_num_threads(1)
folder = Path(sys.argv[1])
own = load(folder / "experiment.yaml")
data = Prepared.read(Path((folder / "prepared").read_text()))
trial = Trial(folder, own, data.under(own), torch.device("cpu"))
while trial.look(): pass
trial.finish()
"""


def tree(encoder: str, folder: Path) -> dict[str, Any]:
    """Give the experiment that is measured."""
    corpus = "builtin:demo?size=240"
    tasks = {
        name: {"family": "classify", "data": {"path": corpus, "text": "text", "label": name}}
        for name in ("sentiment", "topic")
    }
    return {
        "name": "cost",
        "encoder": {"model": encoder},
        "tasks": tasks,
        "batch": {"tokens": 256, "micro_tokens": 256},
        "train": {"steps": 20, "precision": "fp32"},
        "scaling": {"workers": 1, "threads": 1},
        "storage": {"path": str(folder / "runs")},
        "tracking": {"uri": f"sqlite:///{folder}/mlflow.db", "log_model": False},
    }


class Measured:
    """A study of its own whose trials are run in turn; the clock is read at each end."""

    def __init__(self, folder: Path, encoder: str) -> None:
        self.folder = folder
        self._tree = tree(encoder, folder)
        self._trials = Trials(self._tree, [], folder / "cache")
        question = {"name": "cost", "kind": "ablate", "what": "none"}
        self._study = study.create(folder / "study", question, self._trials.prepared)

    def wishes(self, steps: Iterator[int], number: int) -> list[Wanted]:
        """Wish for so many trials, each with a seed of its own."""
        return [
            Wanted(
                f"{own} steps", "arm", {"train.steps": own, "train.evaluate_every": own}, next(SEED)
            )
            for own in (next(steps) for _ in range(number))
        ]

    def agenda(self, wanted: list[Wanted], ends: list[float]) -> Listed:
        """Make an agenda that notes the time of each end."""
        tell = lambda *_: ends.append(time.perf_counter())  # noqa: E731
        return Listed(self._study, self._trials, wanted, tell=tell)

    def kept(self, number: int, parallel: int, steps: Iterator[int]) -> list[float]:
        """Run trials through Ray Tune; give when each ended."""
        from orchestrator.studies import tuning

        ends: list[float] = []
        agenda = self.agenda(self.wishes(steps, number), ends)
        tuning.run(self._study.folder, agenda, parse(self._tree), parallel)
        return ends

    def fresh(self, wanted: Wanted) -> float:
        """Run a trial in a process of its own; give its seconds."""
        agenda = self.agenda([wanted], [])
        folder = agenda.next()
        assert folder is not None
        began = time.perf_counter()
        subprocess.run([sys.executable, "-c", FRESH, folder], check=True)
        return time.perf_counter() - began

    def scored(self) -> tuple[float, int]:
        """Score validation and test as a trial does; give the seconds and the tokens read."""
        plan = self._trials.plan({}, 0)
        own, data = plan.experiment, plan.prepared
        families = {task: data.family(task) for task in own.tasks}
        model = weights.first(own, families, Path(data.reader))
        took, tokens = 0.0, 0
        for split in ("validation", "test"):
            rows = {task: data.open(task, split) for task in own.tasks}
            tokens += int(rows["topic"].lengths.sum())  # both tasks read the same texts, once
            began = time.perf_counter()
            evaluate(model, rows, own.batch.micro_tokens, Ranks(), parts=True)
            took += time.perf_counter() - began
        return took, tokens

    def nested(self, steps: int) -> float:
        """Run a trial through Ray Train and DeepSpeed; give its seconds."""
        own = parse({**self._tree, "train": {**self._tree["train"], "steps": steps}})
        folder = run.create(own, [])
        began = time.perf_counter()
        run.train(folder, lambda records: None)
        return time.perf_counter() - began


def turns(number: int) -> Iterator[int]:
    """Alternate the two lengths."""
    return islice(cycle(STEPS), number)


def beyond(short: list[float], long: list[float]) -> float:
    """Give the seconds at no steps of the line through both medians."""
    few, many = STEPS
    slope = (median(long) - median(short)) / (many - few)
    return median(short) - few * slope


def compare(own: Measured, number: int) -> None:
    """Print what a trial costs in each way."""
    ends = own.kept(number + 2, 1, turns(number + 2))
    took = [after - before for before, after in pairwise(ends)]
    short, long = took[1::2], took[2::2]  # the first trial starts the process
    print(f"kept    {beyond(short, long):6.2f} s a trial beyond its steps")
    torch.set_num_threads(1)
    scored = [own.scored() for _ in range(5)]
    seconds, tokens = median(took for took, _ in scored), scored[0][1]
    print(f"        {seconds:6.2f} s of it score {tokens} tokens of validation and test")
    times = [own.fresh(own.wishes(iter([s]), 1)[0]) for s in turns(4)]
    print(f"fresh   {beyond(times[0::2], times[1::2]):6.2f} s")
    print(f"nested  {own.nested(STEPS[0]):6.2f} s in all, one trial of {STEPS[0]} steps")


def hundred(own: Measured) -> None:
    """Print the time of 100 trials of 20 steps on two processes, and how memory grew."""
    from orchestrator.studies import tuning

    sizes: list[tuple[int, list[float]]] = []
    ended: list[float] = []

    def tell(*_: Any) -> None:
        ended.append(time.perf_counter())
        if len(ended) in (20, 60, 100):
            below = psutil.Process().children(recursive=True)
            kept = [p.memory_info().rss / 1e6 for p in below if p.name().startswith(ACTORS)]
            sizes.append((len(ended), kept))

    wanted = own.wishes(iter([20] * 100), 100)
    agenda = Listed(own._study, own._trials, wanted, tell=tell)
    began = time.perf_counter()
    tuning.run(own._study.folder, agenda, parse(own._tree), 2)
    print(f"100 trials of 20 steps: {time.perf_counter() - began:.0f} s, from start to end of Ray")
    for number, kept in sizes:
        print(f"  memory of each process at trial {number}: {[round(size) for size in kept]} MB")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--encoder", default="tiny")
    parser.add_argument("--trials", type=int, default=64)
    parser.add_argument("--steps", type=int, nargs=2, default=(2, 8))
    parser.add_argument("--hundred", action="store_true")
    asked = parser.parse_args()
    secure_ray()
    with tempfile.TemporaryDirectory() as place:
        own = Measured(Path(place), asked.encoder)
        if asked.hundred:
            hundred(own)
        else:
            compare(own, asked.trials)


if __name__ == "__main__":
    main()
