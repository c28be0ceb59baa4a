"""A trial in memory scores as a run on disk does, and lets nothing out of the test split."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import studied
import torch

from orchestrator import checkpoint, stages
from orchestrator.experiment import parse
from orchestrator.prepare import Prepared
from orchestrator.studies import price, sealed, study
from orchestrator.studies.sealed import Items
from orchestrator.studies.study import Asked, Result, Study
from orchestrator.studies.trial import Trial, failed, settings
from tests.looped import MakeWork, trained

DIGEST = "d" * 64
TLMT = {
    "target": "topic",
    "stages": "tlmt",
    "stacking.folds": 2,
    "train.evaluate_rows": 20,
    "regularization": {"ema": 0.8, "l2_sp": 0.1},
}
RESTING = [{"name": "heads", "train": ["heads"], "steps": 6}]
FILES = {"items-test.parquet", "items-validation.parquet", "results.json"}

Run = Callable[..., Result]


@pytest.fixture
def own(tmp_path: Path, tiny_prepared: Prepared) -> Study:
    found = studied.make(tmp_path / "study", tiny_prepared, metric="mean")
    found.ask(Asked("as written", "arm", {}, 0, DIGEST))
    return found


@pytest.fixture
def begin(own: Study, make_experiment: Any, tiny_prepared: Prepared) -> Callable[..., Trial]:
    """Begin a trial of the tiny experiment, of six steps, in the study's folder."""

    def begun(data: Prepared = tiny_prepared, digest: str = DIGEST, **changes: Any) -> Trial:
        fixed = {"train.steps": 6, "train.precision": "fp32", **changes}
        experiment = parse(make_experiment(**fixed))
        folder = own.trial(digest)
        return Trial(folder, experiment, data.under(experiment), torch.device("cpu"))

    return begun


@pytest.fixture
def run(begin: Callable[..., Trial]) -> Run:
    """Run a trial to its end."""

    def ran(*data: Prepared, **changes: Any) -> Result:
        trial = begin(*data, **changes)
        while trial.look():
            pass
        return trial.finish()

    return ran


def scores(prepared: Prepared, items: Mapping[str, Items]) -> dict[str, float]:
    """Make each task's main score of its items."""
    return {
        task: float(prepared.family(task).whole(found.grouped().sum(0)))
        for task, found in items.items()
    }


def mains(prepared: Prepared, found: Result) -> dict[str, float]:
    return {task: own[prepared.family(task).main] for task, own in found.scores.items()}


def leaves(tree: Any) -> Iterator[Any]:
    """Give all keys and values of plain data."""
    if isinstance(tree, dict):
        yield from tree
        for value in tree.values():
            yield from leaves(value)
    elif isinstance(tree, list):
        for value in tree:
            yield from leaves(value)
    else:
        yield tree


@pytest.mark.parametrize(
    "changes",
    [
        {"train.evaluate_rows": 20, "regularization.dropout": 0.2},
        {"stages": "frozen_heads", "train.patience": 1, "train.evaluate_every": 1},
        TLMT,
    ],
    ids=["joint", "frozen heads", "tlmt"],
)
def test_a_trial_scores_as_a_run_on_disk_to_the_last_bit(
    work: MakeWork, run: Run, changes: dict[str, Any]
) -> None:
    same = {"train.steps": 6, "train.evaluate_rows": "all", **changes}
    disk = work("disk", **{**same, "batch": {"tokens": 256, "micro_tokens": 256}})
    news = trained(disk)
    found = run(**changes)
    best = checkpoint.manifest(checkpoint.best(disk.run))
    assert found.scores == best["scores"]
    assert (found.score, found.best_step) == (best["score"], best["step"])
    assert found.curve == [(own.step, own.values["score"]) for own in news if "score" in own.values]
    assert (found.status, found.steps, found.error) == ("finished", news[-1].step, None)
    last = checkpoint.newest(disk.run)
    assert last is not None
    began = checkpoint.progress(last).began
    lengths = disk.prepared.lengths()
    seen = stages.seen(disk.experiment, lengths, disk.stages, began, found.steps)
    assert found.examples_seen == seen


