"""Programs that run studies in processes of their own, and what can be done to them."""

from __future__ import annotations

import atexit
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import yaml

ROOT = Path(__file__).parent.parent
CHANGES = {
    "target": "topic",
    "train.steps": 30,
    "train.evaluate_every": 10,
    "train.evaluate_rows": 24,
    "train.precision": "fp32",
    "optimizer.lr": 5e-3,
    "optimizer.warmup": 0.0,
    "tracking": {"uri": "http://127.0.0.1:9", "log_model": False},  # nobody answers there
}
SLOW = {"optimizer.lr": 1e-9, "tasks.topic.optimizer": {"lr": 1e-9}}
SPACE = f"""
def space(experiment):
    broken = {{"optimizer.lr": 1e30, "regularization.clip": 0}}
    slow = [{{**{SLOW!r}, "regularization.dropout": own}} for own in (0.0, 0.1, 0.2)]
    return [broken, *slow, {{"optimizer.lr": 6e-3}}, {{"tasks.weather": None}}]
"""


def lay_out(home: Path, make_experiment: Callable[..., dict[str, Any]]) -> None:
    """Write the experiment and the space that the programs name."""
    (home / "own.yaml").write_text(yaml.safe_dump(make_experiment(**CHANGES)))
    (home / "space.py").write_text(SPACE)


def told(home: Path) -> str:
    """Give the end of what a program said."""
    return (home / "log.txt").read_text()[-5000:]


def started(home: Path, *words: str) -> subprocess.Popen[bytes]:
    """Start Python in a process group of its own; it ends with the tests, if not before."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with (home / "log.txt").open("a") as log:
        process = subprocess.Popen(
            [sys.executable, "-P", *words],
            cwd=home,
            stdout=log,
            stderr=log,
            env=environment,
            process_group=0,
        )
    atexit.register(killed, process)
    return process


def killed(process: subprocess.Popen[bytes], all_of_it: bool = True) -> None:
    """Kill a driver and, by default, every process that comes from it."""
    if process.poll() is not None:
        return
    family = psutil.Process(process.pid).children(recursive=True)
    process.kill()
    process.wait()
    for own in family if all_of_it else []:
        try:
            own.kill()
        except psutil.NoSuchProcess:
            continue
    psutil.wait_procs(family, timeout=60)
