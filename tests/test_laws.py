"""Laws of mixtures: what each leaves out it foretells without it, by closed forms."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.linear_model import Ridge

from orchestrator.studies.laws import LAWS, Gaussian, LogLinear, Roots, chosen
from orchestrator.studies.laws import folds as _folds


@pytest.mark.parametrize("name", list(LAWS))
def test_what_is_left_out_is_foretold_without_it(name: str) -> None:
    random = np.random.default_rng(1)
    shares = random.dirichlet(np.ones(3), 14)
    scores = np.sqrt(shares) @ [0.3, 0.1, 0.2] + 0.01 * random.normal(size=14)
    law = LAWS[name](shares, scores)
    by_hand = [LAWS[name](*rest).predict(own)[0] for own, rest in _folds(shares, scores)]
    # What is set by cross-validation or likelihood is that of all trials; hence nearly.
    assert law.left_out() == pytest.approx(by_hand, abs=0.04)


def test_the_closed_form_of_ridge_leaves_out_with_the_strength_of_all() -> None:
    random = np.random.default_rng(2)
    shares = random.dirichlet(np.ones(3), 12)
    scores = np.sqrt(shares) @ [0.3, 0.1, 0.2] + 0.05 * random.normal(size=12)
    law = Roots(shares, scores)
    for place, (own, (rest, known)) in enumerate(_folds(shares, scores)):
        again = Ridge(alpha=law._model.alpha_).fit(np.sqrt(rest), known)
        assert law.left_out()[place] == pytest.approx(again.predict(np.sqrt(own))[0], abs=1e-9)


def test_the_closed_form_of_the_process_leaves_out_with_the_kernel_of_all() -> None:
    random = np.random.default_rng(2)
    shares = random.dirichlet(np.ones(3), 12)
    scores = np.sqrt(shares) @ [0.3, 0.1, 0.2] + 0.01 * random.normal(size=12)
    law = Gaussian(shares, scores)
    kernel = law._model.kernel_
    for place, (own, (rest, known)) in enumerate(_folds(shares, scores)):
        covariance = kernel(np.sqrt(rest))
        middle = scores.mean()
        weights = np.linalg.solve(covariance, known - middle)
        expected = middle + kernel(np.sqrt(own), np.sqrt(rest)) @ weights
        assert law.left_out()[place] == pytest.approx(expected[0], abs=1e-6)


def test_roots_tell_their_slopes() -> None:
    shares = np.random.default_rng(3).dirichlet(np.ones(2), 30)
    assert Roots(shares, np.sqrt(shares) @ [0.4, -0.2]).slopes == pytest.approx(
        [0.4, -0.2], abs=1e-3
    )


def test_the_law_that_made_the_scores_is_chosen() -> None:
    random = np.random.default_rng(4)
    shares = random.dirichlet(np.ones(3), 30)
    linear = np.sqrt(shares) @ [0.5, -0.2, 0.1] + 0.002 * random.normal(size=30)
    falling = 1 - np.exp(-1 - shares @ [3.0, 0.1, 1.0]) + 0.0005 * random.normal(size=30)
    assert chosen(shares, linear)[0] == "roots"
    assert chosen(shares, falling)[0] == "log-linear"


def test_the_slopes_of_the_log_linear_law_are_those_of_its_errors() -> None:
    shares = np.random.default_rng(5).dirichlet(np.ones(2), 6)
    values = np.array([0.9, -1.0, 0.4, -0.7])
    own = 1e-7
    found = [
        (LogLinear._at(values + own * unit, shares) - LogLinear._at(values - own * unit, shares))
        / (2 * own)
        for unit in np.eye(4)
    ]
    fall = (values[0] - LogLinear._at(values, shares))[:, None]
    expected = np.concatenate([np.ones_like(fall), -fall, -fall * shares], axis=1)
    assert np.stack(found, 1) == pytest.approx(expected, abs=1e-6)
