"""Which examples come at which step: a pure function of seed, stage, mixture and data sizes."""

from __future__ import annotations

import heapq
import math
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from orchestrator import keyed
from orchestrator.keyed import Integers

Lengths = Mapping[str, NDArray[np.int32]]
"""Task name to the tokens of each of its training examples; the keys' order is the plan's."""


def shares(sizes: Mapping[str, int], temperature: float) -> dict[str, float]:
    """Give each task its share n^(1/T) / sum, so T = 1 is proportional and T -> inf uniform."""
    powers = {task: size ** (1.0 / temperature) for task, size in sizes.items()}
    total = sum(powers.values())
    return {task: power / total for task, power in powers.items()}


@dataclass(frozen=True)
class GlobalBatch:
    """The examples of one step, before they are split over ranks; sorted by task."""

    tasks: Integers
    """``[N]``: index into the plan's tasks."""
    examples: Integers
    """``[N]``: index into the task's training rows."""
    lengths: Integers
    """``[N]``: tokens."""


@dataclass(frozen=True)
class Segment:
    """A stretch of blocks over which the same tasks are active."""

    first: int
    """Its first block."""
    base: dict[str, int]
    """Examples of each task dealt before it."""
    shares: dict[str, float]
    """Shares of the active tasks, sum 1."""

    def counts(self, examples: int) -> dict[str, int]:
        """Count each task's examples after so many in this segment: within 1 of share x examples.

        Rounds the running sum of shares, so the counts add up exactly and need no history.
        """
        bounds = np.floor(np.cumsum(list(self.shares.values())) * examples + 1e-6).astype(np.int64)
        bounds[-1] = examples
        dealt = np.diff(bounds, prepend=0)
        return {task: int(n) for task, n in zip(self.shares, dealt, strict=True)}


