"""Measure what each way of weighing tasks costs, and R-Drop, as joint steps against the plain one.

One process, the plain engine, the same global batches; every way takes a step in turn, so that
whatever else the machine does hits all of them. Loading and collation are in it, as in a run.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from statistics import median

import torch
from machine import facts
from turns import ROOT, Clock, Step

from orchestrator.checkpoint import Progress
from orchestrator.engine import PlainEngine
from orchestrator.evaluate import Ranks
from orchestrator.experiment import Experiment, load, places
from orchestrator.prepare import Prepared, prepare
from orchestrator.training import Training
from orchestrator.work import Work

WAYS = {
    "fixed": "weighting=fixed",
    "uncertainty": "weighting=uncertainty",
    "famo": "weighting=famo",
    "pcgrad": "weighting=pcgrad",
    "torchjd": "weighting=torchjd",
    "r_drop": "regularization.r_drop=1",
}
"""What ``--only`` calls each way, and the setting that it is."""


def training(experiment: Experiment, prepared: Prepared, folder: Path) -> Training:
    """Make a worker's training on the plain engine."""
    clip = experiment.regularization.clip
    work = Work(
        run=folder,
        experiment=experiment,
        prepared=prepared,
        fingerprint="",
        world=Ranks(),
        device=torch.device("cpu"),
        make_engine=lambda model, groups: PlainEngine(model, groups, clip),
        stop=lambda: False,
    )
    return Training(work, work.stages[0], Progress(0))


def timed(one: Training) -> Step:
    """Take a step and measure it."""
    with Clock() as clock:
        _, part = one.step()
    return clock.step(part.tokens)


def names(text: str) -> list[str]:
    """Read ``famo,pcgrad``. Raises ``ArgumentTypeError`` for an unknown way."""
    words = text.split(",")
    if unknown := sorted({*words} - {*WAYS}):
        raise argparse.ArgumentTypeError(f"{unknown[0]!r} is none of {', '.join(WAYS)}")
    return words


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    add = parser.add_argument
    add("overrides", nargs="*", metavar="KEY=VALUE", help="settings, as for `tlmt train`")
    add("--experiment", type=Path, default=ROOT / "experiments" / "demo.yaml")
    add("--steps", type=int, default=30, help="counted steps of each way")
    add("--warmup", type=int, default=5, help="steps before them")
    add("--threads", type=int, default=1)
    add("--only", type=names, default=[*WAYS], help=f"what to measure, of {','.join(WAYS)}")
    return parser.parse_intermixed_args()


def main() -> None:
    """Prepare the data once, let all ways take steps in turn, print the table."""
    options = arguments()
    torch.set_num_threads(options.threads)
    print(*(f"{key}={value}" for key, value in facts().items()))
    with tempfile.TemporaryDirectory(prefix="weighting-") as scratch:
        plain = load(options.experiment, options.overrides)
        prepared = prepare(plain, places(options.experiment), Path(scratch) / "cache")
        steps = options.warmup + options.steps
        ways = {
            way: training(
                load(options.experiment, [*options.overrides, WAYS[way]]),
                prepared,
                Path(scratch) / way,
            )
            for way in dict.fromkeys(["fixed", *options.only])
        }
        taken: dict[str, list[Step]] = {way: [] for way in ways}
        for step in range(steps):
            for way, one in ways.items():
                found = timed(one)
                taken[way] += [found] if step >= options.warmup else []
    wall, cpu = ({w: median(s[k] for s in own) for w, own in taken.items()} for k in (0, 1))
    print(f"{'':12} {'s/step':>8} {'x fixed':>8} {'cpu s':>8} {'x fixed':>8}")
    for way in ways:
        ratios = wall[way] / wall["fixed"], cpu[way] / cpu["fixed"]
        print(f"{way:12} {wall[way]:8.3f} {ratios[0]:8.2f} {cpu[way]:8.3f} {ratios[1]:8.2f}")


if __name__ == "__main__":
    main()
