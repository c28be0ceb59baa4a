"""Stages: what rests keeps its bits, what thaws learns; stopped anywhere, a run ends the same."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import Tensor

from orchestrator import checkpoint, loop, stages, training
from orchestrator.checkpoint import Progress
from orchestrator.engine import DeepSpeedEngine, Engine, PlainEngine, join
from orchestrator.evaluate import Evaluation
from orchestrator.experiment import ExperimentError
from orchestrator.training import Training
from orchestrator.work import Work
from tests.looped import MakeWork, Stopping, events, last, trained, values
from tests.toy import ToyRun
from tests.workers import Workers

TINY_LAYERS = 2


def first(work: Work) -> dict[str, Tensor]:
    """Give a run's weights before its first step."""
    training = Training(work, work.stages[0], Progress(0))
    return {name: weight.clone() for name, weight in training.engine.weights()}


def moved(work: Work, before: dict[str, Tensor]) -> set[str]:
    """Name what is other than before in a run's newest checkpoint."""
    after = last(work)
    return {name for name, weight in before.items() if not torch.equal(after[name], weight)}


def after_each_stage(work: Work) -> list[dict[str, Tensor]]:
    """Train a run; give its weights at the beginning and at the end of each stage."""
    found = [first(work)]
    work.run.mkdir(exist_ok=True)
    for news in loop.train(work):
        ends = news.checkpoint and checkpoint.progress(news.checkpoint)
        if ends and ends.taken == work.stages[news.stage].steps:
            found.append({n: w for n, w in last(work).items() if n in found[0]})
    return found


@pytest.mark.parametrize(
    ("preset", "learning"),
    [
        ("joint", ["encoder heads"]),
        ("frozen_heads", ["encoder", "heads"]),
        ("lp_ft", ["heads", "encoder heads"]),
        ("gradual", ["heads", "layer.1 heads", "layer.0 layer.1 heads", "encoder heads"]),
        ("helpers_first", ["encoder topic.", "encoder heads"]),
    ],
)
def test_what_rests_keeps_its_bits_and_what_thaws_learns(
    work: MakeWork, preset: str, learning: list[str]
) -> None:
    own = work(stages=preset, target="sentiment", **{"train.steps": 2 * len(learning)})
    states = after_each_stage(own)
    assert len(states) == len(learning) + 1
    for words, before, after in zip(learning, states[:-1], states[1:], strict=True):
        expected = words.replace("heads", "sentiment. topic.").replace("encoder", "encoder.")
        for name, weight in before.items():
            learns = any(part in name for part in expected.split())
            idle = name.endswith(("position_embeddings.weight", "word_embeddings.weight"))
            same = torch.equal(after[name], weight)
            assert same != learns or (idle and same), (words, name)


def resting(zero: int | None, depths: set[int], heads: set[str]) -> dict[str, Tensor]:
    """Take some steps of the toy run while most of it rests; give weights and their averages."""
    rank, ranks = dist.get_rank(), dist.get_world_size()
    run = ToyRun()
    model = run.model()
    model.learn(depths, heads)
    made = run.groups(model)
    engine: Engine = PlainEngine(model, made, 1.0, ranks)
    if zero is not None:
        join(torch.device("cpu"))
        engine = DeepSpeedEngine(model, made, 1.0, zero)
    engine.average({name: p.detach() for name, _, p in run.model().named()}, 0.5)
    for step in range(3):
        run.step(engine, step, rank, ranks)
    averages = {f"{name} averaged": value.clone() for name, value in engine.averaged()}
    found = {name: value.clone() for name, value in engine.weights()} | averages
    engine.close()
    return found


@pytest.mark.parametrize("zero", [None, 0, 1, 2, 3])
@pytest.mark.parametrize(
    ("depths", "heads", "learning"),
    [
        (set(), {"tags"}, ("tags.out",)),
        ({1}, {"texts"}, ("encoder.mix", "encoder.norm", "texts.out")),
        ({0, 1}, set(), ("encoder.",)),
    ],
    ids=["a head", "a layer and a head", "the encoder"],
)
def test_what_rests_on_two_ranks_keeps_its_bits_at_every_zero_stage(
    pair: Workers,
    alone: Workers,
    zero: int | None,
    depths: set[int],
    heads: set[str],
    learning: tuple[str, ...],
) -> None:
    before = {name: p.detach() for name, _, p in ToyRun().model().named()}
    expected = alone.run(resting, None, depths, heads)[0]
    for found in pair.run(resting, zero, depths, heads):
        for name, weight in before.items():
            assert torch.equal(found[name], weight) != name.startswith(learning), name
        for name, value in expected.items():
            torch.testing.assert_close(found[name], value, rtol=1e-4, atol=1e-5)


def test_what_rests_is_in_eval_mode_and_what_learns_is_not(work: MakeWork) -> None:
    own = work(stages=[{"name": "top", "train": ["encoder.layer.1", "head:topic"]}])
    model = Training(own, own.stages[0], Progress(0)).engine.model
    for _ in range(2):
        modes = {name: module.training for name, module in model.encoder.named_modules()}
        assert not modes["network.embeddings.dropout"]
        assert not modes["network.encoder.layer.0.output.dropout"]
        assert modes["network.encoder.layer.1.output.dropout"]
        assert model.head("topic").dropout.training
        assert not model.head("sentiment").dropout.training
        model.eval()
        model.train()


def test_a_preset_is_the_list_that_it_stands_for(work: MakeWork) -> None:
    named = work("named", stages="lp_ft")
    heads = {"name": "heads", "train": ["heads"], "steps": 3}
    listed = work("listed", stages=[heads, {"name": "joint", "steps": 3}])
    trained(named)
    trained(listed)
    one, other = last(named), last(listed)
    assert all(torch.equal(one[name], value) for name, value in other.items())


