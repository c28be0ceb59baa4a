"""Pictures in rows count by content; one that cannot be read is a bad row with its place."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import drawn
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tasks import rows
from tasks.classify import Classify
from tasks.media import Media
from tasks.splits import Splits


def load(folder: Path, **keys: object) -> Splits:
    data = Classify.Data(path=str(folder), image="image", label="stripes", **keys)  # type: ignore[arg-type]
    return rows.load("kinds", Classify, data, [], 0)[1]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return drawn.pictures(tmp_path / "data", rows=9)


def parquet(folder: Path, to: Path, nested: bool) -> Path:
    """Write the same rows with the bytes of their files in them, as the hub has them."""
    to.mkdir()
    for split in ("train", "validation", "test"):
        lines = (folder / f"{split}.jsonl").read_text().splitlines()
        table = pa.Table.from_pylist([json.loads(line) for line in lines])
        content = [(folder / path).read_bytes() for path in table.column("image").to_pylist()]
        cells = [{"bytes": one, "path": "x.png"} for one in content] if nested else content
        pq.write_table(table.set_column(0, "image", pa.array(cells)), to / f"{split}.parquet")
    return to


@pytest.mark.parametrize("nested", [False, True])
def test_what_counts_is_content_wherever_it_lies(
    folder: Path, tmp_path: Path, nested: bool
) -> None:
    expected = load(folder, limit=4)
    moved = load(Path(shutil.copytree(folder, tmp_path / "moved")), limit=4)
    packed = load(parquet(folder, tmp_path / "packed", nested), limit=4)
    assert expected.digests == moved.digests == packed.digests
    assert expected.rows["train"].num_rows == 4
    kept = [row["image"] for row in moved.each("train")]
    assert all(cell["path"].startswith(str(tmp_path / "moved")) for cell in kept)
    assert all(cell["path"] is None for cell in packed.rows["train"].column("image").to_pylist())


def test_another_picture_under_the_same_name_is_another_data_set(folder: Path) -> None:
    before = load(folder).digests
    drawn.picture(77, "lying").save(folder / "files" / "1.png")
    after = load(folder).digests
    assert before["train"] != after["train"]
    assert before["test"] == after["test"]


def test_a_picture_that_cannot_be_read_is_a_bad_row_with_its_place(folder: Path) -> None:
    whole = (folder / "files" / "3.jpg").read_bytes()
    (folder / "files" / "3.jpg").write_bytes(whole[: len(whole) // 2])
    (folder / "files" / "5.png").unlink()
    (folder / "files" / "7.png").write_text("no picture")
    with pytest.raises(rows.RowError) as caught:
        load(folder)
    (problem,) = caught.value.problems
    assert "train.jsonl, row 4, column 'image': found 'files/3.jpg'; expected a picture" in problem
    assert "2 other rows are bad too (6, 8)" in problem
    found = load(folder, max_bad_rows=3)
    assert found.set_aside == {"train": 3, "validation": 0, "test": 0}
    assert found.rows["train"].num_rows == 6


def test_no_row_is_blamed_for_a_library_that_is_broken(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "PIL.Image", None)
    with pytest.raises(ImportError, match=r"PIL\.Image"):
        load(folder, max_bad_rows=9)


def test_rows_with_one_picture_stay_together_when_validation_is_cut(tmp_path: Path) -> None:
    folder = drawn.pictures(tmp_path / "data", rows=80)
    (folder / "validation.jsonl").unlink()
    for place in range(0, 60, 2):  # pairs of files with the same content
        name = f"files/{place}.{('png', 'jpg')[place % 3 == 0]}"
        other = f"files/{place + 1}.{('png', 'jpg')[(place + 1) % 3 == 0]}"
        shutil.copy(folder / name, folder / other)
    found = load(folder)
    train, validation = (
        {row["image"]["sha256"] for row in found.each(split)} for split in ("train", "validation")
    )
    assert found.rows["validation"].num_rows >= 50
    assert not train & validation


def test_a_picture_is_asked_by_path_and_told_if_it_cannot_be_read(tmp_path: Path) -> None:
    data = Classify.Data(path="x", image="file")
    family = Classify(data, {"labels": ["a", "b"]})
    drawn.picture(0, "lying").save(tmp_path / "a.png")
    row = family.ask({"image": str(tmp_path / "a.png")})
    assert row is not None
    (text,) = family.texts(row)
    assert isinstance(text, Media)
    assert text.path == str(tmp_path / "a.png")
    assert family.ask({"text": "of no use"}) is None
    for wrong in (str(tmp_path / "b.png"), "data:image/png;base64,???", "data:,"):
        with pytest.raises(ValueError, match="expected a picture"):
            family.ask({"image": wrong})
