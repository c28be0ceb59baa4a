"""What is confirmed is the best on validation, or what a search can be trusted to recommend."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import studied
from studied import without

from orchestrator.prepare import Prepared
from orchestrator.studies import confirm, findings, page
from orchestrator.studies.confirm import Confirmed
from orchestrator.studies.proposals import Known, Mixtures
from orchestrator.studies.study import Asked, Study
from orchestrator.studies.surrogate import Surrogate

ARMS = {
    "all": ("baseline", {}),
    "without topic": ("arm", without("topic")),
    "shuffled": ("control", {"tasks.topic.data.shuffled": True}),
}


def ablated(folder: Path, data: Prepared, scores: dict[str, float]) -> Study:
    def score(asked: Asked, task: str) -> float:
        return scores[asked.arm] + 0.01 * (asked.seed % 2)

    return studied.ablation(folder, data, ARMS, score, range(2))


def confirmed(differences: list[float], **changed: Any) -> Confirmed:
    found = {
        "winner": "better",
        "baseline": "all",
        "metric": "roles/f1",
        "seeds": list(range(8, 8 + len(differences))),
        "scores": {"better": [0.5 + own for own in differences], "all": [0.5] * len(differences)},
        "difference": {"mean": 0.1, "low": 0.05, "high": 0.15, "p": 0.0078},
        "runs": {"better": [], "all": []},
        **changed,
    }
    return Confirmed(**found)


def test_the_best_arm_on_validation_is_confirmed_but_never_a_control(
    tmp_path: Path, tiny_prepared: Prepared
) -> None:
    scores = {"all": 0.6, "without topic": 0.7, "shuffled": 0.9}
    own = ablated(tmp_path, tiny_prepared, scores)
    assert confirm.winner(own, None, None, []) == "without topic"
    assert confirm.winner(own, "all", None, []) == "all"
    with pytest.raises(ValueError, match=r"--arm is 'shuffled'; the study has all, without topic"):
        confirm.winner(own, "shuffled", None, [])


def test_an_arm_about_another_task_is_compared_with_what_was_declared(
    tmp_path: Path, tiny_prepared: Prepared
) -> None:
    first, other = tiny_prepared.tasks
    declared = [[f"{other} + {first}", f"{other} alone"], [f"{first} + {other}", f"{first} alone"]]
    own = studied.pairs(tmp_path, tiny_prepared, range(2), comparisons=declared)
    baseline, measure = confirm.against(own, f"{other} + {first}")
    assert (baseline, measure.tasks) == (f"{other} alone", (other,))
    assert confirm.against(own, f"{first} + {other}")[0] == f"{first} alone"
    assert confirm.winner(own, f"{other} + {first}", None, []) == f"{other} + {first}"


def test_an_arm_that_scores_higher_on_another_task_is_no_winner(
    tmp_path: Path, tiny_prepared: Prepared
) -> None:
    first, other = tiny_prepared.tasks
    arms = {
        f"{first} alone": ("baseline", without(other)),
        f"{other} alone": ("baseline", {**without(first), "target": other}),
    }
    question = {"what": "pairs", "baseline": f"{first} alone"}

    def score(asked: Asked, task: str) -> float:
        return 0.5 if task == first else 0.9

    own = studied.ablation(tmp_path, tiny_prepared, arms, score, range(2), **question)
    with pytest.raises(ValueError, match="No arm has a better mean"):
        confirm.winner(own, None, None, [])


def test_each_arm_is_confirmed_on_seeds_that_nothing_was_chosen_by(
    tmp_path: Path, tiny_prepared: Prepared
) -> None:
    own = ablated(tmp_path, tiny_prepared, {"all": 0.6, "without topic": 0.7, "shuffled": 0.1})
    assert confirm.fresh(own, "without topic") == 2
    own.opened("confirm", arm="without topic", seeds=[2, 3, 4])
    assert confirm.fresh(own, "without topic") == 2, "its runs go on"
    assert confirm.fresh(own, "shuffled") == 5


def test_a_baseline_that_is_best_leaves_nothing_to_confirm(
    tmp_path: Path, tiny_prepared: Prepared
) -> None:
    own = ablated(tmp_path, tiny_prepared, {"all": 0.8, "without topic": 0.7, "shuffled": 0.1})
    with pytest.raises(ValueError, match="No arm has a better mean on validation"):
        confirm.winner(own, None, None, [])


def test_what_a_search_liked_by_another_measure_is_not_taken_for_the_best(
    tmp_path: Path, tiny_prepared: Prepared
) -> None:
    own = studied.make(tmp_path, tiny_prepared, kind="tune", objective="worst", baseline="as is")
    for arm, score in (("as is", 0.5), ("001", 0.7)):
        studied.finish(own, studied.ask(own, arm, 0, {"name": arm}), {"sentiment": score})
    with pytest.raises(ValueError, match=r"went by worst.*--arm NAME"):
        confirm.winner(own, None, None, [])
    assert confirm.winner(own, "001", None, []) == "001"


def test_a_surrogate_that_is_not_trusted_recommends_no_winner(
    tmp_path: Path, tiny_prepared: Prepared
) -> None:
    own = ablated(tmp_path, tiny_prepared, {"all": 0.6, "without topic": 0.7, "shuffled": 0.1})
    search = Mixtures(Surrogate(["a", "b"]), {})
    level = [Known({"mixture.shares": {"a": s / 9, "b": 1 - s / 9}}, {}, {"a": 0.5, "b": 0.5}, {})
             for s in range(1, 9)]  # fmt: skip
    with pytest.raises(ValueError, match=r"below \.5: it recommends nothing.*--arm NAME"):
        confirm.winner(own, None, search, level)


@pytest.mark.parametrize(
    ("found", "said"),
    [
        (confirmed([0.1] * 8), "it is better"),
        (confirmed([0.1] * 3), "nothing is called significant below 6 seeds"),
        (
            confirmed([0.0] * 8, difference={"mean": 0, "low": -1, "high": 1, "p": 1.0}),
            "not shown to be better",
        ),
        (
            confirmed([-0.1] * 8, difference={"mean": -0.1, "low": -1, "high": 0, "p": 0.0078}),
            "not shown to be better",
        ),
    ],
)
def test_it_is_called_better_only_where_fresh_seeds_show_it(found: Confirmed, said: str) -> None:
    assert said in found.sentence
    assert "fresh seeds" in found.sentence


def test_the_page_of_a_study_tells_what_fresh_seeds_showed(
    tmp_path: Path, tiny_prepared: Prepared
) -> None:
    own = ablated(tmp_path, tiny_prepared, {"all": 0.6, "without topic": 0.7, "shuffled": 0.1})
    found = confirmed([0.1234] * 8)
    document = {**vars(found), "sentence": found.sentence}
    (tmp_path / confirm.FILE).write_text(json.dumps(document))
    text = page.write(own, findings.find(own)).read_text()
    assert "On fresh seeds" in text
    assert found.sentence.split("[")[0] in text
    assert ".623" in text