@pytest.mark.parametrize("rows", ["all", 20])
def test_validation_items_add_up_to_the_scores_that_are_told(
    own: Study, run: Run, tiny_prepared: Prepared, rows: Any
) -> None:
    found = run(**{"train.evaluate_rows": rows})
    items = sealed.validation(own.trial(DIGEST))
    assert scores(tiny_prepared, items) == pytest.approx(mains(tiny_prepared, found), abs=1e-9)
    assert found.score == pytest.approx(sum(mains(tiny_prepared, found).values()) / 2)
    for task, one in items.items():
        split = tiny_prepared.open(task, "validation")
        assert len(one.item) == (20 if rows == 20 else len(split))
        assert (one.item[1:] > one.item[:-1]).all()
        assert one.group.tolist() == split.contents[one.item].astype("int64").tolist()


def test_test_items_are_put_away_and_nothing_else_tells_of_them(
    own: Study, run: Run, tiny_prepared: Prepared
) -> None:
    run(**{"train.evaluate_rows": 17})  # no score of so many rows is one of 48, but for 0 and 1
    folder = own.trial(DIGEST)
    assert {file.name for file in folder.iterdir()} == FILES
    items = sealed.opened(own, "this test")[DIGEST]
    assert {len(own.item) for own in items.values()} == {48}
    secret = scores(tiny_prepared, items)
    assert secret.keys() == {"sentiment", "topic"}
    found = json.loads((folder / study.RESULTS).read_text())
    assert not any("test" in word for word in leaves(found) if isinstance(word, str))
    told = [number for key in ("score", "scores", "curve") for number in leaves(found[key])]
    hidden = [*secret.values(), sum(secret.values()) / 2]
    assert set(hidden).isdisjoint(told), "they are test scores"


def test_results_do_not_depend_on_the_test_rows(
    own: Study, run: Run, tiny_prepared: Prepared
) -> None:
    found = replace(run(), seconds=0.0)
    data = tiny_prepared.model_copy(deep=True)
    for task in data.tasks.values():
        task.splits["test"] = task.splits["validation"]
    assert replace(run(data), seconds=0.0) == found
    for task in data.tasks.values():
        del task.splits["test"]
    assert replace(run(data), seconds=0.0) == found, "without a test split"
    assert sealed.opened(own, "this test")[DIGEST] == {}


def test_a_trial_is_small_and_what_it_needed_to_train_is_gone(
    own: Study, run: Run, tiny_prepared: Prepared
) -> None:
    run(**{**TLMT, "train.evaluate_rows": "all"})
    files = list(own.trial(DIGEST).iterdir())
    assert {file.name for file in files} == FILES
    size = sum(file.stat().st_size for file in files)
    assert size < price.disk(tiny_prepared, 1) < 1_000_000


def test_a_trial_run_again_gives_the_same_but_for_the_time_it_took(own: Study, run: Run) -> None:
    changes = {"regularization.dropout": 0.3}
    first = run(**changes)
    assert own.result(DIGEST) == first
    torch.manual_seed(99)
    again = run(**changes)
    assert replace(again, seconds=first.seconds) == first
    assert again.seconds > 0
    other = run(**changes, **{"train.seed": 1})
    assert other.seed == 1
    assert other.curve != first.curve


def test_shares_are_those_of_the_examples_and_sum_to_one(run: Run) -> None:
    found = run(**{"train.steps": 20, "mixture": {"shares": {"sentiment": 0.8, "topic": 0.2}}})
    assert sum(found.shares.values()) == pytest.approx(1)
    assert found.shares["sentiment"] == pytest.approx(0.8, abs=0.05)
    total = sum(found.examples_seen.values())
    assert found.shares == {task: n / total for task, n in found.examples_seen.items()}


