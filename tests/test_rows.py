"""Rows: found where the experiment says they are, read whole, and gathered for their family."""

from pathlib import Path
from typing import Any

import pytest

from tasks import rows
from tasks.classify import Classify
from tasks.family import Family
from tasks.generate import Generate
from tasks.rate import Rate
from tasks.regress import Regress
from tasks.roles import FIRST, PREDICATES, Roles
from tasks.topics import Topics
from tests.written import load, save, sentences, write


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


def test_the_label_set_is_that_of_the_whole_training_split(tmp_path: Path) -> None:
    write(tmp_path, train=sentences(200, labels=20))
    fitted, found = load(tmp_path, limit=3)
    assert found.rows["train"].num_rows == 3
    assert len(fitted["labels"]) == 20


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


TWO = ["dogs", "bark", "and", "run"]


def frames(copies: int) -> list[dict[str, Any]]:
    """Give ``copies`` sentences, each with the predicates 1 and 3."""
    return [
        {"tokens": [*TWO[:3], f"run{copy}"], "predicate": at, "tags": tags.split()}
        for copy in range(copies)
        for at, tags in ((1, "B-A B-V O O"), (3, "B-A O O B-V"))
    ]


def test_a_limit_hides_no_predicate_of_a_sentence_it_keeps(tmp_path: Path) -> None:
    write(tmp_path, train=frames(100))
    _, splits = load(tmp_path, Roles, limit=20)
    for split in ("train", "validation"):  # the latter is cut from the same file
        assert all(row[PREDICATES] == [1, 3] for row in splits.each(split))
    kept = list(splits.each("train"))
    assert len(kept) == 20
    assert sum(row[FIRST] for row in kept) == len({row["tokens"][3] for row in kept})


def test_a_row_set_aside_hides_no_predicate_of_its_sentence(tmp_path: Path) -> None:
    found = frames(3)
    found[0] |= {"tags": ["B-A"]}
    found[3] |= {"predicate": 9}
    write(tmp_path, train=found, validation=found[4:])
    _, splits = load(tmp_path, Roles, max_bad_rows=2)
    kept = [(row["predicate"], row[PREDICATES], row[FIRST]) for row in splits.each("train")]
    # Of the second sentence a predicate is unknown, so nothing is learnt from its other words.
    assert kept == [(3, [1, 3], True), (1, [1], False), (1, [1, 3], True), (3, [1, 3], False)]


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
        {
            "text": datasets.Value("string"),
            "label": datasets.ClassLabel(names=["no", "yes"]),
            "target": datasets.Value("float32"),
        }
    )
    for split, labels in (("train", [0, 1, 1]), ("validation", [1, -1, 0]), ("test", [-1, -1, -1])):
        columns = {"text": ["a", "b", "c"], "label": labels, "target": labels}
        made = datasets.Dataset.from_dict(columns, features)
        made.to_parquet(tmp_path / "set" / f"{split}.parquet")
    data = Classify.Data(path=str(tmp_path / "set"), revision="main")
    fitted, found = rows.load("topic", Classify, data, [tmp_path], 0)
    assert [row["label"] for row in found.each("train")] == ["no", "yes", "yes"]
    assert sorted(found.rows) == ["train", "validation"]
    assert found.unlabelled == {"train": 0, "validation": 1, "test": 3}
    assert fitted["labels"] == ["no", "yes"]
    numbers = Regress.Data(path=str(tmp_path / "set"), revision="main")
    _, found = rows.load("score", Regress, numbers, [tmp_path], 0)
    assert found.unlabelled == {"train": 0, "validation": 0, "test": 3}
    _, direct = load(tmp_path / "set", max_bad_rows=3)
    assert direct.rows["train"].num_rows == 3


def test_the_first_of_several_validation_splits_stands_for_them(tmp_path: Path) -> None:
    import datasets

    for split in ("train", "validation_b", "validation_a", "test_b", "test"):
        labels = [f"{split}{n}" for n in range(2)]
        made = datasets.Dataset.from_dict({"text": ["a", "b"], "label": labels})
        made.to_parquet(tmp_path / "set" / f"{split}.parquet")
    (tmp_path / "set" / "README.md").write_text(
        "---\nconfigs:\n- config_name: default\n  data_files:\n"
        + "".join(
            f"  - {{split: {split}, path: {split}.parquet}}\n"
            for split in ("train", "validation_b", "validation_a", "test_b", "test")
        )
        + "---\n"
    )
    data = Classify.Data(path=str(tmp_path / "set"), revision="main")
    _, found = rows.load("topic", Classify, data, [tmp_path], 0)
    assert sorted(found.rows) == ["test", "train", "validation"]
    assert found.sources["validation"].endswith("(validation_b)")
    assert found.sources["test"].endswith("(test)")


def test_the_built_in_corpus_is_loaded_by_its_path() -> None:
    data = Classify.Data(path="builtin:demo?size=60", label="topic")
    _, found = rows.load("topic", Classify, data, [], 0)
    assert found.rows["train"].num_rows == 60
    assert found.sources["train"] == "builtin:demo?size=60"
    with pytest.raises(rows.RowError, match=r"tasks\.topic: .*built-in corpus 'dmo'"):
        rows.load("topic", Classify, Classify.Data(path="builtin:dmo"), [], 0)


CUT: list[tuple[type[Family[Any]], dict[str, Any]]] = [
    (Regress, {}),
    (Rate, {"item": "item"}),
    (Generate, {"vocabulary": 400}),
    (Topics, {"topics": 2}),
]


@pytest.mark.parametrize(("family", "keys"), CUT, ids=[kind.__name__ for kind, _ in CUT])
def test_what_is_cut_for_validation_teaches_a_family_nothing(
    tmp_path: Path, family: type[Family[Any]], keys: dict[str, Any]
) -> None:
    """Each row has words, a user, an item and a number of its own."""
    words = ["".join(chr(97 + n // size % 6) for size in (1, 6, 36)) + "ing" for n in range(200)]
    found = [
        {
            "text": f"{word} {word} and {words[n - 1]}",
            "user": f"u{n}",
            "item": f"i{n}",
            "target": f"{word}{word}" if family is Generate else float(n * n),
        }
        for n, word in enumerate(words)
    ]
    write(tmp_path, train=found)
    fitted, splits = load(tmp_path, family, **keys)
    data = family.Data(path=str(tmp_path), **keys)
    left = {row["text"] for row in splits.each("train")}
    kept = [row for row in found if row["text"] in left]
    assert len(kept) == 150
    assert fitted == family.fit(data, kept)
    assert fitted != family.fit(data, found)
