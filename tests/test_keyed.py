"""Keyed random numbers: the same everywhere and always, each key a stream of its own."""

from __future__ import annotations

import numpy as np
import pytest

from orchestrator import keyed


def test_numbers_are_the_same_on_every_machine_and_in_every_version() -> None:
    assert keyed.number(0, "head", "topic") == 0x47517C54ED74DB71
    assert keyed.generator(0, "order").integers(0, 1000, 4).tolist() == [891, 842, 788, 666]
    assert keyed.permuted(np.arange(10), 10, 0, "order").tolist() == [9, 5, 4, 8, 2, 6, 1, 7, 0, 3]


def test_parts_of_a_key_are_not_run_together() -> None:
    keys = [(1, 23), (12, 3), (123,), ("1", "2", "3"), (3, 12)]
    assert len({keyed.number(*key) for key in keys}) == len(keys)


def test_a_stream_depends_on_its_key_and_on_no_other_stream() -> None:
    alone = keyed.generator(0, "a").random(5)
    other = keyed.generator(0, "b").random(5)
    np.random.seed(1)
    np.testing.assert_array_equal(keyed.generator(0, "a").random(5), alone)
    assert not np.array_equal(alone, other)


def test_torch_takes_every_seed() -> None:
    seeds = [keyed.torch_seed("seed", i) for i in range(1000)]
    assert all(0 <= seed < 2**63 for seed in seeds)
    assert len(set(seeds)) == 1000


@pytest.mark.parametrize("size", [1, 2, 3, 4, 5, 16, 17, 1000])
def test_positions_asked_for_alone_go_where_they_go_together(size: int) -> None:
    together = keyed.permuted(np.arange(size), size, "key")
    assert sorted(together.tolist()) == list(range(size))
    alone = [int(keyed.permuted(np.array([i]), size, "key")[0]) for i in range(size)]
    assert together.tolist() == alone


def test_a_permutation_mixes_and_each_key_has_its_own() -> None:
    size = 4096
    first, second = (keyed.permuted(np.arange(size), size, "epoch", i) for i in range(2))
    for found in (first, second):
        assert abs(np.corrcoef(np.arange(size), found)[0, 1]) < 0.06  # 4 standard errors
        assert (found == np.arange(size)).sum() < 10
    assert abs(np.corrcoef(first, second)[0, 1]) < 0.06


def test_positions_given_are_left_as_they_were() -> None:
    positions = np.arange(10)
    keyed.permuted(positions, 10, "key")
    np.testing.assert_array_equal(positions, np.arange(10))
