"""The best model of a study is registered once, and only after it answered."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from test_study_tracking import end_all, make_study, store

from orchestrator.store import ModelError, ask
from orchestrator.studies.study import Study
from orchestrator.studies.tracking import champion
from orchestrator.tracking import STATE

# MLflow's own tables use what SQLAlchemy will take away.
pytestmark = pytest.mark.filterwarnings("ignore:The ``noload`` loader:DeprecationWarning")

CODE = """
import mlflow
from mlflow.pyfunc import PythonModel


class Echo(PythonModel):
    def predict(self, context, model_input, params=None):
        return list(model_input["text"])


mlflow.models.set_model(Echo())
"""
SAVE = """
import mlflow, pandas, sys
from mlflow.models import infer_signature

example = pandas.DataFrame({"text": ["a loaf"]})
signature = infer_signature(example, ["a loaf"])
mlflow.pyfunc.save_model(
    sys.argv[1], python_model="echo.py", signature=signature, input_example=example,
    pip_requirements=["mlflow"],
)
"""


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run's folder with a small model in it."""
    run = tmp_path_factory.mktemp("run")
    (run / "echo.py").write_text(CODE)
    subprocess.run([sys.executable, "-c", SAVE, "model"], cwd=run, check=True, capture_output=True)
    return run


def other(saved: Path, run: Path) -> Path:
    """A run with a model that answers the same and is another."""
    shutil.copytree(saved, run)
    description = run / "model" / "MLmodel"
    tree = yaml.safe_load(description.read_text())
    description.write_text(
        yaml.safe_dump({**tree, "model_uuid": f"{tree['model_uuid']}-{run.name}"})
    )
    return run


@pytest.fixture
def study(tmp_path: Path, request: pytest.FixtureRequest) -> Study:
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    found = make_study(tmp_path / "demo-tune-mixture", uri, "demo")
    end_all(found)
    return found


def test_the_champion_answers_by_its_name_and_is_registered_once(
    study: Study, tmp_path: Path, saved: Path
) -> None:
    assert champion(study, saved) == "models:/demo@champion"
    (study.folder / STATE).unlink()
    assert champion(study, saved) == "models:/demo@champion"
    held = store(study)
    (first,) = held.client.search_model_versions("name = 'demo'")
    assert len(held.client.search_logged_models([held.experiment])) == 1
    assert "a loaf" in ask("models:/demo@champion", held.uri)
    champion(study, other(saved, tmp_path / "better"))
    second = held.client.get_model_version_by_alias("demo", "champion")
    assert second.version != first.version
    champion(study, saved)
    again = held.client.get_model_version_by_alias("demo", "champion")
    assert again.version == first.version


def test_a_model_that_does_not_answer_is_no_champion(
    study: Study, tmp_path: Path, saved: Path
) -> None:
    run = other(saved, tmp_path / "broken")
    (run / "model" / "echo.py").write_text("raise SystemExit('broken')\n")
    with pytest.raises(ModelError, match="gave no answer"):
        champion(study, run)
    assert not store(study).client.search_registered_models()


def test_without_a_model_there_is_nothing_to_register(study: Study, tmp_path: Path) -> None:
    assert champion(study, None) is None
    assert champion(study, tmp_path) is None
