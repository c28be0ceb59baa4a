"""What helpers say on the target's texts reaches its head, alike on any ranks and ZeRO stage."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from safetensors.torch import load_file
from torch import Tensor

import tasks
from orchestrator import checkpoint
from orchestrator.batch import GIVEN, Batch, collate
from orchestrator.engine import DeepSpeedEngine, Engine, PlainEngine, join
from orchestrator.experiment import ExperimentError, parse
from orchestrator.export import export
from orchestrator.model import MultiTaskModel
from orchestrator.predict import Predictor
from orchestrator.sections import Stacking
from orchestrator.stacking import Stack, Stacked, features
from tasks.helper import Kind
from tasks.roles import Roles
from tests.family_rows import FRAMES
from tests.looped import MakeWork, trained
from tests.reading import example, fitted, reader
from tests.toy import ToyEncoder, ToyRun
from tests.workers import Workers

KINDS: list[Kind] = ["probabilities", "logits", "hidden"]


def stacked(target: str, kind: Kind = "probabilities", detach: bool = True) -> Stacked:
    helpers = sorted({"rare", "tags", "texts"} - {target})
    return Stacked(target, dict.fromkeys(helpers, kind), detach)


def batch_of(run: ToyRun, count: int = 3) -> Batch:
    return collate({task: run.data[task][:count] for task in run.data}, run.families, "first")


def joined(model: MultiTaskModel) -> None:
    """Let helpers count: W begins at zero."""
    assert model.stack is not None
    with torch.no_grad():
        model.stack.join.weight.normal_()


@pytest.mark.parametrize("target", ["texts", "tags"])
def test_a_head_begins_with_what_it_knew_without_helpers(target: str) -> None:
    run = ToyRun()
    batch = batch_of(run)
    alone, helped = run.model()(batch), run.model(stacked=stacked(target))(batch)
    assert all(torch.equal(alone[task], helped[task]) for task in alone)


@pytest.mark.parametrize("kind", KINDS)
def test_helpers_answer_on_the_targets_own_sequences(kind: Kind) -> None:
    run = ToyRun()
    model, batch = run.model(), batch_of(run)
    rows, head = batch.rows["tags"], {task: model.head(task) for task in run.families}
    hidden, _ = model.states(batch)
    where, found = features(stacked("tags", kind), hidden, rows, model.find)

    def said(task: str, states: Tensor) -> Tensor:
        out: Tensor = head[task].out(states)  # type: ignore[operator, assignment]
        return {"hidden": states, "logits": out, "probabilities": out.softmax(-1)}[kind]

    of_sequence = torch.arange(len(rows)).repeat_interleave(rows.lengths)
    expected = [said(task, hidden[rows.summary])[of_sequence] for task in ("rare", "texts")]
    torch.testing.assert_close(found, torch.cat(expected, 1))
    assert torch.equal(where, rows.tokens())


def test_what_is_said_of_words_stands_at_words_and_its_greatest_for_a_whole_text() -> None:
    run = ToyRun()
    model, batch = run.model(), batch_of(run)
    hidden, _ = model.states(batch)
    own = Stacked("texts", {"tags": "probabilities"})
    chances = model.head("tags").out(hidden).softmax(-1)  # type: ignore[operator]
    words = batch.rows["tags"]
    _, found = features(own, hidden, words, model.find)
    torch.testing.assert_close(found, chances[words.words])
    texts = batch.rows["texts"]
    _, found = features(own, hidden, texts, model.find)
    first = 0
    for start, length in zip(texts.starts, texts.lengths, strict=True):
        greatest = chances[start : start + length].amax(0)
        torch.testing.assert_close(found[first : first + length], greatest.expand(length, -1))
        first += length


def test_answers_that_rows_bring_count_and_where_they_bring_none_helpers_answer() -> None:
    run = ToyRun()
    model = run.model(stacked=stacked("texts"))
    joined(model)
    assert model.stack is not None
    size, examples = model.stack.size, run.data["texts"][:2]
    counts = [len(e["input_ids"]) for e in examples]
    given = [torch.full((counts[0], size), 0.25), torch.full((counts[1], size), torch.nan)]
    brought = [{**e, GIVEN: g.numpy().reshape(-1)} for e, g in zip(examples, given, strict=True)]
    plain, changed = (
        model(collate({"texts": rows}, run.families, "first"))["texts"]
        for rows in (examples, brought)
    )
    assert torch.equal(plain[1], changed[1])
    assert not torch.allclose(plain[0], changed[0])


@pytest.mark.parametrize("detach", [True, False])
def test_helpers_learn_from_the_target_only_where_they_are_not_detached(detach: bool) -> None:
    run = ToyRun()
    model = run.model(stacked=stacked("texts", detach=detach))
    joined(model)
    batch = collate({"texts": run.data["texts"][:4]}, run.families, "first")
    model.loss_sums(model(batch), batch)["texts"].backward()  # type: ignore[no-untyped-call]
    slope = model.head("rare").out.weight.grad  # type: ignore[union-attr]
    assert (slope is not None and bool(slope.any())) != detach  # type: ignore[union-attr, operator]


def steps(zero: int | None, detach: bool) -> dict[str, Tensor]:
    """Take some steps of the toy run with a stack; give the weights."""
    rank, ranks = dist.get_rank(), dist.get_world_size()
    run = ToyRun()
    model = run.model(stacked=stacked("texts", detach=detach))
    groups = run.groups(model)
    engine: Engine = PlainEngine(model, groups, 1.0, ranks)
    if zero is not None:
        join(torch.device("cpu"))
        engine = DeepSpeedEngine(model, groups, 1.0, zero)
    for step in range(3):
        run.step(engine, step, rank, ranks)
    found = {name: value.clone() for name, value in engine.weights()}
    engine.close()
    return found


@pytest.mark.parametrize(
    ("zero", "detach"), [(None, True), (0, False), (1, True), (2, False), (3, True), (3, False)]
)
def test_two_ranks_learn_the_same_stack_at_every_zero_stage(
    pair: Workers, alone: Workers, zero: int | None, detach: bool
) -> None:
    expected = alone.run(steps, None, detach)[0]
    assert expected["texts.stack.weight"].any()
    for found in pair.run(steps, zero, detach):
        for name, value in expected.items():
            torch.testing.assert_close(found[name], value, rtol=1e-4, atol=1e-5)


def test_which_helpers_tell_what_follows_from_the_settings() -> None:
    families = {**ToyRun().families, "mute": object()}
    every = Stacked.of(Stacking(), "texts", families)
    assert every == Stacked("texts", {"rare": "probabilities", "tags": "probabilities"})
    some = Stacked.of(Stacking(features={"tags": "logits", "rare": "none"}), "texts", families)
    assert some == Stacked("texts", {"tags": "logits"})
    assert Stacked.of(Stacking(features="none"), "tags", families) is None
    assert Stacked.of(Stacking(), None, families) is None


def test_a_target_without_features_still_has_its_stage(work: MakeWork) -> None:
    own = work(stages="tlmt", target="topic", **{"stacking.features": "none"})
    assert [stage.name for stage in own.stages] == ["joint", "target"]
    trained(own)


def test_predictions_come_through_the_stack(work: MakeWork, tmp_path: Path) -> None:
    own = work(
        stages="tlmt",
        target="topic",
        **{"stacking.folds": 0, "train.steps": 12, "optimizer": {"lr": 0.01}},
    )
    trained(own)
    own.prepared.write(own.run)
    assert checkpoint.stacks(checkpoint.best(own.run))
    predictor = Predictor.load(own.run)
    record = [{"text": "The old baker sold a warm loaf to the quiet farmer."}]
    before = predictor(record, "topic")[0]["topic"]["probabilities"]
    with torch.no_grad():
        predictor.model.head("sentiment").out.weight.mul_(-30)  # type: ignore[union-attr, operator]
    after = predictor(record, "topic")[0]["topic"]["probabilities"]
    assert before != after


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"stacking.folds": 1}, "stacking.folds is 1; expected 0, or at least 2"),
        (
            {"stacking.features": {"topik": "logits"}},
            "stacking.features.topik is no helper; did you mean stacking.features.topic?",
        ),
        (
            {
                "tasks.said": {
                    "family": "generate",
                    "data": {"path": "x", "text": "text", "target": "target"},
                },
                "stacking.features": {"said": "logits"},
            },
            "stacking.features.said is of the family generate, whose outputs cannot be features",
        ),
        ({"stages": [{"name": "a", "train": ["target"]}]}, "stages.0.train holds 'target'"),
    ],
)
def test_what_cannot_be_stacked_is_refused(
    tiny_experiment: Any, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(ExperimentError) as refused:
        parse(tiny_experiment(**{"stages": "tlmt", "target": "sentiment", **changes}))
    assert message in str(refused.value)


def test_an_exported_target_brings_its_helpers_along(work: MakeWork, tmp_path: Path) -> None:
    own = work(stages="tlmt", target="topic", **{"stacking.folds": 0})
    trained(own)
    own.prepared.write(own.run)
    out = {one.task: one for one in export(own.run, tmp_path / "out")}
    assert out["sentiment"].plain
    assert not out["topic"].plain
    folder, model = out["topic"].folder, Predictor.load(own.run).model
    about = json.loads((folder / "helpers" / "sentiment" / "head.json").read_text())
    kind = tasks.get(about["family"])
    family = kind(kind.Data.model_validate(about["data"]), about["fitted"])
    head = family.head(model.encoder.width, 0.0).eval()
    head.load_state_dict(load_file(folder / "helpers" / "sentiment" / "head.safetensors"))
    told = Stacked(**json.loads((folder / "stack.json").read_text()))
    stack = Stack(told, model.encoder.width, lambda task: (family, head))
    stack.load_state_dict(load_file(folder / "stack.safetensors"))
    rows = [own.prepared.open("topic", "test").example(place) for place in range(3)]
    batch = collate({"topic": rows}, model.families, "first")
    with torch.no_grad():
        hidden, every = model.states(batch)
        read, rows_ = stack(hidden, every["topic"], lambda task: (family, head))
        torch.testing.assert_close(model.head("topic")(read, rows_), model(batch)["topic"])


@pytest.mark.parametrize("mark", ["input", "head"])
def test_a_head_that_finds_predicates_is_not_told_them_by_its_helpers(mark: str) -> None:
    """Roles are read with the helpers' roles of the same predicate; predicates without them."""
    own = fitted(Roles, FRAMES, mark=mark)
    helper = fitted(Roles, FRAMES, mark="head")
    encoder = ToyEncoder()
    encoder.embed = torch.nn.Embedding(400, encoder.width)
    model = MultiTaskModel(
        encoder,
        {"own": own, "helper": helper},
        {},
        0,
        stacked=Stacked("own", {"helper": "logits"}),
    ).eval()
    joined(model)
    sentence = FRAMES[1]["tokens"]
    outputs = []
    for at in (1, 7):
        row = {"tokens": sentence, "predicate": at, "tags": ["O"] * len(sentence)}
        (gathered,) = Roles.gather(own.data, [row], [row])
        batch = collate({"own": [example(own, gathered, reader())]}, model.families, "first")
        outputs.append(model(batch)["own"])
    (roles, found), (other, again) = outputs
    assert len(found) == len(sentence)
    assert torch.equal(found, again), "what is found does not depend on the predicate of the row"
    assert not torch.allclose(roles, other)
    assert model.stack is not None
    with torch.no_grad():
        model.stack.join.weight.mul_(3)
    assert not torch.allclose(model(batch)["own"][0], other), "roles do read the helper"
