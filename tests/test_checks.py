"""Checks: a bad row is named by file, row and column, or set aside and counted."""

import json
from pathlib import Path
from typing import Any

import pytest

from tasks import checks, files, rows
from tasks.tag import Tag
from tests.family_cases import CASES
from tests.reading import fitted
from tests.written import load, sentences, write

GOOD = b'{"text": "good", "label": "a"}\n'
FAIR = b'{"text": "fair", "label": "b"}\n'
BAD_LINES = [
    (b'{"text": "x", "label": "zz"}\n', {"labels": ["a", "b"]}, ["'label'", "'zz'", "'a'"]),
    (b'{"text": " ", "label": "a"}\n', {}, ["'text'", "' '", "not empty"]),
    (b'{"text": "caf\xe9", "label": "a"}\n', {}, ["'text'", r"b'caf\xe9'", "UTF-8"]),
    (b'{"text": "\\ud83d", "label": "a"}\n', {}, ["'text'", r"\ud83d", "UTF-8"]),
    (b'{"text": 3, "label": "a"}\n', {}, ["'text'", "found 3", "text"]),
    (b'{"text": "x", \n', {}, ["row 2", "JSON object"]),
    (b"[1]\n", {}, ["row 2", "JSON object"]),
]


@pytest.mark.parametrize(("line", "data", "parts"), BAD_LINES)
def test_a_bad_row_is_named_and_may_be_set_aside(
    tmp_path: Path, line: bytes, data: dict[str, Any], parts: list[str]
) -> None:
    (tmp_path / "train.jsonl").write_bytes(GOOD + line + FAIR * 3)
    (tmp_path / "validation.jsonl").write_bytes(GOOD)
    with pytest.raises(rows.RowError) as caught:
        load(tmp_path, **data)
    (message,) = caught.value.problems
    for part in ["tasks.topic: ", "train.jsonl, row 2", "max_bad_rows=1", *parts]:
        assert part in message
    _, found = load(tmp_path, max_bad_rows=1, **data)
    assert found.set_aside == {"train": 1, "validation": 0}
    assert found.rows["train"].num_rows == 4
    assert found.place("train", 1).endswith("train.jsonl, row 3")
    assert "1 bad row was set aside" in found.notes[0]


WORDS = {"tokens": ["a", "b", "c"], "tags": ["O", "B-X", "I-X"]}


@pytest.mark.parametrize(
    ("change", "parts"),
    [
        ({"tags": ["O", "B-X"]}, ["'tags'", "2 tags", "3 tags"]),
        ({"tags": ["O", "I-X", "I-X"]}, ["'tags'", "'I-X' at word 1", "B-X"]),
        ({"tags": ["B-X", "I-Y", "O"]}, ["'tags'", "'I-Y' at word 1", "B-Y"]),
        ({"tokens": []}, ["'tokens'", "[]", "word"]),
        ({"tokens": ["a", "", "c"]}, ["'tokens'", "not empty"]),
        ({"tokens": None}, ["'tokens'", "list"]),
    ],
)
def test_a_bad_row_of_words_is_named(tmp_path: Path, change: dict, parts: list[str]) -> None:
    write(tmp_path, train=[WORDS, WORDS, WORDS | change], validation=[WORDS])
    with pytest.raises(rows.RowError) as caught:
        load(tmp_path, Tag)
    (message,) = caught.value.problems
    for part in ["train.jsonl, row 3", *parts]:
        assert part in message


def test_bad_rows_of_all_splits_are_told_at_once_and_the_others_numbered(tmp_path: Path) -> None:
    bad = {"text": "", "label": "a"}
    write(tmp_path, train=[bad, *sentences(3), bad, bad], validation=[bad], test=sentences(1))
    with pytest.raises(rows.RowError) as caught:
        load(tmp_path, max_bad_rows=0)
    assert len(caught.value.problems) == 2
    assert "2 other rows are bad too (5, 6)" in str(caught.value)
    assert "max_bad_rows=3" in str(caught.value)


def test_rows_set_aside_leave_no_labels_behind(tmp_path: Path) -> None:
    write(
        tmp_path,
        train=[*sentences(2), {"text": "", "label": "typo"}],
        validation=sentences(1),
    )
    fitted, _ = load(tmp_path, max_bad_rows=1)
    assert "typo" not in json.dumps(fitted)


def test_labels_outside_the_set_stay_in_validation_and_are_told_once(tmp_path: Path) -> None:
    new = [{"text": f"n{i}", "label": "new"} for i in range(3)]
    write(tmp_path, train=sentences(9), validation=sentences(2), test=sentences(4) + new)
    _, found = load(tmp_path)
    assert found.strange == {"train": 0, "validation": 0, "test": 3}
    assert found.rows["test"].num_rows == 7
    (note,) = found.notes
    assert "3 of 7 rows" in note
    assert "'new' in row 5" in note


@pytest.mark.parametrize("name", CASES)
def test_a_row_without_a_label_takes_no_part_and_is_no_bad_row(name: str) -> None:
    case = CASES[name]
    family = fitted(case.family, case.rows, **case.options)
    data = family.data.model_copy(update={"max_bad_rows": 9})  # numbers that are texts
    answers, columns = family.label_columns(data), family.column_names(data)
    without = case.rows[0] | dict.fromkeys(answers)
    found = []
    for own in (case.rows, [*case.rows, without, without]):
        sheets = {s: files.sheet(s, enumerate(own, 1), columns) for s in ("train", "validation")}
        found.append(checks.checked("t", case.family, data, sheets))
    (known, before, _), (again, after, problems) = found
    assert set(answers) <= set(columns)
    assert problems == []
    assert again == known or not answers
    for split in ("train", "validation"):
        assert after.unlabelled[split] == 2 * bool(answers)
        assert after.set_aside[split] == before.set_aside[split]
        assert after.rows[split].equals(before.rows[split]) is bool(answers)


def test_rows_without_a_label_are_counted_and_told_and_keep_the_numbers_of_others(
    tmp_path: Path,
) -> None:
    own = sentences(4)
    (tmp_path / "train.csv").write_text(
        "text,label\n" + "".join(f"{r['text']},{r['label']}\nmore{n},\n" for n, r in enumerate(own))
    )
    write(tmp_path, validation=[{"text": "a"}, *sentences(2)], test=sentences(1))
    _, found = load(tmp_path)
    assert found.unlabelled == {"train": 4, "validation": 1, "test": 0}
    assert (found.rows["train"].num_rows, found.rows["validation"].num_rows) == (4, 2)
    assert found.place("train", 1).endswith("train.csv, row 3")
    assert found.place("validation", 0).endswith("validation.jsonl, row 2")
    assert "4 of 8 rows" in found.notes[0]
    assert "have no label in column 'label' and take no part" in found.notes[0]


def test_a_split_without_any_label_is_none(tmp_path: Path) -> None:
    blank = [{"text": f"t{n}", "label": None} for n in range(3)]
    write(tmp_path, train=sentences(200), validation=blank, test=blank)
    _, found = load(tmp_path)
    assert sorted(found.rows) == ["train", "validation"]
    assert found.rows["train"].num_rows + found.rows["validation"].num_rows == 200
    assert "so there is no validation split" in found.notes[0]
    write(tmp_path, train=blank)
    with pytest.raises(rows.RowError, match=r"all 3 rows of .*expected at least one that has"):
        load(tmp_path)
