"""How a population came about: each member's parts, and whose weights they went on from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from orchestrator.studies.study import Study


@dataclass(frozen=True)
class Piece:
    """One part of one member: from one evaluation to the next."""

    member: str
    part: int
    """From 1."""
    source: str
    """The member whose weights and settings it went on from: as a rule the same."""
    hash: str
    parent: str
    status: str
    began: int
    """Step at which it began."""
    step: int
    """Step at which it ended; where it failed, as far as is known."""
    score: float | None
    """On validation at its end."""
    seconds: float
    changes: Mapping[str, Any]
    """Its settings, where they differ from the experiment's."""


def pieces(study: Study) -> tuple[Piece, ...]:
    """List the parts that have ended, in the order they were asked for."""
    found: dict[str, Piece] = {}
    listed = []
    for own in study.lines():
        result = study.result(own.hash)
        if own.parent is None or result is None:
            continue
        before = found.get(own.parent)
        member = own.arm.partition(",")[0]
        step, score = result.curve[-1] if result.curve else (result.steps, None)
        piece = Piece(
            member=member,
            part=before.part + 1 if before else 1,
            source=before.member if before else member,
            hash=own.hash,
            parent=own.parent,
            status=result.status,
            began=before.step if before else 0,
            step=step,
            score=score,
            seconds=result.seconds,
            changes=own.changes,
        )
        found[own.hash] = piece
        listed.append(piece)
    return tuple(listed)


def schedule(known: Sequence[Piece], last: str) -> list[Piece]:
    """Give the parts that led to one, the first first."""
    by_hash = {piece.hash: piece for piece in known}
    found = []
    while last in by_hash:
        found.append(by_hash[last])
        last = by_hash[last].parent
    return found[::-1]


def seconds(known: Sequence[Piece]) -> dict[str, float]:
    """Give the time of each member, all its parts together, by the hash of its last one."""
    spent: dict[str, float] = {}
    last: dict[str, str] = {}
    for piece in known:
        spent[piece.member] = spent.get(piece.member, 0.0) + piece.seconds
        last[piece.member] = piece.hash
    return {last[member]: total for member, total in spent.items()}
