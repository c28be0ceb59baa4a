"""Everything that one training run needs: one YAML file, checked whole before anything starts."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel

import tasks
from orchestrator.coherence import incoherent
from orchestrator.document import changes, override, read, varied
from orchestrator.problems import ExperimentError, Problem, nearest, shape, shown
from orchestrator.sections import HEAD_LR, HeadRegularization, Mixture, Section, Stage, Task, Train
from orchestrator.settings import Experiment
from tasks.agreement import Comparable
from tasks.family import Data
from tasks.shuffled import possible

__all__ = ["Experiment", "ExperimentError", "load", "override", "parse", "places"]

STAND_IN = Data(path="")
"""Holds the place of data that has problems of its own, while the rest of a task is checked."""


def load(path: Path | str, overrides: Sequence[str] = ()) -> Experiment:
    """Read an experiment file, vary it by ``key=value`` arguments, and check it.

    Raises ``ExperimentError`` with every problem of the file.
    """
    path = Path(path)
    tree, marks, problems = read(path)
    changed, no_changes = changes(overrides)
    tree, impossible = varied(tree, changed)
    marks |= dict.fromkeys(changed, "command line")
    return parse(tree, str(path), marks, [*problems, *no_changes, *impossible])


def places(path: Path | str | None) -> list[Path]:
    """List where relative folders are looked up: the experiment's, the working one, TLMT_DATA."""
    shared = os.environ.get("TLMT_DATA")
    near = [Path(path).resolve().parent] if path is not None else []
    return list(dict.fromkeys([*near, Path.cwd(), *([Path(shared).resolve()] if shared else [])]))


def parse(
    tree: Mapping[str, Any],
    origin: str = "the experiment",
    marks: Mapping[str, str] | None = None,
    problems: Sequence[Problem] = (),
) -> Experiment:
    """Check plain data and fill in what is left to defaults.

    ``marks`` says where dotted places were written; ``problems`` were found before.
    Raises ``ExperimentError`` with every problem, also those between settings that are each fine.
    """
    found = list(problems)
    sections = {key: value for key, value in tree.items() if key not in ("tasks", "stages")}
    stages = _stages(tree.get("stages", "joint"), found)
    draft, wrong = shape(Experiment, {**sections, "tasks": {}})
    found += wrong
    if draft is None:  # go on with defaults, to find what else is wrong
        bad = {problem.place.split(".")[0] for problem in wrong}
        good = {key: value for key, value in sections.items() if key not in bad}
        draft = Experiment.model_validate(
            {"name": "x", "encoder": {"model": "x"}, "tasks": {}, **good}
        )
    written = tree.get("tasks")
    bodies: Mapping[str, Any] = written if isinstance(written, Mapping) else {}
    names = list(bodies)
    if not names:
        text = "is missing" if "tasks" not in tree else f"is {shown(written)}"
        found.append(Problem("tasks", f"{text}; expected at least one task (name: settings)"))
    learnt = {name: _task(bodies[name], f"tasks.{name}", draft, found) for name in names}
    experiment = draft.model_copy(
        update={
            "tasks": {name: task for name, task in learnt.items() if task is not None},
            "mixture": _mixture(draft.mixture),
            "train": _train(draft.train, stages),
            "stages": stages,
        }
    )
    found += incoherent(experiment, names)
    if found:
        raise ExperimentError(found, origin, marks)
    return experiment


def _mixture(mixture: Mixture) -> Mixture:
    """Fill in the default way of mixing."""
    if mixture.temperature is None and mixture.shares is None and not mixture.uniform:
        return mixture.model_copy(update={"temperature": 2.0})
    return mixture


def _stages(written: Any, found: list[Problem]) -> str | list[Stage]:
    """Check listed stages one by one; what is wrong goes to ``found``."""
    if isinstance(written, str):
        return written
    if not isinstance(written, list) or not written:
        found.append(
            Problem("stages", f"is {shown(written)}; expected a preset or a list of stages")
        )
        return "joint"
    stages = []
    for place, body in enumerate(written):
        stage, wrong = shape(Stage, body, f"stages.{place}")
        found += wrong
        if stage is not None:
            mixture = stage.mixture and _mixture(stage.mixture)
            stages.append(stage.model_copy(update={"mixture": mixture}))
    return stages if len(stages) == len(written) else "joint"


