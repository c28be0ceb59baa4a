"""One run on many workers: Ray Train, its worker function, and the way of records to the driver."""

from __future__ import annotations

import contextlib
import functools
import os
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import psutil
import ray
import ray.train
import torch
import torch.distributed as dist
from ray._private import services
from ray.train import Checkpoint, CheckpointConfig, FailureConfig, RunConfig, ScalingConfig
from ray.train.torch import TorchConfig, TorchTrainer, get_device
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from orchestrator import identity, loop
from orchestrator.access import held
from orchestrator.engine import DeepSpeedEngine, join
from orchestrator.evaluate import Ranks
from orchestrator.experiment import Experiment, load
from orchestrator.journal import Journal, Record
from orchestrator.prepare import Prepared

EVERY = 1.0
"""Seconds between two sendings of records."""


class Recorder:
    """Stands beside the driver and appends rank 0's records to the journal, in order."""

    def __init__(self, folder: str, attempt: int) -> None:
        self._journal = Journal(Path(folder))
        self._run = Path(folder).name
        self._attempt = attempt
        self._stop = False

    def append(self, rows: list[tuple[int, str, Any]]) -> bool:
        """Write (step, key, value) rows; answer whether the run should stop."""
        self._journal.append(Record(self._run, self._attempt, 0, *row) for row in rows)
        return self._stop

    def stop(self) -> None:
        """Ask the run to end after its current step."""
        self._stop = True


class Sender:
    """Rank 0's end of the way to the recorder: never waits, at most one sending on its way."""

    def __init__(self, recorder: Any) -> None:
        self._recorder = recorder
        self._rows: list[tuple[int, str, Any]] = []
        self._sent = 0.0
        self._answer: Any = None
        self.asked_to_stop = False

    def add(self, news: loop.News) -> None:
        """Take in what a step has to tell."""
        events = {f"event/{name}": value for name, value in news.events.items()}
        self._rows += [(news.step, key, value) for key, value in (news.values | events).items()]
        if news.checkpoint is not None:
            self._rows.append((news.step, "event/checkpoint", {"folder": news.checkpoint.name}))
        self._listen(wait=False)
        if self._answer is None and time.monotonic() - self._sent > EVERY:
            self._send()

    def _listen(self, wait: bool) -> None:
        if self._answer is not None and (wait or ray.wait([self._answer], timeout=0)[0]):
            self.asked_to_stop |= bool(ray.get(self._answer))
            self._answer = None

    def _send(self) -> None:
        self._answer = self._recorder.append.remote(self._rows)
        self._rows, self._sent = [], time.monotonic()

    def settle(self) -> None:
        """Send the rest and wait until it is written."""
        self._listen(wait=True)
        self._send()
        self._listen(wait=True)


def work(config: dict[str, Any]) -> None:
    """Run on every worker: drive the loop and forward what it yields."""
    folder, context = Path(config["folder"]), ray.train.get_context()
    world = Ranks(context.get_world_rank(), context.get_world_size())
    experiment = load(folder / "experiment.yaml")
    scaling = experiment.scaling
    torch.set_num_threads(scaling.cpus if scaling.threads == "auto" else scaling.threads)
    device = get_device()
    join(device)
    sender = Sender(config["recorder"])
    stage, own = experiment.deepspeed.zero_stage, experiment.deepspeed.config
    task = loop.Work(
        run=folder,
        experiment=experiment,
        prepared=Prepared.read(folder),
        fingerprint=identity.read(folder),
        world=world,
        device=device,
        make_engine=lambda model, groups: DeepSpeedEngine(
            model, groups, experiment.regularization.clip, stage, own
        ),
        stop=lambda: sender.asked_to_stop,
    )
    writing = held(folder, ".writer.lock", wait=60) if world.rank == 0 else contextlib.nullcontext()
    with writing:
        if world.ranks > 1:
            dist.barrier()  # nobody looks for a checkpoint while a former writer may still end one
        _drive(task, sender, config["began"])


