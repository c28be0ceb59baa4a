"""Named sequences of stages, and those that an experiment lists itself."""

from __future__ import annotations

import importlib
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from orchestrator.problems import Problem, nearest, shape, shown
from orchestrator.sections import Optimizer, Stage

Preset = Callable[[Sequence[str], str | None, int], list[dict[str, Any]]]
"""From the tasks, the target, and the number of the encoder's layers to stages as one writes them.
Raises ``ValueError`` where it cannot serve; the message follows the preset's name."""


LAYERS = re.compile(r"encoder\.layer\.(\d+)(?:-(\d+))?$")
"""What names some layers of the encoder, counted from 0."""


def joint(tasks: Sequence[str], target: str | None, layers: int) -> list[dict[str, Any]]:
    """Train everything on all tasks together, from the first step to the last."""
    return [{"name": "joint"}]


def frozen_heads(tasks: Sequence[str], target: str | None, layers: int) -> list[dict[str, Any]]:
    """Train the encoder under heads that keep their first values, then the heads on what it gives.

    So the encoder cannot leave the work to any one head.
    """
    return [{"name": "encoder", "train": ["encoder"]}, {"name": "heads", "train": ["heads"]}]


def lp_ft(tasks: Sequence[str], target: str | None, layers: int) -> list[dict[str, Any]]:
    """Train heads on a resting encoder, then everything (Kumar et al. 2022, LP-FT).

    Random heads would bend pretrained features before they have learnt anything themselves.
    """
    return [{"name": "heads", "train": ["heads"]}, {"name": "joint"}]


def gradual(tasks: Sequence[str], target: str | None, layers: int) -> list[dict[str, Any]]:
    """Thaw the encoder from the top, a layer a stage, embeddings last (Howard and Ruder 2018)."""
    thawing = [
        {"name": f"layer-{low}", "train": ["heads", f"encoder.layer.{low}-{layers - 1}"]}
        for low in range(layers - 1, -1, -1)
    ]
    return [{"name": "heads", "train": ["heads"]}, *thawing, {"name": "joint"}]


def helpers_first(tasks: Sequence[str], target: str | None, layers: int) -> list[dict[str, Any]]:
    """Train the helpers alone, then all tasks together (Choi et al. 2023)."""
    own = [f"head:{helper}" for helper in _helpers(tasks, target)]
    return [{"name": "helpers", "train": ["encoder", *own]}, {"name": "joint"}]


def tlmt(tasks: Sequence[str], target: str | None, layers: int) -> list[dict[str, Any]]:
    """Train all tasks together, then the target's head on input and its helpers' outputs."""
    _helpers(tasks, target)
    return [{"name": "joint"}, {"name": "target", "train": ["target"]}]


def _helpers(tasks: Sequence[str], target: str | None) -> list[str]:
    if target is None:
        raise ValueError("which needs a target; set target=TASK")
    if len(tasks) < 2:
        raise ValueError("which needs helpers; expected a task beside the target")
    return [task for task in tasks if task != target]


PRESETS: Mapping[str, Preset] = {
    preset.__name__: preset for preset in (joint, frozen_heads, lp_ft, gradual, helpers_first, tlmt)
}


def get(name: str) -> Preset:
    """Find a preset by name, or a function of the user's own by ``package.module:function``.

    Raises ``ValueError`` with the nearest known name.
    """
    if ":" in name:
        module, _, attribute = name.partition(":")
        try:
            own: Preset = getattr(importlib.import_module(module), attribute)
        except (ImportError, AttributeError) as error:
            raise ValueError(f"which cannot be imported: {error}") from error
        if not callable(own):
            raise ValueError("which is no function; expected one that gives a list of stages")
        return own
    if name not in PRESETS:
        raise ValueError(f"which is no preset; {nearest(name, PRESETS)}")
    return PRESETS[name]


