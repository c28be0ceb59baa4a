"""What is tried next follows from the seed and the trials before; nothing else is remembered."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pytest

from orchestrator.studies import proposals
from orchestrator.studies.proposals import (
    SHARES,
    WAIT,
    Known,
    Mixtures,
    Optuna,
    Proposal,
    Random,
    Search,
)
from orchestrator.studies.surrogate import REPEATS, Tried

RANGES = {
    "regularization.dropout": ("uniform", 0.0, 0.5),
    "optimizer.lr": ("loguniform", 1e-5, 1e-2),
    "stages": ("choice", ["joint", "lp_ft"]),
    "regularization.ema": ("fixed", 0.9),
}
LIST = [{"stages": name} for name in ("joint", "lp_ft", "gradual", "tlmt")]
SIMPLEX = {SHARES: ("simplex", ["a", "b", "c"])}
ABC = ("a", "b", "c")

Score = Callable[[Mapping[str, Any]], float]


def mean(scores: Any) -> Any:
    return scores.mean(-1)


def optuna(space: Any, seed: int = 0) -> Optuna:
    return Optuna(space, seed, ABC, mean)


def ended(found: Proposal, value: float) -> Known:
    shares = found.changes.get(SHARES, {})
    return Known(found.changes, found.point, dict.fromkeys(ABC, value), shares)


def walked(search: Search, count: int, score: Score = lambda changes: 0.5) -> list[Proposal]:
    """Let a search propose so many trials, each of which ends before the next."""
    known: list[Known] = []
    found = []
    for _ in range(count):
        own = search.propose(known)
        assert isinstance(own, Proposal)
        found.append(own)
        known.append(ended(own, score(own.changes)))
    return found


def test_random_points_are_a_pure_function_of_seed_and_number() -> None:
    found = walked(Random(RANGES, 3), 20)
    assert walked(Random(RANGES, 3), 20, lambda changes: changes["optimizer.lr"]) == found
    other = walked(Random(RANGES, 4), 20)
    assert not any(own == one for own in found for one in other)
    assert len({own.changes["optimizer.lr"] for own in found}) == 20


def test_random_points_fill_the_space() -> None:
    found = [own.changes for own in walked(Random(RANGES, 0), 200)]
    dropouts = np.array([own["regularization.dropout"] for own in found])
    assert np.histogram(dropouts, 5, (0.0, 0.5))[0].min() > 20
    rates = np.log([own["optimizer.lr"] for own in found])
    assert np.histogram(rates, 5, (np.log(1e-5), np.log(1e-2)))[0].min() > 20
    assert {own["stages"] for own in found} == {"joint", "lp_ft"}
    assert {own["regularization.ema"] for own in found} == {0.9}


def test_a_list_is_walked_whole_before_anything_comes_twice() -> None:
    found = [own.changes for own in walked(Random(LIST, 0), 10)]
    assert found == [*LIST, *LIST, *LIST[:2]]


@pytest.mark.parametrize("space", [RANGES, LIST], ids=["ranges", "list"])
def test_optuna_repeats_itself_given_the_same_history(space: Any) -> None:
    def score(changes: Mapping[str, Any]) -> float:
        return float(changes.get("regularization.dropout", changes["stages"] == "lp_ft"))

    found = walked(optuna(space), 15, score)
    assert walked(optuna(space), 15, score) == found
    assert walked(optuna(space, seed=1), 15, score) != found


def test_optuna_learns_where_random_does_not() -> None:
    """The optimum is at 0.1 dropout and a rate of 1e-3."""

    def off(changes: Mapping[str, Any]) -> float:
        rate = np.log10(changes["optimizer.lr"]) + 3
        return float(abs(changes["regularization.dropout"] - 0.1) / 0.5 + abs(rate) / 3)

    late = {"random": 0.0, "optuna": 0.0}
    for seed in range(4):
        for name, search in (("random", Random(RANGES, seed)), ("optuna", optuna(RANGES, seed))):
            found = walked(search, 40, lambda changes: 1 - off(changes))
            late[name] += float(np.mean([off(own.changes) for own in found[25:]]))
    assert late["optuna"] < 0.6 * late["random"], late


def test_optuna_comes_back_to_the_best_of_a_list() -> None:
    found = walked(optuna(LIST), 40, lambda changes: float(changes["stages"] == "gradual"))
    names = [own.changes["stages"] for own in found]
    assert names[20:].count("gradual") > 10


def test_optuna_goes_on_beside_trials_without_scores() -> None:
    known = [Known(own.changes, own.point, None, {}) for own in walked(Random(RANGES, 0), 3)]
    running = Known({"stages": "joint"}, {}, None, {}, running=True)
    assert isinstance(optuna(RANGES).propose([*known, running]), Proposal)


def mixture(seed: int = 0, earlier: Sequence[Tried] = (), **more: Any) -> Mixtures:
    return proposals.mixtures({**SIMPLEX, **more}, ABC, mean, {}, seed, earlier)


def likes_a(changes: Mapping[str, Any]) -> float:
    return 0.5 + 0.2 * changes[SHARES]["a"] ** 0.5 + 0.1 * changes[SHARES]["b"] ** 0.5


def through(search: Mixtures, score: Score, most: int = 60) -> list[Known]:
    """Let a search go on to its own end."""
    known: list[Known] = []
    while len(known) < most:
        found = search.propose(known)
        if found is None:
            return known
        assert isinstance(found, Proposal)
        known.append(ended(found, score(found.changes)))
    raise AssertionError("it has no end")


def test_the_surrogate_tries_its_design_first_and_then_what_promises_most() -> None:
    search = mixture()
    design = search.model.design()
    known = through(search, likes_a)
    assert [own.changes[SHARES] for own in known[: len(design)]] == design
    assert len(known) > len(design)
    best = max(known, key=lambda own: likes_a(own.changes)).changes[SHARES]
    assert [best[task] for task in ABC] == pytest.approx([0.8, 0.2, 0.0], abs=0.05)
    assert search.fit(known).trusted


def test_the_surrogate_says_the_same_of_the_same_trials_and_else_with_another_seed() -> None:
    known = through(mixture(), likes_a)
    places = (0, len(mixture().model.design()), len(known) - 1)
    said = [mixture().propose(known[:place]) for place in places]
    assert [own.changes for own in said if isinstance(own, Proposal)] == [
        known[place].changes for place in places
    ]
    assert mixture(1).model.design() != mixture().model.design()


def test_the_surrogate_waits_for_its_design_and_then_goes_on() -> None:
    search = mixture()
    known: list[Known] = []
    while isinstance(found := search.propose(known), Proposal):
        known.append(Known(found.changes, {}, None, {}, running=True))
    assert found == WAIT
    assert len(known) == len(search.model.design()), "all of it may run at a time"
    done = [ended(Proposal(own.changes), likes_a(own.changes)) for own in known]
    assert search.propose([*done[:-1], known[-1]]) == WAIT
    assert isinstance(search.propose(done), Proposal)


def test_the_surrogate_goes_on_without_trials_that_failed() -> None:
    search = mixture()
    design = [Proposal({SHARES: own}) for own in search.model.design()]
    failed = [Known(own.changes, {}, None, {}) for own in design]
    done = [ended(own, likes_a(own.changes)) for own in design]
    some = [*failed[:2], *done[2:]]
    found = search.propose(some)
    assert isinstance(found, Proposal)
    assert found.changes[SHARES] not in search.model.design(), "what failed is not tried again"
    assert search.propose(failed) is None, "from nothing it says nothing"


def test_the_surrogate_begins_with_what_earlier_studies_know() -> None:
    before = [Tried(own, dict.fromkeys(ABC, 0.5)) for own in mixture().model.design()]
    found = mixture(earlier=before[:-1]).propose([])
    assert isinstance(found, Proposal)
    assert found.changes[SHARES] == before[-1].shares


def test_what_a_space_fixes_is_the_same_in_every_trial() -> None:
    found = mixture(**{"mixture.temperature": ("fixed", None)}).propose([])
    assert isinstance(found, Proposal)
    assert found.changes["mixture.temperature"] is None
    assert found.changes[SHARES] == mixture().model.design()[0]


def test_repeats_of_the_even_mixture_come_first() -> None:
    found = walked(mixture(), REPEATS)
    assert [own.changes[SHARES] for own in found] == [
        dict.fromkeys(ABC, pytest.approx(1 / 3)) for _ in range(REPEATS)
    ]


@pytest.mark.parametrize("space", [RANGES, {**SIMPLEX, **RANGES}, LIST])
def test_the_surrogate_refuses_what_is_no_mixture(space: Any) -> None:
    with pytest.raises(ValueError, match=r"searches mixture\.shares alone.*--search random"):
        proposals.mixtures(space, ABC, mean, {}, 0)


@pytest.mark.parametrize(
    ("name", "target", "expected"),
    [
        ("target", "b", 0.6),
        ("mean", None, 0.4),
        ("worst", "b", 0.2),
        ("a=2,c=2", None, 0.3),
        ("b=1", None, 0.6),
        ("a=0,b=3,c=1", None, 0.55),
        ("a=1e-3,b=0,c=0", None, 0.2),
    ],
)
def test_an_objective_makes_one_number_of_all_scores(
    name: str, target: str | None, expected: float
) -> None:
    own = proposals.objective(name, ABC, target)
    scores = np.array([0.2, 0.6, 0.4])
    assert own(scores) == pytest.approx(expected)
    both = own(np.stack([scores, 1 - scores]))
    assert both == pytest.approx(np.array([expected, own(1 - scores)]))


@pytest.mark.parametrize(
    "name", ["a=2,d=1", "a=-1", "a=two", "a", "best", "", "a=1,,b=1", "a=nan", "a=inf", "a=1;b=2"]
)
def test_an_objective_that_is_none_is_refused_with_what_is_expected(name: str) -> None:
    with pytest.raises(ValueError, match=r"expected target, mean, worst, or weights.* a, b, c"):
        proposals.objective(name, ABC, "a")


def test_an_objective_without_weight_or_target_is_refused() -> None:
    with pytest.raises(ValueError, match="weighs no task"):
        proposals.objective("a=0,b=0", ABC, None)
    with pytest.raises(ValueError, match="the experiment names none"):
        proposals.objective("target", ABC, None)
