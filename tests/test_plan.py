"""The plan: exact counts, whole epochs, no history, level tokens, ranks that agree."""

from __future__ import annotations

import tracemalloc
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator import keyed
from orchestrator.plan import Plan, shares, split

SIZES = {"large": 4000, "middle": 900, "small": 60}


def lengths(sizes: dict[str, int]) -> dict[str, np.ndarray]:
    return {
        task: keyed.generator("lengths", task).integers(5, 60, size).astype(np.int32)
        for task, size in sizes.items()
    }


def plan(temperature: float = 1.0, seed: int = 0, **options: object) -> Plan:
    return Plan(lengths(SIZES), shares(SIZES, temperature), 512, seed, **options)  # type: ignore[arg-type]


def test_after_every_block_each_count_is_within_one_of_its_share() -> None:
    made = plan()
    size = made.examples_per_step * made.steps_per_block
    for block in range(200):
        for task, count in made.dealt(block).items():
            assert abs(count - made.shares[task] * block * size) < 1


def test_counts_never_go_down() -> None:
    made = plan()
    for earlier, later in pairwise(made.dealt(block) for block in range(300)):
        assert all(later[task] >= earlier[task] for task in SIZES)


def test_several_very_rare_tasks_are_dealt_exactly() -> None:
    sizes = {"vast": 500_000, "middle": 30_000, "rare": 7, "rarer": 5, "odd": 9}
    rows = {task: np.full(size, 20, np.int32) for task, size in sizes.items()}
    made = Plan(rows, shares(sizes, 1.0), 1000, 0)
    size = made.examples_per_step * made.steps_per_block
    for block in range(1000):
        before, after = made.dealt(block), made.dealt(block + 1)
        assert all(after[task] >= before[task] for task in sizes)
        assert sum(after.values()) - sum(before.values()) == size
        assert all(abs(after[t] - made.shares[t] * (block + 1) * size) < 1 for t in sizes)
    assert len(made.step(5).tasks) == made.examples_per_step


def test_a_block_is_as_short_as_gives_every_task_an_example() -> None:
    made = plan()
    rarest = min(made.shares.values()) * made.examples_per_step
    assert rarest * made.steps_per_block >= 1 - 1e-6
    assert rarest * (made.steps_per_block - 1) < 1


def test_every_example_comes_once_in_every_epoch() -> None:
    made = plan()
    counts = {task: np.zeros(size, int) for task, size in SIZES.items()}
    for block in range(40):
        for step in range(block * made.steps_per_block, (block + 1) * made.steps_per_block):
            batch = made.step(step)
            for task, example in zip(batch.tasks, batch.examples, strict=True):
                counts[made.tasks[task]][example] += 1
        for task, size in SIZES.items():
            # Epochs end inside blocks: an example is at most one epoch ahead of any other.
            assert counts[task].max() - counts[task].min() <= 1, (task, block)
            assert counts[task].min() == counts[task].sum() // size


def test_a_step_needs_none_of_its_predecessors() -> None:
    walked, asked = plan(), plan()
    for step in range(60):
        walked.step(step)
    for step in (59, 7, 33):
        again, here = asked.step(step), walked.step(step)
        np.testing.assert_array_equal(again.examples, here.examples)
        np.testing.assert_array_equal(again.tasks, here.tasks)


def test_a_far_step_over_many_rows_costs_little_memory() -> None:
    size = 10_000_000
    made = Plan({"vast": np.full(size, 20, np.int32)}, {"vast": 1.0}, 4096, 0)
    made.step(0)
    tracemalloc.start()
    made.step(1_000_000)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 1e6


def test_tokens_are_level_inside_a_block() -> None:
    made = plan()
    tokens = [int(made.step(step).lengths.sum()) for step in range(made.steps_per_block)]
    assert max(tokens) - min(tokens) <= 60


def test_each_step_has_the_same_number_of_examples() -> None:
    made = plan()
    assert {len(made.step(step).tasks) for step in range(50)} == {made.examples_per_step}


