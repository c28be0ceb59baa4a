"""Designs of many arms: what was put in comes out, and what arms cannot tell is not told."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import studied
from studied import without

from orchestrator.studies.findings import find
from orchestrator.studies.study import Asked


def test_a_matrix_has_the_gain_of_each_target_by_each_helper(
    tmp_path: Path, tiny_prepared: Any
) -> None:
    data = studied.prepared(tiny_prepared, "roles", "speech", "topic")
    declared = [["roles + speech", "roles alone"]]
    found = find(studied.pairs(tmp_path, data, comparisons=declared))
    cells = {(own.target, own.helper): own for own in found.matrix}
    assert len(cells) == 6
    assert cells["roles", "speech"].gain == pytest.approx(0.06, abs=0.02)
    assert cells["roles", "speech"].significant
    assert cells["roles", "speech"].adjusted == found.declared[0].adjusted
    assert cells["roles", "topic"].gain == pytest.approx(-0.05, abs=0.02)
    assert cells["roles", "topic"].adjusted == pytest.approx(5 * 2 / 256)  # Benjamini-Hochberg
    assert cells["speech", "topic"].gain == 0
    assert found.answer.startswith("Helper speech raises roles/accuracy by .06")


def test_helpers_add_up_in_a_linear_model(tmp_path: Path, tiny_prepared: Any) -> None:
    """Without noise the coefficients are what was put in: 0.04 and -0.03."""
    data = studied.prepared(tiny_prepared, "roles", "speech", "topic")
    worth = {"speech": 0.04, "topic": -0.03}

    def score(own: Asked, task: str) -> float:
        gain = sum(v for t, v in worth.items() if f"tasks.{t}" not in own.changes)
        return 0.6 + gain + 0.005 * own.seed

    arms = {
        "alone": ("baseline", without("speech", "topic")),
        "speech": ("arm", without("topic")),
        "topic": ("arm", without("speech")),
        "both": ("arm", {}),
        "shuffled": ("control", {"tasks.speech.data.shuffle": True}),
    }
    question = {"what": "subsets", "baseline": "alone"}
    found = find(studied.ablation(tmp_path, data, arms, score, **question))
    assert {own.helper: own.value for own in found.helpers} == pytest.approx(worth)
    assert all(own.significant and own.p == pytest.approx(2 / 256) for own in found.helpers)
    assert found.helpers[0].low == pytest.approx(0.04)
    assert found.answer.startswith("Helper speech adds .040 [.040, .040] to roles/accuracy")


def test_arms_that_cannot_tell_helpers_apart_tell_nothing(
    tmp_path: Path, tiny_prepared: Any
) -> None:
    data = studied.prepared(tiny_prepared, "roles", "speech", "topic")
    arms = {"alone": ("arm", without("speech", "topic")), "both": ("arm", {})}
    study = studied.ablation(tmp_path, data, arms, lambda own, task: 0.5, what="subsets")
    assert find(study).helpers == ()


def test_curves_rise_by_strength_and_know_the_experiment(
    tmp_path: Path, tiny_prepared: Any
) -> None:
    found = find(studied.strengths(tmp_path, tiny_prepared, (0, 1, 2)))
    dropout, l2 = found.curves
    assert dropout.setting == "regularization.dropout"
    assert [point.value for point in dropout.points] == [0.0, 0.05, 0.1, 0.2, 0.3]
    assert [point.base for point in dropout.points] == [False, False, True, False, False]
    assert max(dropout.points, key=lambda point: point.mean).value == 0.2
    assert all((p.low or 0) < p.mean < (p.high or 0) for p in dropout.points)
    assert len(l2.points) == 4  # where the experiment stands is not known
