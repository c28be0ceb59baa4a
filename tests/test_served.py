"""The model that MLflow gets answers as the run does, anywhere, and runs no pickle."""

from __future__ import annotations

import ast
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import trained
import yaml
from mlflow.exceptions import MlflowException

from orchestrator import served, verb
from orchestrator.predict import Predictor
from orchestrator.store import ModelError, Store
from orchestrator.tracking import Tracker

# MLflow itself uses what SQLAlchemy and pandas will take away.
pytestmark = [
    pytest.mark.filterwarnings("ignore:The ``noload`` loader:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:Operation with range is deprecated"),
]

RECORDS = [{"text": trained.TEXT}, {"text": trained.TEXT, "predicate": "sold"}]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give a run with its model, and nothing else of the run left that the model might use."""
    folder = tmp_path_factory.mktemp("served") / trained.run().name
    shutil.copytree(trained.run(), folder)
    settings = folder / "experiment.yaml"
    tree = yaml.safe_load(settings.read_text())
    tree["tracking"]["uri"] = f"sqlite:///{folder.parent / 'mlflow.db'}"
    settings.write_text(yaml.safe_dump(tree))
    served.save(folder)
    shutil.rmtree(folder / "checkpoints")
    return folder


@pytest.fixture(scope="module")
def expected() -> list[dict[str, Any]]:
    return Predictor.load(trained.run())(RECORDS)


def asked(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """Give the records that a frame stands for."""
    found: list[dict[str, Any]] = []

    class Noting:
        reader = SimpleNamespace(kind="text")

        def __call__(self, records: list[dict[str, Any]]) -> list[dict[str, Any]]:
            found.extend(records)
            return []

    model = served.Served()
    model.predictor = Noting()  # type: ignore[assignment]
    model.predict(None, frame)
    return found


@pytest.mark.parametrize("gap", [None, float("nan"), np.float32("nan"), pd.NA, pd.NaT])
def test_a_record_is_asked_only_for_the_fields_it_has(gap: Any) -> None:
    fields = {"predicate": [[4, 8], gap, "sold"], "pair": [gap, "B", gap]}
    assert asked(pd.DataFrame({"text": list("ABC"), **fields}, dtype=object)) == [
        {"text": "A", "predicate": [4, 8]},
        {"text": "B", "pair": "B"},
        {"text": "C", "predicate": "sold"},
    ]


def test_an_index_that_only_some_records_have_is_answered_as_without_a_frame() -> None:
    records: list[dict[str, Any]] = [
        {"text": trained.TEXT, "predicate": 3},
        {"text": trained.TEXT},
    ]
    model = served.Served()
    model.predictor = Predictor.load(trained.run())
    assert model.predict(None, pd.DataFrame(records)) == model.predictor(records)


def test_who_asks_wrongly_is_told_what_is_wrong() -> None:
    model = served.Served()
    model.predictor = Predictor.load(trained.run())
    wrong = pd.DataFrame([*RECORDS, {"text": trained.TEXT, "predicate": "wept"}])
    with pytest.raises(MlflowException, match=r"record 3, task roles: .*'wept'") as found:
        model.predict(None, wrong)
    assert found.value.get_http_status_code() == 400


PROGRAM = """
import json, sys
import mlflow, pandas
model = mlflow.pyfunc.load_model(sys.argv[1])
import orchestrator
frame = pandas.DataFrame(json.loads(sys.argv[2]))
print(json.dumps([orchestrator.__file__, model.predict(frame)]))
"""


def test_a_fresh_process_elsewhere_answers_the_same_without_pickle(
    run: Path, expected: list[dict[str, Any]], tmp_path: Path
) -> None:
    moved = tmp_path / "moved"
    shutil.copytree(run / "model", moved)
    done = subprocess.run(
        [sys.executable, "-P", "-c", PROGRAM, str(moved), json.dumps(RECORDS)],
        check=True,
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env=verb.serving(),
    )
    source, answers = json.loads(done.stdout)
    assert Path(source).is_relative_to(moved / "code")
    assert answers == expected


def test_the_model_folder_holds_neither_pickle_nor_training_state(run: Path) -> None:
    kept = [path for path in (run / "model").rglob("*") if path.is_file()]
    assert not {path.suffix for path in kept} & {".pkl", ".pt", ".bin", ".pyc"}
    assert not [path for path in kept if path.parent.name == "state"]
    description = yaml.safe_load((run / "model" / "MLmodel").read_text())
    assert description["signature"]
    assert description["saved_input_example_info"]
    packages = {path.name for path in (run / "model" / "code").iterdir()}
    assert packages == set(served.PACKAGES)


def test_mlflow_calls_the_model_ready_after_it_answered_and_has_it_once(run: Path) -> None:
    assert Tracker(run).sync()
    assert Tracker(run).sync()
    tracker = Tracker(run)
    store = Store(tracker.state.uri, "small")
    (model,) = store.client.search_logged_models([store.experiment])
    assert model.status == "READY"
    assert model.source_run_id == tracker.mlflow_run_id
    scores = {metric.key: metric.value for metric in model.metrics}
    assert scores["sentiment/test/accuracy"] == 0.8
    assert len(store.client.get_metric_history(model.source_run_id, "sentiment/test/accuracy")) == 1


DISTRIBUTIONS = {
    "PIL": "pillow",
    "sklearn": "scikit-learn",
    "typing_extensions": "typing-extensions",
    "yaml": "pyyaml",
}
"""Of modules with another name."""


def test_the_model_names_every_library_that_its_code_needs_to_answer() -> None:
    root, lacking = Path(served.__file__).parent.parent, {}
    own = {*sys.stdlib_module_names, *served.PACKAGES}
    for path in (p for part in ("tasks", "encoders") for p in (root / part).glob("*.py")):
        for node in ast.parse(path.read_text()).body:
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [str(node.module)] if isinstance(node, ast.ImportFrom) else []
            for top in {name.partition(".")[0] for name in names} - own:
                if DISTRIBUTIONS.get(top, top) not in served.NEEDED:
                    lacking[path.name] = top
    assert lacking == {}


@pytest.mark.slow
def test_a_model_that_cannot_answer_is_not_called_done(run: Path, tmp_path: Path) -> None:
    broken = tmp_path / "20250101-000000-def"
    shutil.copytree(trained.run(), broken)
    prepared = broken / "prepared.json"
    prepared.write_text(prepared.read_text().replace('"classify"', '"no_such_family"'))
    with pytest.raises((ModelError, LookupError), match="no_such_family"):
        served.save(broken)
    assert not (broken / "model").exists()


def post(port: int, body: bytes) -> tuple[int, Any]:
    address = f"http://127.0.0.1:{port}/invocations"
    request = urllib.request.Request(address, body, {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.load(error)


@pytest.mark.slow
def test_the_model_server_answers_in_the_prediction_format(
    run: Path, expected: list[dict[str, Any]], tmp_path: Path
) -> None:
    from test_tracking import free_port

    port = free_port()
    log = tmp_path / "log.txt"
    with log.open("w") as told:
        process = subprocess.Popen(
            served.command(run, port),
            cwd=tmp_path,
            stdout=told,
            stderr=told,
            start_new_session=True,
            env=verb.serving(),
        )
    try:
        deadline = time.monotonic() + 120
        while True:
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{port}/ping"):
                    break
            except OSError:
                assert process.poll() is None, log.read_text()
                assert time.monotonic() < deadline
                time.sleep(0.5)
        status, answer = post(port, json.dumps({"dataframe_records": RECORDS}).encode())
        assert (status, answer["predictions"]) == (200, expected)
        assert post(port, b'{"dataframe_records": [{"words": "x"}]}')[0] == 400
        wrong = [RECORDS[0], {"text": trained.TEXT, "predicate": "wept"}]
        status, answer = post(port, json.dumps({"dataframe_records": wrong}).encode())
        assert status == 400
        assert "record 2, task roles" in answer["message"]
        assert "Traceback" not in str(answer)
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait()