def test_a_helper_more_leaves_the_order_of_the_others() -> None:
    few = Plan(lengths({"large": 4000}), {"large": 1.0}, 512, 0)
    many = plan()
    place = many.tasks.index("large")
    np.testing.assert_array_equal(few._of_task(0, 0, 9000)[1], many._of_task(place, 0, 9000)[1])


def test_stages_and_seeds_have_orders_of_their_own() -> None:
    first = plan().step(0).examples.tolist()
    assert plan(seed=1).step(0).examples.tolist() != first
    assert plan(stage=1).step(0).examples.tolist() != first


def test_a_task_leaves_after_its_epochs_and_the_others_share_its_part() -> None:
    made = Plan(lengths(SIZES), dict.fromkeys(SIZES, 1 / 3), 512, 0, max_epochs=2)
    size = made.examples_per_step * made.steps_per_block
    ended = made.segments[1].first
    assert 2 * SIZES["small"] <= made.dealt(ended)["small"] < 2 * SIZES["small"] + size
    assert made.dealt(ended + 10)["small"] == made.dealt(ended)["small"]
    grown = {t: made.dealt(ended + 10)[t] - made.dealt(ended)[t] for t in ("large", "middle")}
    assert abs(grown["large"] - grown["middle"]) <= 1
    assert sum(grown.values()) == 10 * size
    assert made.steps < np.inf


def test_counts_agree_with_the_steps_themselves() -> None:
    made = plan(max_epochs=3)
    counts = dict.fromkeys(made.tasks, 0)
    for step in range(45):
        for index in made.step(step).tasks:
            counts[made.tasks[index]] += 1
    assert made.counts(45) == counts


@pytest.mark.parametrize("steps", [1, 2, 7, 40, 500])
def test_what_some_steps_read_is_known_before_they_are_taken(steps: int) -> None:
    made = plan()
    expected: dict[str, set[int]] = {task: set() for task in made.tasks}
    for step in range(steps):
        batch = made.step(step)
        for task, example in zip(batch.tasks, batch.examples, strict=True):
            expected[made.tasks[task]].add(int(example))
    assert made.steps_per_block > 1
    assert made.read(steps) == {task: sorted(own) for task, own in expected.items()}


def test_temperature_one_is_proportional_and_a_high_one_uniform() -> None:
    assert shares({"a": 300, "b": 100}, 1.0) == {"a": 0.75, "b": 0.25}
    assert shares({"a": 300, "b": 100}, 1e6)["a"] == pytest.approx(0.5, abs=1e-5)


@given(size=st.integers(1, 3000), key=st.integers(0, 100))
@settings(max_examples=50, deadline=None)
def test_permuted_is_a_bijection(size: int, key: int) -> None:
    found = keyed.permuted(np.arange(size), size, key)
    assert sorted(found.tolist()) == list(range(size))


@given(
    lengths=st.lists(st.integers(1, 300), min_size=1, max_size=60),
    ranks=st.integers(1, 4),
    micro=st.integers(50, 500),
)
@settings(max_examples=100, deadline=None)
def test_split_gives_every_example_to_one_rank_in_bounded_micro_batches(
    lengths: list[int], ranks: int, micro: int
) -> None:
    cut = split(lengths, ranks, micro)
    assert len(cut) == ranks
    assert len({len(own) for own in cut}) == 1
    every = sorted(i for own in cut for batch in own for i in batch)
    assert every == list(range(len(lengths)))
    for own in cut:
        for batch in own:
            assert len(batch) == 1 or sum(lengths[i] for i in batch) <= micro


def test_ranks_get_about_the_same_tokens() -> None:
    tokens = keyed.generator("split").integers(5, 60, 100).tolist()
    loads = [sum(tokens[i] for b in own for i in b) for own in split(tokens, 4, 4096)]
    assert max(loads) - min(loads) <= 60
