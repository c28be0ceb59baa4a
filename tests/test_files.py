"""Files: the same rows from every format, and a file that cannot be read is named."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tasks import rows
from tests.written import load, save, sentences, texts, write

TEXTS = ['He said "well, no"', "two\nlines, one text", "naïve café 日本", "NA", " plain ", "#1"]
ROWS = [{"text": text, "label": label} for text, label in zip(TEXTS, (1, 0, 2) * 2, strict=True)]


@pytest.mark.parametrize("kind", ["parquet", "jsonl", "json", "csv", "tsv"])
def test_every_format_gives_the_same_rows_and_digests(tmp_path: Path, kind: str) -> None:
    (tmp_path / "plain").mkdir()
    (tmp_path / "other").mkdir()
    for split in ("train", "validation"):
        write(tmp_path / "plain", **{split: ROWS})
        extra = [{"more": index, **row} for index, row in enumerate(ROWS)]
        save(tmp_path / "other" / f"{split}.{kind}", extra)
    fitted, plain = load(tmp_path / "plain")
    fitted_other, other = load(tmp_path / "other")
    assert list(other.each("train")) == ROWS
    assert fitted == fitted_other
    assert other.digests == plain.digests


def test_bad_bytes_in_parquet_are_found(tmp_path: Path) -> None:
    for split, text in (("train", b"caf\xe9"), ("validation", b"fine")):
        buffers = pa.array([b"good", text, b"fair"], pa.binary()).buffers()
        column = pa.Array.from_buffers(pa.string(), 3, buffers)
        table = pa.table({"text": column, "label": ["a", "b", "b"]})
        pq.write_table(table, tmp_path / f"{split}.parquet")
    with pytest.raises(rows.RowError, match=r"train.parquet, row 2, column 'text': found b'caf"):
        load(tmp_path)
    _, found = load(tmp_path, max_bad_rows=1)
    assert texts(found, "train") == ["good", "fair"]
    assert texts(found, "validation") == ["good", "fine", "fair"]


@pytest.mark.parametrize(
    ("number", "part"),
    [
        (2**63, "column 'label': found 9223372036854775808; expected a number from -92"),
        (-(2**63) - 1, "column 'label': found -9223372036854775809; expected a number from"),
        ([2**64], "column 'label': found 18446744073709551616; expected a number from"),
    ],
)
def test_a_number_too_large_for_a_table_is_named(tmp_path: Path, number: Any, part: str) -> None:
    found = sentences(3)
    write(tmp_path, train=[found[0], found[1] | {"label": number}, found[2]], validation=found)
    with pytest.raises(rows.RowError) as caught:
        load(tmp_path)
    assert part in str(caught.value)


def test_an_object_with_a_number_too_large_for_a_table_names_its_file(tmp_path: Path) -> None:
    write(tmp_path, train=[{"text": "a", "label": {"a": 2**64}}], validation=sentences(1))
    with pytest.raises(rows.RowError, match=r"train\.jsonl cannot be read: "):
        load(tmp_path)


@pytest.mark.parametrize(("kind", "part"), [("jsonl", "row 1: found"), ("json", "is no JSON")])
def test_a_number_of_too_many_digits_is_named(tmp_path: Path, kind: str, part: str) -> None:
    row = '{"text": "a", "label": ' + "1" * 5000 + "}"
    (tmp_path / f"train.{kind}").write_text(f"[{row}]" if kind == "json" else row)
    write(tmp_path, validation=sentences(1))
    with pytest.raises(rows.RowError, match=rf"train\.{kind}.*{part}"):
        load(tmp_path)


@pytest.mark.parametrize(
    ("name", "content", "parts"),
    [
        ("train.jsonl", '{"text": "a", "labl": 1}\n', ["no column 'label'", "'labl'"]),
        ("train.csv", "text,lab\na,b\n", ["no column 'label'", "'lab'"]),
        ("train.csv", 'text,label\n"a,b\n', ["train.csv, line 2", "quotation"]),
        ("train.csv", "text,label\na,b\nc\nd,e\n", ["row 2", "['c']", "2 fields"]),
        ("train.json", "nonsense", ["no JSON", "list of objects"]),
        ("train.json", '"text"', ["str", "list of objects"]),
        ("train.parquet", "nonsense", ["train.parquet cannot be read"]),
        ("train.jsonl", "", ["holds no rows"]),
        ("test.jsonl", '{"text": "a", "label": 1}\n', ["no train file"]),
        ("other.jsonl", "", ["no folder with train", "TLMT_DATA", "revision"]),
    ],
)
def test_a_bad_file_is_named(tmp_path: Path, name: str, content: str, parts: list[str]) -> None:
    (tmp_path / name).write_text(content)
    write(tmp_path, **({} if name == "other.jsonl" else {"validation": sentences(1)}))
    if name == "other.jsonl":
        (tmp_path / "validation.jsonl").unlink(missing_ok=True)
    with pytest.raises(rows.RowError) as caught:
        load(tmp_path)
    assert str(caught.value).startswith("tasks.topic: ")
    for part in parts:
        assert part in str(caught.value)
