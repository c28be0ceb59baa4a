"""Points: level in the cube is level in the space, and what a space gives is checked."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.studies import points

SPACE: dict[str, Any] = {
    "a": ("uniform", -1.0, 3.0),
    "b": ("loguniform", 1e-4, 1.0),
    "c": ("integer", 0, 2),
    "d": ("choice", ["x", "y"]),
    "e": ("simplex", ["p", "q", "r"]),
    "f": ("fixed", None),
}
NAMES = points.dimensions(SPACE)
UNIT = st.floats(0, 1)


def test_a_simplex_has_a_coordinate_for_each_name_and_what_is_fixed_none() -> None:
    assert NAMES == ["a", "b", "c", "d", "e.p", "e.q", "e.r"]
    assert points.dimensions([{"x": 1}, {"x": 2}]) == ["change"]


@given(st.fixed_dictionaries(dict.fromkeys(NAMES, UNIT)))
def test_every_point_of_the_cube_is_in_the_space(point: dict[str, float]) -> None:
    found = points.changes(SPACE, point)
    assert -1 <= found["a"] <= 3
    assert 0.99e-4 <= found["b"] <= 1.0 + 1e-9
    assert found["c"] in (0, 1, 2)
    assert type(found["c"]) is int
    assert found["d"] in ("x", "y")
    assert sum(found["e"].values()) == pytest.approx(1)
    assert min(found["e"].values()) > 0
    assert found["f"] is None


def drawn(count: int = 4000) -> list[dict[str, Any]]:
    random = np.random.default_rng(0)
    draws = random.random((count, len(NAMES)))
    return [points.changes(SPACE, dict(zip(NAMES, own, strict=True))) for own in draws]


def test_level_in_the_cube_is_level_in_the_space() -> None:
    found = drawn()
    assert np.mean([one["a"] for one in found]) == pytest.approx(1.0, abs=0.06)
    assert np.mean([one["b"] < 1e-2 for one in found]) == pytest.approx(0.5, abs=0.03)
    assert np.mean([one["c"] == 2 for one in found]) == pytest.approx(1 / 3, abs=0.03)
    shares = np.array([list(one["e"].values()) for one in found])
    # Level on the simplex of three is Dirichlet(1, 1, 1): means 1/3, variances 1/18.
    assert shares.mean(0) == pytest.approx([1 / 3] * 3, abs=0.02)
    assert shares.var(0) == pytest.approx([1 / 18] * 3, abs=0.004)


def test_a_list_is_walked_from_end_to_end() -> None:
    listed = [{"x": 1}, {"x": 2}, {"x": 3}]
    found = [points.changes(listed, {"change": at})["x"] for at in (0.0, 0.3, 0.34, 0.7, 1.0)]
    assert found == [1, 1, 2, 3, 3]


@pytest.mark.parametrize(
    ("given_", "expected"),
    [
        (3, "gives 3; expected settings to ranges, or a list of changes"),
        ([], "expected settings to ranges, or a list of changes"),
        ([3], "expected settings to ranges, or a list of changes"),
        ({"a": 3}, "own: a is 3; expected one such as ('uniform', 0, 1)"),
        ({"a": ("unifrom", 0, 1)}, "did you mean uniform?"),
        ({"a": ("uniform", 1, 0)}, "expected two rising numbers"),
        ({"a": ("loguniform", 0, 1)}, "both above 0"),
        ({"a": ("integer", 0.5, 2)}, "expected two rising numbers"),
        ({"a": ("choice", [])}, "expected a list of 1 or more"),
        ({"a": ("simplex", ["p"])}, "expected a list of 2 or more"),
        ({"a": ("fixed", 1)}, "varies nothing"),
    ],
)
def test_what_is_wrong_with_a_space_is_told(given_: Any, expected: str) -> None:
    (problem,) = points.problems(given_, "own")
    assert expected in f"{problem.place} {problem.text}"


def test_all_problems_of_a_space_are_told_at_once() -> None:
    assert len(points.problems({"a": 3, "b": ("choice", []), "c": ("uniform", 0, 1)}, "own")) == 2
    assert points.problems(SPACE, "own") == []
