"""From an arm and a seed to a trial: its experiment, its data, its hash, and what it may cost."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import encoders
from orchestrator import folds, identity, run, stages
from orchestrator.document import override
from orchestrator.experiment import Experiment, parse
from orchestrator.prepare import Prepared, prepare

Budget = Literal["steps", "target"]


@dataclass(frozen=True)
class Planned:
    """All that a trial needs to be run."""

    experiment: Experiment
    prepared: Prepared
    """Perhaps of more tasks, and with other losses: see ``Prepared.under``."""
    hash: str


class Trials:
    """Makes the trials of one study; data that arms have in common are prepared once.

    Label sets, scales, topic models, cuts of splits and the vocabulary of ``tiny`` are those of the
    study's own experiment with its own seed: arms and seeds differ by nothing that was not asked.
    """

    def __init__(
        self,
        tree: Mapping[str, Any],
        places: Sequence[Path],
        cache: Path,
        origin: str = "the experiment",
        budget: Budget = "steps",
        prepared: Prepared | None = None,
    ) -> None:
        """``tree`` is the experiment as written; ``prepared`` is of it, if it is known already.

        Raises ``ExperimentError`` with every problem of the experiment and its data.
        """
        self._tree, self._places, self._cache = dict(tree), places, cache
        self._origin, self._budget = origin, budget
        self.base = parse(tree, origin)
        self.prepared = prepared or prepare(self.base, places, cache, origin=origin)
        self._known = {_data(self.base): self.prepared}
        self._encoders: dict[str, str] = {}

    def plan(self, changes: Mapping[str, Any], seed: int) -> Planned:
        """Make a trial. Raises ``ExperimentError`` or ``ValueError`` if the arm is impossible."""
        tree = override(self._tree, {**changes, "train.seed": seed})
        experiment = parse(tree, self._origin)
        shared = self._prepared(experiment)
        prepared = shared.under(experiment)
        if self._budget == "target":
            experiment = self._level(experiment, prepared)
        run.checked(experiment, prepared, self._origin)
        contents = run.contents(experiment, prepared, self._encoder(experiment, prepared))
        digest = identity.fingerprint(experiment, contents)
        return Planned(run.anchored(experiment, prepared), shared, digest)

    def _prepared(self, experiment: Experiment) -> Prepared:
        """Find the data of an arm, or prepare them where the arm changes something about them."""
        wanted = _data(experiment)
        for known, prepared in self._known.items():
            if known[0] == wanted[0] and set(wanted[1]) <= set(known[1]):
                return prepared
        reader = None
        if experiment.encoder.model == self.base.encoder.model == "tiny":
            from encoders.tokenizer import Reader

            reader = Reader.load(self.prepared.reader)
        seed = self.base.train.seed  # cuts and limits are those of the base
        level = experiment.model_copy(
            update={"train": experiment.train.model_copy(update={"seed": seed})}
        )
        made = prepare(level, self._places, self._cache, reader, self._origin)
        self._known[wanted] = made
        return made

    def _encoder(self, experiment: Experiment, prepared: Prepared) -> str:
        """Give the digest of the first weights, computed once for all that begin with them."""
        own, top = experiment.encoder, experiment.regularization.reinit_layers
        seed = experiment.train.seed if top or encoders.draws(own.model, own.lora) else None
        key = repr((own, top, prepared.reader_digest, seed))
        if key not in self._encoders:
            self._encoders[key] = run.first_encoder(experiment, prepared)
        return self._encoders[key]

    @cached_property
    def _target_examples(self) -> int:
        """Count the target's examples in a run of the study's own experiment."""
        assert self.base.target is not None, "the command line asks for one"
        return _seen(self.base, self.prepared)[self.base.target]

    def _level(self, experiment: Experiment, prepared: Prepared) -> Experiment:
        """Give as many steps as read the target as often as the study's own experiment does."""
        if experiment.target is None:
            return experiment
        try:
            own = _seen(experiment, prepared)[experiment.target]
        except ValueError:  # too many steps for mixture.max_epochs, but fewer may be enough
            free = experiment.mixture.model_copy(update={"max_epochs": None})
            whole = experiment.model_copy(update={"mixture": free})
            own = _seen(whole, prepared)[experiment.target]
        if not own:
            return experiment
        factor = self._target_examples / own
        train = experiment.train
        changed = {
            "steps": max(1, round(train.steps * factor)),
            "evaluate_every": max(1, math.ceil(train.evaluate_every * factor)),
        }
        return experiment.model_copy(update={"train": train.model_copy(update=changed)})


def _data(experiment: Experiment) -> tuple[str, tuple[tuple[str, str], ...]]:
    """Say what ``prepare`` reads of an experiment, but for losses, which arms set themselves."""
    encoder = experiment.encoder
    tasks = sorted(
        (name, f"{task.family} {task.data.model_dump_json()}")
        for name, task in experiment.tasks.items()
    )
    return f"{encoder.model} {encoder.revision}", tuple(tasks)


def _seen(experiment: Experiment, prepared: Prepared) -> dict[str, int]:
    """Count each task's examples in a whole run."""
    stretches = [one for one in folds.stretches(experiment, prepared) if one.fold is None]
    began, step = [], 0
    for one in stretches:
        began.append(step)
        step += one.steps
    return stages.seen(experiment, prepared.lengths(), stretches, began, step)
