"""The Ray of a run: joined, or one of its own; what its processes find; whether there is room."""

from __future__ import annotations

import contextlib
import functools
import os
from collections.abc import Iterator, Mapping
from typing import Any

import ray
from ray._private import services

from orchestrator.experiment import Experiment

ENVIRONMENT = {
    "OMP_NUM_THREADS": "1",
    "MALLOC_ARENA_MAX": "1",
    "MALLOC_MMAP_THRESHOLD_": str(1 << 30),
    "MALLOC_TRIM_THRESHOLD_": str(1 << 30),
    "TOKENIZERS_PARALLELISM": "false",
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.2",
    "RAY_TRAIN_ENABLE_PRINT_PATCH": "0",
    "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "0",
    "PYTHONWARNINGS": "ignore",
}
"""For Ray's processes: prompt reports, no doubled lines; workers set their threads themselves.

Gradients and the buffers that reduce them come and go with every step. As it comes, glibc returns
such memory to the system and has every page of it zeroed and mapped anew: a fifth of a step.
"""


STARTS = 3
"""Times that a Ray of one's own is tried: it gives up after 30 s, however busy the machine."""
SLOW = "timed out during startup"


def own() -> bool:
    """Tell whether the run has a Ray of its own, on this machine."""
    return not os.environ.get("RAY_ADDRESS")


def connect() -> None:
    """Join the Ray that RAY_ADDRESS names, or start one that belongs to this process alone."""
    environment = {key: os.environ.get(key, value) for key, value in ENVIRONMENT.items()}
    options: dict[str, Any] = {}
    if own():
        options = {"address": "local", "include_dashboard": False}
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    for again in range(STARTS):
        try:
            with _spared():
                ray.init(
                    logging_level="ERROR",
                    log_to_driver=False,
                    runtime_env={"env_vars": environment},
                    **options,
                )
            return
        except Exception as error:  # Ray knows no other kind for this
            ray.shutdown()
            if SLOW not in str(error) or again == STARTS - 1:
                raise


@contextlib.contextmanager
def _spared() -> Iterator[None]:
    """Start Ray's processes in a group of their own: a signal to this one's is for the driver.

    A terminal, ``timeout`` and job schedulers signal the whole group, and a Ray without its
    control process can neither pass on a request to stop nor save. Ray has no setting for it.
    """
    start = services.ConsolePopen
    services.ConsolePopen = functools.partial(start, process_group=0)
    try:
        yield
    finally:
        services.ConsolePopen = start


def per_worker(experiment: Experiment) -> dict[str, float]:
    """Give what one worker asks Ray for."""
    gpus = {"GPU": experiment.scaling.gpus} if experiment.scaling.gpus else {}
    return {"CPU": experiment.scaling.cpus, **gpus}


def require_room(experiment: Experiment) -> None:
    """Refuse what would wait for ever. Raises ``ValueError`` with what is asked and there."""
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    workers, each = experiment.scaling.workers, per_worker(experiment)
    if workers > sum(room(node, each) for node in nodes):
        ray.shutdown()
        asked = " and ".join(f"{amount:g} {kind}" for kind, amount in each.items())
        there = "; ".join(
            ", ".join(f"{node.get(kind, 0):g} {kind}" for kind in each) for node in nodes
        )
        raise ValueError(
            f"scaling asks for {workers} workers with {asked} each, but the machines of the Ray "
            f"cluster have: {there}. Set scaling.workers, scaling.cpus or scaling.gpus lower, or "
            f"point RAY_ADDRESS to a larger cluster."
        )


def room(node: Mapping[str, float], each: Mapping[str, float]) -> int:
    """Count the workers that find room on a machine with these resources."""
    return min(int(node.get(kind, 0) // amount) for kind, amount in each.items())


def at_once(experiment: Experiment, asked: int | None, workers: int = 1) -> int:
    """Count the trials of so many workers that run at a time: as asked for, or as have room.

    Raises ``ValueError`` if the cluster has no room for so many.
    """
    each = per_worker(experiment)
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    possible = sum(room(node, each) for node in nodes) // workers
    if possible < (asked or 1):
        told = " and ".join(f"{amount:g} {kind}" for kind, amount in each.items())
        raise ValueError(
            f"{asked or 1} trials at a time of {workers} workers with {told} each do not fit on "
            f"the Ray cluster, which has room for {possible}. Ask for fewer at a time, set "
            f"scaling.workers, scaling.cpus or scaling.gpus lower, or point RAY_ADDRESS to a "
            f"larger cluster."
        )
    return asked or possible
