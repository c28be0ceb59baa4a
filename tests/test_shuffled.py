"""Shuffled answers: each is still there once, where the texts tell nothing of it."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

import tasks
from orchestrator.document import override
from orchestrator.experiment import ExperimentError, parse
from orchestrator.prepare import prepare
from tasks.family import Data
from tasks.roles import FIRST, PREDICATES
from tasks.shuffled import ByWord, possible
from tasks.splits import Splits
from tests.family_cases import CASES, Case
from tests.written import load, sentences, write

NAMES = [
    name
    for name, case in CASES.items()
    if possible(case.family, case.family.Data.model_construct())  # type: ignore[arg-type]
]
BY_WORD = [name for name in NAMES if issubclass(CASES[name].family, ByWord)]
SILENT = ("language", "span", "topics")
LIKE_OTHERS = {("target", "2.5"): 2.5, ("user", "7"): "7"}
"""Cells of another type than others in their column, which files may not mix."""


def keys(case: Case) -> dict[str, Any]:
    """Give the case's own keys of ``data``."""
    return {key: value for key, value in case.options.items() if key != "loss"}


def given(case: Case, folder: Path, seed: int = 0, **more: Any) -> tuple[dict[str, Any], Splits]:
    """Load the case's rows, in training each of them twenty times."""
    if not folder.exists():
        rows = [
            {key: LIKE_OTHERS.get((key, str(value)), value) for key, value in r.items()}
            for r in case.rows
        ]
        write(folder, train=20 * rows, validation=rows, test=rows)
    return load(folder, case.family, seed, **keys(case), **more)


def answers(case: Case, found: Splits) -> list[Any]:
    """Give what stands in the columns of the answer, row by row."""
    columns = case.family.label_columns(case.family.Data(path="", **keys(case)))
    return [[row[column] for column in columns] for row in found.each("train")]


def counted(values: list[Any]) -> Counter[str]:
    return Counter(json.dumps(value) for value in values)


@pytest.mark.parametrize("name", NAMES)
def test_answers_move_and_all_else_stays(name: str, tmp_path: Path) -> None:
    case = CASES[name]
    fitted, true = given(case, tmp_path / "data")
    again, found = given(case, tmp_path / "data", shuffled=True)
    assert again == fitted
    assert answers(case, found) != answers(case, true)
    if issubclass(case.family, ByWord):
        for own, before in zip(answers(case, found), answers(case, true), strict=True):
            assert counted(own[0]) == counted(before[0])
    else:
        assert counted(answers(case, found)) == counted(answers(case, true))
    family = case.family(case.family.Data(path="", **keys(case)), fitted)
    rows = list(zip(found.each("train"), true.each("train"), strict=True))
    assert all(family.texts(own) == family.texts(before) for own, before in rows)
    assert all(family.fault(own, True) is None for own, _ in rows)
    for split in ("validation", "test"):
        assert found.rows[split].equals(true.rows[split])
        assert found.digests[split] == true.digests[split]
    assert found.digests["train"] != true.digests["train"]
    assert found.rows["train"].schema == true.rows["train"].schema
    assert found.notes == [
        *true.notes,
        "tasks.topic: the answers of its training rows are shuffled.",
    ]


@pytest.mark.parametrize("name", NAMES)
def test_the_order_is_keyed_by_seed(name: str, tmp_path: Path) -> None:
    case = CASES[name]
    first, same, other = (
        given(case, tmp_path / "data", seed, shuffled=True)[1].digests["train"]
        for seed in (0, 0, 1)
    )
    assert first == same
    assert first != other


def test_the_order_is_keyed_by_task(tmp_path: Path) -> None:
    write(tmp_path, train=sentences(30), validation=sentences(3))
    one, other = (load(tmp_path, shuffled=True, name=name)[1] for name in ("a", "b"))
    assert one.digests["train"] != other.digests["train"]


def test_labels_say_no_more_than_chance_of_texts(tmp_path: Path) -> None:
    write(tmp_path, train=sentences(3000), validation=sentences(3))
    _, found = load(tmp_path, shuffled=True)
    kept = sum(row["label"] == f"l{i % 3}" for i, row in enumerate(found.each("train")))
    assert abs(kept - 1000) < 4 * (3000 * 2 / 9) ** 0.5


def test_limits_keep_the_same_rows_and_a_cut_split_is_true(tmp_path: Path) -> None:
    write(tmp_path, train=sentences(600, labels=20))
    fitted, true = load(tmp_path, limit=30)
    again, found = load(tmp_path, limit=30, shuffled=True)
    assert again == fitted
    assert found.rows["validation"].equals(true.rows["validation"])
    columns = [sorted(own.rows["train"]["label"].to_pylist()) for own in (true, found)]
    assert columns[0] == columns[1]
    assert found.rows["train"]["text"].equals(true.rows["train"]["text"])


@pytest.mark.parametrize("name", [name for name in BY_WORD if name.startswith("roles")])
def test_which_words_are_predicates_is_an_answer_too(name: str, tmp_path: Path) -> None:
    case = CASES[name]
    true, found = (
        [row[PREDICATES] for row in own.each("train") if row[FIRST]]
        for _, own in (given(case, tmp_path / "data", shuffled=given_) for given_ in (False, True))
    )
    assert list(map(len, found)) == list(map(len, true))
    assert found != true
    assert all(places == sorted(set(places)) for places in found)


@pytest.mark.parametrize("name", SILENT)
def test_texts_without_answers_of_their_own_refuse_it(name: str, tiny_experiment: Any) -> None:
    tree = tiny_experiment()
    wrong = {
        "tasks.own": {"family": name, "data": {"path": "x", "shuffled": True}, "weight": 0},
        "train.steps": 0,
    }
    with pytest.raises(ExperimentError) as refused:
        parse(override(tree, wrong))
    told = str(refused.value)
    assert f"tasks.own.data.shuffled is true, but {name} has no answers" in told
    assert "tasks.own.weight" in told
    assert "train.steps" in told


def test_what_can_be_shuffled_is_known_of_every_family() -> None:
    for name in tasks.names():
        data: Data = tasks.get(name).Data(path="x")  # type: ignore[assignment]
        assert possible(tasks.get(name), data) == (name not in SILENT)


def test_only_training_tokens_of_the_task_are_made_anew(
    tiny_experiment: Any, tmp_path: Path
) -> None:
    true, found = (
        prepare(
            parse(tiny_experiment(**{"tasks.topic.data.shuffled": own})), [], tmp_path, processes=1
        )
        for own in (False, True)
    )
    for task, own in found.tasks.items():
        for split, tokens in own.splits.items():
            same = tokens.tokens == true.tasks[task].splits[split].tokens
            assert same == ((task, split) != ("topic", "train"))
