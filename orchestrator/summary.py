"""What a run's folder tells, as plain data: settings, data sets, events and scores."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import Any

import tasks
from orchestrator import document, journal


@dataclass(frozen=True)
class DataSplit:
    """One split of one task's data, as it was read."""

    task: str
    split: str
    source: str
    """The file or data set that the rows came from."""
    digest: str
    """sha256 of the content of the columns used."""
    rows: int
    truncated: int
    """Rows cut to the greatest length."""
    set_aside: int
    """Bad rows left out."""
    strange: int
    """Rows whose label is outside the label set."""
    unlabelled: int = 0
    """Rows left out for want of a label."""


class Summary:
    """Reads a run's folder, whole or still growing; what is not there yet is empty."""

    def __init__(self, folder: Path) -> None:
        """Raise ``ExperimentError`` if the folder has no readable ``experiment.yaml``."""
        self.folder = folder
        self.experiment, _, _ = document.read(folder / "experiment.yaml")

    @property
    def run(self) -> str:
        """The run's id."""
        return self.folder.resolve().name

    @cached_property
    def prepared(self) -> dict[str, Any]:
        """What became of the data (see ``prepare.py``)."""
        return self._json("prepared.json")

    @cached_property
    def results(self) -> dict[str, Any]:
        """The scores and speeds of a finished run."""
        return self._json("results.json")

    @cached_property
    def records(self) -> list[journal.Record]:
        """The valid records of the journal."""
        return journal.read(self.folder)

    @cached_property
    def series(self) -> dict[str, list[tuple[int, float]]]:
        """Each metric's (step, value) in order."""
        return journal.series(self.records)

    def _json(self, name: str) -> dict[str, Any]:
        """Read a file of the folder; one that is not there yet is empty."""
        path = self.folder / name
        return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}

    @property
    def hash(self) -> str:
        """The hash of all that changes the result."""
        return str(self._json("identity.json").get("hash", ""))

    def main(self, task: str) -> str:
        """Name the score that ranks runs by this task."""
        own = self.prepared["tasks"][task]
        kind = tasks.get(own["family"])
        data = kind.Data.model_validate(own["data"])
        return str(kind(data, own["fitted"], own["loss"]).main)

    @property
    def confusions(self) -> dict[str, Any]:
        """Task to labels and counts on the test split, where the family has them."""
        test = journal.last_event(self.records, "test")
        return {} if test is None else dict(test.value.get("confusions", {}))

    @property
    def stages(self) -> list[tuple[int, str]]:
        """The step at which each stage began, and its name; empty for a run of one stage."""
        told = [record for record in self.records if record.event == "stage"]
        return list(dict.fromkeys((record.step, record.value["name"]) for record in told))

    @property
    def versions(self) -> dict[str, str]:
        """The libraries that wrote the newest checkpoint."""
        manifests = sorted(self.folder.glob("checkpoints/step-*/manifest.json"))
        name = str(manifests[-1].relative_to(self.folder)) if manifests else ""
        return dict(self._json(name).get("versions", {}))

    @property
    def precision(self) -> str:
        """What training computed in."""
        return str(self.experiment.get("train", {}).get("precision", ""))

    def data(self) -> Iterator[DataSplit]:
        """Give every split of every task."""
        for task, found in sorted(self.prepared.get("tasks", {}).items()):
            for split, own in found["splits"].items():
                kept = {field.name for field in fields(DataSplit)} & own.keys()
                yield DataSplit(task, split, **{key: own[key] for key in kept})

    def settings(self) -> Iterator[tuple[str, str]]:
        """Give every setting of the resolved experiment as a dotted key and a short text."""
        return flattened(self.experiment)


def flattened(tree: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, str]]:
    """Give the leaves of nested settings as dotted keys and texts, as YAML writes them."""
    for key, value in tree.items():
        if isinstance(value, Mapping) and value:
            yield from flattened(value, f"{before}{key}.")
        else:
            yield f"{before}{key}", value if isinstance(value, str) else json.dumps(value)