def listed(
    stages: str | Sequence[Stage], tasks: Sequence[str], target: str | None, layers: int
) -> list[Stage]:
    """Give the stages of a preset, or those that were listed.

    Raises ``ValueError`` with what is wrong with a preset, to follow its name.
    """
    if not isinstance(stages, str):
        return list(stages)
    preset = get(stages)
    try:
        every = list(preset(tasks, target, layers) or ())
    except ValueError:
        raise
    except Exception as error:  # a function of the user's own may raise anything
        raise ValueError(f"which fails: {type(error).__name__}: {error}") from error
    found = []
    for place, written in enumerate(every):
        stage, wrong = shape(Stage, written, f"stages.{place}")
        if stage is None:
            raise ValueError("which gives " + "; ".join(f"{p.place} {p.text}" for p in wrong))
        found.append(stage)
    if not found:
        raise ValueError("which gives no stage; expected a list of them")
    return found


def steps(stages: Sequence[Stage], total: int) -> list[int]:
    """Share out ``total`` steps: what stages name, and the rest in equal parts, the first ones up.

    Raises ``ValueError`` if that does not come out; the message follows ``train.steps``.
    """
    named = [stage.max_steps if stage.until else stage.steps for stage in stages]
    rest = total - sum(n for n in named if n is not None)
    open_ = named.count(None)
    if (rest != 0 and not open_) or rest < open_:
        least = total - rest + open_
        expected = f"at least {least}" if open_ else f"{least}, the sum of its stages' steps"
        raise ValueError(f"is {total}; expected {expected}")
    parts = iter(rest // open_ + (place < rest % open_) for place in range(open_))
    return [next(parts) if n is None else n for n in named]


def misfits(stages: Sequence[Stage], tasks: Sequence[str], target: str | None) -> Iterator[Problem]:
    """Find what does not fit together in stages that were listed."""
    names = [stage.name for stage in stages]
    for place, stage in enumerate(stages):
        where = f"stages.{place}"
        yield from _apart(stage, where, tasks, target)
        if stage.name in names[:place]:
            yield Problem(f"{where}.name", f"is {stage.name!r}, as an earlier one; give it another")
        for entry in stage.train:
            if wrong := _unknown(entry, tasks, target):
                yield Problem(f"{where}.train", f"holds {shown(entry)}; {wrong}")
        _, wrong_options = shape(Optimizer, stage.optimizer, f"{where}.optimizer")
        yield from wrong_options
        if stage.until and (stage.steps or not stage.max_steps):
            yield Problem(f"{where}.until", "needs max_steps, which stands in place of steps")
        if stage.max_steps and not stage.until:
            yield Problem(f"{where}.max_steps", "is for until: plateau; set steps instead")
    if stages and "target" in stages[0].train:
        yield Problem("stages.0.train", "holds 'target'; its helpers must learn in a stage before")


def _apart(stage: Stage, where: str, tasks: Sequence[str], target: str | None) -> Iterator[Problem]:
    """Find tasks that supply examples to a stage where their heads rest, or the other way round."""
    learning = heads(stage.train, tasks, target)
    if stage.mixture is None or stage.mixture.shares is None or not learning:
        return
    given = stage.mixture.shares.keys() & set(tasks)
    if resting := sorted(given - learning):
        text = f"names {', '.join(resting)}, whose head rests in this stage; leave it out"
        yield Problem(f"{where}.mixture.shares", text)
    named = heads([entry for entry in stage.train if entry != "heads"], tasks, target)
    if without := sorted(named & set(tasks) - given):
        text = f"names no {', '.join(without)}, whose head learns in this stage; give it a share"
        yield Problem(f"{where}.mixture.shares", text)


def heads(train: Sequence[str], tasks: Sequence[str], target: str | None) -> set[str]:
    """Give the tasks whose heads learn."""
    found = {entry.removeprefix("head:") for entry in train if entry.startswith("head:")}
    found |= set(tasks) if "heads" in train else set()
    return found | ({target} if "target" in train and target is not None else set())


def _unknown(entry: str, tasks: Sequence[str], target: str | None) -> str | None:
    """Say what is wrong with an entry of ``train``."""
    if entry == "target":
        return None if target is not None else "which needs a target; set target=TASK"
    if entry.startswith("head:"):
        own = entry.removeprefix("head:")
        return None if own in tasks else nearest(own, tasks, "head:")
    if found := LAYERS.match(entry):
        return None if int(found[2] or found[1]) >= int(found[1]) else "expected the lower first"
    known = ("encoder", "heads", "target", *(f"head:{task}" for task in tasks))
    return None if entry in known else f"{nearest(entry, [*known, 'encoder.layer.8-11'])}"
