"""Packing: a batch worked out by hand, rows of two sequences among them."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from toy import Toy, ToyData

from orchestrator.batch import OWN, Batch, collate


class Scored(Toy):
    columns: ClassVar = {"label": torch.int64, "value": torch.float32}


FAMILIES = {
    "words": Toy(ToyData(), {}),
    "pairs": Scored(ToyData(), {}),
    "empty": Toy(ToyData(), {}),
}

# A row of two sequences: a pair of texts of 2 and 1 tokens, then a text of 2 tokens; 1 and 2 words.
TWICE = {
    "input_ids": np.array([11, 12, 13, 14, 15], np.int32),
    "sequences": np.array([3, 2], np.int32),
    "second": np.array([2, 2], np.int32),
    "words": np.array([1, 3, 4], np.int32),
    "word_counts": np.array([1, 2], np.int32),
    OWN + "label": np.array([7], np.int32),
    OWN + "value": np.array([0.5, 1.5], np.float64),
}
ONCE = {
    "input_ids": np.array([21, 22], np.int32),
    "sequences": np.array([2], np.int32),
    "second": np.array([1], np.int32),
    "words": np.array([], np.int32),
    "word_counts": np.array([0], np.int32),
    OWN + "label": np.array([8], np.int32),
    OWN + "value": np.array([], np.float64),
}
WORDS = {
    "input_ids": np.array([31, 32, 33], np.int32),
    "sequences": np.array([3], np.int32),
    "second": np.array([3], np.int32),
    "words": np.array([0, 2], np.int32),
    "word_counts": np.array([2], np.int32),
    OWN + "label": np.array([1, 2], np.int32),
}
EXAMPLES: dict[str, list[dict[str, Any]]] = {"words": [WORDS], "pairs": [TWICE, ONCE]}


@pytest.fixture
def batch() -> Batch:
    return collate(EXAMPLES, FAMILIES, "first")


def test_tokens_lie_one_sequence_after_the_other_in_sorted_order_of_tasks(batch: Batch) -> None:
    assert batch.input_ids.tolist() == [11, 12, 13, 14, 15, 21, 22, 31, 32, 33]
    assert batch.offsets.tolist() == [0, 3, 5, 7, 10]
    assert batch.type_ids.tolist() == [0, 0, 1, 0, 0, 0, 1, 0, 0, 0]
    assert {t.dtype for t in (batch.input_ids, batch.offsets, batch.type_ids)} == {torch.int64}
    assert list(batch.rows) == ["empty", "pairs", "words"]
    assert batch.weight == 1.0


def test_rows_know_their_sequences_words_and_columns(batch: Batch) -> None:
    pairs, words = batch.rows["pairs"], batch.rows["words"]
    assert len(pairs) == 2
    assert pairs.sequences.tolist() == [2, 1]
    assert pairs.words.tolist() == [1, 3, 4]
    assert pairs.word_counts.tolist() == [1, 2, 0]
    assert pairs.columns["label"].tolist() == [7, 8]
    assert pairs.columns["value"].tolist() == [0.5, 1.5]
    assert pairs.columns["value"].dtype == torch.float32
    assert {name: count.tolist() for name, count in pairs.counts.items()} == {
        "label": [1, 1],
        "value": [2, 0],
    }
    assert words.words.tolist() == [7, 9]
    assert words.counts["label"].tolist() == [2]


@pytest.mark.parametrize(
    ("summary", "pairs", "words"), [("first", [0, 3, 5], [7]), ("last", [2, 4, 6], [9])]
)
def test_a_sequence_is_summed_up_by_its_first_or_last_token(
    summary: str, pairs: list[int], words: list[int]
) -> None:
    batch = collate(EXAMPLES, FAMILIES, summary)
    assert batch.rows["pairs"].summary.tolist() == pairs
    assert batch.rows["words"].summary.tolist() == words


def test_a_task_without_rows_is_there_with_empty_tensors_of_the_right_kind(batch: Batch) -> None:
    rows = batch.rows["empty"]
    assert len(rows) == 0
    tensors = [rows.sequences, rows.summary, rows.words, rows.word_counts]
    tensors += [*rows.columns.values(), *rows.counts.values()]
    assert [len(tensor) for tensor in tensors] == [0] * 6
    assert {tensor.dtype for tensor in tensors} == {torch.int64}
    absent = collate({"words": [WORDS]}, FAMILIES, "last").rows["pairs"]
    assert absent.columns["value"].dtype == torch.float32
    assert absent.summary.dtype == torch.int64


def test_a_row_has_the_same_tensors_wherever_it_lies() -> None:
    alone, after = (
        collate({"pairs": examples}, FAMILIES, "first").rows["pairs"]
        for examples in ([TWICE], [ONCE, TWICE])
    )
    assert (after.summary[1:] - 2).tolist() == alone.summary.tolist()
    assert (after.words - 2).tolist() == alone.words.tolist()


def test_moving_a_batch_keeps_all_of_it(batch: Batch) -> None:
    moved = batch.to(torch.device("meta"))
    assert moved.weight == batch.weight
    for task, rows in moved.rows.items():
        found = [rows.sequences, rows.summary, rows.words, rows.word_counts]
        found += [*rows.columns.values(), *rows.counts.values()]
        assert all(tensor.is_meta for tensor in found)
        assert rows.columns.keys() == batch.rows[task].columns.keys()
    assert moved.input_ids.is_meta
    assert moved.type_ids.is_meta
    assert moved.offsets.is_meta


def test_what_two_tasks_share_is_read_once_and_rows_point_into_it() -> None:
    other = ONCE | {"second": np.array([2], np.int32)}
    families = {"a": FAMILIES["pairs"], "b": FAMILIES["pairs"], "c": FAMILIES["words"]}
    examples = {"a": [ONCE, TWICE], "b": [other, TWICE, ONCE], "c": [ONCE]}
    whole = collate(examples, families, "last")
    batch = collate(examples, families, "last", sharing={"a", "b"})
    assert batch.input_ids.tolist() == [21, 22, 11, 12, 13, 14, 15, 21, 22, 21, 22]
    assert batch.offsets.tolist() == [0, 2, 5, 7, 9, 11]
    assert batch.type_ids[[0, 1, 7, 8]].tolist() == [0, 1, 0, 0]
    assert batch.rows["a"].starts.tolist() == [0, 2, 5]
    assert batch.rows["b"].starts.tolist() == [7, 2, 5, 0]
    assert batch.rows["b"].summary.tolist() == [8, 4, 6, 1]
    assert batch.rows["c"].starts.tolist() == [9]
    for task, rows in batch.rows.items():
        for name in ("starts", "summary", "words"):
            own, there = getattr(rows, name), getattr(whole.rows[task], name)
            assert torch.equal(batch.input_ids[own], whole.input_ids[there])
        assert torch.equal(rows.lengths, whole.rows[task].lengths)


def test_equal_rows_of_one_task_are_each_read() -> None:
    families = {"a": FAMILIES["words"], "b": FAMILIES["words"]}
    examples = {"a": [WORDS, WORDS], "b": [WORDS, WORDS, WORDS]}
    batch = collate(examples, families, "first", sharing={"a", "b"})
    assert batch.offsets.tolist() == [0, 3, 6, 9]
    assert batch.rows["a"].starts.tolist() == [0, 3]
    assert batch.rows["b"].starts.tolist() == [0, 3, 6]
