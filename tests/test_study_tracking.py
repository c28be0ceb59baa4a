"""MLflow gets each trial of a study once, in its arm, in its study, whatever happens in between."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from orchestrator.store import Store
from orchestrator.studies.study import Asked, Result, Study, write
from orchestrator.studies.tracking import StudyTracker

# MLflow's own tables use what SQLAlchemy will take away.
pytestmark = pytest.mark.filterwarnings("ignore:The ``noload`` loader:DeprecationWarning")

SEEDS = (0, 1, 2)
ARMS = {"all": {}, "without topic": {"mixture.shares": {"roles": 0.75, "mood": 0.25}}}


@pytest.fixture(scope="module")
def uri(tmp_path_factory: pytest.TempPathFactory) -> str:
    return f"sqlite:///{tmp_path_factory.mktemp('store') / 'mlflow.db'}"


@pytest.fixture
def study(tmp_path: Path, uri: str, request: pytest.FixtureRequest) -> Study:
    return make_study(tmp_path / "demo-ablate-leave-one-out", uri, request.node.name)


def make_study(folder: Path, uri: str, name: str) -> Study:
    """A study of two arms and three seeds, asked for; none has ended."""
    folder.mkdir(parents=True)
    question = {
        "name": folder.name,
        "kind": "ablate",
        "what": "leave-one-out",
        "origin": "experiments/demo.yaml",
        "experiment": {"name": name, "target": "roles", "tracking": {"uri": uri}},
        "target": "roles",
        "metric": "roles/f1",
        "seeds": list(SEEDS),
        "budget": "steps",
        "baseline": "all",
        "comparisons": [["without topic", "all"]],
        "openings": [],
    }
    (folder / "study.yaml").write_text(yaml.safe_dump(question))
    found = Study(folder)
    for arm in ARMS:
        for seed in SEEDS:
            found.ask(asked(arm, seed))
    return found


def asked(arm: str, seed: int) -> Asked:
    kind = "baseline" if arm == "all" else "arm"
    return Asked(arm, kind, ARMS.get(arm, {}), seed, f"{'abcdef'[len(arm) % 6]}{seed}" * 8)


def end(study: Study, arm: str, seed: int, **changes: Any) -> Result:
    own = asked(arm, seed)
    told: dict[str, Any] = {
        "status": "finished",
        "steps": 40,
        "best_step": 20,
        "score": 0.5 + seed / 10,
        "scores": {"roles": {"f1": 0.5 + seed / 10, "loss": 0.7}, "mood": {"accuracy": 0.9}},
        "curve": [(20, 0.5 + seed / 10), (40, 0.4)],
        "examples_seen": {"roles": 30, "mood": 10},
        "shares": {"roles": 0.75, "mood": 0.25},
        "settings": {"optimizer.lr": 5e-05, "regularization.dropout": 0.1},
        "drift": 0.02,
        "seconds": 3.0,
    }
    found = Result(own.hash, seed=seed, **{**told, **changes})
    write(study.trial(own.hash), found)
    return found


def end_all(study: Study) -> None:
    for arm in ARMS:
        for seed in SEEDS:
            end(study, arm, seed)


def store(study: Study) -> Store:
    tracker = StudyTracker(study)
    return Store(tracker.state.uri, tracker.settings["name"])


def runs(study: Study, stage: str | None = None) -> dict[str, Any]:
    """Give MLflow's runs by name; no two have the same."""
    own = store(study)
    found = [
        run
        for run in own.client.search_runs([own.experiment])
        if stage in (None, run.data.tags["tlmt.stage"])
    ]
    assert len({run.info.run_name for run in found}) == len(found)
    return {run.info.run_name: run for run in found}


def content(study: Study) -> dict[str, Any]:
    """Give all that MLflow has of a study, except for its own ids and clocks."""
    found = runs(study)
    names = {run.info.run_id: name for name, run in found.items()}
    return {
        name: (
            run.info.status,
            run.info.end_time,
            run.data.metrics,
            run.data.params,
            names.get(run.data.tags.get("mlflow.parentRunId", "")),
            {key: own for key, own in run.data.tags.items() if key.startswith("tlmt.")},
        )
        for name, run in found.items()
    }


def test_trials_lie_in_arms_and_arms_in_the_study(study: Study) -> None:
    end_all(study)
    assert StudyTracker(study).sync()
    found = runs(study)
    parents = {name: run.data.tags.get("mlflow.parentRunId", "none") for name, run in found.items()}
    names = {run.info.run_id: name for name, run in found.items()}
    top = study.folder.name
    assert {name: names.get(parent) for name, parent in parents.items()} == {
        top: None,
        **dict.fromkeys(ARMS, top),
        **{f"{arm} seed {seed}": arm for arm in ARMS for seed in SEEDS},
    }
    assert {run.info.status for run in found.values()} == {"FINISHED"}
    assert found["all"].data.tags["tlmt.kind"] == "baseline"


def test_a_trial_tells_its_result_and_what_it_was_made_with(study: Study) -> None:
    own = end(study, "without topic", 1)
    StudyTracker(study).sync()
    run = runs(study, "trial")["without topic seed 1"]
    assert run.data.metrics == {
        "score": 0.6,
        "best_step": 20,
        "score_curve": 0.4,
        "roles/validation/f1": 0.6,
        "roles/validation/loss": 0.7,
        "mood/validation/accuracy": 0.9,
        "share/roles": 0.75,
        "share/mood": 0.25,
        "examples/roles": 30,
        "examples/mood": 10,
        "optimizer.lr": 5e-05,
        "regularization.dropout": 0.1,
        "drift": 0.02,
        "seconds": 3.0,
    }
    assert run.data.params == {
        "mixture.shares.roles": "0.75",
        "mixture.shares.mood": "0.25",
        "seed": "1",
        "status": "finished",
    }
    assert run.info.end_time - run.info.start_time == 3000
    assert run.data.tags["tlmt.hash"] == own.hash
    history = store(study).client.get_metric_history(run.info.run_id, "score_curve")
    assert [(one.step, one.value) for one in history] == [(20, 0.6), (40, 0.4)]
    assert not [key for run in runs(study).values() for key in run.data.metrics if "test" in key]


