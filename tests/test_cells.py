"""Cells: what a string of a CSV file means is what it would be in JSON."""

import json
from pathlib import Path

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


def test_whole_numbers_of_one_split_are_text_where_another_split_has_text(tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    save(tmp_path / "d" / "train.csv", [{"text": "a", "label": "1"}, {"text": "b", "label": "x"}])
    save(tmp_path / "d" / "validation.csv", [{"text": "a", "label": "1"}])
    _, found = load(tmp_path / "d")
    assert [row["label"] for row in found.each("validation")] == ["1"]
    assert found.strange["validation"] == 0
