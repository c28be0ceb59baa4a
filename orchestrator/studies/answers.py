"""A study's answer in one sentence with its uncertainty, and what a careful reader has to know."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from orchestrator.studies import statistics
from orchestrator.studies.contrasts import LEVEL, Comparison
from orchestrator.studies.effects import Effect
from orchestrator.studies.evidence import Evidence
from orchestrator.studies.searched import Search, Surface


@dataclass(frozen=True)
class Progress:
    """How far a study is, in trials."""

    total: int
    waiting: int
    failed: int


@dataclass(frozen=True)
class Told:
    """What an answer is made from."""

    evidence: Evidence
    declared: Sequence[Comparison]
    exploratory: Sequence[Comparison]
    helpers: Sequence[Effect]
    search: Search | None
    progress: Progress


def answer(told: Told) -> str:
    """Say in one sentence what was found, how sure it is, and whether trials are missing."""
    if not any(own.status == "finished" for own in told.evidence.results.values()):
        return f"Nothing can be told yet: none of {_count(told.progress.total, 'trial')} finished."
    sentence = _claim(told)
    own = told.progress
    ended = own.total - own.waiting
    if own.waiting:
        failed = f", {own.failed} of them failed" if own.failed else ""
        return f"So far ({ended} of {own.total} trials ended{failed}): {sentence}"
    return f"With {own.failed} of {own.total} trials failed: {sentence}" if own.failed else sentence


def number(value: float) -> str:
    """Write a score or a difference of scores as papers do: ``.012``."""
    text = f"{value:.3f}" if abs(value) >= 0.0005 or value == 0 else f"{value:.4f}"
    return text.replace("0.", ".", 1) if abs(value) < 1 else text


def chance(p: float) -> str:
    """Write a p value with its sign: ``p = .008``."""
    if p < 0.001:
        return "p < .001"
    return "p = 1" if p > 0.9995 else f"p = {number(p)}"


def within(low: float | None, high: float | None) -> str:
    """Write an interval."""
    return "" if low is None or high is None else f"[{number(low)}, {number(high)}]"


def subject(evidence: Evidence, own: Comparison) -> tuple[str, str]:
    """Name what differs between two arms, and the other one, for a sentence."""
    mine, others = set(evidence.tasks(own.arm)), set(evidence.tasks(own.other))
    control = any(t.kind == "control" for t in evidence.arms.get(own.arm, []))
    if own.arm not in evidence.arms or control or len(mine ^ others) != 1:
        return f"'{own.arm}'", f"'{own.other}'"
    (task,) = mine ^ others
    return (f"Helper {task}" if task in mine else f"Leaving out {task}"), f"'{own.other}'"


def cautions(told: Told) -> Iterator[str]:
    """Say what limits the findings."""
    yield from _seeds(told)
    yield from _control(told)
    every = [*told.declared, *told.exploratory]
    tried = [own for own in every if own.low is not None]
    if any(not own.items for own in tried):
        yield (
            "Some intervals are drawn from seeds alone, without the noise of the rows: their score"
            " is not the main score of one task, or the trials kept no items that add up to it."
        )
    uneven = {len(own.seeds) for own in every if own.seeds}
    if len(uneven) > 1:
        yield (
            f"Comparisons have between {min(uneven)} and {max(uneven)} seeds: each uses those"
            " that both of its arms have finished."
        )
    if told.search is not None:
        yield (
            "A search's best score is the largest of many on the rows that chose it, so it is"
            f" too high: {_remedy(told)}."
        )
    if told.evidence.final:
        yield from _test(told)


def _remedy(told: Told) -> str:
    if told.evidence.question.get("scheduler") == "pbt":
        return (
            "settings that changed with the steps belong to no experiment that could be run on"
            " fresh seeds; write the last ones into one, and compare that"
        )
    return "'tlmt confirm' runs the winner and the baseline on fresh seeds"


def _claim(told: Told) -> str:
    if told.search is not None:
        return _searched(told, told.search)
    claims = told.declared or told.exploratory
    known = [own for own in claims if own.mean is not None]
    if told.helpers and not told.declared:
        return _effect(told)
    if not known:
        return (
            "Nothing can be compared: no two arms that the question sets side by side share seeds."
        )
    largest = max(known, key=lambda own: (own.significant, abs(own.mean or 0.0)))
    most = max(len(own.seeds) for own in known)
    if largest.significant:
        return f"{_difference(told, largest)}{_others(claims)}."
    if most < statistics.FEWEST:
        return (
            f"Too few seeds: {_count(most, 'paired seed')} cannot tell a difference from seed"
            f" noise, {statistics.FEWEST} are the fewest that can; {_largest(told, largest)}."
        )
    return f"No {_kind(claims)} difference can be told from seed noise; {_largest(told, largest)}."


def _difference(told: Told, own: Comparison) -> str:
    who, other = subject(told.evidence, own)
    verb, than = ("raises", "over") if (own.mean or 0.0) > 0 else ("lowers", "against")
    low, high = own.low, own.high
    if verb == "lowers" and low is not None and high is not None:
        low, high = -high, -low
    return (
        f"{who} {verb} {own.score} by {number(abs(own.mean or 0.0))} {within(low, high)}"
        f" {than} {other} ({_sure(own)})"
    )


def _largest(told: Told, own: Comparison) -> str:
    who, other = subject(told.evidence, own)
    who = who[0].lower() + who[1:]
    ends = f" {within(own.low, own.high)}" if own.low is not None else ""
    return (
        f"the largest is {number(own.mean or 0.0)}{ends} in {own.score}, of {who} against {other}"
        f" ({_sure(own)})"
    )


def _sure(own: Comparison) -> str:
    after = "Holm" if own.declared else "Benjamini-Hochberg, exploratory"
    return f"{_count(len(own.seeds), 'paired seed')}, {chance(own.adjusted)} after {after}"


def _others(claims: Sequence[Comparison]) -> str:
    told = sum(own.significant for own in claims)
    return (
        f"; {told} of {len(claims)} {_kind(claims)} differences are significant" if told > 1 else ""
    )


def _kind(claims: Sequence[Comparison]) -> str:
    return "declared" if claims[0].declared else "exploratory"


def _effect(told: Told) -> str:
    largest = max(told.helpers, key=lambda own: (own.significant, abs(own.value)))
    ends = within(largest.low, largest.high)
    sure = (
        f"{_count(largest.seeds, 'seed')}, {chance(largest.adjusted)} after Benjamini-Hochberg,"
        " exploratory"
    )
    metric = told.evidence.question.get("metric") or "mean"
    if largest.significant:
        verb, way = ("adds", f"to {metric}") if largest.value > 0 else ("takes", f"from {metric}")
        value, ends = abs(largest.value), within(*_upright(largest))
        return f"Helper {largest.helper} {verb} {number(value)} {ends} {way} ({sure})."
    if largest.seeds < statistics.FEWEST:
        return (
            f"Too few seeds: {_count(largest.seeds, 'seed')} cannot tell a helper's effect from"
            f" noise; the largest is {largest.helper}'s, {number(largest.value)} {ends}."
        )
    return (
        f"No helper's effect can be told from seed noise; the largest is {largest.helper}'s,"
        f" {number(largest.value)} {ends} ({sure})."
    )


def _upright(own: Effect) -> tuple[float | None, float | None]:
    if own.value > 0 or own.low is None or own.high is None:
        return own.low, own.high
    return -own.high, -own.low


def _searched(told: Told, search: Search) -> str:
    done = [own for own in search.trials if own.status == "finished" and own.score is not None]
    if not done:
        return "No trial of the search has finished yet, so nothing can be told."
    best = max(done, key=lambda own: own.score or 0.0)
    if search.surface is not None:
        return _mixture(search.surface, best.score or 0.0, len(done))
    scores = sorted(own.score or 0.0 for own in done)
    middle = scores[len(scores) // 2]
    metric = told.evidence.question.get("metric") or "mean"
    return (
        f"The best of {_count(len(done), 'finished trial')}, '{best.arm}', scored"
        f" {number(best.score or 0.0)} in {metric} on validation against {number(middle)} of the"
        " middle one, and as one seed chosen among many it still has to be confirmed."
    )


def _mixture(surface: Surface, best: float, count: int) -> str:
    if surface.recommended is None:
        return (
            f"No mixture is recommended after {_count(count, 'finished trial')}:"
            f" {surface.refusal}; the best scored {number(best)}."
        )
    shares = ", ".join(f"{task} {share:.0%}" for task, share in surface.recommended.items())
    noise = f"noise of a trial {number(surface.noise)}, " if surface.noise else ""
    rest = "no other promises more than noise"
    if surface.gain > surface.noise:
        rest = f"an untried one promises {number(surface.gain)} more"
    return (
        f"The mixture to take is {shares}, of {_count(count, 'finished trial')}; {rest} ({noise}"
        f"rank correlation of the fit with trials left out {number(surface.correlation or 0.0)})."
    )


def _seeds(told: Told) -> Iterator[str]:
    declared = [own for own in told.declared if own.score]
    most = max((len(own.seeds) for own in [*told.declared, *told.exploratory]), default=0)
    if 0 < most < statistics.FEWEST:
        yield (
            f"With {_count(most, 'seed')} nothing is called significant: at least"
            f" {statistics.FEWEST} are needed for p < {number(LEVEL)}."
        )
    elif declared and statistics.least(most, len(told.declared)) >= LEVEL:
        yield (
            f"{_count(len(told.declared), 'declared comparison')} over {most} seeds cannot become"
            " significant after Holm, however large the difference: fewer, or more seeds, can."
        )


def _control(told: Told) -> Iterator[str]:
    for own in [*told.declared, *told.exploratory]:
        kinds = {asked.kind for asked in told.evidence.arms.get(own.arm, [])}
        if "control" in kinds and own.significant and (own.mean or 0.0) > 0:
            yield (
                f"The control '{own.arm}' too scores higher than '{own.other}', by"
                f" {number(own.mean or 0.0)}: a gain of that size is regularization, not transfer."
            )


def _test(told: Told) -> Iterator[str]:
    task, _, metric = str(told.evidence.question.get("metric") or "mean").partition("/")
    family = told.evidence.families.get(task)
    if family is not None and metric != family.main:
        yield f"On test only main scores are kept, so {task}/{family.main} stands for {metric}."
    if told.search is not None:
        yield "The search's own trials are shown on validation, which chose among them."


def _count(number_: int, noun: str) -> str:
    return f"{number_} {noun}{'' if number_ == 1 else 's'}"