def test_an_arm_follows_its_seeds(study: Study) -> None:
    tracker = StudyTracker(study)
    end(study, "all", 0)
    tracker.sync()
    arm = runs(study, "arm")["all"]
    assert arm.info.status == "RUNNING"
    assert {"mean": 0.5, "trials/finished": 1}.items() <= arm.data.metrics.items()
    assert "low" not in arm.data.metrics
    end(study, "all", 1)
    end(study, "all", 2, status="stopped")
    tracker.sync()
    arm = runs(study, "arm")["all"]
    assert arm.info.status == "FINISHED"
    assert arm.data.metrics["mean"] == pytest.approx(0.55)  # what was stopped does not count
    assert arm.data.metrics["sd"] == pytest.approx(0.05 * 2**0.5)
    assert (arm.data.metrics["low"], arm.data.metrics["high"]) == pytest.approx((0.5, 0.6))
    assert arm.data.metrics["trials/stopped"] == 1
    history = store(study).client.get_metric_history(arm.info.run_id, "mean")
    assert [(one.step, round(one.value, 6)) for one in history] == [(1, 0.5), (3, 0.55)]
    assert runs(study, "trial")["all seed 2"].info.status == "KILLED"
    assert runs(study, "study")[study.folder.name].info.status == "RUNNING"


def test_a_failed_trial_is_shown_with_its_reason(study: Study) -> None:
    end(study, "all", 0, status="failed", error="loss is not finite at step 7", score=None)
    StudyTracker(study).sync()
    run = runs(study, "trial")["all seed 0"]
    assert run.info.status == "FAILED"
    assert run.data.tags["tlmt.error"] == "loss is not finite at step 7"
    assert "score" not in run.data.metrics


def test_a_second_time_sends_nothing(study: Study, monkeypatch: pytest.MonkeyPatch) -> None:
    end_all(study)
    tracker = StudyTracker(study)
    tracker.sync()

    def refused(*_: Any, **__: Any) -> None:
        raise AssertionError

    for name in ("begin", "send", "status", "artifact", "params", "delete", "runs"):
        monkeypatch.setattr(Store, name, refused)
    assert tracker.sync()
    assert StudyTracker(study).sync()


def test_two_arms_may_share_a_trial(study: Study) -> None:
    own = asked("all", 0)
    study.ask(Asked("best helper", "baseline", {"tasks": ["roles"]}, 0, own.hash))
    study.ask(own)  # asked for once more
    end(study, "all", 0)
    StudyTracker(study).sync()
    leaves = runs(study, "trial")
    assert set(leaves) == {"all seed 0", "best helper seed 0"}
    assert {run.data.tags["tlmt.hash"] for run in leaves.values()} == {own.hash}
    assert len({run.data.tags["mlflow.parentRunId"] for run in leaves.values()}) == 2


def test_a_trial_that_ends_once_more_takes_the_place_of_what_it_was(study: Study) -> None:
    tracker = StudyTracker(study)
    end(study, "all", 0, status="stopped", curve=[(20, 0.9)], score=0.9)
    tracker.sync()
    end(study, "all", 0)
    assert tracker.sync()
    (run,) = runs(study, "trial").values()
    assert run.info.status == "FINISHED"
    assert run.data.params["status"] == "finished"
    history = store(study).client.get_metric_history(run.info.run_id, "score_curve")
    assert [one.value for one in history] == [0.5, 0.4]


def test_the_study_holds_its_question_and_pages_as_they_are_now(study: Study) -> None:
    (study.folder / "report.html").write_text("one")
    (study.folder / "arms.csv").write_text("arm,mean")
    tracker = StudyTracker(study)
    tracker.sync()
    (study.folder / "report.html").write_text("second")
    question = yaml.safe_load((study.folder / "study.yaml").read_text())
    (study.folder / "study.yaml").write_text(yaml.safe_dump({**question, "seeds": [0, 1, 2, 3]}))
    assert tracker.sync()
    (run,) = runs(study, "study").values()
    place = Path(run.info.artifact_uri.removeprefix("file://"))
    assert {file.name for file in place.iterdir()} == {"study.yaml", "report.html", "arms.csv"}
    assert (place / "report.html").read_text() == "second"
    assert run.data.params["metric"] == "roles/f1"
    assert run.data.params["experiment.target"] == "roles"
    assert run.data.tags["tlmt.seeds"] == "[0, 1, 2, 3]"


def test_a_new_study_of_an_old_name_is_another(study: Study, tmp_path: Path, uri: str) -> None:
    end_all(study)
    StudyTracker(study).sync()
    before = {run.info.run_id for run in runs(study).values()}
    other = make_study(
        tmp_path / "other" / study.folder.name, uri, study.question["experiment"]["name"]
    )
    question = other.question
    question["experiment"]["optimizer"] = {"lr": 0.1}
    (other.folder / "study.yaml").write_text(yaml.safe_dump(question))
    other_tracker = StudyTracker(Study(other.folder))
    assert other_tracker.sync()
    assert other_tracker.mlflow_run_id not in before
