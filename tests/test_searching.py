"""The search of a study is the one that its question names; what cannot be is told."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import studied

from orchestrator.experiment import ExperimentError
from orchestrator.prepare import Prepared
from orchestrator.studies import searching
from orchestrator.studies.proposals import SHARES, Mixtures, Optuna, Random
from orchestrator.studies.trials import Trials

ASKED = {"what": "mixture", "search": "random", "objective": "mean"}


@pytest.fixture
def trials(
    make_experiment: Callable[..., dict[str, Any]], tiny_prepared: Prepared, tmp_path: Path
) -> Callable[..., Trials]:
    return lambda **changes: Trials(
        make_experiment(**changes), [], tmp_path, prepared=tiny_prepared
    )


@pytest.mark.parametrize(
    ("search", "kind"), [("random", Random), ("optuna", Optuna), ("surrogate", Mixtures)]
)
def test_each_search_proposes_shares_of_all_tasks(
    trials: Callable[..., Trials], search: str, kind: type
) -> None:
    found = searching.search({**ASKED, "search": search}, trials())
    assert isinstance(found, kind)
    proposed = found.propose([])
    assert not isinstance(proposed, str)
    assert proposed is not None
    shares = proposed.changes[SHARES]
    assert shares.keys() == {"sentiment", "topic"}
    assert sum(shares.values()) == pytest.approx(1)


def test_what_cannot_be_searched_is_told_before_anything_runs(
    trials: Callable[..., Trials], tmp_path: Path
) -> None:
    own = trials()
    with pytest.raises(LookupError, match="did you mean 'mixture'"):
        searching.search({**ASKED, "what": "mixtures"}, own)
    with pytest.raises(ValueError, match="names none"):
        searching.search({**ASKED, "objective": "target"}, own)
    with pytest.raises(ValueError, match=r"searches mixture\.shares alone"):
        searching.search({**ASKED, "what": "regularization", "search": "surrogate"}, own)
    (tmp_path / "space.py").write_text("def space(experiment):\n    return {'train.steps': 3}\n")
    with pytest.raises(ExperimentError, match=r"train\.steps"):
        searching.search({**ASKED, "what": str(tmp_path / "space.py")}, own)


def test_a_limit_of_epochs_caps_the_shares_that_are_proposed(
    trials: Callable[..., Trials],
) -> None:
    own = trials(**{"mixture.max_epochs": 2, "train.steps": 40})
    found = searching.search({**ASKED, "search": "surrogate"}, own)
    assert isinstance(found, Mixtures)
    examples = own.base.train.steps * own.base.batch.tokens / 10  # no text has fewer tokens
    for task, cap in found.model.caps.items():
        rows = own.prepared.tasks[task].splits["train"].rows
        assert cap * examples >= 2 * rows or cap == 1
    assert all(
        one[task] <= found.model.caps[task] + 1e-9 for one in found.model.design() for task in one
    )


def test_trials_of_earlier_studies_are_of_use(
    trials: Callable[..., Trials], tiny_prepared: Prepared, tmp_path: Path
) -> None:
    before = studied.make(tmp_path / "before", tiny_prepared, kind="tune", what="mixture")
    for seed in range(8):
        asked = studied.ask(before, f"{seed:03d}", seed, {SHARES: {"sentiment": 0.5, "topic": 0.5}})
        studied.finish(before, asked, {"sentiment": 0.7, "topic": 0.6})
    studied.fail(before, studied.ask(before, "008", 8), "lost")
    found = searching.search(
        {**ASKED, "search": "surrogate", "earlier": [str(tmp_path / "before")]}, trials()
    )
    assert isinstance(found, Mixtures)
    assert len(found.earlier) == 8
    assert found.earlier[0].scores == {"sentiment": 0.7, "topic": 0.6}
