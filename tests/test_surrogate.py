"""The surrogate: known optima are found, and what it cannot foretell it does not advise."""

from __future__ import annotations

from collections.abc import Callable

import mixtures
import numpy as np
import pytest
from mixtures import Array, Trials, World

from orchestrator.studies.surrogate import REPEATS, Surrogate, Tried

ABC = ("a", "b", "c")


def tried(
    scores: Callable[[Array], Array], shares: Array, tasks: tuple[str, ...] = ABC
) -> list[Tried]:
    found = scores(shares)
    return [
        Tried(
            dict(zip(tasks, own.tolist(), strict=True)), dict(zip(tasks, s.tolist(), strict=True))
        )
        for own, s in zip(shares, found, strict=True)
    ]


def test_the_first_design_is_spread_over_the_simplex_and_repeats_its_centre() -> None:
    design = np.array([[own[t] for t in ABC] for own in Surrogate(ABC).design()])
    assert len(design) == REPEATS + 6
    assert design.sum(1) == pytest.approx(1)
    assert design[:REPEATS] == pytest.approx(1 / 3)
    roots = np.sqrt(design[REPEATS - 1 :])
    near = [np.delete(((roots - own) ** 2).sum(1), i).min() ** 0.5 for i, own in enumerate(roots)]
    assert min(near) > 0.25
    assert design.max(0).min() > 0.75, "each task is tried in a large share"


def test_what_is_linear_in_roots_has_its_optimum_where_the_formula_says() -> None:
    """Maximise sum b_i sqrt(w_i) on the simplex: w_i is max(b_i, 0)^2 over their sum."""
    slopes = np.array([0.3, 0.2, -0.1])

    def scores(shares: Array) -> Array:
        return np.repeat((np.sqrt(shares) @ slopes)[:, None], 3, 1)

    search = Surrogate(ABC)
    shares = np.array([[own[t] for t in ABC] for own in search.design()])
    found = search.fit(tried(scores, shares))
    expected = np.maximum(slopes, 0) ** 2 / (np.maximum(slopes, 0) ** 2).sum()
    assert [found.best[t] for t in ABC] == pytest.approx(expected, abs=0.02)
    assert found.correlation > 0.99
    assert found.trusted
    assert set(found.laws.values()) == {"roots"}


def test_caps_bound_the_design_and_the_optimum() -> None:
    slopes = np.array([0.5, 0.2, 0.1])
    search = Surrogate(ABC, caps={"a": 0.4})
    shares = np.array([[own[t] for t in ABC] for own in search.design()])
    assert shares[:, 0].max() <= 0.4 + 1e-9
    best = search.fit(tried(lambda w: np.repeat((np.sqrt(w) @ slopes)[:, None], 3, 1), shares)).best
    rest = 0.6 * slopes[1:] ** 2 / (slopes[1:] ** 2).sum()
    assert [best[t] for t in ABC] == pytest.approx([0.4, *rest], abs=0.02)


@pytest.mark.parametrize("objective", ["target", "worst"])
def test_the_objective_is_the_users(objective: str) -> None:
    functions: dict[str, Callable[[Array], Array]] = {
        "target": lambda scores: scores[..., 0],
        "worst": lambda scores: scores.min(-1),
    }
    search = Surrogate(ABC, functions[objective])
    shares = np.array([[own[t] for t in ABC] for own in search.design()])
    best = search.fit(tried(lambda w: np.sqrt(w) * [1.0, 1.0, 2.0], shares)).best
    if objective == "target":
        assert best["a"] > 0.97
    else:  # all alike: 1, 1 and 1/4 of what is left over
        assert [best[t] for t in ABC] == pytest.approx([4 / 9, 4 / 9, 1 / 9], abs=0.03)


def test_scores_of_nothing_but_noise_recommend_nothing() -> None:
    random = np.random.default_rng(0)
    trusted = 0
    for seed in range(4):
        shares = random.dirichlet(np.ones(3), 24)
        found = Surrogate(ABC, seed=seed).fit(
            tried(lambda w: random.normal(0.8, 0.01, w.shape), shares)
        )
        trusted += found.trusted
    assert trusted == 0


def test_a_search_goes_on_from_what_was_finished_and_ends() -> None:
    """What is suggested follows from the trials alone; it stops when noise is all that is left."""
    trials = Trials(World.drawn(3, 0), 0.002, 0)
    search = Surrogate(trials.names)
    asked = []
    while (wanted := search.suggest(trials.tried)) is not None and len(asked) < 60:
        assert Surrogate(trials.names).suggest(trials.tried) == wanted
        asked.append(wanted)
        trials.run(np.array([wanted[name] for name in trials.names]))
    assert asked[: REPEATS + 6] == search.design()
    assert len(asked) < 40
    assert search.fit(trials.tried).noise == pytest.approx(0.002 / 3**0.5, rel=1.0)


def test_trials_from_before_a_task_was_added_are_of_use() -> None:
    search, before = Surrogate(ABC), Surrogate(ABC[:2])
    old = np.array([[own[t] for t in ABC[:2]] for own in before.design()])
    earlier = tried(lambda w: np.sqrt(w) @ np.array([[0.4, 0.1], [0.1, 0.3]]), old, ABC[:2])
    new = np.array([[own[t] for t in ABC] for own in search.design()])[:8]
    mix = np.array([[0.4, 0.1, 0.0], [0.1, 0.3, 0.0], [0.2, 0.1, 0.3]])
    recent = tried(lambda w: np.sqrt(w) @ mix, new)
    found = search.fit([*earlier, *recent])
    assert found.laws.keys() == set(ABC)
    assert found.correlation > 0.9


@pytest.mark.parametrize("tasks", [3, pytest.param(5, marks=pytest.mark.slow)])
def test_at_low_noise_the_regret_is_at_most_half_of_a_random_searchs(tasks: int) -> None:
    """At four trials a task, means over ten worlds; ten tasks are in the benchmark."""
    regret = {"surrogate": 0.0, "random": 0.0}
    for seed in range(10):
        world = World.drawn(tasks, seed)
        for name, search in (("surrogate", mixtures.surrogate), ("random", mixtures.random)):
            trials = Trials(world, 0.002, seed)
            regret[name] += trials.regret(search(trials, max(12, 4 * tasks), seed)) / 10
    assert regret["surrogate"] <= regret["random"] / 2, regret
