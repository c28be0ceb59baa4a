"""Measure the joint step against bare PyTorch loops, and packed against padded batches.

Each comparison has two sides in processes of their own that take a few steps by turns, so that
whatever else the machine does hits both. ``README.md`` says how to read the table.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

from machine import facts
from table import shown
from turns import ROOT, Side, Step

from orchestrator import run
from orchestrator.cluster import ENVIRONMENT
from orchestrator.experiment import Experiment, load, places

HERE = ROOT / "benchmarks"


@dataclass(frozen=True)
class Comparison:
    """One pair of sides."""

    name: str
    part: str
    """What ``--only`` calls it."""
    workers: int
    threads: int
    """Of each process, on both sides."""
    zero_stage: int
    precision: str
    padded: bool = False

    @property
    def aim(self) -> str:
        """Say what the ratio should reach, if anything was set."""
        if self.padded:
            return ">= 1.8" if self.precision == "fp32" else ""
        return ">= 0.90"

    def settings(self) -> list[str]:
        """Give the overrides of our side."""
        return [
            f"scaling.workers={self.workers}",
            f"scaling.threads={self.threads}",
            f"deepspeed.zero_stage={self.zero_stage}",
            f"train.precision={self.precision}",
        ]

    def peers(self, folder: Path) -> list[list[str]]:
        """Give the commands of the peer, one a process. The padded peer is always fp32."""
        bare = [sys.executable, str(HERE / "bare.py"), str(folder), f"--threads={self.threads}"]
        if self.padded:
            return [[*bare, "--padded", "--batches=padded"]]
        bare += [f"--ranks={self.workers}", f"--precision={self.precision}"]
        return [
            [*bare, f"--rank={rank}", f"--batches=packed-{self.workers}-{rank}"]
            for rank in range(self.workers)
        ]


@dataclass
class Found:
    """The counted steps of both sides of a comparison."""

    comparison: Comparison
    peer: list[Step] = field(default_factory=list)
    ours: list[Step] = field(default_factory=list)
    waiting: float = 0.0
    """Cores' worth of processor time that our side's processes used during the peer's turns."""

    def ratio(self) -> float:
        """Give our speed over the peer's, by medians: of s/step, where batches are the same."""
        if self.comparison.padded:
            return rate(self.ours) / rate(self.peer)
        return median(s.seconds for s in self.peer) / median(s.seconds for s in self.ours)

    def total_ratio(self) -> float:
        """Give the same from all tokens over all seconds."""
        return total_rate(self.ours) / total_rate(self.peer)

    def cpu_ratio(self) -> float:
        """Give the same by processor seconds, which a busy machine moves least."""

        def rate(steps: Sequence[Step]) -> float:
            return median(s.tokens / s.cpu for s in steps)

        return rate(self.ours) / rate(self.peer)

    def document(self) -> dict[str, Any]:
        """Give all of it as JSON data."""
        return {
            **asdict(self.comparison),
            "aim": self.comparison.aim,
            "ratio": self.ratio(),
            "total_ratio": self.total_ratio(),
            "cpu_ratio": self.cpu_ratio(),
            "ours_busy_in_peers_turns": self.waiting,
            "sides": {"peer": _summary(self.peer), "ours": _summary(self.ours)},
        }


def rate(steps: Sequence[Step]) -> float:
    """Give the median of real tokens a second."""
    return median(s.tokens / s.seconds for s in steps)


def total_rate(steps: Sequence[Step]) -> float:
    """Give all real tokens over all seconds."""
    return sum(s.tokens for s in steps) / sum(s.seconds for s in steps)


def _summary(steps: Sequence[Step]) -> dict[str, Any]:
    return {
        "seconds_per_step": median(s.seconds for s in steps),
        "cpu_seconds_per_step": median(s.cpu for s in steps),
        "tokens_per_second": rate(steps),
        "total_tokens_per_second": total_rate(steps),
        "steps": [s._asdict() for s in steps],
    }


def comparisons(experiment: Experiment, threads: Sequence[int]) -> list[Comparison]:
    """List all comparisons; those of the joint step take the first number of threads."""
    precision = experiment.resolved()["train"]["precision"]
    stage, first = experiment.deepspeed.zero_stage, threads[0]
    found = [
        Comparison(f"1 worker, ZeRO {z} / 1 bare process", f"zero{z}", 1, first, z, precision)
        for z in (1, 2)
    ]
    for z in sorted({0, stage}):
        name = f"2 workers, ZeRO {z} / plain DDP, 2 processes"
        found.append(Comparison(name, "ddp", 2, first, z, precision))
    for number in threads:
        for kind in ("fp32", "bf16"):
            name = f"packed {kind} / padded fp32, tasks by turns"
            found.append(Comparison(name, "padded", 1, number, stage, kind, padded=True))
    return found


