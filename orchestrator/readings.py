"""What a model at rest makes of examples, computed once by all ranks and kept on disk."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
import torch.distributed as dist
from numpy.typing import NDArray
from torch import Tensor

from orchestrator import stacking
from orchestrator.batch import Batch, Example, collate
from orchestrator.evaluate import Ranks
from orchestrator.features import Kept, kept_tokens
from orchestrator.model import MultiTaskModel
from orchestrator.stacking import Stacked


class Place(Protocol):
    """Where a process works."""

    @property
    def world(self) -> Ranks: ...
    @property
    def device(self) -> torch.device: ...


class Reader:
    """A model whose parameters are whole on every rank, and where its readings go."""

    def __init__(self, model: MultiTaskModel, folder: Path, limit: int, place: Place) -> None:
        """``limit`` bounds the tokens of one forward."""
        self._model, self._folder, self._limit = model, folder, limit
        self._world, self._device = place.world, place.device
        self.tasks = frozenset(task for task in model.families if model.reads(task) is not None)
        """Those whose hidden states can be kept."""

    def kept(self, task: str, split: str, rows: Any, indices: Sequence[int]) -> Any:
        """Give these rows with their hidden states, or as they are where these cannot be kept."""
        how, summary = self._model.reads(task), self._model.encoder.summary
        if how is None:
            return rows

        def states(examples: Sequence[Example]) -> Tensor:
            return self._model.read(self._batch(task, examples))

        places = {i: kept_tokens(rows.example(i), how, summary) for i in indices}
        file = self._folder / f"{task}-{split}.npy"
        found = self._write(file, rows, places, self._model.encoder.width, states)
        return Kept(rows, *found, how, summary)

    def answer(self, stacked: Stacked, rows: Any, indices: Sequence[int], file: Path) -> None:
        """Write what the helpers say of these rows of the target, ``[tokens, n]``."""

        def said(examples: Sequence[Example]) -> Tensor:
            batch = self._batch(stacked.target, examples)
            hidden, own = self._model.read(batch), batch.rows[stacked.target]
            with torch.no_grad():
                return stacking.features(stacked, hidden, own, self._model.find)[1]

        self._model.eval()
        places = {i: np.arange(int(rows.lengths[i])) for i in indices}
        sizes = stacking.counts(stacked, self._model.encoder.width, self._model.find)
        self._write(file, rows, places, sum(sizes), said)

    def _batch(self, task: str, examples: Sequence[Example]) -> Batch:
        families, encoder = self._model.families, self._model.encoder
        batch = collate({task: examples}, families, encoder.summary, signals=encoder.signals)
        return batch.to(self._device)

    def _write(
        self,
        file: Path,
        rows: Any,
        places: Mapping[int, NDArray[np.int64]],
        width: int,
        compute: Callable[[Sequence[Example]], Tensor],
    ) -> tuple[NDArray[np.float32], dict[int, int]]:
        """Write a row of ``width`` numbers for each token that is asked for; ranks share the work.

        ``places`` are the examples, by index, and their tokens; ``compute`` gives these numbers for
        all tokens of some examples. Gives the file, mapped, and where each example begins.
        Raises ``OSError`` where the disk has no room.
        """
        indices = sorted(places)
        ends = np.cumsum([0, *(len(places[i]) for i in indices)]).tolist()
        starts = dict(zip(indices, ends[:-1], strict=True))
        if self._world.rank == 0:
            _make(file, ends[-1], width)
        self._wait()
        found: NDArray[np.float32] = np.lib.format.open_memmap(file, "r+")
        for pack in list(_packs(rows, indices, self._limit))[self._world.rank :: self._world.ranks]:
            examples = [rows.example(index) for index in pack]
            computed, first = compute(examples).float().cpu().numpy(), 0
            for index, example in zip(pack, examples, strict=True):
                start, own = starts[index], places[index]
                found[start : start + len(own)] = computed[first + own]
                first += len(example["input_ids"])
        found.flush()  # type: ignore[attr-defined]
        self._wait()
        return np.lib.format.open_memmap(file, "r"), starts

    def _wait(self) -> None:
        if self._world.ranks > 1:
            dist.barrier()


def _make(file: Path, size: int, width: int) -> None:
    """Make a file for numbers ``[size, width]``."""
    file.parent.mkdir(parents=True, exist_ok=True)
    need, free = 4 * size * width, shutil.disk_usage(file.parent).free
    if need > free:
        raise OSError(
            f"{file} needs {need / 1e9:.1f} GB for what a resting encoder gives, and the disk has "
            f"{free / 1e9:.1f} GB; expected as much. Make room, or set storage.path elsewhere."
        )
    np.lib.format.open_memmap(file, "w+", np.float32, (max(1, size), width)).flush()


def _packs(rows: Any, indices: Sequence[int], limit: int) -> Iterator[list[int]]:
    """Pack examples, longest first, up to so many tokens."""
    pack: list[int] = []
    filled = 0
    for index in sorted(indices, key=lambda i: (-int(rows.lengths[i]), i)):
        length = int(rows.lengths[index])
        if pack and filled + length > limit:
            yield pack
            pack, filled = [], 0
        pack.append(index)
        filled += length
    if pack:
        yield pack
