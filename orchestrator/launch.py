"""One run on many workers: Ray Train and its worker function."""

from __future__ import annotations

import contextlib
import os
import tempfile
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import psutil
import ray
import ray.train
import torch
import torch.distributed as dist
from ray.train import Checkpoint, CheckpointConfig, FailureConfig, RunConfig, ScalingConfig
from ray.train.torch import TorchConfig, TorchTrainer, get_device
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from orchestrator import cluster, identity, loop
from orchestrator.access import held
from orchestrator.engine import DeepSpeedEngine, join
from orchestrator.evaluate import Ranks
from orchestrator.experiment import Experiment, load
from orchestrator.model import MultiTaskModel
from orchestrator.prepare import Prepared
from orchestrator.recorder import Recorder, Sender
from orchestrator.work import Work


class Near(TorchConfig):
    """Has workers on one machine find each other through a file.

    As it comes, PyTorch's key-value store listens on all interfaces and knows no secret.
    """

    @property
    def backend_cls(self) -> type:
        return _Near


_Torch: Any = TorchConfig().backend_cls


class _Near(_Torch):  # type: ignore[misc]
    def on_start(self, worker_group: Any, backend_config: TorchConfig) -> None:
        handle, file = tempfile.mkstemp(prefix="tlmt-store-")
        os.close(handle)  # the last rank to leave removes the file
        ranks, backend = len(worker_group), backend_config.backend
        met = [
            worker_group.execute_single_async(rank, _meet, backend, file, rank, ranks)
            for rank in range(ranks)
        ]
        ray.get(met)


def _meet(backend: str, file: str, rank: int, ranks: int) -> None:
    os.environ |= {"RANK": f"{rank}", "LOCAL_RANK": f"{rank}", "WORLD_SIZE": f"{ranks}"}
    dist.init_process_group(backend, f"file://{file}", rank=rank, world_size=ranks)


def work(config: dict[str, Any]) -> None:
    """Run on every worker: drive the loop and forward what it yields."""
    folder = Path(config["folder"])
    experiment = load(folder / "experiment.yaml")
    world, device = joined(experiment)
    sender = Sender(config["recorder"])
    task = Work(
        run=folder,
        experiment=experiment,
        prepared=Prepared.read(folder),
        fingerprint=identity.read(folder),
        world=world,
        device=device,
        make_engine=partial(engine, experiment),
        stop=lambda: sender.asked_to_stop,
    )
    writing = held(folder, ".writer.lock", wait=60) if world.rank == 0 else contextlib.nullcontext()
    with writing:
        if world.ranks > 1:
            dist.barrier()  # nobody looks for a checkpoint while a former writer may still end one
        _drive(task, sender, config["began"])


def joined(experiment: Experiment) -> tuple[Ranks, torch.device]:
    """Settle threads and processes of a worker; say which it is, and on what it computes."""
    context, scaling = ray.train.get_context(), experiment.scaling
    torch.set_num_threads(scaling.cpus if scaling.threads == "auto" else scaling.threads)
    device = get_device()
    join(device)
    return Ranks(context.get_world_rank(), context.get_world_size()), device


def engine(
    experiment: Experiment, model: MultiTaskModel, groups: list[dict[str, Any]]
) -> DeepSpeedEngine:
    """Make the engine that an experiment asks for."""
    own = experiment.deepspeed
    clip = experiment.regularization.clip
    return DeepSpeedEngine(model, groups, clip, own.zero_stage, own.config)


def _drive(task: Work, sender: Sender, began: float) -> None:
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
        best = loop.best(task)
        found = loop.test_scores(task, best)
        events = {"test": {"scores": found.scores, "confusions": found.confusions}}
        drift = {"encoder/drift": loop.drift(task, best)} if first else {}
        last = loop.News(last.step, _peak_memory() | drift, events)
    if first:
        if not {"stop", "trained"} & set(last.events):
            sender.add(last)
        sender.settle()


def _peak_memory() -> dict[str, float]:
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"speed/peak_memory_mb": peak}


def training(
    each: Callable[[dict[str, Any]], None],
    config: dict[str, Any],
    experiment: Experiment,
    folder: Path,
    retries: int,
) -> TorchTrainer:
    """Set up Ray Train with the workers of an experiment; ``each`` is what they do."""
    meeting = Near if cluster.own() else TorchConfig
    return TorchTrainer(
        each,
        train_loop_config=config,
        torch_config=meeting(backend="nccl" if experiment.scaling.gpus else "gloo"),
        scaling_config=ScalingConfig(
            num_workers=experiment.scaling.workers,
            use_gpu=experiment.scaling.gpus > 0,
            resources_per_worker=cluster.per_worker(experiment),
        ),
        run_config=RunConfig(
            name=folder.name,
            storage_path=str(folder.parent),
            failure_config=FailureConfig(max_failures=retries, controller_failure_limit=2),
            checkpoint_config=CheckpointConfig(),
        ),
    )


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
        cluster.connect()
        cluster.require_room(experiment)
        here = ray.get_runtime_context().get_node_id()
        beside = NodeAffinitySchedulingStrategy(here, soft=False)
        actor: Any = ray.remote(num_cpus=0, scheduling_strategy=beside)(Recorder)
        self._recorder = actor.remote(str(folder), attempt)
        self.error: BaseException | None = None
        # Ray would insist on every checkpoint it has seen; this run's own rules say what is kept.
        (folder / "checkpoint_manager_snapshot.json").unlink(missing_ok=True)
        config = {
            "folder": str(folder),
            "recorder": self._recorder,
            "began": psutil.Process().create_time(),
        }
        trainer = training(work, config, experiment, folder, experiment.train.retries)
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
