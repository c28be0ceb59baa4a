"""Rows: the same from every format, bad ones named, splits cut and limited by content alone."""

import csv
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tasks import rows
from tasks.classify import Classify
from tasks.family import Family
from tasks.roles import Roles
from tasks.tag import Tag

TEXTS = ['He said "well, no"', "two\nlines, one text", "naïve café 日本", "NA", " plain ", "#1"]
ROWS = [{"text": text, "label": label} for text, label in zip(TEXTS, (1, 0, 2) * 2, strict=True)]


def write(folder: Path, **splits: list[dict[str, Any]]) -> Path:
    """Write splits as JSON lines."""
    folder.mkdir(exist_ok=True, parents=True)
    for split, found in splits.items():
        lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in found)
        (folder / f"{split}.jsonl").write_text(lines, encoding="utf-8")
    return folder


def load(
    folder: Path, family: type[Family] = Classify, seed: int = 0, name: str = "topic", **data: Any
) -> tuple[dict[str, Any], rows.Splits]:
    keys = family.Data(path=str(folder), **data)
    return rows.load(name, family, keys, [folder.parent], seed)


def sentences(count: int, labels: int = 3) -> list[dict[str, Any]]:
    return [{"text": f"text number {i}", "label": f"l{i % labels}"} for i in range(count)]


def texts(found: rows.Splits, split: str) -> list[str]:
    return [row["text"] for row in found.each(split)]


def save(path: Path, found: list[dict[str, Any]]) -> None:
    """Write rows in the format that the name asks for."""
    kind = path.suffix
    if kind == ".parquet":
        pq.write_table(pa.Table.from_pylist(found), path)
    elif kind == ".json":
        path.write_text(json.dumps(found))
    elif kind == ".jsonl":
        path.write_text("\ufeff" + "\n".join(map(json.dumps, found)) + "\n\n", encoding="utf-8")
    else:
        with path.open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, found[0], delimiter="," if kind == ".csv" else "\t")
            writer.writeheader()
            writer.writerows(found)


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


