"""WHAT IS VARIED: one file per search space, plain data that a search turns into its own terms.

A space is a function of an experiment (its settings as nested dicts). It gives a list of changes,
each a dict of dotted settings to values, or one dict of dotted settings to what each may be:

    ("uniform", low, high)      a number
    ("loguniform", low, high)   a number that is level in its logarithm
    ("integer", low, high)      a whole number, both ends among them
    ("choice", [a, b, ...])     one of these
    ("simplex", [name, ...])    a share of each name, sum 1
    ("fixed", value)            this, whatever the experiment has
"""

from __future__ import annotations

import difflib
import importlib
import importlib.util
import pkgutil
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

Experiment = Mapping[str, Any]
Ranges = dict[str, tuple[Any, ...]]
Changes = list[dict[str, Any]]
Space = Callable[[Experiment], Ranges | Changes]


def names() -> list[str]:
    """List the built-in spaces: the folder is the registry."""
    return sorted(module.name for module in pkgutil.iter_modules(__path__))


def get(name: str) -> Space:
    """Find a space: ``mixture``, another function of its file (``mixture:weights``), or a file.

    A file of the user's own is named by its path, ``my/space.py`` or ``my/space.py:function``;
    without a function it is ``space``. Raises ``LookupError`` with what there is.
    """
    place, _, function = name.partition(":")
    module = _file(Path(place)) if place.endswith(".py") else _built_in(place)
    found = getattr(module, function or "space", None)
    if not callable(found):
        known = [n for n, f in vars(module).items() if callable(f) and not n.startswith("_")]
        own = sorted(
            n for n in known if getattr(getattr(module, n), "__module__", "") == module.__name__
        )
        raise LookupError(
            f"{place} has no function {function or 'space'!r}; it has {', '.join(own) or 'none'}"
        )
    space: Space = found
    return space


def _built_in(name: str) -> ModuleType:
    if name not in names():
        close = difflib.get_close_matches(name, names(), n=1)
        hint = f"did you mean {close[0]!r}? " if close else ""
        raise LookupError(
            f"there is no space {name!r}; {hint}known: {', '.join(names())}, or a file's path.py"
        )
    return importlib.import_module(f"tune_spaces.{name}")


def _file(path: Path) -> ModuleType:
    if not path.is_file():
        raise LookupError(f"there is no file {path}; expected one with a function `space`")
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except Exception as error:  # a file of the user's own may raise anything
        raise LookupError(f"{path} cannot be read: {type(error).__name__}: {error}") from error
    return module