def _train(train: Train, stages: str | list[Stage]) -> Train:
    """Let stages that all say how long decide it, and a short run be evaluated at its end."""
    if not isinstance(stages, str) and "steps" not in train.model_fields_set:
        named = [stage.max_steps if stage.until else stage.steps for stage in stages]
        if None not in named:
            train = train.model_copy(update={"steps": sum(n for n in named if n is not None)})
    if "evaluate_every" in train.model_fields_set:
        return train
    return train.model_copy(update={"evaluate_every": min(train.evaluate_every, train.steps)})


def _task(written: Any, place: str, draft: Experiment, found: list[Problem]) -> Task | None:
    """Check one task and let it inherit; what is wrong goes to ``found``."""
    before = len(found)
    body = written
    if isinstance(written, Mapping):
        data, loss = _learnt(written, place, found)
        body = {**written, "data": data or STAND_IN, "loss": loss or {}}
    task, wrong = shape(Task, body, place)
    found += wrong
    return _inherit(task, draft) if task is not None and len(found) == before else None


def _learnt(
    written: Mapping[str, Any], place: str, found: list[Problem]
) -> tuple[Data | None, dict[str, Any] | None]:
    """Check the parts of a task that its family knows: the keys of its data, and its loss."""
    name = written.get("family")
    if not isinstance(name, str):
        return None, None
    try:
        family = tasks.get(name)
    except LookupError as error:
        found.append(Problem(f"{place}.family", f"is {shown(name)}; {error}"))
        return None, None
    data, wrong = shape(family.Data, written.get("data", {}), f"{place}.data")
    found += wrong
    assert data is None or isinstance(data, Data), f"{name}.Data must extend tasks.family.Data"
    if data is not None and data.shuffled and not possible(family, data):
        text = f"is true, but {name} has no answers apart from its texts to deal out; leave it out"
        found.append(Problem(f"{place}.data.shuffled", text))
    fitting = family.losses if data is None else family.fitting(data)
    return data, _loss(written.get("loss"), fitting, f"{place}.loss", found)


def _inherit(task: Task, draft: Experiment) -> Task:
    """Give a head what it does not set itself: the experiment's, with its own learning rate."""
    optimizer = draft.optimizer.model_copy(update={"lr": HEAD_LR, **_own(task.optimizer)})
    shared = {key: getattr(draft.regularization, key) for key in HeadRegularization.model_fields}
    if not issubclass(tasks.get(task.family), Comparable):
        shared["r_drop"] = 0.0
    if not tasks.get(task.family).smooths:
        shared["label_smoothing"] = 0.0
    regularization = HeadRegularization(**shared | _own(task.regularization))
    return task.model_copy(update={"optimizer": optimizer, "regularization": regularization})


def _own(section: Section) -> dict[str, Any]:
    """Give what a section sets itself."""
    return {key: getattr(section, key) for key in section.model_fields_set}


def _loss(
    written: Any, losses: Mapping[str, type[BaseModel]], place: str, found: list[Problem]
) -> dict[str, Any] | None:
    """Check a loss, a name or a mapping with ``name``; the default is the first that fits."""
    options = {"name": written} if isinstance(written, str) else written
    if options is None:
        options = {"name": next(iter(losses))}
    if not isinstance(options, Mapping):
        text = f"is {shown(written)}; expected the name of a loss, or a mapping with name"
        found.append(Problem(place, text))
        return None
    name = options.get("name", next(iter(losses)))
    if name not in losses:
        hint = nearest(str(name), losses)
        fitting = ", ".join(losses)
        text = f"is {shown(name)}; expected a loss that fits the family: {fitting}; {hint}"
        found.append(Problem(f"{place}.name" if isinstance(written, Mapping) else place, text))
        return None
    rest = {key: value for key, value in options.items() if key != "name"}
    checked, wrong = shape(losses[name], rest, place)
    found += wrong
    return {"name": name, **checked.model_dump(mode="json")} if checked is not None else None