def _drive(task: loop.Work, sender: Sender, began: float) -> None:
    first, last = task.world.rank == 0, loop.News(0)
    try:
        for last in loop.train(task):
            if began and "speed/seconds_per_step" in last.values:
                last.values["speed/seconds_to_first_step"] = time.time() - began
                began = 0.0
            if first:
                sender.add(last)
                if last.settle:
                    sender.settle()
            if last.checkpoint is not None:
                ray.train.report(
                    {"step": last.step},
                    checkpoint=Checkpoint.from_directory(last.checkpoint),
                    checkpoint_upload_mode=ray.train.CheckpointUploadMode.NO_UPLOAD,
                )
    except FloatingPointError as error:  # on all ranks alike, and again at every retry
        last = loop.News(last.step, events={"failed": {"error": str(error)}})
    if "trained" in last.events:
        found = loop.test_scores(task)
        events = {"test": {"scores": found.scores, "confusions": found.confusions}}
        last = loop.News(last.step, _peak_memory(), events)
    if first:
        if not {"stop", "trained"} & set(last.events):
            sender.add(last)
        sender.settle()


def _peak_memory() -> dict[str, float]:
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"speed/peak_memory_mb": peak}


EXPECTED = (
    ray.train.TrainingFailedError,
    ray.exceptions.RayError,
    RuntimeError,
    ValueError,
    OSError,
)
"""What ends a run: failed workers, a lost Ray, settings or a storage that Ray Train refuses."""


class Launch:
    """Ray Train's run in a thread of its own, so that signals stay with the main thread."""

    def __init__(self, experiment: Experiment, folder: Path, attempt: int) -> None:
        """Start it. Raises ``ValueError`` at once if the cluster is too small for it."""
        _connect()
        _fits(experiment)
        here = ray.get_runtime_context().get_node_id()
        beside = NodeAffinitySchedulingStrategy(here, soft=False)
        actor: Any = ray.remote(num_cpus=0, scheduling_strategy=beside)(Recorder)
        self._recorder = actor.remote(str(folder), attempt)
        self.error: BaseException | None = None
        # Ray would insist on every checkpoint it has seen; this run's own rules say what is kept.
        (folder / "checkpoint_manager_snapshot.json").unlink(missing_ok=True)
        trainer = TorchTrainer(
            work,
            train_loop_config={
                "folder": str(folder),
                "recorder": self._recorder,
                "began": psutil.Process().create_time(),
            },
            torch_config=TorchConfig(backend="nccl" if experiment.scaling.gpus else "gloo"),
            scaling_config=ScalingConfig(
                num_workers=experiment.scaling.workers,
                use_gpu=experiment.scaling.gpus > 0,
                resources_per_worker=_per_worker(experiment),
            ),
            run_config=RunConfig(
                name=folder.name,
                storage_path=str(folder.parent),
                failure_config=FailureConfig(
                    max_failures=experiment.train.retries, controller_failure_limit=2
                ),
                checkpoint_config=CheckpointConfig(),
            ),
        )
        self._thread = threading.Thread(target=self._fit, args=(trainer,), daemon=True)
        self._thread.start()

    def _fit(self, trainer: TorchTrainer) -> None:
        try:
            trainer.fit()
        except EXPECTED as error:
            self.error = error

    @property
    def running(self) -> bool:
        return self._thread.is_alive()

    def stop(self) -> None:
        """Ask all ranks to end after the same step, and to save."""
        self._recorder.stop.remote()

    def close(self) -> None:
        """Leave Ray; a Ray that this process started ends."""
        ray.shutdown()


def _per_worker(experiment: Experiment) -> dict[str, float]:
    gpus = {"GPU": experiment.scaling.gpus} if experiment.scaling.gpus else {}
    return {"CPU": experiment.scaling.cpus, **gpus}


def _fits(experiment: Experiment) -> None:
    """Refuse what would wait for ever. Raises ``ValueError`` with what is asked and there."""
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    workers, each = experiment.scaling.workers, _per_worker(experiment)
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


def _connect() -> None:
    """Join the Ray that RAY_ADDRESS names, or start one that belongs to this process alone."""
    environment = {key: os.environ.get(key, value) for key, value in ENVIRONMENT.items()}
    options: dict[str, Any] = {}
    if not os.environ.get("RAY_ADDRESS"):
        options = {"address": "local", "include_dashboard": False}
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    with _spared():
        ray.init(
            logging_level="ERROR",
            log_to_driver=False,
            runtime_env={"env_vars": environment},
            **options,
        )


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