def test_an_encoder_that_rests_does_not_drift_and_one_that_learns_does(run: Run) -> None:
    resting = run(stages=RESTING)
    assert resting.drift == 0.0
    slow, fast = (run(**{"optimizer.lr": rate}).drift for rate in (1e-5, 1e-3))
    assert 0 < slow < fast < 1
    held = run(**{"optimizer.lr": 1e-3, "regularization.mixout": 0.9}).drift
    assert 0 < held < fast


@pytest.mark.parametrize("rate", [1e30, 1e12])
def test_weights_beyond_use_are_an_error(
    own: Study, begin: Callable[..., Trial], rate: float
) -> None:
    trial = begin(**{"optimizer": {"lr": rate, "warmup": 0.0}, "regularization.clip": 0})
    with pytest.raises(FloatingPointError, match=r"Lower optimizer\.lr"):
        all(trial.look() for _ in range(4))
    trial.close()
    assert list(own.trial(DIGEST).iterdir()) == []


def test_a_failure_is_kept_with_its_reason_and_settings(own: Study, make_experiment: Any) -> None:
    experiment = parse(make_experiment(**{"train.seed": 4}))
    found = failed(own.trial(DIGEST), experiment, "OSError: gone", 2.5)
    assert own.result(DIGEST) == found
    assert (found.status, found.error, found.seed, found.seconds) == (
        "failed",
        "OSError: gone",
        4,
        2.5,
    )
    assert found.settings == settings(experiment)
    assert found.score is None


@pytest.mark.parametrize(
    ("changes", "looks"),
    [({}, 2), (TLMT, 2), ({"stages": "lp_ft", "train.patience": 1, "train.steps": 40}, 3)],
    ids=["joint", "tlmt", "patience"],
)
def test_what_is_known_halfway_is_what_a_run_to_there_would_tell(
    begin: Callable[..., Trial], changes: dict[str, Any], looks: int
) -> None:
    trial = begin(**changes)
    for _ in range(looks):
        assert trial.look()
    found = trial.partial()
    assert (found.status, found.hash) == ("stopped", DIGEST)
    assert found.curve == trial.curve
    assert found.steps == trial.curve[-1][0]
    assert found.score == max(score for _, score in trial.curve)
    assert (found.best_step, found.score) in trial.curve
    seen = found.examples_seen
    while trial.look():
        pass
    whole = trial.finish()
    assert all(seen[task] <= whole.examples_seen[task] for task in seen)
    assert sum(found.shares.values()) == pytest.approx(1)


def test_after_the_first_look_of_a_stage_its_own_plan_is_counted(
    begin: Callable[..., Trial],
) -> None:
    """The first stage has one task, the second the other: neither is counted for both."""
    listed = [
        {"name": "first", "train": ["encoder", "head:topic"], "steps": 2},
        {"name": "second", "train": ["encoder", "head:sentiment"], "steps": 4},
    ]
    trial = begin(stages=listed)
    seen = []
    while trial.look():
        seen.append(trial.partial().examples_seen)
    topic = [own["topic"] for own in seen]
    assert topic == [topic[0]] * 3
    assert [own["sentiment"] > 0 for own in seen] == [False, True, True]
    assert trial.finish().examples_seen == seen[-1]


def test_every_strength_weight_and_rate_is_told_by_its_dotted_name(make_experiment: Any) -> None:
    found = settings(
        parse(make_experiment(**{"tasks.topic.weight": 0.5, "regularization.l2_sp": 1e-3}))
    )
    assert found["tasks.topic.weight"] == 0.5
    assert found["tasks.sentiment.weight"] == 1.0
    assert found["regularization.l2_sp"] == 1e-3
    assert {"optimizer.lr", "tasks.topic.optimizer.lr", "mixture.temperature"} <= found.keys()
    assert all(isinstance(value, float) for value in found.values())
