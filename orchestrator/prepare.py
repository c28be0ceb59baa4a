"""From an experiment to what training reads: rows checked, tokenizer ready, tokens cached."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from filelock import FileLock
from pydantic import BaseModel

import encoders
import tasks
from orchestrator.experiment import Experiment
from orchestrator.problems import ExperimentError, Problem
from orchestrator.tokenise import Work, tokenise
from orchestrator.tokens import Split
from tasks import media, rows
from tasks.family import Family, Text
from tasks.splits import Splits

if TYPE_CHECKING:
    from encoders import AnyReader

FILE = "prepared.json"
"""The name of a ``Prepared`` in a run's folder."""


class PreparedSplit(BaseModel):
    """The rows of one split of one task, tokenised."""

    tokens: str
    """The Arrow file, for ``tokens.Split``."""
    source: str
    """The file or data set that the rows came from."""
    digest: str
    """sha256 of the rows' content."""
    rows: int
    set_aside: int
    """Bad rows left out."""
    strange: int
    """Rows whose label is outside the label set."""
    unlabelled: int = 0
    """Rows left out for want of a label."""
    truncated: int
    """Rows cut to the greatest length."""
    token_count: int
    terms: int
    """Terms of the loss sum over all rows."""


class PreparedTask(BaseModel):
    """One task's family with all it was bound to, and its splits."""

    family: str
    data: dict[str, Any]
    loss: dict[str, Any]
    label_smoothing: float
    fitted: dict[str, Any]
    splits: dict[str, PreparedSplit]
    details: dict[str, list[tuple[str, str]]] = {}
    """Tables for the run's page, by their titles."""


class Prepared(BaseModel):
    """What every process of a run needs beside the experiment, as plain data."""

    tasks: dict[str, PreparedTask]
    reader: str
    """The folder of the tokenizer; ``encoders.load`` takes it."""
    reader_digest: str
    layers: int
    """Of the encoder."""
    notes: list[str]
    """What the user should be told once: rows set aside, unknown labels, truncation."""

    def family(self, task: str) -> Family[Any]:
        """Build the family of a task, bound to its data."""
        own = self.tasks[task]
        kind = tasks.get(own.family)
        data = kind.Data.model_validate(own.data)
        return kind(data, own.fitted, own.loss, own.label_smoothing)

    def open(self, task: str, split: str) -> Split:
        """Open the tokens of a split. Raises ``LookupError`` when the task has no such split."""
        splits = self.tasks[task].splits
        if split not in splits:
            raise LookupError(f"task {task!r} has no split {split!r}; it has {', '.join(splits)}.")
        return Split(splits[split].tokens)

    def under(self, experiment: Experiment) -> Prepared:
        """Give what an arm needs: its tasks, with its own losses and label smoothing.

        The data of these tasks must be as they were here.
        """
        own = {
            name: self.tasks[name].model_copy(
                update={
                    "loss": dict(task.loss),
                    "label_smoothing": experiment.task_regularization(name).label_smoothing,
                }
            )
            for name, task in experiment.tasks.items()
        }
        return self.model_copy(update={"tasks": own})

    @property
    def reads(self) -> str:
        """Say what the encoder reads: ``text``, ``image`` or ``audio``."""
        return media.reads(self.family(next(iter(self.tasks))).data)

    def lengths(self) -> dict[str, Any]:
        """Give the tokens of each training row of each task."""
        return {task: self.open(task, "train").lengths for task in self.tasks}

    def write(self, folder: Path) -> None:
        """Write ``FILE`` into a run's folder."""
        made = folder / f".{FILE}.tmp"
        made.write_text(self.model_dump_json(indent=2) + "\n", encoding="utf-8")
        os.replace(made, folder / FILE)

    @classmethod
    def read(cls, folder: Path) -> Prepared:
        """Read ``FILE`` of a run's folder."""
        return cls.model_validate_json((folder / FILE).read_text(encoding="utf-8"))


def prepare(
    experiment: Experiment,
    places: Sequence[Path],
    cache: Path,
    reader: AnyReader | None = None,
    origin: str = "the experiment",
    processes: int | None = None,
) -> Prepared:
    """Load, check and tokenise the rows of all tasks.

    Relative folders are looked up under each of ``places``; tokenizers and tokens go into
    ``cache``. ``reader`` stands in for the experiment's own tokenizer (the arms of a study share
    one); ``origin`` names the experiment in messages. Raises ``ExperimentError`` with every
    problem of all tasks.
    """
    problems: list[Problem] = []
    bound, splits = _rows(experiment, places, problems)
    if reader is None and (not problems or experiment.encoder.model != "tiny"):
        try:
            reader = encoders.reader(
                experiment.encoder.model,
                revision=experiment.encoder.revision,
                texts=lambda: training_texts(bound, splits),
                reads=media.reads(next(iter(experiment.tasks.values())).data),
            )
        except (ValueError, LookupError) as error:
            problems.append(Problem("", str(error)))
    if reader is not None:
        problems += _too_long(experiment, reader)
        bound = _read(experiment, bound, reader, problems)
    if problems or reader is None:
        raise ExperimentError(problems, origin)
    folder = _saved(reader, cache)
    notes: list[str] = []
    prepared = {}
    for name, family in bound.items():
        rows = {split: splits[name].each(split) for split in splits[name].rows}
        findings = family.findings(rows)
        prepared[name] = PreparedTask(
            family=experiment.tasks[name].family,
            data=family.data.model_dump(mode="json"),
            loss=dict(family.loss_options),
            label_smoothing=family.label_smoothing,
            fitted=dict(family.fitted),
            splits=_tokens(family, splits[name], reader, cache, processes),
            details={found.note: found.details for found in findings if found.details},
        )
        notes += [f"tasks.{name}: {found.note}." for found in findings]
        notes += [*splits[name].notes, *_cut(name, prepared[name], reader)]
    return Prepared(
        tasks=prepared,
        reader=str(folder),
        reader_digest=reader.digest(),
        layers=encoders.layer_count(experiment.encoder.model, experiment.encoder.revision),
        notes=notes,
    )


