"""WHAT is learnt: one file per family of answers, where rows come from, a built-in corpus."""

from __future__ import annotations

import difflib
import importlib
import pkgutil
from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tasks.family import Family

PARTS = frozenset(
    (
        "agreement",
        "arguments",
        "builtin",
        "cells",
        "chances",
        "checks",
        "conll",
        "decoder",
        "family",
        "files",
        "frames",
        "gazetteer",
        "grammar",
        "head",
        "helper",
        "items",
        "labels",
        "lexicon",
        "media",
        "numbers",
        "opened",
        "opinion",
        "reads",
        "rows",
        "shuffled",
        "splits",
        "squad",
        "texts",
        "themes",
        "windows",
        "words",
    )
)
"""The files of this folder that families are made of; every other file is a family."""


@cache
def names() -> tuple[str, ...]:
    """List the built-in families: the folder is the registry."""
    return tuple(sorted(m.name for m in pkgutil.iter_modules(__path__) if m.name not in PARTS))


def get(name: str) -> type[Family]:
    """Find a family by name, or a class of the user's own by ``package.module:Class``.

    ``tasks/classify.py`` holds the class ``Classify``, and so on.
    Raises ``LookupError`` with the nearest known name.
    """
    if ":" in name:
        module, _, attribute = name.partition(":")
        try:
            found: type[Family] = getattr(importlib.import_module(module), attribute)
        except (ImportError, AttributeError) as error:
            raise LookupError(f"family {name!r} cannot be imported: {error}") from error
        from tasks.family import Family

        if not (isinstance(found, type) and issubclass(found, Family)):
            raise LookupError(f"{name!r} is no family; expected a class that extends Family")
        return found
    if name not in names():
        close = difflib.get_close_matches(name, names(), n=1)
        hint = f" Did you mean {close[0]!r}?" if close else ""
        raise LookupError(f"there is no family {name!r}.{hint} Known: {', '.join(names())}.")
    built_in: type[Family] = getattr(importlib.import_module(f"tasks.{name}"), name.capitalize())
    return built_in