GOOD = b'{"text": "good", "label": "a"}\n'
FAIR = b'{"text": "fair", "label": "b"}\n'
BAD_LINES = [
    (b'{"text": "x"}\n', {}, ["row 2", "'label'", "None", "a label"]),
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


def test_bad_rows_of_all_splits_are_told_at_once_and_the_others_numbered(tmp_path: Path) -> None:
    bad = {"text": "", "label": "a"}
    write(tmp_path, train=[bad, *sentences(3), bad, bad], validation=[bad], test=sentences(1))
    with pytest.raises(rows.RowError) as caught:
        load(tmp_path, max_bad_rows=0)
    assert len(caught.value.problems) == 2
    assert "2 other rows bad (5, 6)" in str(caught.value)
    assert "max_bad_rows=3" in str(caught.value)


def test_rows_set_aside_leave_no_labels_behind(tmp_path: Path) -> None:
    write(
        tmp_path,
        train=[*sentences(2), {"text": "", "label": "typo"}],
        validation=sentences(1),
    )
    fitted, _ = load(tmp_path, max_bad_rows=1)
    assert "typo" not in json.dumps(fitted)


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


def test_two_files_for_a_split_are_refused(tmp_path: Path) -> None:
    write(tmp_path, train=sentences(3), validation=sentences(1))
    save(tmp_path / "train.csv", sentences(3))
    with pytest.raises(rows.RowError, match=r"train\.jsonl and train\.csv"):
        load(tmp_path)


def test_the_first_place_with_the_folder_wins(tmp_path: Path) -> None:
    write(tmp_path / "one" / "data", test=[])
    (tmp_path / "one" / "data" / "test.jsonl").unlink()
    write(tmp_path / "two" / "data", train=sentences(4), validation=sentences(1))
    write(tmp_path / "three" / "data", train=sentences(5), validation=sentences(1))
    places = [tmp_path / name for name in ("none", "one", "two", "three")]
    _, found = rows.load("t", Classify, Classify.Data(path="data"), places, 0)
    assert found.rows["train"].num_rows == 4


def test_labels_outside_the_set_stay_in_validation_and_are_told_once(tmp_path: Path) -> None:
    new = [{"text": f"n{i}", "label": "new"} for i in range(3)]
    write(tmp_path, train=sentences(9), validation=sentences(2), test=sentences(4) + new)
    _, found = load(tmp_path)
    assert found.strange == {"train": 0, "validation": 0, "test": 3}
    assert found.rows["test"].num_rows == 7
    (note,) = found.notes
    assert "3 of 7 rows" in note
    assert "'new' in row 5" in note


def test_the_label_set_is_that_of_the_whole_training_split(tmp_path: Path) -> None:
    write(tmp_path, train=sentences(200, labels=20))
    fitted, found = load(tmp_path, limit=3)
    assert found.rows["train"].num_rows == 3
    assert len(fitted["labels"]) == 20


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


def test_a_family_gathers_over_the_rows_of_a_split(tmp_path: Path) -> None:
    tokens = ["dogs", "bark", "and", "run"]
    found = [
        {"tokens": tokens, "predicate": at, "tags": ["O"] * at + ["B-V"] + ["O"] * (3 - at)}
        for at in (1, 3)
    ]
    write(tmp_path, train=found, validation=found[:1])
    _, splits = load(tmp_path, Roles)
    kept = list(splits.each("train"))
    assert [row["predicate"] for row in kept] == [1, 3]
    assert all(set(row) > set(found[0]) for row in kept)


def test_digests_see_every_value_and_the_order(tmp_path: Path) -> None:
    variants = [sentences(3), sentences(3)[::-1], sentences(2)]
    variants.append([{**row, "text": row["text"] + "."} for row in sentences(3)])
    digests = set()
    for place, train in enumerate(variants):
        write(tmp_path / str(place), train=train, validation=sentences(1))
        digests.add(load(tmp_path / str(place))[1].digests["train"])
    assert len(digests) == len(variants)


def test_a_hub_id_needs_a_revision(tmp_path: Path) -> None:
    data = Classify.Data(path="stanfordnlp/sst2", config="plain")
    with pytest.raises(rows.RowError, match=r"data\.revision"):
        rows.load("topic", Classify, data, [tmp_path], 0)
    data = Classify.Data(path="stanfordnlp/sst2")
    with pytest.raises(rows.RowError, match=r"needs data\.revision"):
        rows.load("topic", Classify, data, [tmp_path], 0)


def test_a_hub_data_set_that_cannot_be_had_is_one_message(tmp_path: Path) -> None:
    data = Classify.Data(path="nobody/nothing-here", revision="abc123")
    with pytest.raises(rows.RowError) as caught:
        rows.load("topic", Classify, data, [tmp_path], 0)
    for part in ("'nobody/nothing-here'", "'abc123'", "cannot be had", "HF_HUB_OFFLINE", "folder"):
        assert part in str(caught.value)


def test_the_hub_loader_names_class_labels_and_leaves_hidden_ones_out(tmp_path: Path) -> None:
    import datasets

    features = datasets.Features(
        {"text": datasets.Value("string"), "label": datasets.ClassLabel(names=["no", "yes"])}
    )
    for split, labels in (("train", [0, 1, 1]), ("validation", [1, 0, 0]), ("test", [-1, -1, -1])):
        made = datasets.Dataset.from_dict({"text": ["a", "b", "c"], "label": labels}, features)
        made.to_parquet(tmp_path / "set" / f"{split}.parquet")
    data = Classify.Data(path=str(tmp_path / "set"), revision="main")
    fitted, found = rows.load("topic", Classify, data, [tmp_path], 0)
    assert [row["label"] for row in found.each("train")] == ["no", "yes", "yes"]
    assert sorted(found.rows) == ["train", "validation"]
    assert fitted["labels"] == ["no", "yes"]
    _, direct = load(tmp_path / "set", max_bad_rows=3)
    assert direct.rows["train"].num_rows == 3


def test_the_built_in_corpus_is_loaded_by_its_path() -> None:
    data = Classify.Data(path="builtin:demo?size=60", label="topic")
    _, found = rows.load("topic", Classify, data, [], 0)
    assert found.rows["train"].num_rows == 60
    assert found.sources["train"] == "builtin:demo?size=60"
    with pytest.raises(rows.RowError, match=r"tasks\.topic: .*built-in corpus 'dmo'"):
        rows.load("topic", Classify, Classify.Data(path="builtin:dmo"), [], 0)
