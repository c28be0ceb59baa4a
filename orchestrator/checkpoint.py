"""A checkpoint is a folder that explains itself: manifest, encoder, heads, and optimizer state."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from orchestrator.stages import STACK

if TYPE_CHECKING:
    from torch import Tensor

    from orchestrator.engine import Engine
    from orchestrator.model import MultiTaskModel

FOLDER = "checkpoints"
MANIFEST = "manifest.json"
HEADS = "heads.safetensors"
OPTIMIZER = "state/optimizer.safetensors"
RAW = "/raw"
"""Ends the name of a weight among the optimizer's tensors, where averages stand in its place."""
RECORDED = ("torch", "transformers", "deepspeed", "ray", "tokenizers", "numpy")


@dataclass(frozen=True)
class Progress:
    """Where a run stands: all that decides its future beside weights and optimizer state."""

    step: int
    """Steps taken."""
    began: tuple[int, ...] = (0,)
    """The step at which each stage so far began; the last is the present one."""
    score: float | None = None
    """On validation, if this checkpoint was evaluated."""
    scores: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    """Task to metric to value, on validation."""
    best_step: int | None = None
    best_score: float | None = None
    waited: int = 0
    """Evaluations since the best one."""
    seconds: float = 0.0
    """Spent in steps, over all attempts."""

    @property
    def stage(self) -> int:
        """Give the present stage's place in the run."""
        return len(self.began) - 1

    @property
    def taken(self) -> int:
        """Count the steps of the present stage."""
        return self.step - self.began[-1]

    def entered(self) -> Progress:
        """Begin the next stage: what is best is decided anew."""
        return Progress(self.step, (*self.began, self.step), seconds=self.seconds)


def save(
    run: Path,
    engine: Engine,
    progress: Progress,
    fingerprint: str,
    rank: int,
    settings: Mapping[str, Any] | None = None,
    beside: Mapping[str, Tensor] | None = None,
) -> Path:
    """Write a checkpoint; all ranks must call, rank 0 writes. A half-written one is never seen.

    ``settings`` are the experiment's, for who finds the folder alone; nothing here reads them.
    Weights and optimizer tensors are stored whole, by parameter name, in fp32: they resume a run
    bit for bit, and on any number of ranks at any ZeRO stage. Where averages follow the weights,
    they are the checkpoint's weights, and the weights go on beside the optimizer's tensors, like
    ``beside``: what else decides the future, equal on all ranks.
    """
    final = run / FOLDER / f"step-{progress.step:06d}"
    weights = dict(_copied(engine.averaged(), rank))
    state = dict(_copied(engine.state(), rank))
    state |= dict(_copied((beside or {}).items(), rank))
    if engine.optimizer.averages:
        state |= {f"{name}{RAW}": value for name, value in _copied(engine.weights(), rank)}
    if rank:
        return final
    from safetensors.torch import save_file

    partial = final.with_name(f".{final.name}.tmp")
    shutil.rmtree(partial, ignore_errors=True)
    (partial / "state").mkdir(parents=True)
    model = engine.model
    model.encoder.save(partial / "encoder", _under("encoder", weights))
    heads = {name: value for name, value in weights.items() if not name.startswith("encoder.")}
    save_file(heads, partial / HEADS)
    save_file(state, partial / OPTIMIZER)
    content = {
        **asdict(progress),
        "fingerprint": fingerprint,
        "experiment": settings,
        "tasks": sorted(model.families),
        "versions": {name: version(name) for name in RECORDED},
        "files": _digests(partial),
    }
    for name in content["files"]:
        _sync(partial / name)
    content["digest"] = _digest_of(content)
    (partial / MANIFEST).write_text(json.dumps(content, indent=1), encoding="utf-8")
    _sync(partial / MANIFEST)
    shutil.rmtree(final, ignore_errors=True)
    partial.rename(final)
    _sync(final.parent)
    return final


def newest(run: Path) -> Path | None:
    """Find the newest checkpoint whose manifest verifies; broken ones are passed over."""
    folders = sorted((run / FOLDER).glob("step-*"), key=_step, reverse=True)
    return next((folder for folder in folders if verified(folder)), None)


