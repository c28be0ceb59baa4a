"""One worker's run: stopped and continued bit for bit, best by validation, ended by patience."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from orchestrator import checkpoint, loop, training, weights
from orchestrator.engine import PlainEngine
from orchestrator.evaluate import Evaluation
from orchestrator.loop import News
from orchestrator.work import Work
from tests.looped import MakeWork, Stopping, events, last, trained, values


def scored(monkeypatch: pytest.MonkeyPatch, scores: Mapping[int, float]) -> None:
    """Let validation find these scores (step to score) instead of its own."""

    def evaluate(*arguments: Any) -> Evaluation:
        step = len(seen) + 1
        seen.append(step)
        return Evaluation({task: {"accuracy": scores[step]} for task in ("sentiment", "topic")})

    seen: list[int] = []
    monkeypatch.setattr(training, "evaluate", evaluate)


def test_a_run_tells_losses_rates_and_scores_and_leaves_its_checkpoints(work: MakeWork) -> None:
    own = work()
    news = trained(own)
    assert events(news) == [(0, "start"), (6, "trained")]
    told = values(news)
    tasks = ("sentiment", "topic")
    assert {key for step, key in told if step == 3} == {
        *(f"{task}/train/loss" for task in tasks),
        *(f"lr/{name}" for name in ("encoder", *tasks)),
    }
    assert all(0.5 < told[1, f"{task}/train/loss"] < 1.5 for task in tasks)
    assert told[2, "score"] == pytest.approx(
        np.mean([told[2, f"{task}/validation/accuracy"] for task in tasks])
    )
    saved = [own.step for own in news if own.checkpoint]
    assert saved == [2, 4, 6]
    before = [earlier for earlier, own in pairwise(news) if own.checkpoint]
    assert all(own.settle for own in before), "records must be safe before a checkpoint is"
    folder = checkpoint.newest(own.run)
    assert folder is not None
    assert checkpoint.manifest(folder)["fingerprint"] == "f" * 64
    assert set(checkpoint.manifest(folder)["experiment"]["tasks"]) == set(tasks)
    assert len(list(folder.parent.iterdir())) <= 2, "best and last are kept, no more"
    assert checkpoint.best(own.run).exists()


STRENGTHS = {
    "regularization": {
        "l2_sp": 0.1,
        "mixout": 0.2,
        "ema": 0.8,
        "r_drop": 0.5,
        "layer_decay": 0.8,
        "reinit_layers": 1,
    },
    "optimizer.name": "lion",
}


@pytest.mark.parametrize(
    ("stops", "more"),
    [
        ((3, 2), {}),
        ((2, 1), {}),
        ((3, 1), STRENGTHS),
        ((3, 1), {"weighting": "famo"}),
        ((3, 1), {"weighting": "pcgrad"}),
    ],
    ids=["between looks", "at a look", "drawn back and averaged", "famo", "pcgrad"],
)
def test_a_run_stopped_twice_ends_with_the_bits_of_an_untouched_one(
    work: MakeWork, stops: tuple[int, int], more: dict[str, Any]
) -> None:
    changes = {"regularization.dropout": 0.1, "train.patience": 2, **more}
    untouched = work("untouched", **changes)
    expected = trained(untouched)
    parts: list[News] = []
    for place, stop in enumerate((*stops, 99)):
        own = work("stopped", stop=Stopping(stop), **changes)
        torch.manual_seed(place)  # what a new process has drawn is of no account
        parts += trained(own)
    reached = [stops[0], sum(stops)]
    assert [pair for pair in events(parts) if pair[1] in ("stop", "resume")] == [
        pair for step in reached for pair in ((step, "stop"), (step, "resume"))
    ]
    assert events(parts)[-1] == events(expected)[-1]
    assert values(parts) == values(expected)
    found, right = last(own), last(untouched)
    assert found.keys() == right.keys()
    assert all(torch.equal(found[name], value) for name, value in right.items())
    one, other = (checkpoint.progress(checkpoint.newest(w.run)) for w in (own, untouched))
    assert replace(one, seconds=0.0) == replace(other, seconds=0.0)


def test_a_stop_between_looks_leaves_a_checkpoint_without_scores(work: MakeWork) -> None:
    own = work(stop=Stopping(3))
    news = trained(own)
    assert events(news) == [(0, "start"), (3, "stop")]
    folder = checkpoint.newest(own.run)
    assert folder is not None
    progress = checkpoint.progress(folder)
    assert (progress.step, progress.score, progress.scores) == (3, None, {})
    assert progress.best_step == 2


def test_a_stop_at_the_last_step_comes_too_late(work: MakeWork) -> None:
    assert events(trained(work(stop=Stopping(6)))) == [(0, "start"), (6, "trained")]


def test_a_finished_run_has_nothing_left_to_do(work: MakeWork) -> None:
    own = work(**{"train.steps": 2})
    trained(own)
    before = last(own)
    assert events(trained(own)) == [(2, "resume"), (2, "trained")]
    assert all(torch.equal(value, before[name]) for name, value in last(own).items())


def test_how_often_a_run_is_looked_at_does_not_change_what_it_learns(work: MakeWork) -> None:
    often = work("often", **{"train.evaluate_every": 1})
    seldom = work("seldom", **{"train.evaluate_every": 6})
    trained(often)
    trained(seldom)
    expected = last(seldom)
    assert all(torch.equal(value, expected[name]) for name, value in last(often).items())


def test_the_best_is_the_highest_score_and_the_earlier_of_two(
    work: MakeWork, monkeypatch: pytest.MonkeyPatch
) -> None:
    scored(monkeypatch, {1: 0.2, 2: 0.7, 3: 0.5, 4: 0.7, 5: 0.6, 6: 0.1})
    own = work(**{"train.evaluate_every": 1})
    news = trained(own)
    assert news[-1].events == {"trained": {"best": 2}}
    best = checkpoint.best(own.run)
    assert checkpoint.manifest(best)["step"] == 2
    assert checkpoint.manifest(best)["scores"]["topic"] == {"accuracy": 0.7}
    steps = sorted(folder.name for folder in best.parent.iterdir())
    assert steps == ["step-000002", "step-000006"]


def test_patience_ends_a_run_that_gets_no_better(
    work: MakeWork, monkeypatch: pytest.MonkeyPatch
) -> None:
    scored(monkeypatch, {1: 0.2, 2: 0.3, 3: 0.3, 4: 0.1})
    own = work(**{"train.evaluate_every": 1, "train.patience": 2})
    news = trained(own)
    assert events(news)[-1] == (4, "trained")
    assert news[-1].events["trained"] == {"best": 2}
    assert events(trained(own)) == [(4, "resume"), (4, "trained")]


@pytest.mark.parametrize(
    ("target", "score", "expected"),
    [("topic", None, "topic/validation/accuracy"), (None, "topic/mcc", "topic/validation/mcc")],
)
def test_the_score_is_the_targets_or_the_one_named(
    work: MakeWork, target: str | None, score: str | None, expected: str
) -> None:
    told = values(trained(work(**{"train.steps": 2, "target": target, "score": score})))
    assert told[2, "score"] == told[2, expected]


def breaking(work: Work, step: int) -> Iterator[News]:
    """Train, with every weight driven out of all bounds before a step."""
    work.run.mkdir(exist_ok=True)
    made: list[PlainEngine] = []

    def remember(*arguments: Any) -> Any:
        made.append(work.make_engine(*arguments))
        return made[0]

    for news in loop.train(replace(work, make_engine=remember)):
        if news.step == step and not news.checkpoint:
            with torch.no_grad():
                for parameter in made[0].model.parameters():
                    parameter.mul_(1e30)
        yield news


@pytest.mark.parametrize(
    ("step", "expected"),
    [(3, r"step 4: .*/train/loss is nan"), (4, r"step 4: .*/validation/loss is nan")],
    ids=["in training", "at a look"],
)
def test_a_loss_that_is_not_finite_ends_the_run_and_leaves_the_last_checkpoint_good(
    work: MakeWork, step: int, expected: str
) -> None:
    own = work()
    with pytest.raises(FloatingPointError, match=expected):
        list(breaking(own, step))
    folder = checkpoint.newest(own.run)
    assert folder is not None
    assert checkpoint.progress(folder).step == 2
    assert all(value.isfinite().all() for value in last(own).values())


def test_an_absurd_learning_rate_is_told(work: MakeWork) -> None:
    rate = {"optimizer": {"lr": 1e30, "warmup": 0.0}}
    with pytest.raises(FloatingPointError, match=r"Lower optimizer\.lr"):
        trained(work(**rate))


def test_a_mixture_that_ends_before_the_steps_is_refused(work: MakeWork) -> None:
    message = r"mixture\.max_epochs is 1\.0, .* but train\.steps is 600\. Set train\.steps=\d+ or"
    with pytest.raises(ValueError, match=message):
        trained(work(**{"mixture.max_epochs": 1.0, "train.steps": 600}))


def test_test_scores_are_those_of_the_best_checkpoint(
    work: MakeWork, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = work(**{"train.steps": 2, "train.evaluate_every": 1})
    with monkeypatch.context() as patch:
        scored(patch, {1: 0.9, 2: 0.1})
        trained(own)
    found = loop.test_scores(own, loop.best(own))
    assert set(found.scores) == {"sentiment", "topic"}
    shorter = work("shorter", **{"train.steps": 2})
    shorter.run.mkdir()
    (shorter.run / "checkpoints").mkdir()
    checkpoint.best(own.run).rename(shorter.run / "checkpoints" / "step-000001")
    assert loop.test_scores(shorter, loop.best(shorter)).scores == found.scores


def test_drift_is_the_way_of_the_best_encoder_in_parts_of_its_first_norm(work: MakeWork) -> None:
    moved, resting = (
        work(name, **{"train.steps": 2, "stages": [{"name": "only", "train": train}]})
        for name, train in (("moved", ["encoder", "heads"]), ("resting", ["heads"]))
    )
    for own in (moved, resting):
        trained(own)
    families = {task: moved.prepared.family(task) for task in moved.experiment.tasks}
    ends = [
        torch.cat([p.detach().flatten() for p in model.encoder.parameters()])
        for model in (
            weights.restored(moved.experiment, families, checkpoint.best(moved.run)),
            weights.first(moved.experiment, families, Path(moved.prepared.reader)),
        )
    ]
    expected = float((ends[0] - ends[1]).norm() / ends[1].norm())
    assert loop.drift(moved, loop.best(moved)) == pytest.approx(expected, rel=1e-4)
    assert expected > 0
    assert loop.drift(resting, loop.best(resting)) == 0
