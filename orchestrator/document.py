"""The YAML that a user writes: plain data, with the line of every key."""

from __future__ import annotations

import copy
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml

from orchestrator.problems import ExperimentError, Problem, nearest, shown

PLAIN = {
    "bool": (re.compile("(true|True|TRUE|false|False|FALSE)$"), "tTfF"),
    "int": (re.compile(r"[-+]?(0|[1-9]\d*)$"), "-+0123456789"),
    "float": (
        re.compile(r"[-+]?(\d+\.\d*|\.\d+|\d+(?=[eE]))([eE][-+]?\d+)?$|[-+]?\.inf$|\.nan$"),
        "-+.0123456789",
    ),
}
"""What is not a text though it has no quotes, after YAML 1.2: ``5e-5`` is a number, ``yes`` and
``2020-01-01`` are texts."""


class _Loader(yaml.SafeLoader):
    """Safe YAML that reads unquoted words after ``PLAIN``, and ``null`` and ``~``."""


class _Dumper(yaml.SafeDumper):
    """Safe YAML with quotes around texts that YAML 1.1 or 1.2 would take for something else."""


_Loader.yaml_implicit_resolvers = {
    first: [(tag, found) for tag, found in resolvers if tag.endswith((":null", ":merge"))]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
for _kind, (_pattern, _first) in PLAIN.items():
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_kind}", _pattern, list(_first))
    _Dumper.add_implicit_resolver(f"tag:yaml.org,2002:{_kind}", _pattern, list(_first))


def text(tree: Mapping[str, Any]) -> str:
    """Write plain data so that ``read`` gives it back."""
    return yaml.dump(tree, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=100)


def value(written: str) -> Any:
    """Read one YAML value, as it stands after ``=`` on the command line."""
    return yaml.load(written, Loader=_Loader)


def read(path: Path) -> tuple[dict[str, Any], dict[str, str], list[Problem]]:
    """Read a file: its data, the line of each dotted key, and the keys written twice.

    Raises ``ExperimentError`` for a file that is not there or is not YAML.
    """
    try:
        written = path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise ExperimentError([Problem("", _absent(path))], str(path)) from error
    except (OSError, UnicodeDecodeError) as error:
        raise ExperimentError(
            [Problem("", f"the file cannot be read: {error}")], str(path)
        ) from error
    loader = _Loader(written)
    marks: dict[str, str] = {}
    twice: list[Problem] = []
    try:
        node = loader.get_single_node()
        if node is not None:
            _mark(node, "", marks, twice)
        tree = loader.construct_document(node) if node is not None else None
    except yaml.YAMLError as error:
        raise ExperimentError([Problem("", _syntax(error))], str(path)) from error
    finally:
        loader.dispose()
    if not isinstance(tree, dict):
        found = Problem("", f"the file holds {shown(tree)}; expected settings (key: value)")
        raise ExperimentError([found], str(path))
    return tree, marks, twice


def _absent(path: Path) -> str:
    folder = path.parent if path.parent.is_dir() else Path()
    known = sorted(str(p) for p in folder.glob("*.y*ml"))
    return f"the file is not there; {nearest(str(path), known)}"


def _syntax(error: yaml.YAMLError) -> str:
    """Say in one line what YAML could not read, and where."""
    mark = getattr(error, "problem_mark", None)
    problem = getattr(error, "problem", None) or str(error)
    if mark is None:
        return f"this is not YAML: {problem}"
    return f"line {mark.line + 1}, column {mark.column + 1}: this is not YAML: {problem}"


def _mark(node: yaml.Node, place: str, marks: dict[str, str], twice: list[Problem]) -> None:
    """Note the line of every key below a node, and every key that stands there twice."""
    if not isinstance(node, yaml.MappingNode):
        return
    seen: dict[str, int] = {}
    for key, child in node.value:
        name = str(key.value)
        inner = f"{place}.{name}" if place else name
        line = key.start_mark.line + 1
        if name in seen:
            twice.append(Problem(inner, f"is set again in line {line}"))
        seen.setdefault(name, line)
        if inner not in marks:
            marks[inner] = f"line {line}"
            _mark(child, inner, marks, twice)


def changes(arguments: Iterable[str]) -> tuple[dict[str, Any], list[Problem]]:
    """Read ``key=value`` arguments of the command line, and say which are not; values are YAML."""
    found: dict[str, Any] = {}
    problems: list[Problem] = []
    for argument in arguments:
        key, equals, written = argument.partition("=")
        if not equals or not key:
            problems.append(Problem("", f"{argument!r} is not a change; expected key=value"))
            continue
        try:
            found[key] = value(written)
        except yaml.YAMLError as error:
            problems.append(Problem("", f"{argument!r} is not a change; {_syntax(error)}"))
    return found, problems


def override(tree: Mapping[str, Any], changed: Mapping[str, Any]) -> dict[str, Any]:
    """Vary an experiment as written: the one way for the command line, searches and ablations.

    Keys are dotted (``tasks.topic.weight``); a value takes the whole place of the one before.
    ``tasks.NAME: None`` takes a task away. A key that is no setting is found when the result is
    parsed; ``ExperimentError`` here means a key that leads through no mapping, or to no task.
    """
    result, problems = varied(tree, changed)
    if problems:
        raise ExperimentError(problems, "the changes")
    return result


def varied(
    tree: Mapping[str, Any], changed: Mapping[str, Any]
) -> tuple[dict[str, Any], list[Problem]]:
    """Do what ``override`` does, and give the changes that cannot be made instead of raising."""
    result = _apart(dict(tree))
    problems = [p for key, new in changed.items() if (p := _set(result, key, new)) is not None]
    return result, problems


def _apart(value: Any) -> Any:
    """Copy plain data; what an anchor of YAML puts into several places is a thing of each."""
    if isinstance(value, dict):
        return {key: _apart(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_apart(inner) for inner in value]
    return copy.deepcopy(value)


def _set(tree: dict[str, Any], key: str, new: Any) -> Problem | None:
    """Set one dotted key in place, or say why that cannot be."""
    parts = key.split(".")
    if not all(parts):
        return Problem("", f"{key!r} is not a key; expected names joined by dots")
    tasks = tree.get("tasks")
    into_task = parts[0] == "tasks" and (len(parts) > 2 or (len(parts) == 2 and new is None))
    if into_task and isinstance(tasks, dict) and parts[1] not in tasks:
        return Problem(key, f"leads to no task; {nearest(parts[1], tasks, 'tasks.')}")
    if len(parts) == 2 and into_task and isinstance(tasks, dict):
        del tasks[parts[1]]
        return None
    here = tree
    for depth, part in enumerate(parts[:-1], 1):
        inner = here.get(part)
        if inner is None:
            inner = here[part] = {}
        if not isinstance(inner, dict):
            place = ".".join(parts[:depth])
            return Problem(key, f"cannot be set: {place} is {shown(inner)}; expected a mapping")
        here = inner
    here[parts[-1]] = copy.deepcopy(new)
    return None
