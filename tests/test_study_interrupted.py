"""A study is in MLflow once and whole, whatever was killed, lost or away in between."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from test_study_tracking import ARMS, SEEDS, content, end, end_all, make_study, runs

from orchestrator.access import held
from orchestrator.store import Store
from orchestrator.studies.study import Study
from orchestrator.studies.tracking import LOCK, StudyTracker
from orchestrator.tracking import STATE

# MLflow's own tables use what SQLAlchemy will take away.
pytestmark = pytest.mark.filterwarnings("ignore:The ``noload`` loader:DeprecationWarning")


@pytest.fixture(scope="module")
def uri(tmp_path_factory: pytest.TempPathFactory) -> str:
    return f"sqlite:///{tmp_path_factory.mktemp('store') / 'mlflow.db'}"


@pytest.fixture
def study(tmp_path: Path, uri: str, request: pytest.FixtureRequest) -> Study:
    return make_study(tmp_path / "demo-ablate-leave-one-out", uri, request.node.name)


@pytest.mark.parametrize("forget", [True, False], ids=["forgotten", "remembered"])
def test_nothing_is_doubled_when_the_memory_of_what_was_sent_is_lost(
    study: Study, forget: bool
) -> None:
    for seed in SEEDS:
        end(study, "all", seed)
    StudyTracker(study).sync()
    if forget:
        (study.folder / STATE).unlink()
    end_all(study)
    assert StudyTracker(study).sync()
    whole = content(study)
    assert len(whole) == 1 + len(ARMS) * (1 + len(SEEDS))
    (study.folder / STATE).unlink()
    assert StudyTracker(study).sync()
    assert content(study) == whole


METHODS = ("begin", "send", "status", "artifact", "params")


def failing(monkeypatch: pytest.MonkeyPatch, place: int, late: bool, error: Exception) -> list[str]:
    """Have the call at this place end in an error, before or after MLflow did it."""
    calls: list[str] = []

    def wrapped(name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*given: Any, **named: Any) -> Any:
            calls.append(name)
            if len(calls) == place and not late:
                raise error
            found = real(*given, **named)
            if len(calls) == place:
                raise error
            return found

        return call

    for name in METHODS:
        monkeypatch.setattr(Store, name, wrapped(name, getattr(Store, name)))
    return calls


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory, uri: str) -> tuple[int, dict[str, Any]]:
    """How many calls sending a study takes, and what MLflow then has."""
    folder = tmp_path_factory.mktemp("undisturbed") / "demo-ablate-leave-one-out"
    study = make_study(folder, uri, "undisturbed")
    end_all(study)
    with pytest.MonkeyPatch.context() as patch:
        calls = failing(patch, 0, False, OSError())
        assert StudyTracker(study).sync()
    return len(calls), shape(study)


def shape(study: Study) -> dict[str, Any]:
    """Give what MLflow has of a study, but no times and no names of experiments."""
    kept = ("tlmt.arm", "tlmt.hash", "tlmt.seed", "tlmt.kind", "tlmt.stage")
    return {
        name: (state, metrics, parent, {key: tags.get(key) for key in kept})
        for name, (state, _, metrics, _, parent, tags) in content(study).items()
    }


@pytest.mark.parametrize("late", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("part", [0.0, 0.1, 0.35, 0.6, 0.99])
def test_killed_and_resumed_it_holds_the_same(
    study: Study,
    monkeypatch: pytest.MonkeyPatch,
    undisturbed: tuple[int, dict[str, Any]],
    part: float,
    late: bool,
) -> None:
    calls, whole = undisturbed
    end_all(study)
    with monkeypatch.context() as patch:
        failing(patch, 1 + int(part * calls), late, KeyboardInterrupt())
        with pytest.raises(KeyboardInterrupt):
            StudyTracker(study).sync()
    assert StudyTracker(study).sync()
    assert shape(study) == whole


def test_one_tracker_goes_on_after_every_call_failed_once(
    study: Study, monkeypatch: pytest.MonkeyPatch, undisturbed: tuple[int, dict[str, Any]]
) -> None:
    end_all(study)
    tracker, place = StudyTracker(study), 1
    while True:
        with monkeypatch.context() as patch:
            failing(patch, place, True, OSError("away"))
            if tracker.sync(now=True):
                break
        place += 3
    assert place > 1
    assert shape(study) == undisturbed[1]


def test_what_somebody_deleted_is_made_again_when_it_is_needed(study: Study) -> None:
    end(study, "all", 0)
    tracker = StudyTracker(study)
    tracker.sync()
    gone = runs(study, "arm")["all"].info.run_id
    Store(tracker.state.uri, tracker.settings["name"]).delete(gone)
    end(study, "all", 1)
    assert not tracker.sync()
    assert tracker.sync(now=True)
    found = runs(study)
    arm = found["all"].info.run_id
    assert arm != gone
    assert found["all seed 1"].data.tags["mlflow.parentRunId"] == arm


def test_an_absent_store_delays_and_loses_nothing(
    study: Study, uri: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    end_all(study)
    point(study, "http://127.0.0.1:9")
    tracker = StudyTracker(study)
    assert not tracker.sync()
    assert not tracker.sync()  # at once: it waits before it tries again
    assert not tracker.sync(now=True)
    assert len(caplog.records) == 1
    point(study, uri)
    assert StudyTracker(study).sync()
    assert len(runs(study, "trial")) == len(ARMS) * len(SEEDS)


def point(study: Study, uri: str) -> None:
    """Change ``tracking.uri`` of a study."""
    question = study.question
    question["experiment"]["tracking"]["uri"] = uri
    (study.folder / "study.yaml").write_text(yaml.safe_dump(question))


def test_of_two_processes_one_sends(study: Study) -> None:
    with held(study.folder, LOCK):
        assert not StudyTracker(study).sync()
    assert StudyTracker(study).sync()
