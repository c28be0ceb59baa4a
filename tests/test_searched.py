"""A search: its best so far, and a mixture only where trials foretell one another."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import studied

from orchestrator.studies.findings import find


@pytest.mark.parametrize("tasks", [("roles", "speech", "topic"), tuple("abcde")])
def test_a_search_of_mixtures_ends_in_a_recommendation(
    tmp_path: Path, tiny_prepared: Any, tasks: tuple[str, ...]
) -> None:
    found = find(studied.mixtures(tmp_path, studied.prepared(tiny_prepared, *tasks)))
    assert found.search is not None
    best = [own.best for own in found.search.trials]
    assert best == sorted(best, key=lambda value: value or 0.0)
    assert best[-1] == max(own.score or 0.0 for own in found.search.trials)
    assert list(found.search.expected) == sorted(found.search.expected)
    surface = found.search.surface
    assert surface is not None
    assert surface.trusted
    assert surface.recommended is not None
    assert sum(surface.recommended.values()) == pytest.approx(1)
    assert bool(surface.grid) == (len(tasks) == 3)
    assert surface.slices.keys() == set(tasks)
    assert found.answer.startswith(f"The mixture to take is {tasks[0]} ")
    assert any("tlmt confirm" in own for own in found.cautions)


def test_no_mixture_is_recommended_out_of_noise(tmp_path: Path, tiny_prepared: Any) -> None:
    data = studied.prepared(tiny_prepared, "roles", "speech", "topic")
    found = find(studied.mixtures(tmp_path, data, noise=0.2))
    assert found.search is not None
    surface = found.search.surface
    assert surface is not None
    assert (surface.recommended, surface.trusted, surface.grid) == (None, False, ())
    assert found.answer.startswith("No mixture is recommended after 24 finished trials")


def test_a_search_that_has_begun_says_how_far_it_is(tmp_path: Path, tiny_prepared: Any) -> None:
    study = studied.mixtures(tmp_path, tiny_prepared, trials=4, search="random")
    own = studied.ask(study, "stopped", 0, {"mixture.temperature": 2})
    studied.fail(study, own, "", "stopped")
    found = find(study)
    assert found.search is not None
    assert [own.status for own in found.search.trials] == ["finished"] * 4 + ["stopped"]
    assert (len(found.stopped), found.failures, len(found.search.expected)) == (1, (), 4)
    assert "4 of at least 6 trials have finished" in found.answer


def test_other_spaces_name_their_best_trial(tmp_path: Path, tiny_prepared: Any) -> None:
    found = find(studied.mixtures(tmp_path, tiny_prepared, trials=8, what="joint"))
    assert found.search is not None
    assert found.search.surface is None
    assert found.answer.startswith("The best of 8 finished trials, 'trial ")
