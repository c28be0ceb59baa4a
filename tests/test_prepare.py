"""Preparation: every problem of every task at once, tokens shared between experiments."""

import json
from pathlib import Path
from typing import Any

import pytest
import reading

from orchestrator.experiment import ExperimentError, parse
from orchestrator.prepare import Prepared, prepare, training_texts
from tasks import rows
from tasks.classify import Classify

DEMO = "builtin:demo?size=80"


def tree(model: str = "tiny", **tasks: dict[str, Any]) -> dict[str, Any]:
    own = {
        "topic": {"family": "classify", "data": {"path": DEMO, "label": "topic"}},
        "roles": {"family": "roles", "data": {"path": DEMO}},
    }
    return {"name": "x", "encoder": {"model": model}, "tasks": own | tasks}


def test_an_experiment_becomes_tokens_families_and_plain_data(tmp_path: Path) -> None:
    prepared = prepare(parse(tree()), [tmp_path], tmp_path / "cache")
    prepared.write(tmp_path)
    again = Prepared.read(tmp_path)
    assert again == prepared
    assert len(again.open("roles", "train")) == again.tasks["roles"].splits["train"].rows == 80
    topic, split = again.family("topic"), again.open("topic", "validation")
    golds = [split.gold(index) for index in range(len(split))]
    assert topic.score(golds, golds)[topic.main] == 1.0
    ids = max(int(split.example(i)["input_ids"].max()) for i in range(len(split)))
    vocabulary = json.loads((Path(again.reader) / "tokenizer.json").read_text())["model"]["vocab"]
    assert ids < len(vocabulary)
    with pytest.raises(LookupError, match="no split 'other'; it has train, validation, test"):
        again.open("topic", "other")


def test_the_vocabulary_of_tiny_comes_from_training_rows_of_all_tasks() -> None:
    families, splits = {}, {}
    for name, label in (("b", "topic"), ("a", "sentiment")):
        data = Classify.Data(path=DEMO, label=label)
        fitted, splits[name] = rows.load(name, Classify, data, [], 0)
        families[name] = Classify(data, fitted)
    train = [row["text"] for row in splits["a"].each("train")]
    assert list(training_texts(families, splits)) == train * 2
    assert not set(train) & {row["text"] for row in splits["a"].each("test")}


def test_all_problems_of_all_tasks_come_at_once(tmp_path: Path) -> None:
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "train.jsonl").write_text('{"text": "", "label": "a"}\n{"label": "b"}\n')
    experiment = parse(
        tree(
            "no/such/folder",
            one={"family": "classify", "data": {"path": "missing"}},
            two={"family": "classify", "data": {"path": "bad"}},
        )
    )
    with pytest.raises(ExperimentError) as caught:
        prepare(experiment, [tmp_path], tmp_path / "cache", origin="own.yaml")
    assert len(caught.value.problems) == 3
    for part in ("3 problems in own.yaml", "tasks.one: ", "tasks.two: ", "encoder.model"):
        assert part in str(caught.value)
    assert not (tmp_path / "cache").exists()


def test_a_greater_length_than_the_encoder_reads_is_refused(tmp_path: Path) -> None:
    long = {"family": "roles", "data": {"path": DEMO, "max_length": 4000}}
    with pytest.raises(ExperimentError, match=r"tasks\.roles\.data\.max_length is 4000.* 512"):
        prepare(parse(tree(roles=long)), [tmp_path], tmp_path / "cache")


def test_truncation_and_rows_set_aside_are_told(tmp_path: Path) -> None:
    lines = [{"text": "word " * 30, "label": f"l{i % 2}"} for i in range(4)]
    lines.append({"text": "", "label": "l1"})
    for split in ("train", "validation"):
        (tmp_path / f"{split}.jsonl").write_text("\n".join(map(json.dumps, lines)))
    data = {"path": str(tmp_path), "max_length": 8, "max_bad_rows": 1}
    own = tree(topic={"family": "classify", "data": data})
    prepared = prepare(parse(own), [], tmp_path / "cache")
    notes = "\n".join(prepared.notes)
    assert "4 of 4 train rows are longer than 8 tokens" in notes
    assert "1 bad row was set aside" in notes
    train = prepared.tasks["topic"].splits["train"]
    assert (train.rows, train.truncated, train.set_aside) == (4, 4, 1)


def test_experiments_that_differ_by_a_helper_share_the_tokens_of_the_others(
    tmp_path: Path,
) -> None:
    reader, helper = reading.reader(), {"path": DEMO, "label": "sentiment"}
    more = tree(sentiment={"family": "classify", "data": helper})
    base = prepare(parse(tree()), [], tmp_path / "cache", reader)
    made = {p: p.stat().st_mtime_ns for p in (tmp_path / "cache").rglob("*.arrow")}
    with_helper = prepare(parse(more), [], tmp_path / "cache", reader)
    for name, task in base.tasks.items():
        assert with_helper.tasks[name] == task
    assert {p: p.stat().st_mtime_ns for p in made} == made
    assert len(list((tmp_path / "cache").rglob("*.arrow"))) == len(made) + 3


def test_what_a_family_finds_is_told_and_kept_for_the_page(tmp_path: Path) -> None:
    own = tree(subjects={"family": "topics", "data": {"path": DEMO, "topics": 3}})
    prepared = prepare(parse(own), [], tmp_path / "cache")
    (told,) = (note for note in prepared.notes if "cohere" in note)
    assert told.startswith("tasks.subjects: its 3 topics cohere by ")
    ((title, rows),) = prepared.tasks["subjects"].details.items()
    assert title in told
    assert [number for number, _ in rows] == ["0", "1", "2"]
    prepared.write(tmp_path)
    assert Prepared.read(tmp_path) == prepared
