"""MLflow gets all that a run's folder holds, each value once, whatever happens in between."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from orchestrator.journal import Journal, Record
from orchestrator.store import Store
from orchestrator.tracking import STATE, Tracker, sync_runs

# MLflow's own tables use what SQLAlchemy will take away.
pytestmark = pytest.mark.filterwarnings("ignore:The ``noload`` loader:DeprecationWarning")

SPLITS = ("train", "validation", "test")


@pytest.fixture(scope="module")
def uri(tmp_path_factory: pytest.TempPathFactory) -> str:
    return f"sqlite:///{tmp_path_factory.mktemp('store') / 'mlflow.db'}"


@pytest.fixture
def run(tmp_path: Path, uri: str, request: pytest.FixtureRequest) -> Path:
    return make_run(tmp_path, uri, request.node.name)


def make_run(storage: Path, uri: str, name: str) -> Path:
    folder = storage / name / "20250101-000000-abc"
    folder.mkdir(parents=True)
    experiment = {
        "name": name,
        "tasks": {"topic": {"family": "classify", "data": {"path": "news"}, "weight": 0.5}},
        "optimizer": {"lr": 5.0e-05, "betas": [0.9, 0.999]},
        "tracking": {"uri": uri, "experiment": None, "log_model": True},
    }
    (folder / "experiment.yaml").write_text(yaml.safe_dump(experiment))
    counts = {"rows": 20, "truncated": 1, "set_aside": 0, "strange": 0}
    splits = {n: {"source": f"news/{n}.csv", "digest": n[0] * 64, **counts} for n in SPLITS}
    (folder / "prepared.json").write_text(json.dumps({"tasks": {"topic": {"splits": splits}}}))
    (folder / "identity.json").write_text(json.dumps({"hash": "h" * 12}))
    return folder


def record(step: int, key: str = "topic/train/loss", value: Any = None, attempt: int = 0) -> Record:
    value = 1 / (1 + step) if value is None else value
    return Record("abc", attempt, 0, step, key, value, time=1.7e9 + step + 1000 * attempt)


def write(folder: Path, *records: Record) -> None:
    with Journal(folder) as journal:
        journal.append(records)


def history(folder: Path, key: str = "topic/train/loss") -> list[tuple[int, float]]:
    tracker = Tracker(folder)
    store = Store(tracker.state.uri, tracker.settings["name"])
    assert tracker.mlflow_run_id is not None
    found = store.client.get_metric_history(tracker.mlflow_run_id, key)
    return [(metric.step, metric.value) for metric in found]


def mlflow_run(folder: Path) -> Any:
    tracker = Tracker(folder)
    store = Store(tracker.state.uri, tracker.settings["name"])
    (found,) = store.client.search_runs([store.experiment])
    return found


def expected(last: int) -> list[tuple[int, float]]:
    return [(step, 1 / (1 + step)) for step in range(1, last + 1)]


def test_everything_a_run_holds_arrives(run: Path) -> None:
    write(run, record(0, "event/start", {}))
    write(run, *(record(step) for step in range(1, 6)))
    (run / "results.json").write_text(json.dumps({"mlflow_run_id": None}))
    (run / "charts").mkdir()
    (run / "charts" / "loss.png").write_bytes(b"png")
    scores = {"topic": {"accuracy": 0.75}}
    write(run, record(5, "event/test", {"scores": scores}), record(5, "event/end", {}))
    assert Tracker(run).sync()

    assert history(run) == expected(5)
    assert history(run, "topic/test/accuracy") == [(5, 0.75)]
    found = mlflow_run(run)
    assert found.info.status == "FINISHED"
    assert found.info.end_time == int(1000 * (1.7e9 + 5))
    assert found.data.params["tasks.topic.weight"] == "0.5"
    assert found.data.params["optimizer.betas"] == "[0.9, 0.999]"
    assert found.data.tags["tlmt.run_id"] == run.name
    assert found.data.tags["tlmt.experiment_hash"] == "h" * 12
    inputs = {data.dataset.name: data for data in found.inputs.dataset_inputs}
    assert inputs["topic/train"].dataset.digest == "t" * 36
    assert {tag.value for data in inputs.values() for tag in data.tags} == {
        "training",
        "validation",
        "testing",
    }
    place = Path(found.info.artifact_uri.removeprefix("file://"))
    kept = {str(file.relative_to(place)) for file in place.rglob("*") if file.is_file()}
    assert kept == {"experiment.yaml", "results.json", "charts/loss.png"}
    assert json.loads((run / "results.json").read_text())["mlflow_run_id"] == found.info.run_id


def test_a_restart_sends_only_what_is_new(run: Path) -> None:
    write(run, *(record(step) for step in range(1, 4)))
    Tracker(run).sync()
    write(run, record(4), record(5))
    assert Tracker(run).sync()
    assert Tracker(run).sync()
    assert history(run) == expected(5)


def test_what_a_resumed_run_repeats_is_sent_once(run: Path) -> None:
    tracker = Tracker(run)
    write(run, *(record(step) for step in range(1, 7)))
    tracker.sync()
    again = [record(step, attempt=1) for step in range(4, 9)]
    write(run, record(3, "event/resume", {"from_step": 3}, attempt=1), *again)
    assert tracker.sync()
    assert history(run) == expected(8)


def test_nothing_is_doubled_when_the_memory_of_what_was_sent_is_lost(run: Path) -> None:
    write(run, *(record(step) for step in range(1, 4)))
    Tracker(run).sync()
    (run / STATE).unlink()
    again = [record(step, attempt=1) for step in range(2, 6)]
    write(run, record(1, "event/resume", {"from_step": 1}, attempt=1), *again)
    assert Tracker(run).sync()
    assert history(run) == expected(5)
    mlflow_run(run)  # exactly one


def test_a_batch_whose_success_was_not_seen_is_not_doubled(run: Path) -> None:
    write(run, *(record(step) for step in range(1, 4)))
    tracker = Tracker(run)
    tracker.sync()
    tracker.state.sent, tracker.state.offset = {}, 0
    assert tracker.sync()
    assert history(run) == expected(3)


def test_thousands_of_values_are_sent_in_batches(run: Path) -> None:
    write(run, *(record(step) for step in range(1, 2502)))
    assert Tracker(run).sync()
    assert history(run)[-1] == (2501, 1 / 2502)
    assert len(history(run)) == 2501


def test_a_stopped_run_is_killed_and_runs_again_when_resumed(run: Path) -> None:
    tracker = Tracker(run)
    write(run, record(0, "event/start", {}), record(2, "event/stop", {}))
    tracker.sync()
    assert mlflow_run(run).info.status == "KILLED"
    write(run, record(2, "event/resume", {"from_step": 2}))
    tracker.sync()
    assert mlflow_run(run).info.status == "RUNNING"
    write(run, record(3, "event/failed", {"error": "x"}))
    tracker.sync()
    assert mlflow_run(run).info.status == "FAILED"


def test_a_changed_file_is_sent_again_and_others_are_not(run: Path) -> None:
    tracker = Tracker(run)
    (run / "report.html").write_text("one")
    tracker.sync()
    place = Path(mlflow_run(run).info.artifact_uri.removeprefix("file://"))
    (place / "experiment.yaml").unlink()
    (run / "report.html").write_text("second")
    tracker.sync()
    assert (place / "report.html").read_text() == "second"
    assert not (place / "experiment.yaml").exists()


def test_an_absent_store_delays_and_loses_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    obstacle = tmp_path / "store"
    obstacle.write_text("no folder, so no store can be made below")
    run = make_run(tmp_path, f"sqlite:///{obstacle / 'mlflow.db'}", "absent")
    write(run, record(1), record(2))
    tracker = Tracker(run)
    assert not tracker.sync()
    assert not tracker.sync()
    assert not tracker.sync(now=True)
    assert len(caplog.records) == 1
    assert "tlmt sync" in caplog.text
    obstacle.unlink()
    write(run, record(3))
    assert sync_runs([run]) == {run: True}
    assert history(run) == expected(3)


def test_secrets_in_addresses_are_not_logged(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    run = make_run(tmp_path, "http://ada:pa55word@127.0.0.1:9", "closed")
    assert not Tracker(run).sync()
    assert "127.0.0.1:9" in caplog.text
    assert "pa55word" not in caplog.text


@pytest.mark.slow
def test_two_processes_may_make_one_store_at_once(tmp_path: Path) -> None:
    program = "import sys; from orchestrator.store import Store; Store(sys.argv[1], 'both')"
    address = f"sqlite:///{tmp_path / 'mlflow.db'}"
    pair = [subprocess.Popen([sys.executable, "-c", program, address]) for _ in range(2)]
    assert [process.wait() for process in pair] == [0, 0]


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


@contextlib.contextmanager
def server(folder: Path, port: int) -> Iterator[None]:
    command = [sys.executable, "-m", "mlflow", "server", "--port", str(port), "--workers", "1"]
    command += ["--backend-store-uri", f"sqlite:///{folder / 'mlflow.db'}"]
    command += ["--artifacts-destination", str(folder / "artifacts")]
    quiet = subprocess.DEVNULL
    process = subprocess.Popen(command, stdout=quiet, stderr=quiet, start_new_session=True)
    try:
        deadline = time.monotonic() + 90
        while True:
            with (
                contextlib.suppress(OSError),
                urllib.request.urlopen(f"http://127.0.0.1:{port}/health"),
            ):
                break
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.2)
        yield
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


@pytest.mark.slow
def test_a_server_that_dies_and_returns_has_every_value_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "20")  # it may be busy
    port = free_port()
    run = make_run(tmp_path, f"http://127.0.0.1:{port}", "server")
    write(run, record(0, "event/start", {}), record(1))
    tracker = Tracker(run)
    assert not tracker.sync()  # not up yet
    with server(tmp_path, port):
        write(run, record(2))
        assert tracker.sync(now=True)
    write(run, *(record(step) for step in range(3, 50)))
    assert not tracker.sync(now=True)
    write(run, *(record(step) for step in range(50, 101)))
    write(run, record(100, "event/end", {}))
    shutil.copy(run / "experiment.yaml", run / "report.html")
    with server(tmp_path, port):
        assert Tracker(run).sync(now=True)
        assert history(run) == expected(100)
        assert mlflow_run(run).info.status == "FINISHED"
