"""Answers to new texts, from a run's folder alone: no training data is needed."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

import encoders
from orchestrator import checkpoint
from orchestrator.batch import OWN, Example, collate
from orchestrator.model import MultiTaskModel
from orchestrator.prepare import Prepared
from orchestrator.problems import nearest
from orchestrator.sections import Stacking
from orchestrator.stacking import Stacked
from tasks.family import Encoded, Family, Row, Text
from tasks.media import Media

if TYPE_CHECKING:
    from encoders import AnyReader

log = logging.getLogger(__name__)

TOKENS = 4096
"""Tokens of one forward, unless a single record has more."""


@dataclass
class Question:
    """One row of one task: what a record asks, and what is found."""

    record: int
    task: str
    row: Row
    example: Example
    prediction: Any = None
    again: list[Question] = field(default_factory=list)
    """What the first answer calls for."""


class Predictor:
    """A trained model that answers records, in fp32 and without dropout."""

    def __init__(self, model: MultiTaskModel, reader: AnyReader) -> None:
        """Take over a model and the reader it was trained with."""
        self.model = model.eval()
        self.reader = reader

    @classmethod
    def load(cls, folder: Path) -> Predictor:
        """Load the best checkpoint of a run. Raises ``LookupError`` if it has none."""
        best = checkpoint.best(folder)
        source = best / "encoder"
        encoder = encoders.load(str(source), folder=source)
        prepared = Prepared.read(folder)
        families = {task: prepared.family(task) for task in prepared.tasks}
        stacked = None
        if checkpoint.stacks(best):
            told = checkpoint.manifest(best)["experiment"]
            stacking = Stacking.model_validate(told["stacking"])
            stacked = Stacked.of(stacking, told["target"], families)
        model = MultiTaskModel(encoder, families, {}, seed=0, stacked=stacked)
        checkpoint.load_heads(model, best)
        return cls(model, encoder.reader)

    def __call__(
        self, records: Sequence[Mapping[str, Any]], task: str | None = None
    ) -> list[dict[str, Any]]:
        """Answer each record with ``{task: answer}``, for one task or all.

        A record holds ``text`` and what its tasks need besides (``pair``, ``predicate``, ...); a
        task whose fields are missing answers None. Raises ``ValueError`` for a record that cannot
        be used, ``LookupError`` for an unknown task.
        """
        asked = self._asked(task)
        first = [q for place, record in enumerate(records) for q in self._ask(place, record, asked)]
        self._answer(first)
        for question in first:
            family = self.model.families[question.task]
            for row in family.ask_again(question.row, question.prediction):
                question.again.append(self._question(question.record, question.task, row))
        self._answer([again for question in first for again in question.again])
        answers: list[dict[str, Any]] = [dict.fromkeys(asked) for _ in records]
        for question in first:
            again = [(one.row, one.prediction) for one in question.again]
            answers[question.record][question.task] = self.model.families[question.task].answer(
                question.row, question.prediction, again
            )
        return answers

    def _asked(self, task: str | None) -> list[str]:
        known = list(self.model.families)
        if task is None:
            return known
        if task not in known:
            raise LookupError(f"This run has no task {task!r}; {nearest(task, known)}")
        return [task]

    def _ask(self, place: int, record: Any, asked: Sequence[str]) -> Iterator[Question]:
        field = self.reader.kind
        if not isinstance(record, Mapping) or not isinstance(record.get(field), str):
            raise ValueError(
                f"record {place + 1}: found {str(record)[:80]!r}; expected a mapping with "
                f'{field!r}. Give each record as {{"{field}": "..."}}.'
            )
        for task in asked:
            try:
                row = self.model.families[task].ask(record)
            except ValueError as error:
                raise ValueError(f"record {place + 1}, task {task}: {error}") from error
            if row is not None:
                yield self._question(place, task, row)

    def _question(self, record: int, task: str, row: Row) -> Question:
        family = self.model.families[task]
        texts = family.texts(row)
        encoded = self.reader(texts, family.data.max_length)
        if any(one.truncated for one in encoded):
            length = family.data.max_length or self.reader.limit
            log.warning(
                "record %d, task %s: the %s has more than %d tokens; what follows was not read.",
                record + 1,
                task,
                self.reader.kind,
                length,
            )
        return Question(record, task, row, example(family, row, texts, encoded))

    def _answer(self, questions: Sequence[Question]) -> None:
        """Fill in predictions, all tasks together in as few forwards as ``TOKENS`` allows."""
        for pack in _packs(questions):
            by_task: dict[str, list[Question]] = {}
            for question in pack:
                by_task.setdefault(question.task, []).append(question)
            rows = {task: [one.example for one in own] for task, own in by_task.items()}
            model, encoder = self.model, self.model.encoder
            batch = collate(
                rows,
                model.families,
                encoder.summary,
                sharing=model.sharing,
                signals=encoder.signals,
            )
            with torch.inference_mode():
                outputs = self.model(batch)
                for task, own in by_task.items():
                    found = self.model.families[task].decode(outputs[task], batch.rows[task])
                    for question, prediction in zip(own, found, strict=True):
                        question.prediction = prediction


def _packs(questions: Sequence[Question]) -> Iterator[list[Question]]:
    pack: list[Question] = []
    filled = 0
    for question in questions:
        length = len(question.example["input_ids"])
        if pack and filled + length > TOKENS:
            yield pack
            pack, filled = [], 0
        pack.append(question)
        filled += length
    if pack:
        yield pack


def example(
    family: Family[Any], row: Row, texts: Sequence[Text], encoded: Sequence[Encoded]
) -> Example:
    """Put a row's texts, as they were tokenised, into the columns that ``collate`` packs."""
    starts = [0]
    for one in encoded:
        starts.append(starts[-1] + len(one))
    media = texts[0] if isinstance(texts[0], Media) else None
    ids = [token for one in encoded for token in one.input_ids]
    return {
        "input_ids": ids if media is None else media.ids(starts[-1]),
        "media": media,
        "sequences": [len(one) for one in encoded],
        "second": [one.second for one in encoded],
        "words": [s + w for s, one in zip(starts, encoded, strict=False) for w in one.words],
        "word_counts": [len(one.words) for one in encoded],
        **{OWN + name: column for name, column in family.encode(row, encoded).items()},
    }


def predict(
    folder: Path, records: Sequence[Mapping[str, Any]], task: str | None = None
) -> list[dict[str, Any]]:
    """Load a run and answer records; see ``Predictor``."""
    return Predictor.load(folder)(records, task)
