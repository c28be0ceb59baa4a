"""Splits: limits nest, validation is cut by text and group, digests see content alone."""

from pathlib import Path
from typing import Any

import pytest

from tasks import rows
from tests.written import load, sentences, texts, write


def test_limits_nest_and_are_keyed_by_seed_and_task_not_by_file_order(tmp_path: Path) -> None:
    every = sentences(60)
    write(tmp_path / "a", train=every, validation=sentences(1))
    write(tmp_path / "b", train=every[::-1], validation=sentences(1))

    def chosen(folder: str, **changes: Any) -> set[str]:
        return set(texts(load(tmp_path / folder, **changes)[1], "train"))

    assert chosen("a", limit=5) < chosen("a", limit=20) < chosen("a", limit=100)
    assert chosen("a", limit=20) == chosen("b", limit=20)
    assert chosen("a", limit=20) != chosen("a", limit=20, seed=1)
    assert chosen("a", limit=20) != chosen("a", limit=20, name="other")


def test_a_limit_counts_groups_where_rows_have_them(tmp_path: Path) -> None:
    every = [{**row, "doc": i // 4} for i, row in enumerate(sentences(40))]
    write(tmp_path, train=every, validation=every[:1])
    _, found = load(tmp_path, limit=3, group="doc")
    docs = [row["doc"] for row in found.each("train")]
    assert len(docs) == 12
    assert len(set(docs)) == 3


def test_a_missing_validation_split_is_cut_by_text_and_group(tmp_path: Path) -> None:
    every = [{**row, "doc": i // 2} for i, row in enumerate(sentences(800))]
    again = [{**row, "doc": 1000 + i} for i, row in enumerate(every[:200])]
    write(tmp_path / "a", train=every + again)
    write(tmp_path / "b", train=(every + again)[::-1])
    _, found = load(tmp_path / "a", group="doc", limit=50)
    _, turned = load(tmp_path / "b", group="doc", limit=50)
    for column in ("text", "doc"):
        train, validation = (
            {row[column] for row in found.each(split)} for split in ("train", "validation")
        )
        assert not train & validation
    assert 100 <= found.rows["validation"].num_rows <= 106
    assert set(texts(found, "validation")) == set(texts(turned, "validation"))
    assert set(texts(found, "train")) == set(texts(turned, "train"))
    assert "100" in found.notes[0] or "10" in found.notes[0]
    number = found.numbers["validation"][0]  # type: ignore[index]
    assert (every + again)[number - 1]["text"] == texts(found, "validation")[0]


def test_a_cut_validation_split_has_at_least_50_rows_or_is_refused(tmp_path: Path) -> None:
    write(tmp_path / "a", train=sentences(90))
    assert load(tmp_path / "a")[1].rows["validation"].num_rows == 50
    write(tmp_path / "b", train=sentences(50))
    with pytest.raises(rows.RowError, match="too few to cut 50 rows"):
        load(tmp_path / "b")
    write(tmp_path / "c", train=[{"text": "same", "label": i % 2} for i in range(500)])
    with pytest.raises(rows.RowError, match="1 groups of equal texts"):
        load(tmp_path / "c")


def test_digests_see_every_value_and_the_order(tmp_path: Path) -> None:
    variants = [sentences(3), sentences(3)[::-1], sentences(2)]
    variants.append([{**row, "text": row["text"] + "."} for row in sentences(3)])
    digests = set()
    for place, train in enumerate(variants):
        write(tmp_path / str(place), train=train, validation=sentences(1))
        digests.add(load(tmp_path / str(place))[1].digests["train"])
    assert len(digests) == len(variants)