@dataclass(frozen=True)
class Plan:
    """The sequence of global batches of one stage."""

    lengths: Lengths
    shares: Mapping[str, float]
    """Share of the examples of each task, sum 1."""
    batch_tokens: int
    """Mean tokens of a global batch."""
    seed: int
    stage: int | str = 0
    max_epochs: float | None = None
    """A task leaves at the first block in which it has been read this often."""

    @cached_property
    def tasks(self) -> tuple[str, ...]:
        return tuple(sorted(self.lengths))

    @cached_property
    def examples_per_step(self) -> int:
        """N: ``batch_tokens`` over the mean training length under the mixture, at least 1."""
        mean = sum(self.shares[task] * float(self.lengths[task].mean()) for task in self.tasks)
        return max(1, round(self.batch_tokens / mean))

    @cached_property
    def steps_per_block(self) -> int:
        """K: the smallest number of steps that gives every task an example.

        Not bounded, however rare a task: rounded sums of shares grow from block to block for
        every task only where each block owes each task at least one example.
        """
        rarest = self.examples_per_step * min(self.shares.values())
        return max(1, math.ceil(1.0 / rarest - 1e-9))

    @cached_property
    def segments(self) -> list[Segment]:
        """Stretches between the points where tasks leave for having had ``max_epochs``."""
        active = {task: float(self.shares[task]) for task in self.tasks}
        found = [Segment(0, dict.fromkeys(active, 0), active)]
        while self.max_epochs is not None and active:
            block, dealt = self._end(found[-1])
            active = {
                task: share for task, share in active.items() if dealt[task] < self._cap(task)
            }
            total = sum(active.values())
            rest = {task: share / total for task, share in active.items()}
            found.append(Segment(block, dealt, rest))
        return found

    @cached_property
    def steps(self) -> float:
        """Steps until every task has left; infinite without ``max_epochs``."""
        last = self.segments[-1]
        return math.inf if last.shares else float(last.first * self.steps_per_block)

    def _cap(self, task: str) -> float:
        return float(self.max_epochs or math.inf) * len(self.lengths[task])

    def _end(self, segment: Segment) -> tuple[int, dict[str, int]]:
        """Find the first block at whose beginning some active task has reached its cap."""
        size = self.examples_per_step * self.steps_per_block

        def full(blocks: int) -> bool:
            dealt = segment.counts(blocks * size)
            return any(segment.base[t] + n >= self._cap(t) for t, n in dealt.items())

        high = 1
        while not full(high):
            high *= 2
        blocks = bisect_left(range(high + 1), True, key=full)
        dealt = segment.counts(blocks * size)
        after = {task: base + dealt.get(task, 0) for task, base in segment.base.items()}
        return segment.first + blocks, after

    def dealt(self, block: int) -> dict[str, int]:
        """Count the examples of each task in all blocks before this one."""
        segment = [s for s in self.segments if s.first <= block][-1]
        if not segment.shares:
            return dict(segment.base)
        size = self.examples_per_step * self.steps_per_block
        inside = segment.counts((block - segment.first) * size)
        return {task: base + inside.get(task, 0) for task, base in segment.base.items()}

    def step(self, step: int) -> GlobalBatch:
        """Give the global batch of a step (from 0), computed without its predecessors."""
        block, place = divmod(step, self.steps_per_block)
        tasks, examples, lengths, steps = self._block(block)
        here = steps == place
        return GlobalBatch(tasks[here], examples[here], lengths[here])

    def counts(self, steps: int) -> dict[str, int]:
        """Count the examples of each task in the first ``steps`` steps."""
        block, rest = divmod(steps, self.steps_per_block)
        totals = self.dealt(block)
        if rest:
            tasks, _, _, places = self._block(block)
            seen = np.bincount(tasks[places < rest], minlength=len(self.tasks))
            totals = {t: totals[t] + int(n) for t, n in zip(self.tasks, seen, strict=True)}
        return totals

    def read(self, steps: int) -> dict[str, list[int]]:
        """List the examples of each task that the first ``steps`` steps read, each once."""
        block, rest = divmod(steps, self.steps_per_block)
        found: dict[str, set[int]] = {}
        for index, task in enumerate(self.tasks):
            size, count = len(self.lengths[task]), self.dealt(block)[task]
            every = range(size) if count >= size else self._of_task(index, 0, count)[1].tolist()
            found[task] = set(every)
        if rest:
            tasks, examples, _, places = self._block(block)
            for task, example in zip(tasks[places < rest], examples[places < rest], strict=True):
                found[self.tasks[task]].add(int(example))
        return {task: sorted(own) for task, own in found.items()}

    def _block(self, block: int) -> tuple[Integers, Integers, Integers, Integers]:
        """Deal a block: task, example, length and step-in-block of each of its examples."""
        if block == self.__dict__.get("_kept", (None,))[0]:
            kept: tuple[Integers, Integers, Integers, Integers] = self.__dict__["_kept"][1]
            return kept
        before, after = self.dealt(block), self.dealt(block + 1)
        parts = [self._of_task(i, before[t], after[t]) for i, t in enumerate(self.tasks)]
        tasks, examples, lengths = (np.concatenate(column) for column in zip(*parts, strict=True))
        places = self._levelled(block, tasks, lengths)
        # One block is kept, since its steps are asked for in turn; the answer is the same without.
        self.__dict__["_kept"] = (block, (tasks, examples, lengths, places))
        return tasks, examples, lengths, places

    def _of_task(self, index: int, start: int, stop: int) -> tuple[Integers, Integers, Integers]:
        task = self.tasks[index]
        size = len(self.lengths[task])
        epochs, positions = np.divmod(np.arange(start, stop, dtype=np.int64), size)
        examples = np.empty_like(positions)
        for epoch in np.unique(epochs):
            now = epochs == epoch
            key = (self.seed, self.stage, "order", task, int(epoch))
            examples[now] = keyed.permuted(positions[now], size, *key)
        lengths = self.lengths[task][examples].astype(np.int64)
        return np.full(len(examples), index), examples, lengths

    def _levelled(self, block: int, tasks: Integers, lengths: Integers) -> Integers:
        """Deal examples to the block's steps so that each step has N and tokens are level.

        Round by round, the longest of K examples goes to the step with the fewest tokens so far.
        """
        steps = self.steps_per_block
        order = np.lexsort((-lengths, tasks)).reshape(-1, steps)
        places = np.empty(len(tasks), dtype=np.int64)
        tokens = np.zeros(steps, dtype=np.int64)
        for cards in order:
            cards = cards[np.argsort(-lengths[cards], kind="stable")]
            emptiest = np.argsort(tokens, kind="stable")
            places[cards] = emptiest
            tokens[emptiest] += lengths[cards]
        shuffled = keyed.generator(self.seed, self.stage, "deal", block).permutation(steps)
        return np.asarray(shuffled[places], dtype=np.int64)


def split(lengths: Sequence[int], ranks: int, micro_tokens: int) -> list[list[list[int]]]:
    """Split examples over ranks by tokens, then each rank's into equally many micro-batches.

    Gives, for each rank, its micro-batches as lists of positions. A micro-batch holds at most
    ``micro_tokens`` unless it is one longer example; all ranks get the same number of them, so
    that their collectives line up; some may be empty.
    """
    every = range(len(lengths))
    per_rank = _even(every, lengths, ranks)
    needed = [
        min(len(own), math.ceil(sum(lengths[i] for i in own) / micro_tokens)) for own in per_rank
    ]
    micros = max(1, *needed)
    while True:
        cut = [_even(own, lengths, micros) for own in per_rank]
        fits = all(
            len(micro) <= 1 or sum(lengths[i] for i in micro) <= micro_tokens
            for own in cut
            for micro in own
        )
        if fits:
            return cut
        micros += 1


def _even(items: Sequence[int], lengths: Sequence[int], bins: int) -> list[list[int]]:
    """Longest first into the emptiest bin (Graham 1969); bins keep the order of the items."""
    heap = [(0, b) for b in range(bins)]
    found: list[list[int]] = [[] for _ in range(bins)]
    for item in sorted(items, key=lambda i: (-lengths[i], i)):
        filled, b = heapq.heappop(heap)
        found[b].append(item)
        heapq.heappush(heap, (filled + int(lengths[item]), b))
    return [sorted(own) for own in found]
