"""Scores: the same however the rows are packed and dealt, and without a trace on training."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
import torch.distributed as dist
from toy import SIZES, Toy, ToyData, ToyEncoder, ToyHead, ToyRun
from workers import Workers

from orchestrator import keyed
from orchestrator.evaluate import Evaluation, Ranks, evaluate, main_score
from orchestrator.model import MultiTaskModel
from tasks.family import Head


class Held:
    """A validation split in memory, which remembers what was read."""

    def __init__(self, examples: list[dict[str, Any]]) -> None:
        self._examples = examples
        self.read: list[int] = []

    @property
    def lengths(self) -> Any:
        return np.array([e["length"] for e in self._examples], np.int32)

    @property
    def terms(self) -> Any:
        return np.array([e["terms"] for e in self._examples], np.int32)

    @property
    def contents(self) -> Any:
        return np.array([keyed.number(*e["input_ids"]) for e in self._examples], np.uint64)

    def __len__(self) -> int:
        return len(self._examples)

    def example(self, index: int) -> dict[str, Any]:
        self.read.append(index)
        return self._examples[index]

    def gold(self, index: int) -> Any:
        return self._examples[index]["c_label"].tolist()


def held(*tasks: str) -> dict[str, Held]:
    run = ToyRun()
    return {task: Held(run.data[task]) for task in tasks or SIZES}


def model(dropout: float = 0.0) -> MultiTaskModel:
    return ToyRun().model(dropout)


def assert_same(one: Evaluation, other: Evaluation) -> None:
    assert one.scores.keys() == other.scores.keys()
    for task, scores in one.scores.items():
        assert other.scores[task] == pytest.approx(scores, rel=1e-6), task


def test_scores_and_loss_are_those_of_each_row_read_alone() -> None:
    data, own = held(), model()
    found = evaluate(own, data, 50, Ranks())
    assert sorted(found.scores) == sorted(SIZES)
    run = ToyRun()
    for task, split in data.items():
        right, losses, terms = 0, 0.0, 0
        for index in range(len(split)):
            alone = evaluate(own, {task: Held([run.data[task][index]])}, 50, Ranks()).scores[task]
            count = int(split.terms[index])
            right += round(alone["accuracy"] * count)
            losses += alone["loss"] * count
            terms += count
        assert found.scores[task]["accuracy"] == pytest.approx(right / terms)
        assert found.scores[task]["loss"] == pytest.approx(losses / terms, rel=1e-5)


@pytest.mark.parametrize("micro_tokens", [1, 60, 500])
def test_packing_changes_no_score(micro_tokens: int) -> None:
    assert_same(
        evaluate(model(), held(), micro_tokens, Ranks()), evaluate(model(), held(), 9999, Ranks())
    )


def ranked(micro_tokens: int, rows: int | None) -> Evaluation:
    return evaluate(
        model(), held(), micro_tokens, Ranks(dist.get_rank(), dist.get_world_size()), rows
    )


@pytest.mark.parametrize(("micro_tokens", "rows"), [(200, None), (9999, 5)])
def test_two_ranks_find_what_one_finds_and_both_are_told(
    pair: Workers, micro_tokens: int, rows: int | None
) -> None:
    expected = evaluate(model(), held(), micro_tokens, Ranks(), rows)
    first, second = pair.run(ranked, micro_tokens, rows)
    assert_same(first, expected)
    assert first.scores == second.scores


@pytest.mark.parametrize("training", [True, False])
def test_evaluation_leaves_no_trace(training: bool) -> None:
    own = model(0.5).train(training)
    before = {name: value.clone() for name, value in own.state_dict().items()}
    state, numpy = torch.get_rng_state(), np.random.get_state()[1].tolist()
    first = evaluate(own, held(), 100, Ranks())
    assert torch.equal(torch.get_rng_state(), state)
    assert np.random.get_state()[1].tolist() == numpy
    assert all(part.training == training for part in own.modules())
    assert all(torch.equal(value, before[name]) for name, value in own.state_dict().items())
    assert all(parameter.grad is None for parameter in own.parameters())
    assert evaluate(own, held(), 100, Ranks()).scores == first.scores


def test_some_rows_nest_in_more_rows_and_follow_the_seed() -> None:
    read = {}
    for rows, seed in ((5, 0), (20, 0), (20, 1), (1000, 0)):
        data = held("tags", "texts")
        evaluate(model(), data, 100, Ranks(), rows, seed)
        read[rows, seed] = {task: set(split.read) for task, split in data.items()}
    for task, size in (("tags", 40), ("texts", 60)):
        assert len(read[5, 0][task]) == 5
        assert read[5, 0][task] < read[20, 0][task]
        assert read[20, 1][task] != read[20, 0][task]
        assert read[1000, 0][task] == set(range(size))


def test_a_task_without_a_split_has_no_scores() -> None:
    assert set(evaluate(model(), held("texts"), 100, Ranks()).scores) == {"texts"}


def test_without_any_split_there_is_nothing_to_score() -> None:
    found = evaluate(model(), {}, 100, Ranks())
    assert found.scores == found.confusions == {}


class PlainHead(ToyHead):
    inputs = Head.inputs


class Plain(Toy):
    def head(self, width: int, dropout: float) -> Head:
        return PlainHead(width, dropout, self.per_word)


class PlainTag(Plain):
    per_word = True


@pytest.mark.parametrize("micro_tokens", [1, 60, 9999])
def test_tasks_on_the_same_texts_cost_one_pass_of_the_encoder_and_score_the_same(
    micro_tokens: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = ToyRun().data["tags"]
    labels = [row | {"c_label": row["c_label"][:1], "terms": 1} for row in rows]
    families = {"a": Plain(ToyData(), {}), "b": PlainTag(ToyData(), {}), "c": Plain(ToyData(), {})}
    own = MultiTaskModel(ToyEncoder(), families, {}, 0)
    data = {"a": Held(labels), "b": Held(rows), "c": Held(labels[::-1])}
    tokens: list[int] = []
    own.encoder.register_forward_pre_hook(lambda _, given: tokens.append(len(given[0])))
    found = evaluate(own, data, micro_tokens, Ranks())
    assert sum(tokens) == sum(row["length"] for row in rows)
    assert max(tokens) <= max(micro_tokens, *data["a"].lengths)
    monkeypatch.setattr(MultiTaskModel, "sharing", frozenset())
    tokens.clear()
    assert_same(evaluate(own, data, micro_tokens, Ranks()), found)
    assert sum(tokens) == 3 * sum(row["length"] for row in rows)


def test_a_head_that_changes_what_the_encoder_reads_shares_nothing() -> None:
    assert model().sharing == frozenset()


SCORES = {"a": {"f1": 0.4, "accuracy": 0.9}, "b": {"f1": 0.8}}
MAINS = {"a": "f1", "b": "f1"}


@pytest.mark.parametrize(
    ("score", "target", "expected"),
    [
        (None, None, 0.6),
        (None, "b", 0.8),
        ("a/accuracy", None, 0.9),
        ("a/accuracy", "b", 0.9),
    ],
)
def test_the_main_score_is_what_is_named_or_the_targets_or_the_mean(
    score: str | None, target: str | None, expected: float
) -> None:
    assert main_score(SCORES, MAINS, score, target) == pytest.approx(expected)
