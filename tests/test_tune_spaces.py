"""Search spaces: every point of one is a sound experiment, whatever the experiment."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tune_spaces
from orchestrator.document import override, read
from orchestrator.experiment import parse
from orchestrator.studies import points

EXPERIMENTS = sorted((Path(__file__).parent.parent / "experiments").glob("*.yaml"))
SPACES = [*tune_spaces.names(), "mixture:temperature", "mixture:weights"]


def test_the_folder_is_the_registry() -> None:
    assert tune_spaces.names() == ["encoder", "joint", "mixture", "regularization", "stages"]


@pytest.mark.parametrize("name", SPACES)
@pytest.mark.parametrize("path", EXPERIMENTS, ids=lambda path: path.stem)
def test_every_point_is_a_sound_experiment(name: str, path: Path) -> None:
    tree, _, _ = read(path)
    space: Any = tune_spaces.get(name)(tree)
    assert points.problems(space, name) == []
    names = points.dimensions(space)
    random = np.random.default_rng(0)
    corners = [np.zeros(len(names)), np.ones(len(names))]
    for own in (*corners, *random.random((4, len(names)))):
        changes = points.changes(space, dict(zip(names, own.tolist(), strict=True)))
        found = parse(override(tree, changes))
        if "mixture.shares" in changes:
            assert found.mixture.shares == changes["mixture.shares"]


def test_a_list_leaves_nothing_out() -> None:
    tree = {"tasks": {"a": {}, "b": {}}, "target": "a"}
    assert [own["stages"] for own in tune_spaces.get("stages")(tree)][-1] == "tlmt"  # type: ignore[index]
    assert len(tune_spaces.get("stages")({**tree, "target": None})) == 4


def test_one_task_has_no_mixture() -> None:
    for name in ("mixture", "mixture:temperature", "mixture:weights"):
        with pytest.raises(ValueError, match="several tasks"):
            tune_spaces.get(name)({"tasks": {"a": {}}})


def test_a_space_of_ones_own_is_a_file(tmp_path: Path) -> None:
    own = tmp_path / "mine.py"
    own.write_text("def space(e):\n    return {'train.seed': ('integer', 0, 9)}\n\nother = space\n")
    assert tune_spaces.get(str(own))({}) == {"train.seed": ("integer", 0, 9)}
    assert tune_spaces.get(f"{own}:other")({}) == {"train.seed": ("integer", 0, 9)}


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("mixtures", "did you mean 'mixture'"),
        ("nothing", "known: encoder, joint, mixture, regularization, stages"),
        ("mixture:weight", "it has space, temperature, weights"),
        ("no/such.py", "there is no file no/such.py"),
    ],
)
def test_what_is_no_space_is_told(name: str, expected: str) -> None:
    with pytest.raises(LookupError, match=expected):
        tune_spaces.get(name)


def test_a_file_that_fails_is_told(tmp_path: Path) -> None:
    own = tmp_path / "broken.py"
    own.write_text("import nothing_of_this_name\n")
    with pytest.raises(LookupError, match=r"broken\.py cannot be read: ModuleNotFoundError"):
        tune_spaces.get(str(own))
