"""What makes two runs the same run: the hash of everything that changes a result, and no more."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from orchestrator.settings import Experiment

FILE = "identity.json"

RESULT = 3
"""Raised by hand whenever the same experiment comes to give another result."""

WHERE_NOT_WHAT = ("path", "revision", "config", "gazetteer", "shuffled")
"""Keys of ``data`` that say where things are, or in which order; what comes of them is known by
digest, or fitted."""


@dataclass(frozen=True)
class Contents:
    """What stands behind the names in an experiment, as ``prepare`` found it."""

    splits: Mapping[str, Mapping[str, str]]
    """Task, split: digest of the used columns."""
    fitted: Mapping[str, Any]
    """Task: label set, scale, whatever its family read off the training rows."""
    encoder: str
    """Digest of the encoder's first weights and its vocabulary."""
    stages: Sequence[Mapping[str, Any]] = ()
    """What the experiment's stages come to, whatever they are called."""


def ingredients(experiment: Experiment, contents: Contents) -> dict[str, Any]:
    """List all that changes a result, as plain data in the experiment's own words.

    Left out: names of things, where they are, workers, threads and ZeRO stage (decision: the same
    steps on other hardware are the same run), tracking and storage.
    """
    tree = experiment.resolved()
    for name, task in tree["tasks"].items():
        task["data"] = {k: v for k, v in task["data"].items() if k not in WHERE_NOT_WHAT}
        task["splits"] = dict(contents.splits[name])
        task["fitted"] = contents.fitted[name]
    how = ("mixture", "weighting", "optimizer", "regularization", "stacking", "batch")
    found = {key: tree[key] for key in ("tasks", "target", "score", *how)}
    found["train"] = {key: value for key, value in tree["train"].items() if key != "retries"}
    found["stages"] = [dict(stage) for stage in contents.stages]
    found["encoder"] = contents.encoder
    if experiment.encoder.lora is not None:
        found["lora"] = tree["encoder"]["lora"]
    found["deepspeed"] = {"config": tree["deepspeed"]["config"]}
    found["result"] = RESULT
    return found


def fingerprint(experiment: Experiment, contents: Contents) -> str:
    """Name a trial: 64 hex digits, equal exactly where ``ingredients`` are."""
    return _digest(ingredients(experiment, contents))


def arm(experiment: Experiment, contents: Contents) -> str:
    """Name an arm: the hash of a trial without its seed."""
    found = ingredients(experiment, contents)
    del found["train"]["seed"]
    return _digest(found)


def difference(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    """Name the settings that differ between two plain trees, each with both values."""
    flat = dict(_leaves(before, "")), dict(_leaves(after, ""))
    keys = dict.fromkeys([*flat[0], *flat[1]])
    return [
        f"{key}: {_shown(flat[0], key)} before, {_shown(flat[1], key)} now"
        for key in keys
        if (key in flat[0], flat[0].get(key)) != (key in flat[1], flat[1].get(key))
    ]


def _digest(tree: Mapping[str, Any]) -> str:
    """Hash plain data by its canonical JSON: sorted keys, whole numbers the same as 1 and 1.0."""
    text = json.dumps(
        _canonical(tree), sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False
    )
    return hashlib.sha256(text.encode()).hexdigest()


def _canonical(value: Any) -> Any:
    """Write ``1.0`` as ``1``: YAML and JSON readers differ there, results do not."""
    if isinstance(value, Mapping):
        return {str(key): _canonical(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_canonical(inner) for inner in value]
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value


def _leaves(value: Any, place: str) -> Iterator[tuple[str, Any]]:
    """Walk a tree: dotted place and value of everything that is no mapping."""
    if not isinstance(value, Mapping) or (place and not value):
        yield place, _canonical(value)
        return
    for key, inner in value.items():
        yield from _leaves(inner, f"{place}.{key}" if place else str(key))


def _shown(flat: Mapping[str, Any], key: str) -> str:
    if key not in flat:
        return "absent"
    text = json.dumps(flat[key], ensure_ascii=False)
    return text if len(text) <= 60 else f"{text[:57]}..."


def write(folder: Path, found: Mapping[str, Any]) -> None:
    """Keep in a run's folder what its result depends on, and the hash of it."""
    content = {"hash": _digest(found), "ingredients": _canonical(found)}
    (folder / FILE).write_text(json.dumps(content, indent=1), encoding="utf-8")


def read(folder: Path) -> str:
    """Read the hash of a run."""
    found: str = json.loads((folder / FILE).read_text(encoding="utf-8"))["hash"]
    return found


def kept(folder: Path) -> dict[str, Any]:
    """Read what the result of a run depends on."""
    found: dict[str, Any] = json.loads((folder / FILE).read_text(encoding="utf-8"))["ingredients"]
    return found
