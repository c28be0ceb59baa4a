"""A study's folder: what was asked and what became of it are found again, whatever was cut off."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import studied

from orchestrator.prepare import Prepared
from orchestrator.studies import study
from orchestrator.studies.study import Asked, Result, Study

FULL = Result(
    hash="a" * 64,
    status="finished",
    seed=3,
    steps=8,
    best_step=6,
    score=0.1 + 0.2,
    scores={"topic": {"accuracy": 0.25, "loss": 1.5}},
    curve=[(4, 0.2), (6, 0.25), (8, 0.24)],
    examples_seen={"topic": 40, "sentiment": 20},
    shares={"topic": 2 / 3, "sentiment": 1 / 3},
    settings={"optimizer.lr": 5e-5},
    drift=1e-9,
    seconds=1.5,
)
ASKED = [
    Asked("all", "baseline", {}, 0, "a" * 64),
    Asked("ohne Größe \u2028", "arm", {"tasks.topic": None}, 0, "b" * 64),
    Asked(
        "004",
        "control",
        {"mixture.shares": {"a": 1 / 3, "b": 2 / 3}, "stages": [{"train": ["heads"]}]},
        7,
        "a" * 64,
        {"mixture.shares.a": 0.123456789012345678},
    ),
]


@pytest.fixture
def own(tmp_path: Path, tiny_prepared: Prepared) -> Study:
    return studied.make(tmp_path / "own", studied.prepared(tiny_prepared, "topic", "größe"))


def test_what_is_asked_is_read_again_to_the_last_bit(own: Study) -> None:
    assert own.asked == []
    for trial in ASKED:
        own.ask(trial)
    assert Study(own.folder).asked == ASKED


@pytest.mark.parametrize("left", [1, 0.5, -2])
def test_a_line_that_was_cut_off_is_passed_over_and_the_next_one_is_whole(
    own: Study, left: float
) -> None:
    for trial in ASKED[:2]:
        own.ask(trial)
    path = own.folder / study.TRIALS
    first, last = path.read_bytes().splitlines(keepends=True)
    cut = last[: int(left * len(last)) if isinstance(left, float) else left]
    path.write_bytes(first + cut)
    assert Study(own.folder).asked == ASKED[:1]
    own.ask(ASKED[2])
    own.ask(ASKED[1])
    assert own.asked == [ASKED[0], ASKED[2], ASKED[1]]
    assert json.loads(path.read_bytes().splitlines()[-1])["arm"] == ASKED[1].arm


def test_a_line_that_lacks_its_end_alone_counts(own: Study) -> None:
    own.ask(ASKED[0])
    path = own.folder / study.TRIALS
    path.write_bytes(path.read_bytes().removesuffix(b"\n"))
    own.ask(ASKED[1])
    assert own.asked == ASKED[:2]


@pytest.mark.parametrize(
    "found",
    [
        FULL,
        Result("b" * 64, "failed", 0, error="ValueError: größer\nals zwei"),
        replace(FULL, status="stopped", scores={}, curve=[(4, 0.2)]),
    ],
    ids=["finished", "failed", "stopped"],
)
def test_a_result_is_read_again_to_the_last_bit(own: Study, found: Result) -> None:
    assert own.result(found.hash) is None
    study.write(own.trial(found.hash), found)
    assert own.result(found.hash) == found
    assert [file.name for file in own.trial(found.hash).iterdir()] == [study.RESULTS]


def test_results_are_those_of_asked_trials_each_once(own: Study) -> None:
    for trial in ASKED:
        own.ask(trial)
    study.write(own.trial(FULL.hash), FULL)
    study.write(own.trial("c" * 64), replace(FULL, hash="c" * 64))
    assert own.results() == {FULL.hash: FULL}


def test_every_opening_is_recorded_and_nothing_else_of_the_question_changes(own: Study) -> None:
    before = own.question
    own.opened("report --final")
    own.opened("confirm")
    after = Study(own.folder).question
    assert [one["by"] for one in after["openings"]] == ["report --final", "confirm"]
    assert all(one["time"].endswith("Z") for one in after["openings"])
    assert {**after, "openings": []} == before


def test_the_data_of_a_study_are_those_it_was_made_with(
    own: Study, tiny_prepared: Prepared
) -> None:
    expected = studied.prepared(tiny_prepared, "topic", "größe")
    assert Study(own.folder).prepared == expected


def test_a_folder_without_a_question_is_no_study(tmp_path: Path) -> None:
    with pytest.raises(LookupError, match=r"holds no study\.yaml; 'tlmt tune' and 'tlmt ablate'"):
        Study(tmp_path)


def test_a_study_is_found_by_its_path_and_by_its_name(
    tmp_path: Path, own: Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert study.find(str(own.folder), Path("nowhere")) == own.folder
    assert study.find("own", tmp_path) == own.folder
    monkeypatch.chdir(tmp_path)
    assert study.find("own", Path("nowhere")) == own.folder.resolve()
    assert Study(Path("own")).folder.is_absolute(), "other processes have other working folders"


def test_a_study_that_is_not_there_is_named_with_the_nearest_one(
    tmp_path: Path, own: Study
) -> None:
    with pytest.raises(LookupError, match=r"no study 'onw'.* Did you mean 'own'\? 'tlmt tune'"):
        study.find("onw", tmp_path)
    with pytest.raises(LookupError, match=r"no study 'zebra'(?!.*Did you mean)"):
        study.find("zebra", tmp_path)


def test_a_study_made_again_in_its_folder_keeps_its_trials(
    own: Study, tiny_prepared: Prepared
) -> None:
    own.ask(ASKED[0])
    question: dict[str, Any] = {**own.question, "metric": "mean"}
    again = study.create(own.folder, question, tiny_prepared)
    assert again.asked == ASKED[:1]
