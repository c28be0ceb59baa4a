"""What a study says: worked by hand on small cases, and nothing that its trials do not carry."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import studied
from studied import EIGHT, without

from orchestrator.prepare import Prepared
from orchestrator.studies import sealed
from orchestrator.studies.findings import find
from orchestrator.studies.study import Asked, Study

WITHOUT = {"all": ("baseline", {}), "without topic": ("arm", without("topic"))}
PAIR = [["without topic", "all"]]


def dropped(
    folder: Path, data: Prepared, levels: dict[str, float], seeds: Any = EIGHT, **question: Any
) -> Study:
    """Make arms with and without topic; seed s adds 0.005 s to sentiment, topic is at 0.5."""

    def score(own: Asked, task: str) -> float:
        return levels[own.arm] + 0.005 * own.seed if task == "sentiment" else 0.5

    arms = {name: WITHOUT.get(name, ("control", {"tasks.topic.weight": 2})) for name in levels}
    return studied.ablation(folder, data, arms, score, seeds, **question)


def test_an_arm_has_the_mean_and_spread_of_its_seeds(tmp_path: Path, tiny_prepared: Any) -> None:
    """0.60, 0.605, 0.61: mean 0.605, sample standard deviation 0.005."""
    found = find(dropped(tmp_path, tiny_prepared, {"all": 0.6}, (0, 1, 2)))
    (arm,) = found.arms
    assert (arm.seeds, arm.kind, arm.score) == ((0, 1, 2), "baseline", "sentiment/accuracy")
    assert (arm.mean, arm.sd) == (pytest.approx(0.605), pytest.approx(0.005))
    assert arm.mains == pytest.approx({"sentiment": 0.605, "topic": 0.5})
    assert arm.seen == {"sentiment": 400, "topic": 400}
    assert (arm.steps, arm.seconds, arm.drift) == (200, 13, pytest.approx(0.04))
    assert arm.items
    assert arm.low is not None
    assert arm.high is not None
    spread = (0.605 * 0.395 / 200 / 3) ** 0.5  # of the rows; that of seeds is far smaller
    assert (arm.high - arm.low) / 3.92 == pytest.approx(spread, rel=0.35)


def test_differences_are_paired_by_seed(tmp_path: Path, tiny_prepared: Any) -> None:
    """Eight equal differences of 0.05: p = 2 / 2^8, doubled by Holm for two declared pairs."""
    levels = {"all": 0.6, "without topic": 0.65}
    pairs = [*PAIR, ["not run", "all"]]
    found = find(dropped(tmp_path, tiny_prepared, levels, comparisons=pairs))
    first, missing = found.declared
    assert first.differences == pytest.approx([0.05] * 8)
    assert (first.p, first.adjusted) == (pytest.approx(2 / 256), pytest.approx(4 / 256))
    assert first.significant
    assert first.order is not None
    assert first.order < 0.2
    assert (missing.seeds, missing.mean, missing.p, missing.significant) == ((), None, 1.0, False)
    assert found.exploratory == ()
    assert found.answer == (
        "Leaving out topic raises sentiment/accuracy by .050"
        f" [{first.low:.3f}, {first.high:.3f}] over 'all'"
        " (8 paired seeds, p = .016 after Holm)."
    ).replace("0.", ".")


def test_what_was_not_declared_is_exploratory(tmp_path: Path, tiny_prepared: Any) -> None:
    levels = {"all": 0.6, "without topic": 0.65, "control": 0.66}
    found = find(dropped(tmp_path, tiny_prepared, levels, comparisons=PAIR))
    assert [own.arm for own in found.declared] == ["without topic"]
    assert [own.arm for own in found.exploratory] == ["control"]
    assert any("regularization, not transfer" in own for own in found.cautions)
    assert "after Holm" in found.answer


def test_only_seeds_that_both_arms_have_are_compared(tmp_path: Path, tiny_prepared: Any) -> None:
    study = studied.make(tmp_path, tiny_prepared, comparisons=PAIR)
    for arm, seeds in (("all", range(8)), ("without topic", range(1, 8))):
        for seed in seeds:
            own = studied.ask(study, arm, seed, WITHOUT[arm][1])
            studied.finish(study, own, {"sentiment": 0.5 + 0.1 * (arm != "all"), "topic": 0.5})
    own = studied.ask(study, "without topic", 0, without("topic"))
    studied.fail(study, own, "ValueError: no <rows>")
    found = find(study)
    assert found.declared[0].seeds == (1, 2, 3, 4, 5, 6, 7)
    assert found.declared[0].mean == pytest.approx(0.1)
    assert [(own.arm, own.seed, own.reason) for own in found.failures] == [
        ("without topic", 0, "ValueError: no <rows>")
    ]
    assert found.answer.startswith("With 1 of 16 trials failed: Leaving out topic raises")


@pytest.mark.parametrize("seeds", [2, 5])
def test_few_seeds_show_nothing(tmp_path: Path, tiny_prepared: Any, seeds: int) -> None:
    levels = {"all": 0.6, "without topic": 0.8}
    found = find(dropped(tmp_path, tiny_prepared, levels, range(seeds), comparisons=PAIR))
    assert not found.declared[0].significant
    assert found.answer.startswith(f"Too few seeds: {seeds} paired seeds cannot tell")
    assert any("nothing is called significant" in own for own in found.cautions)


def test_no_difference_is_said_to_be_none(tmp_path: Path, tiny_prepared: Any) -> None:
    levels = {"all": 0.6, "without topic": 0.6}
    found = find(dropped(tmp_path, tiny_prepared, levels, comparisons=PAIR))
    assert found.answer.startswith("No declared difference can be told from seed noise; ")
    assert found.declared[0].adjusted == 1.0


def test_too_many_comparisons_are_told(tmp_path: Path, tiny_prepared: Any) -> None:
    """Six seeds reach 2 / 64 = .031; two comparisons need twice of it."""
    levels = {"all": 0.6, "without topic": 0.8}
    pairs = [*PAIR, ["control", "all"]]
    found = find(dropped(tmp_path, tiny_prepared, levels, range(6), comparisons=pairs))
    assert not found.declared[0].significant
    assert any("cannot become significant after Holm" in own for own in found.cautions)


def test_a_loss_on_another_task_is_no_small_one(tmp_path: Path, tiny_prepared: Any) -> None:
    """Topic loses nothing in one arm and 0.02, twice the margin, in the other."""
    changed = {"kept": 0.0, "lost": 0.02}

    def score(own: Asked, task: str) -> float:
        return 0.7 if task == "sentiment" else 0.8 - changed.get(own.arm, 0.0)

    arms = {"all": ("baseline", {}), **{n: ("arm", {"stages": n}) for n in changed}}
    study = studied.ablation(tmp_path, tiny_prepared, arms, score)
    kept, lost = (own.spared[0] for own in find(study).exploratory)
    assert (kept.task, kept.holds, kept.p) == ("topic", True, pytest.approx(1 / 256))
    assert (lost.mean, lost.holds) == (pytest.approx(-0.02), False)


def test_means_are_compared_over_the_tasks_of_both(tmp_path: Path, tiny_prepared: Any) -> None:
    levels = {"all": 0.6, "without topic": 0.65}
    study = dropped(tmp_path, tiny_prepared, levels, metric="mean", target=None, comparisons=PAIR)
    found = find(study)
    assert [own.score for own in found.arms] == ["mean score", "sentiment/accuracy"]
    assert found.declared[0].score == "sentiment/accuracy"
    assert found.declared[0].mean == pytest.approx(0.05)
    assert not found.arms[0].items
    assert find(dropped(tmp_path, tiny_prepared, {"all": 0.6}, metric="mean")).arms[0].low


def test_without_items_seeds_alone_are_drawn(tmp_path: Path, tiny_prepared: Any) -> None:
    study = dropped(tmp_path, tiny_prepared, {"all": 0.6, "without topic": 0.65}, comparisons=PAIR)
    for file in tmp_path.glob("trials/*/items-*.parquet"):
        file.unlink()
    found = find(study)
    assert not found.arms[0].items
    assert found.declared[0].low == pytest.approx(found.declared[0].high)  # all differ alike
    assert any("seeds alone" in own for own in found.cautions)


def test_an_arm_without_the_task_in_question_has_no_score(
    tmp_path: Path, tiny_prepared: Any
) -> None:
    study = studied.ablation(
        tmp_path,
        tiny_prepared,
        {"all": ("baseline", {}), "topic alone": ("baseline", without("sentiment"))},
        lambda own, task: 0.5,
    )
    found = find(study)
    assert (found.arms[1].mean, found.arms[1].mains) == (None, {"topic": 0.5})
    assert found.exploratory == ()


def test_test_items_are_opened_by_the_final_report_alone(
    tmp_path: Path, tiny_prepared: Any
) -> None:
    """On test each trial has two more hits in 200."""
    levels = {"all": 0.6, "without topic": 0.65}
    study = dropped(tmp_path, tiny_prepared, levels, (0, 1), comparisons=PAIR)
    before, final = find(study), find(study, final=True)
    assert (before.openings, len(final.openings)) == ((), 1)
    assert final.openings[0]["by"] == "report --final"
    assert [own.mean for own in final.arms] == pytest.approx(
        [(own.mean or 0.0) + 0.01 for own in before.arms]
    )
    for file in tmp_path.glob("trials/*/items-test.parquet"):
        file.write_bytes(b"sealed")
    assert find(study).arms == before.arms


def test_a_study_without_results_says_so(tmp_path: Path, tiny_prepared: Any) -> None:
    study = studied.make(tmp_path, tiny_prepared, comparisons=PAIR)
    for seed in EIGHT:
        studied.ask(study, "all", seed)
    found = find(study)
    assert found.answer == "Nothing can be told yet: none of 8 trials finished."
    assert (found.spent.asked, found.spent.waiting, found.spent.seconds) == (8, 8, 0)
    assert found.declared[0].adjusted == 1.0


def test_a_shared_trial_counts_once(tmp_path: Path, tiny_prepared: Any) -> None:
    study = studied.make(tmp_path, tiny_prepared)
    for arm in ("all", "equal weights"):
        studied.finish(study, studied.ask(study, arm, 0), {"sentiment": 0.5, "topic": 0.5})
    found = find(study)
    assert (found.spent.asked, found.spent.finished, found.spent.seconds) == (1, 1, 12)
    assert found.spent.by_arm == {"all": {"finished": 12}}
    assert [own.mean for own in found.arms] == [0.5, 0.5]


def test_items_that_do_not_make_the_score_are_not_taken(tmp_path: Path, tiny_prepared: Any) -> None:
    study = dropped(tmp_path, tiny_prepared, {"all": 0.6}, (0, 1))
    for own in study.asked:
        sealed.write(study.trial(own.hash), "validation", {"sentiment": studied.items(0.9)})
    assert not find(study).arms[0].items


def test_seeds_may_score_different_rows(tmp_path: Path, tiny_prepared: Any) -> None:
    """With one row less in seed 1 the interval still knows the rows' noise."""
    study = dropped(tmp_path, tiny_prepared, {"all": 0.6, "without topic": 0.6}, (0, 1))
    whole = find(study).arms[0]
    for own in study.asked:
        if own.seed == 1:
            items = studied.items(0.605)
            keep = items.group > 0
            fewer = sealed.Items(items.item[keep], items.group[keep], items.parts[keep])
            score = float(fewer.parts[:, 0].sum() / fewer.parts[:, 1].sum())
            studied.rescored(study, own, {"sentiment": score, "topic": 0.5})
            sealed.write(study.trial(own.hash), "validation", {"sentiment": fewer})
    found = find(study).arms[0]
    assert found.items
    assert (found.low, found.high) == pytest.approx((whole.low, whole.high), abs=0.02)
