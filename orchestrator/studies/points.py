"""Points of a search space: from numbers between 0 and 1 to changes of an experiment.

All searches walk the unit cube of ``dimensions``; what lies behind a point is said here, once.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from orchestrator.problems import Problem, nearest, shown

Ranges = Mapping[str, Sequence[Any]]
Changes = Sequence[Mapping[str, Any]]

KINDS = ("uniform", "loguniform", "integer", "choice", "simplex", "fixed")
LIST = "change"
"""The one dimension of a list of changes."""
LEAST = 1e-2
"""Of a share, before all are brought to the sum 1: a task with none would have no example."""


def problems(space: Ranges | Changes, name: str) -> list[Problem]:
    """Find everything that is wrong with what a space gave."""
    if not isinstance(space, Mapping):
        fine = isinstance(space, Sequence) and not isinstance(space, str)
        if not fine or not space or not all(isinstance(one, Mapping) for one in space):
            text = f"gives {shown(space)}; expected settings to ranges, or a list of changes"
            return [Problem(name, text)]
        return []
    found = []
    for key, given in space.items():
        if wrong := _wrong(given):
            found.append(Problem(f"{name}: {key}", wrong))
    if not found and not dimensions(space):
        found.append(Problem(name, "varies nothing; expected a range, a choice or a simplex"))
    return found


def _wrong(given: Any) -> str | None:
    """Say what is wrong with one range."""
    if not isinstance(given, (tuple, list)) or not given or not isinstance(given[0], str):
        return f"is {shown(given)}; expected one such as ('uniform', 0, 1)"
    kind, *values = given
    if kind not in KINDS:
        return f"is of the kind {kind!r}; {nearest(kind, KINDS)}"
    if kind == "fixed":
        return None if len(values) == 1 else f"is fixed to {len(values)} values; expected one"
    if kind in ("choice", "simplex"):
        least = 1 if kind == "choice" else 2
        fine = len(values) == 1 and isinstance(values[0], (list, tuple)) and len(values[0]) >= least
        return (
            None if fine else f"is a {kind} of {shown(values)}; expected a list of {least} or more"
        )
    whole = kind == "integer"
    types = int if whole else (int, float)
    fine = len(values) == 2 and all(
        isinstance(v, types) and not isinstance(v, bool) for v in values
    )
    if not fine or not values[0] < values[1] or (kind == "loguniform" and values[0] <= 0):
        positive = ", both above 0" if kind == "loguniform" else ""
        return f"is {kind} between {shown(values)}; expected two rising numbers{positive}"
    return None


def dimensions(space: Ranges | Changes) -> list[str]:
    """Name the coordinates of a point; a simplex has one for each of its names."""
    if not isinstance(space, Mapping):
        return [LIST]
    found = []
    for key, (kind, *values) in space.items():
        if kind == "simplex":
            found += [f"{key}.{name}" for name in values[0]]
        elif kind != "fixed":
            found.append(key)
    return found


def changes(space: Ranges | Changes, point: Mapping[str, float]) -> dict[str, Any]:
    """Give the dotted settings of a point, whose coordinates lie in [0, 1].

    Points that are level in the cube are level in each range; a simplex then is level as well (its
    shares are exponential variables over their sum: Devroye 1986, chapter 5).
    """
    if not isinstance(space, Mapping):
        return dict(space[_place(point[LIST], len(space))])
    found: dict[str, Any] = {}
    for key, (kind, *values) in space.items():
        if kind == "fixed":
            found[key] = values[0]
        elif kind == "choice":
            found[key] = values[0][_place(point[key], len(values[0]))]
        elif kind == "integer":
            found[key] = values[0] + _place(point[key], values[1] - values[0] + 1)
        elif kind == "uniform":
            found[key] = values[0] + point[key] * (values[1] - values[0])
        elif kind == "loguniform":
            found[key] = values[0] * (values[1] / values[0]) ** point[key]
        else:
            parts = {
                name: -math.log1p(-min(point[f"{key}.{name}"], 1 - 1e-12)) for name in values[0]
            }
            raised = {name: max(part, LEAST) for name, part in parts.items()}
            total = math.fsum(raised.values())
            found[key] = {name: part / total for name, part in raised.items()}
    return found


def _place(coordinate: float, count: int) -> int:
    """Give which of so many equal parts of [0, 1] a coordinate is in."""
    return min(int(coordinate * count), count - 1)