def training_texts(families: dict[str, Family[Any]], splits: dict[str, Splits]) -> Iterable[str]:
    """Give the texts of the training rows of all tasks: what a vocabulary may be learnt from."""
    for name in sorted(families):
        for row in splits[name].each("train"):
            for text in families[name].texts(row):
                yield from _strings(text)


def _strings(text: Text) -> Iterable[str]:
    if isinstance(text, list):
        return (" ".join(text),)
    return text if isinstance(text, tuple) else (text,)


def _rows(
    experiment: Experiment, places: Sequence[Path], problems: list[Problem]
) -> tuple[dict[str, Family[Any]], dict[str, Splits]]:
    """Load the rows of every task and bind the families, adding to ``problems``."""
    bound: dict[str, Family[Any]] = {}
    splits: dict[str, Splits] = {}
    for name, task in experiment.tasks.items():
        family = tasks.get(task.family)
        try:
            fitted, splits[name] = rows.load(name, family, task.data, places, experiment.train.seed)
        except rows.RowError as error:
            problems += [Problem("", problem) for problem in error.problems]
            continue
        smoothing = experiment.task_regularization(name).label_smoothing
        bound[name] = family(task.data, fitted, task.loss, smoothing)
    return bound, splits


def _read(
    experiment: Experiment,
    bound: Mapping[str, Family[Any]],
    reader: AnyReader,
    problems: list[Problem],
) -> dict[str, Family[Any]]:
    """Bind the families also to what they need of the tokenizer, adding to ``problems``."""
    found = {}
    for name, family in bound.items():
        try:
            read = family.reading(cast(Any, reader))
        except ValueError as error:
            kind = experiment.tasks[name].family
            problems.append(Problem(f"tasks.{name}.family", f"is {kind!r}, which {error}"))
            continue
        found[name] = type(family)(
            family.data, {**family.fitted, **read}, family.loss_options, family.label_smoothing
        )
    return found


def _too_long(experiment: Experiment, reader: AnyReader) -> Iterable[Problem]:
    for name, task in experiment.tasks.items():
        length = task.data.max_length
        if length is not None and (length > reader.limit or reader.fixed):
            yield Problem(
                f"tasks.{name}.data.max_length",
                f"is {length}; the encoder reads {'always' if reader.fixed else 'at most'} "
                f"{reader.limit} tokens",
            )


def _saved(reader: AnyReader, cache: Path) -> Path:
    """Save a tokenizer under its digest, once; safe when two processes want it."""
    root = cache / "readers"
    root.mkdir(parents=True, exist_ok=True)
    folder = root / reader.digest()
    with FileLock(f"{folder}.lock"):
        if not folder.is_dir():
            made = root / f".{folder.name}.tmp"
            shutil.rmtree(made, ignore_errors=True)
            reader.save(made)
            os.replace(made, folder)
    return folder


def _tokens(
    family: Family[Any], splits: Splits, reader: AnyReader, cache: Path, processes: int | None
) -> dict[str, PreparedSplit]:
    made = {}
    for split, table in splits.rows.items():
        work = Work(family, reader, gold=split != "train")
        file = tokenise(work, split, table, splits.digests[split], cache, processes)
        counts = Split(file).counts
        made[split] = PreparedSplit(
            tokens=str(file.absolute()),
            source=splits.sources[split],
            digest=splits.digests[split],
            rows=counts.rows,
            set_aside=splits.set_aside[split],
            strange=splits.strange[split],
            unlabelled=splits.unlabelled[split],
            truncated=counts.truncated,
            token_count=counts.tokens,
            terms=counts.terms,
        )
    return made


def _cut(name: str, task: PreparedTask, reader: AnyReader) -> Iterable[str]:
    """Tell of truncation, split by split."""
    length = task.data["max_length"] or reader.limit
    for split, own in task.splits.items():
        if own.truncated:
            yield (
                f"tasks.{name}: {own.truncated} of {own.rows} {split} rows are longer than"
                f" {length} tokens and were cut."
            )
