"""What a study is told to cost and to show before it starts."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml

from orchestrator.experiment import parse
from orchestrator.prepare import Prepared
from orchestrator.studies import driver, price
from orchestrator.studies.price import Price


def priced(seeds: int, comparisons: int, new: int = 8, reused: int = 0) -> Price:
    return Price(new, reused, 100.0, 2_000_000, seeds, comparisons)


def test_eight_seeds_reach_a_p_that_allows_six_comparisons() -> None:
    assert priced(8, 1).least == pytest.approx(0.0078125)
    assert priced(8, 6).least == pytest.approx(0.046875)
    (*_, said) = priced(8, 6).lines()
    assert said.endswith("after Holm's correction p can come down to 0.0469.")
    (*_, said) = priced(8, 7).lines()
    assert "nothing can be significant" in said
    assert "These seeds allow 6 comparisons; or take more seeds." in said


@pytest.mark.parametrize("comparisons", [1, 2, 7])
@pytest.mark.parametrize("seeds", [1, 2, 5])
def test_below_six_seeds_nothing_can_be_significant(seeds: int, comparisons: int) -> None:
    (*_, said) = priced(seeds, comparisons).lines()
    assert "nothing can be called significant below 6 seeds" in said


def test_six_seeds_allow_one_comparison() -> None:
    assert priced(6, 1).lines()[-1].endswith("p can come down to 0.0312.")
    assert "These seeds allow 1 comparisons" in priced(6, 2).lines()[-1]


def test_a_study_that_declares_nothing_is_told_of_no_p() -> None:
    assert not any("Holm" in line or "significant" in line for line in priced(1, 0).lines())


def test_new_and_known_trials_time_and_disk_are_told() -> None:
    assert priced(8, 1, new=12, reused=3).lines()[:2] == [
        "12 trials to run, 3 known already.",
        "About 2 min of one process, 2.0 MB.",
    ]
    nothing_new = Price(0, 15, 0.0, 0, 8, 1).lines()
    assert nothing_new[0] == "0 trials to run, 15 known already."
    assert not any("process" in line for line in nothing_new)
    unknown = Price(5, 0, None, 1, 1, 0).lines()
    assert unknown == ["5 trials to run, 0 known already."]


@pytest.mark.parametrize(
    ("seconds", "told"),
    [
        (0.2, "0 s"),
        (89.4, "89 s"),
        (90, "2 min"),
        (5399, "90 min"),
        (5400, "1.5 h"),
        (9e5, "250.0 h"),
    ],
)
def test_a_length_of_time_has_one_unit(seconds: float, told: str) -> None:
    assert price.duration(seconds) == told


def test_the_disk_of_a_trial_is_below_a_megabyte_and_grows_with_rows_and_trials(
    tiny_prepared: Prepared,
) -> None:
    one = price.disk(tiny_prepared, 1)
    assert 0 < one < 1_000_000
    assert price.disk(tiny_prepared, 7) == 7 * one
    assert price.disk(tiny_prepared, 0) == 0
    fewer = {"topic": tiny_prepared.tasks["topic"]}
    assert price.disk(tiny_prepared.model_copy(update={"tasks": fewer}), 1) < one


def test_a_study_without_the_disk_it_needs_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Path] = []

    def usage(place: Path) -> SimpleNamespace:
        asked.append(place)
        return SimpleNamespace(free=3_000_000)

    monkeypatch.setattr("shutil.disk_usage", usage)
    folder = tmp_path / "not" / "yet" / "there"
    price.require_disk(folder, 3_000_000)
    expected = r"there needs up to 5 MB for its trials, and the disk has 3 MB\. Make room, or give"
    with pytest.raises(OSError, match=expected):
        price.require_disk(folder, 5_000_000)
    assert asked == [tmp_path, tmp_path], "the disk is that of the first folder that exists"


@pytest.mark.parametrize("there", [False, True])
def test_a_refused_study_frees_its_name_and_removes_nothing_of_others(
    there: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tiny_experiment: Any
) -> None:
    own = tmp_path / "own.yaml"
    own.write_text(yaml.safe_dump(tiny_experiment(target="topic")))
    folder = tmp_path / "studies" / "tiny-ablate-leave-one-out"
    notes = folder / "notes.txt"
    if there:
        folder.mkdir(parents=True)
        notes.write_text("mine")
    monkeypatch.setattr("shutil.disk_usage", lambda place: SimpleNamespace(free=0))
    asked = (own, [], "leave-one-out", 2, "steps", tmp_path / "studies", driver.How(1))
    with pytest.raises(OSError, match="Make room"):
        driver.ablate(*asked)
    assert folder.exists() == there
    assert not (folder / "study.yaml").exists()
    assert not there or notes.read_text() == "mine"


def test_time_grows_with_steps_and_tokens(make_experiment: object) -> None:
    assert callable(make_experiment)
    short = parse(make_experiment(**{"train.steps": 10}))
    long = parse(make_experiment(**{"train.steps": 30}))
    assert price.seconds([short], 256.0) == pytest.approx(10)
    assert price.seconds([short, long], 512.0) == pytest.approx(20)