def measure(comparison: Comparison, base: Path, folder: Path, options: argparse.Namespace) -> Found:
    """Bring both sides up and let them take steps by turns: peer, ours, peer, ours, ..."""
    own = base.with_name(f"{base.name}-{int(time.time() * 1000)}")
    own.mkdir()
    for file in base.iterdir():
        if file.is_file():
            shutil.copy(file, own)
    varied = load(base / "experiment.yaml", comparison.settings())
    (own / "experiment.yaml").write_text(varied.yaml())
    environment = {name: value for name, value in ENVIRONMENT.items() if "RAY" not in name}
    launch = [[sys.executable, str(HERE / "product.py"), str(own)]]
    found = Found(comparison)
    sides: list[Side] = []
    try:
        peers = comparison.peers(folder)
        sides.append(Side(peers, comparison.workers, folder / "peer.log", environment))
        sides.append(Side(launch, comparison.workers, folder / "ours.log", {}))
        peer, ours = sides
        if options.warmup:
            peer.turn(options.warmup)
            ours.turn(options.warmup)
        waited, used = 0.0, 0.0
        while len(found.ours) < options.steps:
            count = min(options.turn, options.steps - len(found.ours))
            began, before = time.perf_counter(), ours.cpu_seconds()
            found.peer += peer.turn(count)
            used += ours.cpu_seconds() - before
            waited += time.perf_counter() - began
            found.ours += ours.turn(count)
            progress(f"  {len(found.ours)} of {options.steps} steps, ratio {found.ratio():.3f}")
    finally:
        for side in sides:
            side.close()
        shutil.rmtree(own, ignore_errors=True)
    found.waiting = used / waited
    same = [s.tokens for s in found.peer] == [s.tokens for s in found.ours]
    if not comparison.padded and not same:
        raise RuntimeError("the two sides did not read the same batches; the ratio means nothing")
    return found


def progress(line: str) -> None:
    """Tell on stderr how far it is."""
    print(line, file=sys.stderr, flush=True)


PARTS = ("zero1", "zero2", "ddp", "padded")


def numbers(text: str) -> list[int]:
    """Read ``1,2``."""
    return [int(word) for word in text.split(",")]


def parts(text: str) -> list[str]:
    """Read ``zero1,ddp``. Raises ``ArgumentTypeError`` for an unknown part."""
    words = text.split(",")
    if unknown := sorted({*words} - {*PARTS}):
        raise argparse.ArgumentTypeError(f"{unknown[0]!r} is none of {', '.join(PARTS)}")
    return words


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    add = parser.add_argument
    add("overrides", nargs="*", metavar="KEY=VALUE", help="settings, as for `tlmt train`")
    add("--experiment", type=Path, default=ROOT / "experiments" / "three_tasks.yaml")
    add("--model", help="encoder.model: minilm, tiny, ...; default is the experiment's")
    add("--data", type=Path, help="where data folders are looked up (default $TLMT_DATA)")
    add("--precision", choices=("fp32", "bf16"), help="of the joint step; default as a run's")
    add("--steps", type=int, default=30, help="counted steps of each side of a comparison")
    add("--warmup", type=int, default=3, help="steps before them")
    add("--turn", type=int, default=5, help="steps a side takes before the other's turn")
    add("--threads", type=numbers, default=[1, 2], help="of a process, as 1,2 (see README.md)")
    add("--only", type=parts, default=[*PARTS], help=f"what to compare, of {','.join(PARTS)}")
    add("--json", action="store_true", dest="as_json", help="print one JSON document only")
    options = parser.parse_intermixed_args()
    if min(options.steps, options.turn, *options.threads) < 1 or options.warmup < 0:
        parser.error("--steps, --turn and --threads must be at least 1, --warmup at least 0")
    return options


def main() -> None:
    """Prepare the batches, make every comparison, print the table."""
    options = arguments()
    if options.data is not None:
        os.environ["TLMT_DATA"] = str(options.data.resolve())
    changes = [*options.overrides, "name=joint-step-benchmark"]
    changes += [f"encoder.model={options.model}"] if options.model else []
    changes += [f"train.precision={options.precision}"] if options.precision else []
    steps = options.warmup + options.steps
    # One more than we take, and no evaluation before: our side ends between two steps.
    last = max(steps + 1, load(options.experiment, changes).train.steps)
    changes += [f"train.steps={last}", f"train.evaluate_every={last}"]
    experiment = load(options.experiment, changes)
    before = facts()
    progress("preparing the batches")
    base = run.create(experiment, places(options.experiment))
    document: dict[str, Any] = {
        "machine": before,
        "settings": {
            "experiment": options.experiment.stem,
            "model": experiment.encoder.model,
            "batch_tokens": experiment.batch.tokens,
            "dropout": experiment.regularization.dropout,
            "attention_dropout": experiment.regularization.attention_dropout,
            **{name: getattr(options, name) for name in ("steps", "warmup", "turn")},
        },
        "comparisons": [],
    }
    try:
        with tempfile.TemporaryDirectory(prefix="joint-step-") as scratch:
            import batches

            batches.write(base, Path(scratch), steps)
            for comparison in comparisons(experiment, options.threads):
                if comparison.part in options.only:
                    progress(f"{comparison.name} ({comparison.threads} threads)")
                    found = measure(comparison, base, Path(scratch), options)
                    document["comparisons"].append(found.document())
    finally:
        shutil.rmtree(base, ignore_errors=True)
        with contextlib.suppress(OSError):  # not empty: another measurement is on its way
            base.parent.rmdir()
    document["machine"]["load_after"] = facts()["load"]
    print(json.dumps(document) if options.as_json else shown(document))


if __name__ == "__main__":
    main()
