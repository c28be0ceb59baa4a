"""Every verb that reads a run does so from any folder, as a command."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import trained
from typer.testing import CliRunner, Result

from orchestrator.cli import app


def tlmt(*words: str, given: str | None = None) -> Result:
    return CliRunner().invoke(app, list(words), input=given)


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of a finished run, in a working folder of its own."""
    folder = tmp_path / "runs" / "small" / trained.run().name
    shutil.copytree(trained.run(), folder)
    monkeypatch.chdir(tmp_path)
    return folder


def document(done: Result) -> Any:
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout)


def test_predict_answers_text_lines_and_files_alike(run: Path) -> None:
    (said,) = document(tlmt("predict", "small", "--text", trained.TEXT, "--json"))
    assert set(said) == set(trained.TASKS)
    assert document(tlmt("predict", run.name, "--json", given=trained.TEXT + "\n")) == [said]
    Path("asked.jsonl").write_text(json.dumps({"text": trained.TEXT}) + "\n")
    assert document(tlmt("predict", str(run), "--file", "asked.jsonl", "--json")) == [said]
    (one,) = document(tlmt("predict", "small", "--text", trained.TEXT, "--task", "marks", "--json"))
    assert set(one) == {"marks"}


def test_evaluate_scores_the_split_that_is_asked_for(run: Path) -> None:
    scores = document(tlmt("evaluate", "small", "--split", "test", "--json"))
    assert "roles" in json.dumps(scores)
    shown = tlmt("evaluate", "small", "--split", "validation")
    assert shown.exit_code == 0
    assert "sentiment" in shown.stdout


def test_report_writes_the_page_into_the_run(run: Path) -> None:
    (run / "report.html").unlink(missing_ok=True)
    assert tlmt("report", "small").exit_code == 0
    assert "<html" in (run / "report.html").read_text()


def test_export_fills_a_folder_of_each_task(run: Path) -> None:
    assert tlmt("export", "small", "out").exit_code == 0
    assert {path.name for path in Path("out").iterdir()} >= set(trained.TASKS)


def test_check_takes_one_step_and_a_dry_run_none(tmp_path: Path, written: Path) -> None:
    found = document(tlmt("check", str(written), "--json"))
    assert {part["task"] for part in found["parts"]} == {"sentiment", "topic"}
    dry = tlmt("train", str(written), "--dry-run")
    assert dry.exit_code == 0, dry.output
    assert not list(tmp_path.glob("runs/*/*/experiment.yaml"))


@pytest.fixture
def written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make_experiment: Any) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own.yaml").write_text(json.dumps(make_experiment()))
    return tmp_path / "own.yaml"


def test_an_unknown_run_is_named_with_the_nearest_one(run: Path) -> None:
    done = tlmt("report", "smal")
    assert done.exit_code == 2
    assert "Did you mean 'small'?" in done.output
