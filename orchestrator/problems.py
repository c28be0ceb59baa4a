"""What is wrong with an experiment: every problem with its place, what was found and expected."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple, TypeVar

from pydantic import BaseModel, ValidationError

Model = TypeVar("Model", bound=BaseModel)

WORDS = {
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "finite_number": "a finite number",
    "string_type": "a text",
    "too_short": "at least one entry",
    "string_pattern_mismatch": "letters, digits, . _ and -",
    "bool_type": "true or false",
    "list_type": "a list",
    "tuple_type": "a list",
    "dict_type": "a mapping (key: value)",
    "mapping_type": "a mapping (key: value)",
    "model_type": "a mapping (key: value)",
    "model_attributes_type": "a mapping (key: value)",
}
"""What pydantic's type errors mean to someone who writes YAML."""

LIMITS = {
    "greater_than": ("gt", "more than"),
    "greater_than_equal": ("ge", "at least"),
    "less_than": ("lt", "less than"),
    "less_than_equal": ("le", "at most"),
}


class Problem(NamedTuple):
    """One thing that is wrong: the dotted place, and the sentence that follows it."""

    place: str
    text: str


class ExperimentError(ValueError):
    """The user's mistakes in one experiment, all of them; ``str()`` is the whole message."""

    def __init__(
        self,
        problems: Iterable[Problem],
        origin: str = "the experiment",
        marks: Mapping[str, str] | None = None,
    ) -> None:
        """``marks`` says where each dotted place was written, such as ``line 3``."""
        self.problems = [_written(problem, marks or {}) for problem in dict.fromkeys(problems)]
        count = len(self.problems)
        head = f"{count} problem{'s' if count > 1 else ''} in {origin}:"
        super().__init__("\n".join([head, *(f"  - {problem}" for problem in self.problems)]))
        self._arguments = (list(problems) if isinstance(problems, Sequence) else [], origin, marks)

    def __reduce__(self) -> tuple[Any, ...]:
        """Travel between processes whole."""
        return type(self), self._arguments


def _written(problem: Problem, marks: Mapping[str, str]) -> str:
    """Put the place and the best known mark of it (its own, or its parents') before the text."""
    parts = problem.place.split(".") if problem.place else []
    for end in range(len(parts), 0, -1):
        mark = marks.get(".".join(parts[:end]))
        if mark:
            return f"{mark}: {problem.place} {problem.text}"
    return f"{problem.place} {problem.text}".strip()


def nearest(word: str, known: Iterable[Any], prefix: str = "") -> str:
    """Say which known name is meant, and otherwise name them all.

    YAML reads some names as numbers; they are shown as written.
    """
    names = list(map(str, known))
    close = difflib.get_close_matches(str(word), names, n=1)
    if close:
        return f"did you mean {prefix}{close[0]}?"
    return f"known: {', '.join(names)}" if names else "none is known"


def shown(value: Any) -> str:
    """Show a found value, shortened."""
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def shape(model: type[Model], value: Any, place: str = "") -> tuple[Model | None, list[Problem]]:
    """Check plain data against a model: the model, or every problem with its dotted place."""
    try:
        return model.model_validate(value), []
    except ValidationError as error:
        return None, [_problem(model, item, place) for item in error.errors()]


def _problem(model: type[BaseModel], error: Any, place: str) -> Problem:
    """Turn one of pydantic's errors into where, found, expected."""
    where = ".".join([place, *map(str, error["loc"])] if place else map(str, error["loc"]))
    kind, found, ctx = error["type"], error["input"], error.get("ctx", {})
    if kind == "extra_forbidden":
        parent = where.rpartition(".")[0]
        hint = nearest(
            error["loc"][-1], _fields(model, error["loc"][:-1]), f"{parent}." * bool(parent)
        )
        return Problem(where, f"is not a setting; {hint}")
    if kind == "missing":
        return Problem(where, "is missing; it has no default")
    if kind == "literal_error":
        known = re.findall(r"'([^']*)'", ctx["expected"])
        hint = f"; {nearest(found, known)}" if isinstance(found, str) and known else ""
        return Problem(where, f"is {shown(found)}; expected {ctx['expected']}{hint}")
    if kind in LIMITS:
        key, words = LIMITS[kind]
        return Problem(where, f"is {shown(found)}; expected {words} {ctx[key]}")
    if kind == "value_error":
        return Problem(where, f"is {shown(found)}; {ctx['error']}")
    return Problem(where, f"is {shown(found)}; expected {WORDS.get(kind, error['msg'])}")


def _fields(model: type[BaseModel], loc: Sequence[str | int]) -> list[str]:
    """List the settings that stand beside an unknown one."""
    for part in loc:
        annotation = model.model_fields[str(part)].annotation
        inner = [annotation, *getattr(annotation, "__args__", ())]
        models = [a for a in inner if isinstance(a, type) and issubclass(a, BaseModel)]
        if not models:
            return []
        model = models[0]
    return list(model.model_fields)
