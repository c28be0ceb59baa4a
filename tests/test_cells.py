"""Cells: what a string of a CSV file means is what it would be in JSON."""

import json
from pathlib import Path

import pytest

from tasks import cells, files, rows
from tasks.generate import Generate
from tasks.roles import Roles
from tasks.span import Span
from tasks.tag import Tag
from tests.written import load, save, write


def test_lists_and_decimals_of_a_csv_are_what_they_are_in_json(tmp_path: Path) -> None:
    found = [{"tokens": ["a", "b"], "tags": ["O", "B-X"], "sent": 1.5}] * 3
    write(tmp_path / "json", train=found, validation=found)
    for split in ("train", "validation"):
        flat = [{k: v if k == "sent" else json.dumps(v) for k, v in row.items()} for row in found]
        (tmp_path / "csv").mkdir(exist_ok=True)
        save(tmp_path / "csv" / f"{split}.csv", flat)
    _, plain = load(tmp_path / "json", Tag, group="sent")
    _, other = load(tmp_path / "csv", Tag, group="sent")
    assert list(other.each("train")) == found
    assert other.digests == plain.digests


def test_one_bad_index_among_whole_numbers_is_the_only_bad_row(tmp_path: Path) -> None:
    flat = [
        {"tokens": '["dogs", "bark"]', "predicate": at, "tags": '["B-A", "B-V"]'}
        for at in ("1", "1", "one", "1")
    ]
    save(tmp_path / "train.csv", flat)
    save(tmp_path / "validation.csv", flat[:1])
    with pytest.raises(rows.RowError) as caught:
        load(tmp_path, Roles)
    (message,) = caught.value.problems
    assert "train.csv, row 3, column 'predicate': found 'one'" in message
    assert "max_bad_rows=1 " in message
    _, found = load(tmp_path, Roles, max_bad_rows=1)
    assert [row["predicate"] for row in found.each("train")] == [1, 1, 1]


@pytest.mark.parametrize("codes", [["01", "02", "10", "001"], ["1", "001", "10"], ["00", "0"]])
def test_codes_with_leading_zeros_are_the_same_labels_in_every_format(
    tmp_path: Path, codes: list[str]
) -> None:
    found = [{"text": "a", "label": code} for code in codes]
    for kind in ("csv", "jsonl", "parquet"):
        (tmp_path / kind).mkdir()
        for split in ("train", "validation"):
            save(tmp_path / kind / f"{split}.{kind}", found)
        _, splits = load(tmp_path / kind)
        assert [row["label"] for row in splits.each("train")] == codes


def test_decimals_below_one_are_numbers(tmp_path: Path) -> None:
    flat = [{"at": at} for at in ("0.5", "-0.25", ".5", "0", "1e-3")]
    save(tmp_path / "train.csv", flat)
    sheet = cells.typed([files.read(tmp_path / "train.csv", ["at"])])[0]
    assert sheet.table["at"].to_pylist() == [0.5, -0.25, 0.5, 0.0, 0.001]


def test_whole_numbers_of_one_split_are_text_where_another_split_has_text(tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    save(tmp_path / "d" / "train.csv", [{"text": "a", "label": "1"}, {"text": "b", "label": "x"}])
    save(tmp_path / "d" / "validation.csv", [{"text": "a", "label": "1"}])
    _, found = load(tmp_path / "d")
    assert [row["label"] for row in found.each("validation")] == ["1"]
    assert found.strange["validation"] == 0


def test_texts_that_look_like_numbers_or_lists_are_texts_where_a_task_has_its_texts(
    tmp_path: Path,
) -> None:
    flat = [
        {"text": "[sic]", "target": "1999", "question": "2", "context": "7 of 9", "answer": "7"}
    ] * 3
    for split in ("train", "validation"):
        save(tmp_path / f"{split}.csv", [{**row, "start": "0"} for row in flat])
    _, written = load(tmp_path, Generate)
    assert next(written.each("train")) == {"text": "[sic]", "target": "1999"}
    _, asked = load(tmp_path, Span)
    found = next(asked.each("train"))
    assert (found["question"], found["answer"], found["start"]) == ("2", "7", 0)
