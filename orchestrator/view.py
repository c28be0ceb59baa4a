"""What a person sees of a run: its progress on stderr, then its scores and answers as text."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from rich.console import Console, Group
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from orchestrator.journal import Record

PAUSE = 10.0
"""Seconds between two lines where there is no terminal to draw a bar on."""

LONG = 200
"""Characters of a record that are shown, unless it is a text: data URIs have millions."""


class Watch:
    """Takes a run's records as they come and tells step, losses, tokens per second, time left."""

    def __init__(self, steps: int, mains: Mapping[str, str], bar: Progress) -> None:
        """``mains`` gives each task's main metric, which alone is told of an evaluation."""
        self._mains = {f"{task}/validation/{metric}" for task, metric in mains.items()}
        self._bar = bar
        self._task = bar.add_task("", total=steps, start=False)
        self._losses: dict[str, float] = {}
        self._speed = 0.0
        self._begun = False
        self._told = time.monotonic()

    def __call__(self, records: Iterable[Record]) -> None:
        """Show new records."""
        scores: dict[int, dict[str, float]] = {}
        step = None
        for record in records:
            step = record.step
            if record.event is not None:
                self._event(record)
            elif record.key.endswith("/loss") and "/validation/" not in record.key:
                self._losses[record.key.partition("/")[0]] = record.value
            elif record.key in self._mains:
                own = scores.setdefault(record.step, {})
                own[record.key.replace("/validation/", " ")] = record.value
            elif record.key == "speed/tokens_per_second":
                self._speed = record.value
        if step is not None:
            self._bar.start_task(self._task)
            self._bar.update(self._task, completed=step, description=self._state())
            self._plain(step)
        for at, own in scores.items():
            told = "  ".join(f"{name} {value:.3f}" for name, value in own.items())
            self._bar.print(f"step {at}, validation: {told}")

    def _event(self, record: Record) -> None:
        if record.event == "resume" or (record.event == "start" and self._begun):
            self._bar.print(f"going on from step {record.step}")
        self._begun = True
        if record.event == "stage":
            self._bar.print(f"step {record.step}, stage {record.value['name']} begins")

    def _state(self) -> str:
        losses = "  ".join(f"{task} {loss:.3f}" for task, loss in sorted(self._losses.items()))
        return f"loss: {losses}  {self._speed:,.0f} tokens/s" if losses else "starting"

    def _plain(self, step: int) -> None:
        """Say now and then in a log what a terminal shows all the time."""
        if self._bar.console.is_terminal or time.monotonic() - self._told < PAUSE:
            return
        self._told = time.monotonic()
        left = self._bar.tasks[0].time_remaining
        self._bar.print(f"step {step}, {self._state()}" + (f", {left:.0f} s left" if left else ""))


@contextmanager
def watching(steps: int, mains: Mapping[str, str]) -> Iterator[Watch]:
    """Show a run's progress on stderr: a bar on a terminal, a line now and then elsewhere."""
    console = Console(file=sys.stderr, highlight=False, markup=False, soft_wrap=True)
    columns = [
        MofNCompleteColumn(),
        BarColumn(bar_width=20),
        TextColumn("{task.description}", markup=False),
        TimeRemainingColumn(),
    ]
    with Progress(*columns, console=console, disable=not console.is_terminal) as bar:
        yield Watch(steps, mains, bar)


def scores(tasks: Mapping[str, Mapping[str, Any]]) -> Table:
    """Set out ``{task: {split: {metric: x}}}``, a line for each metric."""
    splits = sorted({split for own in tasks.values() for split, found in own.items() if found})
    table = Table("task", "metric", box=None, pad_edge=False)
    for split in reversed(splits):
        table.add_column(split, justify="right")
    for task, own in tasks.items():
        metrics = dict.fromkeys(metric for split in splits for metric in own.get(split) or {})
        for metric in metrics:
            values = [(own.get(split) or {}).get(metric) for split in reversed(splits)]
            table.add_row(task, metric, *("" if v is None else f"{v:.4f}" for v in values))
    return table


def answers(records: Sequence[Mapping[str, Any]], found: Sequence[Mapping[str, Any]]) -> Group:
    """Set out what each record was answered, a line for each task."""
    lines = []
    for record, answer in zip(records, found, strict=True):
        asked = str(record.get("text", json.dumps(record, ensure_ascii=False)))
        lines.append(asked if "text" in record or len(asked) <= LONG else f"{asked[:LONG]}...")
        lines += [f"  {task}: {phrase(given)}" for task, given in answer.items()]
    return Group(*(Text(line) for line in lines))


def phrase(answer: Any) -> str:
    """Put one task's answer into words; what has no shorter form stays JSON."""
    match answer:
        case None:
            return "-"
        case {"label": label, "probabilities": {**probabilities}}:
            return f"{label} ({probabilities[label]:.2f})"
        case {"labels": [*labels], "probabilities": {**probabilities}}:
            return _chances((label, probabilities[label]) for label in labels) or "none"
        case {"topic": topic, "words": [*words], "distribution": [*distribution]}:
            return f"{topic} ({distribution[topic]:.2f}): {' '.join(words)}"
        case {"predicate": {"text": text}, "arguments": arguments}:
            told = [f"{one['label']} {one['text']!r}" for one in arguments]
            return f"{text}({', '.join(told)})"
        case {"text": text, **rest}:
            return _piece(str(text), dict(rest)) or json.dumps(answer, ensure_ascii=False)
        case {"value": float(value), **rest} if not rest:
            return f"{value:.3f}"
        case [*several]:
            return "; ".join(map(phrase, several)) or "none"
        case _:
            return json.dumps(answer, ensure_ascii=False)


def _piece(text: str, about: Mapping[Any, Any]) -> str | None:
    """Put into words what was found of a piece of a text, or give the text if that is all."""
    if "label" in about:
        return f"{about['label']} {text!r}"
    if "tokens" in about:
        return f"{text} {_chances((one['token'], one['score']) for one in about['tokens'])}"
    return None if about else text


def _chances(named: Iterable[tuple[Any, Any]]) -> str:
    return ", ".join(f"{name} ({chance:.2f})" for name, chance in named)
