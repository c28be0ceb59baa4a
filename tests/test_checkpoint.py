"""Checkpoints: whole or not seen, the best one kept, loaded without executing anything."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open

from orchestrator import checkpoint, weights
from orchestrator.checkpoint import Progress
from orchestrator.engine import PlainEngine
from orchestrator.experiment import load
from orchestrator.model import MultiTaskModel
from orchestrator.optimizer import groups
from orchestrator.prepare import Prepared
from tests import trained


@pytest.fixture(scope="module")
def engine() -> PlainEngine:
    """A real model that has taken one step, so that it has optimizer state."""
    made = build()
    for parameter in made.model.parameters():
        parameter.grad = torch.ones_like(parameter)
    made.step({"roles", "sentiment"})
    return made


def build(folder: Path | None = None) -> PlainEngine:
    run = trained.run()
    experiment, prepared = load(run / "experiment.yaml"), Prepared.read(run)
    families = {task: prepared.family(task) for task in prepared.tasks}
    model = weights.restored(experiment, families, folder or checkpoint.best(run))
    settings: dict[str | None, Any] = {None: experiment.optimizer}
    settings |= {task: experiment.task_optimizer(task) for task in families}
    return PlainEngine(model, groups(model.named(), settings), 1.0)


PROGRESS = Progress(
    step=10,
    score=0.5,
    scores={"roles": {"f1": 0.5, "loss": 1.25}},
    best_step=10,
    best_score=0.5,
    waited=0,
    seconds=1.5,
)


@pytest.fixture
def run(tmp_path: Path, engine: PlainEngine) -> Path:
    """A run with checkpoints at steps 10 and 20, the first of them the best."""
    checkpoint.save(tmp_path, engine, PROGRESS, "f" * 64, 0)
    later = replace(PROGRESS, step=20, score=0.4, waited=1)
    checkpoint.save(tmp_path, engine, later, "f" * 64, 0)
    return tmp_path


def folder(run: Path, step: int) -> Path:
    return run / "checkpoints" / f"step-{step:06d}"


def named(model: MultiTaskModel) -> dict[str, torch.Tensor]:
    return {name: parameter.detach() for name, _, parameter in model.named()}


def test_weights_state_and_progress_come_back_bit_for_bit(run: Path, engine: PlainEngine) -> None:
    made = build(folder(run, 10))
    made.restore(checkpoint.load_state(folder(run, 10)))
    expected = named(engine.model)
    assert all(torch.equal(value, expected[name]) for name, value in named(made.model).items())
    state = dict(engine.state())
    found = dict(made.state())
    assert found.keys() == state.keys()
    assert not any(name.startswith("marks.") for name in state), "a head that never stepped"
    assert all(torch.equal(found[name], value) for name, value in state.items())
    assert checkpoint.progress(folder(run, 10)) == PROGRESS


def test_the_manifest_says_what_the_folder_is(run: Path) -> None:
    found = checkpoint.manifest(folder(run, 10))
    assert found["fingerprint"] == "f" * 64
    assert found["tasks"] == ["marks", "roles", "sentiment"]
    assert found["versions"]["torch"] == version("torch")
    inside = {
        str(path.relative_to(folder(run, 10)))
        for path in folder(run, 10).rglob("*")
        if path.is_file()
    }
    assert set(found["files"]) == inside - {"manifest.json"}


def test_the_newest_whole_checkpoint_is_found_also_after_a_million_steps(
    run: Path, engine: PlainEngine
) -> None:
    assert checkpoint.newest(run) == folder(run, 20)
    for step in (999_999, 1_000_000):
        checkpoint.save(run, engine, replace(PROGRESS, step=step), "f" * 64, 0)
    assert checkpoint.newest(run) == folder(run, 1_000_000)


def test_a_run_without_checkpoints_has_none(tmp_path: Path) -> None:
    assert checkpoint.newest(tmp_path) is None
    with pytest.raises(LookupError, match="has no whole checkpoint"):
        checkpoint.best(tmp_path)


@pytest.mark.parametrize(
    "file",
    [
        "heads.safetensors",
        "state/optimizer.safetensors",
        "encoder/model.safetensors",
        "encoder/config.json",
        "manifest.json",
    ],
)
def test_a_checkpoint_with_a_changed_byte_or_a_missing_file_is_passed_over(
    run: Path, file: str
) -> None:
    path = folder(run, 20) / file
    content = bytearray(path.read_bytes())
    place = content.index(b"0.4") if file == "manifest.json" else len(content) // 2
    content[place] ^= 1
    path.write_bytes(content)
    assert checkpoint.newest(run) == folder(run, 10)
    path.unlink()
    assert checkpoint.newest(run) == folder(run, 10)


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"files": 3}', '{"files": {'])
def test_a_manifest_that_is_none_is_passed_over(run: Path, content: str) -> None:
    (folder(run, 20) / "manifest.json").write_text(content)
    assert checkpoint.newest(run) == folder(run, 10)


@pytest.mark.parametrize("moment", ["_digest", "_sync"])
def test_a_crash_while_saving_leaves_the_older_checkpoint_the_newest(
    run: Path, engine: PlainEngine, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    def crash(path: Path) -> None:
        raise OSError("no space left")

    later = replace(PROGRESS, step=30)
    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, moment, crash)
        with pytest.raises(OSError, match="no space"):
            checkpoint.save(run, engine, later, "f" * 64, 0)
    assert any((run / "checkpoints").glob(".step-000030.tmp"))
    assert checkpoint.newest(run) == folder(run, 20)
    assert checkpoint.save(run, engine, later, "f" * 64, 0) == folder(run, 30)
    assert checkpoint.newest(run) == folder(run, 30)
    assert not any((run / "checkpoints").glob(".step-*"))


def test_pruning_keeps_what_it_is_told_and_removes_half_written_ones(run: Path) -> None:
    half = run / "checkpoints" / ".step-000030.tmp"
    shutil.copytree(folder(run, 20), half)
    shutil.copytree(folder(run, 20), folder(run, 15))
    checkpoint.prune(run, {10, 20})
    assert sorted((run / "checkpoints").iterdir()) == [folder(run, 10), folder(run, 20)]


def test_the_best_checkpoint_is_the_one_the_newest_names(run: Path, engine: PlainEngine) -> None:
    assert checkpoint.best(run) == folder(run, 10)
    checkpoint.save(run, engine, replace(PROGRESS, step=30, best_step=30), "f" * 64, 0)
    assert checkpoint.best(run) == folder(run, 30)


def test_where_nothing_was_scored_the_newest_is_the_best(
    tmp_path: Path, engine: PlainEngine
) -> None:
    checkpoint.save(tmp_path, engine, Progress(5), "f" * 64, 0)
    assert checkpoint.best(tmp_path) == folder(tmp_path, 5)


def test_a_best_checkpoint_that_is_damaged_is_told_and_not_used(run: Path) -> None:
    (folder(run, 10) / "heads.safetensors").unlink()
    with pytest.raises(LookupError, match=r"step-000010.*is damaged"):
        checkpoint.best(run)


def test_nothing_in_a_checkpoint_can_execute_code(run: Path) -> None:
    files = [path for path in folder(run, 10).rglob("*") if path.is_file()]
    assert {path.suffix for path in files} <= {".json", ".safetensors", ".txt"}
    for path in files:
        if path.suffix == ".safetensors":
            with safe_open(path, "pt") as tensors:
                assert tensors.keys()
        elif path.suffix == ".json":
            json.loads(path.read_text())


def test_the_encoder_is_a_plain_transformers_folder(run: Path, engine: PlainEngine) -> None:
    from transformers import AutoModel, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder(run, 10) / "encoder")
    plain = AutoModel.from_pretrained(folder(run, 10) / "encoder").eval()
    inputs = tokenizer(trained.TEXT, return_tensors="pt")
    ids = inputs["input_ids"][0]
    encoder = engine.model.encoder.eval()
    with torch.no_grad():
        expected = plain(**inputs).last_hidden_state[0]
        found = encoder(ids, torch.zeros_like(ids), torch.tensor([0, len(ids)]), [])
    encoder.train()
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


def test_other_ranks_write_nothing(tmp_path: Path, engine: PlainEngine) -> None:
    assert checkpoint.save(tmp_path, engine, PROGRESS, "f" * 64, 1) == folder(tmp_path, 10)
    assert not any(tmp_path.iterdir())
