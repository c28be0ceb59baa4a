"""Training rows whose answers are dealt out at random: a task that has nothing to teach.

It costs what the true task costs and reads the same texts, so what it does to another task is no
matter of its labels. Every answer of the training rows is still there, once.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any

import pyarrow as pa

from tasks import splits
from tasks.family import Data, Family, Row

Order = Callable[[int, str], list[int]]
"""Puts so many things into a random order; a name keeps one order apart from another."""


class ByWord(ABC):
    """What a family offers whose answers belong to words: they are dealt out within their row.

    Those of all others belong to a row, and the columns of the answer are dealt out among rows.
    """

    @classmethod
    @abstractmethod
    def dealt(cls, data: Any, row: Row, order: Order) -> dict[str, Any]:
        """Give the columns of a row's answer with the answers at other words."""


def possible(family: type[Family[Any]], data: Data) -> bool:
    """Say whether a task has answers of its own, which are no part of its texts."""
    return issubclass(family, ByWord) or bool(family.label_columns(data))


def shuffled(
    table: pa.Table, family: type[Family[Any]], data: Data, task: str, seed: int
) -> pa.Table:
    """Deal the answers of these rows out anew, in an order keyed by seed and task."""
    if not issubclass(family, ByWord):
        order = _orders(seed, task, "all")(table.num_rows, "rows")
        return _with(table, {name: table[name].take(order) for name in family.label_columns(data)})
    found: dict[str, list[Any]] = {}
    for place, row in enumerate(splits.each(table)):
        for column, answer in family.dealt(data, row, _orders(seed, task, place)).items():
            found.setdefault(column, []).append(answer)
    kinds = {name: table.schema.field(name).type for name in found}
    return _with(table, {name: pa.array(own, kinds[name]) for name, own in found.items()})


def pieces(tags: Sequence[Any], order: Order) -> list[Any]:
    """Deal tags out among words; I-X stays behind what it goes on from, so that spans stay whole.

    Other tags are a piece each.
    """
    found: list[list[Any]] = []
    for tag in tags:
        kind = tag[2:] if isinstance(tag, str) and tag.startswith("I-") else None
        if found and kind is not None and found[-1][-1] in (f"B-{kind}", tag):
            found[-1].append(tag)
        else:
            found.append([tag])
    return [tag for place in order(len(found), "tags") for tag in found[place]]


def _orders(seed: int, task: str, place: int | str) -> Order:
    """Give the orders that belong to a row."""

    def order(count: int, name: str) -> list[int]:
        keys = (f"{place}|{name}|{i}".encode() for i in range(count))
        rank = [splits.keyed(key, seed, "shuffled", task) for key in keys]
        return sorted(range(count), key=rank.__getitem__)

    return order


def _with(table: pa.Table, columns: dict[str, Any]) -> pa.Table:
    for name, values in columns.items():
        field = table.schema.get_field_index(name)
        table = table.set_column(field, table.schema.field(field), values)
    return table.combine_chunks()