@pytest.mark.parametrize("stop", [2, 3, 4], ids=["before the boundary", "at it", "after it"])
@pytest.mark.parametrize("ema", [0.0, 0.8])
def test_a_run_stopped_around_a_boundary_ends_with_the_bits_of_an_untouched_one(
    work: MakeWork, stop: int, ema: float
) -> None:
    changes = {"stages": "lp_ft", "regularization.dropout": 0.1, "regularization.ema": ema}
    untouched, halted = work("untouched", **changes), work("halted", Stopping(stop), **changes)
    expected = trained(untouched)
    parts = trained(halted)
    assert events(parts)[-1] == (stop, "stop")
    torch.manual_seed(stop)
    halted = work("halted", **changes)
    parts += trained(halted)
    assert values(parts) == values(expected)
    found, right = last(halted), last(untouched)
    assert found.keys() == right.keys()
    assert all(torch.equal(found[name], value) for name, value in right.items())


def test_each_stage_has_its_own_schedule_order_and_optimizer(work: MakeWork) -> None:
    own = work(
        stages=[
            {"name": "one", "steps": 4, "optimizer": {"lr": 0.01, "schedule": "constant"}},
            {"name": "two", "steps": 2, "mixture": {"shares": {"topic": 1.0}}},
        ],
        **{"optimizer.warmup": 0.0},
    )
    told = values(trained(own))
    rates = [told[step, "lr/encoder"] for step in range(1, 7)]
    assert rates == pytest.approx([0.01] * 4 + [5e-5, 2.5e-5])
    assert (5, "topic/train/loss") in told
    assert (5, "sentiment/train/loss") not in told
    again = work(stages=[{"name": "a"}, {"name": "b"}])
    lengths = again.prepared.lengths()
    plans = [stages.planned(again.experiment, lengths, stage) for stage in again.stages]
    assert plans[0].step(0).examples.tolist() != plans[1].step(0).examples.tolist()


def test_a_stage_ends_where_its_score_has_stopped_rising(
    work: MakeWork, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = iter([0.5, 0.4, 0.4, 0.4, 0.3, 0.2, 0.1])

    def evaluate(*arguments: Any) -> Evaluation:
        score = next(found)
        return Evaluation({task: {"accuracy": score} for task in ("sentiment", "topic")})

    monkeypatch.setattr(training, "evaluate", evaluate)
    level = {"name": "level", "train": ["heads"], "until": "plateau", "max_steps": 20}
    own = work(
        stages=[level, {"name": "joint", "steps": 3}],
        train={"evaluate_every": 1, "precision": "fp32"},
    )
    news = trained(own)
    assert own.experiment.train.steps == 23
    progress = checkpoint.progress(checkpoint.best(own.run))
    assert progress.began == (0, 1 + stages.PLATEAU)
    assert news[-1].step == 1 + stages.PLATEAU + 3
    assert progress.best_step == 1 + stages.PLATEAU + 1, "only the last stage's are compared"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"stages": "lp-ft"}, "stages is 'lp-ft', which is no preset; did you mean lp_ft?"),
        ({"stages": "tlmt"}, "stages is 'tlmt', which needs a target; set target=TASK"),
        ({"stages": "a.b:c"}, "stages is 'a.b:c', which cannot be imported"),
        ({"stages": 3}, "stages is 3; expected a preset or a list of stages"),
        ({"stages": [{"train": ["heads"]}]}, "stages.0.name is missing"),
        (
            {"stages": [{"name": "a", "train": ["head:topik"]}]},
            "stages.0.train holds 'head:topik'; did you mean head:topic?",
        ),
        (
            {"stages": [{"name": "a", "until": "plateau"}]},
            "stages.0.until needs max_steps, which stands in place of steps",
        ),
        (
            {"stages": [{"name": "a", "optimizer": {"lrr": 1}}]},
            "stages.0.optimizer.lrr is not a setting; did you mean stages.0.optimizer.lr?",
        ),
        (
            {"stages": [{"name": "a", "steps": 3}, {"name": "b", "steps": 4}]},
            "train.steps is 6; expected 7, the sum of its stages' steps",
        ),
        (
            {"stages": [{"name": "a", "mixture": {"shares": {"topik": 1.0}}}]},
            "stages.0.mixture.shares.topik is no task; did you mean stages.0.mixture.shares.topic?",
        ),
        (
            {
                "stages": [
                    {
                        "name": "a",
                        "train": ["head:topic"],
                        "mixture": {"shares": {"sentiment": 1.0}},
                    }
                ]
            },
            "stages.0.mixture.shares names sentiment, whose head rests in this stage",
        ),
        (
            {
                "stages": [
                    {
                        "name": "a",
                        "train": ["head:topic"],
                        "mixture": {"shares": {"sentiment": 1.0}},
                    }
                ]
            },
            "stages.0.mixture.shares names no topic, whose head learns in this stage",
        ),
        (
            {"stages": [{"name": "a", "train": ["encoder.layer.1-4"]}]},
            "stages.0.train names encoder.layer.1-4; this encoder's last layer is 1",
        ),
        ({"stages": "gradual", "train.steps": 3}, "train.steps is 3; expected at least 4"),
    ],
)
def test_stages_that_cannot_be_are_refused(
    work: MakeWork, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(ExperimentError) as refused:
        stages.of(work(**changes).experiment, TINY_LAYERS)
    assert message in str(refused.value)
