"""Many small studies, one after the other, through one Ray."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from orchestrator.studies import study
from orchestrator.studies.agenda import Listed, Wanted
from orchestrator.studies.study import Kind, Result
from orchestrator.studies.trials import Trials

Arms = Mapping[str, tuple[Kind, Mapping[str, Any]]]
"""By name: the kind, and the changes."""


def begun(
    folder: Path,
    tree: Mapping[str, Any],
    arms: Arms,
    seeds: Sequence[int],
    question: Mapping[str, Any],
    places: Sequence[Path] = (),
) -> Listed:
    """Make a study of these arms in a folder, or take it up again, seeds paired."""
    trials = Trials(tree, places, folder / "cache")
    asked = {
        "name": folder.name,
        "kind": "ablate",
        "origin": "",
        "experiment": dict(tree),
        "seeds": list(seeds),
        "budget": "steps",
        **question,
    }
    made = study.create(folder / "study", asked, trials.prepared)
    wanted = [
        Wanted(name, kind, changes, seed)
        for seed in seeds
        for name, (kind, changes) in arms.items()
    ]
    return Listed(made, trials, wanted)


class Chain:
    """A source of trials: those of each study in turn, which is made when its turn comes."""

    def __init__(self, studies: Sequence[Callable[[], Listed]]) -> None:
        self._left = list(studies)
        self._now: Listed | None = None
        self._owners: dict[str, Listed] = {}

    def next(self) -> Path | None:
        """Give the next trial's folder; raise ``StopIteration`` after the last study."""
        while True:
            if self._now is None:
                if not self._left:
                    raise StopIteration
                self._now = self._left.pop(0)()
            try:
                found = self._now.next()
            except StopIteration:
                self._now = None
                continue
            assert found is not None
            self._owners[found.name] = self._now
            return found

    def ended(self, result: Result) -> None:
        """Hand a result to its study."""
        self._owners.pop(result.hash).ended(result)
