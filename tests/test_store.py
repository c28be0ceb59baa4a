"""What MLflow has is found again and completed; what it lost, or never had, is sent anew."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from mlflow.exceptions import MlflowException
from test_tracking import expected, history, make_run, mlflow_run, record, write

from orchestrator import store
from orchestrator.store import ModelError, Store
from orchestrator.tracking import STATE, Tracker, sync_runs

# MLflow's own tables use what SQLAlchemy will take away.
pytestmark = pytest.mark.filterwarnings("ignore:The ``noload`` loader:DeprecationWarning")


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Two stores."""
    folder = tmp_path_factory.mktemp("stores")
    return [f"sqlite:///{folder / name / 'mlflow.db'}" for name in ("first", "second")]


@pytest.fixture
def run(tmp_path: Path, stores: list[str], request: pytest.FixtureRequest) -> Path:
    folder = make_run(tmp_path, stores[0], request.node.name)
    write(folder, record(0, "event/start", {}), record(1), record(2), record(2, "event/end", {}))
    (folder / "results.json").write_text(json.dumps({"mlflow_run_id": None}))
    return folder


def point(folder: Path, uri: str | None) -> None:
    """Change ``tracking.uri`` of a run, as resuming it does."""
    settings = folder / "experiment.yaml"
    tree = yaml.safe_load(settings.read_text())
    tree["tracking"]["uri"] = uri
    settings.write_text(yaml.safe_dump(tree))


def whole(folder: Path) -> bool:
    """Say whether the store that a run now has holds all of it, once."""
    found = mlflow_run(folder)
    named = json.loads((folder / "results.json").read_text())["mlflow_run_id"]
    place = Path(found.info.artifact_uri.removeprefix("file://"))
    return (
        history(folder) == expected(2)
        and found.info.status == "FINISHED"
        and found.info.run_id == named
        and (place / "experiment.yaml").is_file()
        and len(found.inputs.dataset_inputs) == 3
        and found.data.params["tasks.topic.weight"] == "0.5"
    )


def test_a_store_that_lost_a_run_gets_all_of_it_again(run: Path, stores: list[str]) -> None:
    assert sync_runs([run]) == {run: True}
    assert whole(run)
    memory = run / STATE
    kept = json.loads(memory.read_text())
    memory.write_text(json.dumps({**kept, "uri": stores[1], "asked": stores[1]}))
    point(run, stores[1])  # an empty store where one was that held the run
    assert sync_runs([run]) == {run: True}
    assert Tracker(run).mlflow_run_id != kept["run_id"]
    assert whole(run)
    assert sync_runs([run]) == {run: True}
    assert whole(run)


def test_a_run_whose_address_was_changed_is_sent_to_the_new_one(
    run: Path, stores: list[str]
) -> None:
    Tracker(run).sync()
    point(run, stores[1])
    assert Tracker(run).state.uri == stores[1]
    assert Tracker(run).sync()
    assert whole(run)
    point(run, stores[0])
    assert Tracker(run).sync()
    assert whole(run)  # found again, and not doubled


def test_a_run_stays_where_its_settings_leave_the_address_open(
    run: Path, stores: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    point(run, None)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", stores[0])
    Tracker(run).sync()
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    monkeypatch.chdir(tmp_path)
    assert Tracker(run).state.uri == stores[0]
    assert Tracker(run).mlflow_run_id is not None


def test_a_password_from_the_environment_reaches_the_store_and_no_file(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    def open_store(uri: str, experiment: str) -> Store:
        asked.append(uri)
        raise OSError("closed")

    monkeypatch.setattr("orchestrator.tracking.Store", open_store)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://ada:pa55word@host")
    point(run, None)
    tracker = Tracker(run)
    assert not tracker.sync()
    tracker._save()
    assert not Tracker(run).sync()
    assert asked == ["http://ada:pa55word@host"] * 2
    assert "pa55word" not in (run / STATE).read_text()


def test_only_addresses_have_secrets() -> None:
    assert store.without_secrets("at http://a:b@host/x failed") == "at http://***@host/x failed"
    assert store.without_secrets("sqlite:////ada@work/m.db") == "sqlite:////ada@work/m.db"


def test_a_fresh_process_is_not_told_the_store_on_its_command_line(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    told: dict[str, Any] = {}

    def start(command: list[str], **kwargs: Any) -> subprocess.CompletedProcess[str]:
        told.update(command=command, **kwargs)
        return subprocess.CompletedProcess(command, 0, "[]", "")

    monkeypatch.setattr(subprocess, "run", start)
    assert store.ask("models:/m-1", "http://ada:pa55word@host") == "[]"
    assert "pa55word" not in " ".join(told["command"])
    assert told["env"]["MLFLOW_TRACKING_URI"] == "http://ada:pa55word@host"


@pytest.fixture
def saved(run: Path) -> Path:
    """A run with a saved model, of which only the description matters here."""
    (run / "model").mkdir()
    description = {"model_uuid": f"uuid of {run.parent.name}", "flavors": {}}
    (run / "model" / "MLmodel").write_text(yaml.safe_dump(description))
    write(run, record(2, "event/test", {"scores": {"topic": {"accuracy": 0.75}}}))
    return run


def models(folder: Path) -> list[Any]:
    """Give the models that MLflow has of a run, begun ones included."""
    held = Store(Tracker(folder).state.uri, folder.parent.name)
    return list(held.client.search_logged_models([held.experiment]))


def outputs(folder: Path) -> list[str]:
    """Give the models that MLflow lists at a run."""
    return [output.model_id for output in mlflow_run(folder).outputs.model_outputs]


@pytest.mark.parametrize("step", ["log_outputs", "log_model_artifacts", "finalize_logged_model"])
def test_an_outage_while_a_model_is_logged_leaves_one_model_in_the_end(
    saved: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    def away(*_: Any, **__: Any) -> None:
        raise MlflowException("away")

    monkeypatch.setattr(store, "ask", lambda model, uri: "[]")
    with monkeypatch.context() as outage:
        outage.setattr(f"mlflow.MlflowClient.{step}", away)
        assert not Tracker(saved).sync()
        assert not Tracker(saved).sync()
    assert [model.status for model in models(saved)] == ["PENDING"]
    assert Tracker(saved).sync()
    (model,) = models(saved)
    assert model.status == "READY"
    assert {metric.key: metric.value for metric in model.metrics} == {"topic/test/accuracy": 0.75}
    assert outputs(saved) == [model.model_id]


def test_a_model_is_found_again_when_the_memory_of_it_is_lost(
    saved: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    def ask(model: str, uri: str) -> str:
        asked.append(model)
        raise ModelError("broken")

    monkeypatch.setattr(store, "ask", ask)
    assert Tracker(saved).sync()
    (saved / STATE).unlink()
    assert Tracker(saved).sync()
    (model,) = models(saved)
    assert model.status == "FAILED"
    assert Tracker(saved).state.models == {f"uuid of {saved.parent.name}": model.model_id}
    assert outputs(saved) == [model.model_id]
    assert len(asked) == 1
