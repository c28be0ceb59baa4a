"""The ready experiment files: each is sound, and what they say of public data sets is true."""

import re
from pathlib import Path

import pytest

import tasks
from orchestrator.experiment import load

FOLDER = Path(__file__).parent.parent / "experiments"

GLUE = {
    "cola": {"sentence"},
    "sst2": {"sentence"},
    "mrpc": {"sentence1", "sentence2"},
    "stsb": {"sentence1", "sentence2"},
    "qqp": {"question1", "question2"},
    "mnli": {"premise", "hypothesis"},
    "qnli": {"question", "sentence"},
    "rte": {"sentence1", "sentence2"},
    "wnli": {"sentence1", "sentence2"},
}
"""The columns of texts in each configuration of the hub's ``nyu-mll/glue``, beside ``label``."""


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.yaml")), ids=lambda path: path.stem)
def test_ready_experiments_are_sound(path: Path) -> None:
    experiment = load(path)
    assert experiment.name == path.stem.replace("_", "-")
    assert len(experiment.tasks) >= 2


def test_ten_tasks_are_one_of_each_family() -> None:
    found = load(FOLDER / "ten_tasks.yaml").tasks.values()
    assert sorted(task.family for task in found) == [*tasks.names()]


def test_glue_reads_the_columns_that_its_data_sets_have_at_one_commit() -> None:
    experiment = load(FOLDER / "glue.yaml")
    assert set(experiment.tasks) == set(GLUE)
    revisions = {task.data.revision for task in experiment.tasks.values()}
    assert [len(revision or "") for revision in revisions] == [40]
    for name, task in experiment.tasks.items():
        assert (task.data.path, task.data.config) == ("nyu-mll/glue", name)
        assert set(tasks.get(task.family).column_names(task.data)) == GLUE[name] | {"label"}
        assert task.family == ("regress" if name == "stsb" else "classify")


OFFICIAL = {
    "cola": {"mcc"},
    "mrpc": {"accuracy", "f1"},
    "qqp": {"accuracy", "f1"},
    "stsb": {"pearson", "spearman"},
}
"""The scores of GLUE (Wang et al. 2019, table 1); the other tasks have accuracy."""


def test_glues_official_scores_are_given() -> None:
    for name, task in load(FOLDER / "glue.yaml").tasks.items():
        fitted = {"labels": ["a", "b"], "mean": 0.0, "sd": 1.0}
        family = tasks.get(task.family)(task.data, fitted)
        assert OFFICIAL.get(name, {"accuracy"}) <= family.score([], []).keys()


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.yaml")), ids=lambda path: path.stem)
def test_what_comes_from_the_hub_comes_from_one_commit(path: Path) -> None:
    experiment = load(path)
    hub = [experiment.encoder.revision] if "/" in experiment.encoder.model else []
    hub += [task.data.revision for task in experiment.tasks.values() if "/" in task.data.path]
    assert all(re.fullmatch("[0-9a-f]{40}", revision or "") for revision in hub)