def best(run: Path) -> Path:
    """Find the checkpoint with the best score of a run, or the newest where none was scored.

    Raises ``LookupError`` if there is none, or if it is damaged: another one is not as good.
    """
    last = newest(run)
    if last is None:
        raise LookupError(
            f"{run} has no whole checkpoint; expected one under {run / FOLDER}. "
            f"Train it first, or continue it with: tlmt train --resume {run}"
        )
    step = progress(last).best_step
    if step is None or step == progress(last).step:
        return last
    folder = run / FOLDER / f"step-{step:06d}"
    if not verified(folder):
        raise LookupError(
            f"{folder}, the best checkpoint of the run, is damaged: a file is missing or not as it "
            f"was written; expected the digests of its {MANIFEST}. Restore it from a copy, or "
            f"train again."
        )
    return folder


def verified(folder: Path) -> bool:
    """Say whether every file of a checkpoint is as it was written."""
    try:
        content = manifest(folder)
        files: dict[str, str] = content["files"]
        return content.pop("digest") == _digest_of(content) and all(
            _digest(folder / name) == digest for name, digest in files.items()
        )
    except (OSError, ValueError, KeyError, TypeError):
        return False


def manifest(folder: Path) -> dict[str, Any]:
    """Read what a checkpoint says of itself."""
    found: dict[str, Any] = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    return found


def progress(folder: Path) -> Progress:
    """Read where the run stood."""
    found = manifest(folder)
    own = {name: found[name] for name in Progress.__dataclass_fields__}
    return Progress(**{**own, "began": tuple(own["began"])})


def lean(folder: Path, copy: Path) -> None:
    """Copy a checkpoint without what only resuming needs; the copy verifies too.

    That is the optimizer's state and, with LoRA, what keeps its matrices apart from the encoder.
    """
    from encoders import lora

    shutil.copytree(folder, copy, ignore=shutil.ignore_patterns(Path(OPTIMIZER).parent.name))
    lora.settle(copy / "encoder")
    content = {**manifest(folder), "files": _digests(copy)}
    content["digest"] = _digest_of({k: v for k, v in content.items() if k != "digest"})
    (copy / MANIFEST).write_text(json.dumps(content, indent=1), encoding="utf-8")


def prune(run: Path, keep: set[int]) -> None:
    """Remove all checkpoints but those of these steps, and what half-written ones left."""
    for folder in (run / FOLDER).glob("step-*"):
        if _step(folder) not in keep:
            shutil.rmtree(folder)
    for partial in (run / FOLDER).glob(".step-*.tmp"):
        shutil.rmtree(partial)


def load_heads(model: MultiTaskModel, folder: Path) -> None:
    """Copy the heads of a checkpoint into a model (its encoder is loaded from ``encoder/``)."""
    import torch
    from safetensors.torch import load_file

    stored = load_file(folder / HEADS)
    with torch.no_grad():
        for name, task, parameter in model.named():
            if task is not None and (name in stored or not name.endswith(f".{STACK}")):
                parameter.copy_(stored[name])


def stacks(folder: Path) -> bool:
    """Say whether the target of a checkpoint reads its helpers."""
    from safetensors import safe_open

    with safe_open(folder / HEADS, "numpy") as stored:
        return any(name.endswith(f".{STACK}") for name in stored.keys())  # noqa: SIM118


def load_state(folder: Path) -> dict[str, Tensor]:
    """Read the optimizer tensors of a checkpoint; nothing in it can execute code."""
    from safetensors.torch import load_file

    return dict(load_file(folder / OPTIMIZER))


def split_state(state: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Part the optimizer's tensors from the weights that stand among them (see ``RAW``)."""
    raw = {n.removesuffix(RAW): value for n, value in state.items() if n.endswith(RAW)}
    return {n: value for n, value in state.items() if not n.endswith(RAW)}, raw


def _copied(tensors: Any, rank: int) -> Any:
    """Walk through tensors on every rank (gathering them is collective); keep them on rank 0."""
    for name, tensor in tensors:
        if rank == 0:
            yield name, tensor.detach().cpu().contiguous().clone()


def _under(prefix: str, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    start = f"{prefix}."
    return {n.removeprefix(start): w for n, w in weights.items() if n.startswith(start)}


def _step(folder: Path) -> int:
    return int(folder.name.removeprefix("step-"))


def _digests(folder: Path) -> dict[str, str]:
    """Hash every file of a checkpoint, but its manifest."""
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != MANIFEST)
    return {str(path.relative_to(folder)): _digest(path) for path in files}


def _digest_of(content: Mapping[str, Any]) -> str:
    """Hash a manifest, but for its own digest."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
