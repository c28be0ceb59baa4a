"""Each distinct trial is run once, whoever asks for it and whatever was killed in between."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from errands import Toy, wishes

from orchestrator.prepare import Prepared
from orchestrator.studies import proposals, study
from orchestrator.studies.agenda import Agenda, Wanted
from orchestrator.studies.trials import Trials

SPACE = {
    "regularization.dropout": ("uniform", 0.0, 0.5),
    "optimizer.lr": ("loguniform", 1e-5, 1e-2),
}


@pytest.fixture
def make(make_experiment: Any, tiny_prepared: Prepared, tmp_path: Path) -> Callable[..., Toy]:
    def made(name: str = "own", **more: Any) -> Toy:
        trials = Trials(make_experiment(), [], tmp_path / "cache", prepared=tiny_prepared)
        return Toy(tmp_path / name, trials, **more)

    return made


def test_each_distinct_trial_is_run_once_and_told_for_every_arm(make: Callable[..., Toy]) -> None:
    toy = make()
    toy.run(toy.listed(wishes()))
    assert len(toy.ran) == len(set(toy.ran)) == 6, "two arms are the same"
    asked = toy.study.asked
    assert [(own.arm, own.seed) for own in asked] == [(own.arm, own.seed) for own in wishes()]
    by_arm = {(own.arm, own.seed): own.hash for own in asked}
    assert by_arm["all", 0] == by_arm["as it is", 0] != by_arm["all", 1]
    assert [one[:2] for one in toy.told] == [(own.arm, own.seed) for own in wishes()]
    assert sorted(path.name for path in (toy.study.folder / "trials").iterdir()) == sorted(toy.ran)


def test_a_trial_that_is_made_ready_ahead_is_the_next_one_and_is_given_once(
    make: Callable[..., Toy],
) -> None:
    plain, toy = make("plain"), make()
    plain.run(plain.listed(wishes()))
    agenda, given = toy.listed(wishes()), []
    for count in range(1, 1 + len(plain.ran)):
        agenda.ahead()
        agenda.ahead()
        assert len(list((toy.study.folder / "trials").iterdir())) == count
        given.append(agenda.next())
        agenda.ended(toy.end(given[-1]))
    assert [folder.name for folder in given] == plain.ran
    agenda.ahead()
    with pytest.raises(StopIteration):
        agenda.next()
    assert toy.told == plain.told


def test_arms_of_one_trial_that_runs_are_told_together_at_its_end(
    make: Callable[..., Toy],
) -> None:
    toy = make()
    agenda = toy.listed([Wanted(name, "arm", {}, 0) for name in ("one", "other")])
    folder = agenda.next()
    with pytest.raises(StopIteration):
        agenda.next()
    assert toy.told == []
    agenda.ended(toy.end(folder))
    assert toy.told == [("one", 0, "finished", False), ("other", 0, "finished", False)]
    assert agenda.running == {}


def test_a_trial_of_an_earlier_study_is_taken_over(make: Callable[..., Toy]) -> None:
    before, toy = make("before"), make()
    before.run(before.listed(wishes()[:2]))
    kept = before.study.folder / "trials" / before.ran[0] / "results.json"
    earlier = [before.study.folder.parent / "empty", before.study.folder]
    toy.run(toy.listed(wishes(1), earlier=earlier))
    assert len(toy.ran) == 1
    assert set(before.ran).isdisjoint(toy.ran)
    reused = {(arm, seed) for arm, seed, _, known in toy.told if known}
    assert reused == {("all", 0), ("topic alone", 0), ("as it is", 0)}
    assert toy.study.results().keys() == {*toy.ran, *before.ran}
    shutil.rmtree(before.study.folder)
    assert not kept.exists()
    assert all(own.status == "finished" for own in toy.study.results().values())


@pytest.mark.parametrize("status", ["failed", "stopped"])
def test_only_what_finished_is_taken_over(make: Callable[..., Toy], status: Any) -> None:
    before, toy = make("before"), make()
    before.run(before.listed(wishes(1)[:1]))
    (digest,) = before.ran
    found = before.study.result(digest)
    assert found is not None
    study.write(before.study.trial(digest), replace(found, status=status))
    toy.run(toy.listed(wishes(1)[:1], earlier=[before.study.folder]))
    assert toy.ran == [digest]


def test_what_failed_is_tried_again_in_the_next_session_and_not_before(
    make: Callable[..., Toy],
) -> None:
    toy = make(broken=lambda own: own.regularization.dropout == 0.4)
    wanted = [*wishes(1), Wanted("much again", "arm", {"regularization.dropout": 0.4}, 0)]
    toy.run(toy.listed(wanted))
    assert len(toy.ran) == len(set(toy.ran)) == 3
    failed = [one[0] for one in toy.told if one[2] == "failed"]
    assert failed == ["much", "much again"]
    toy.broken, toy.ran = (lambda own: False), []
    toy.run(toy.listed(wanted))
    assert len(toy.ran) == 1
    results = toy.study.results()
    assert results[toy.ran[0]].status == "finished"
    assert {own.status for own in results.values()} == {"finished"}


def test_an_arm_that_cannot_be_fails_with_its_reason_and_the_rest_goes_on(
    make: Callable[..., Toy],
) -> None:
    toy = make()
    wanted = [Wanted("no", "arm", {"tasks.weather": None}, seed) for seed in (0, 1)]
    toy.run(toy.listed([*wanted, *wishes(1), *wanted]))
    assert len(toy.ran) == 3
    results = toy.study.results()
    failed = [results[own.hash] for own in toy.study.asked if own.arm == "no"]
    assert [own.status for own in failed] == ["failed", "failed"]
    assert [own.seed for own in failed] == [0, 1]
    assert all("leads to no task" in str(own.error) for own in failed)
    toy.run(toy.listed([*wanted, *wishes(1)]))
    assert len(toy.ran) == 3, "it is as impossible as before"
    assert len(toy.study.asked) == 6


def test_asked_again_nothing_is_asked_twice_or_run(make: Callable[..., Toy]) -> None:
    toy = make()
    toy.run(toy.listed(wishes()))
    ran, asked, table = list(toy.ran), toy.study.asked, toy.table()
    toy.told.clear()
    toy.run(toy.listed(wishes()))
    assert toy.ran == ran
    assert toy.study.asked == asked
    assert toy.table() == table
    assert len(toy.told) == len(wishes())
    assert all(one[3] for one in toy.told)


@pytest.mark.parametrize("halfway", [False, True], ids=["between trials", "in a trial"])
def test_killed_at_any_point_a_list_of_trials_ends_in_the_same_table(
    make: Callable[..., Toy], halfway: bool
) -> None:
    whole = make("whole")
    whole.run(whole.listed(wishes()))
    for point in (0, 1, 4, 6):
        toy = make(f"killed {point}")
        agenda = toy.listed(wishes())
        toy.run(agenda, point)
        if halfway and point < 6:
            folder = agenda.next()
            assert folder is not None
            (folder / "scratch").mkdir()
        toy.run(toy.listed(wishes()))
        assert toy.ran == whole.ran
        assert toy.table() == whole.table()
        assert toy.study.asked == whole.study.asked


SEARCHES: dict[str, Callable[[], proposals.Search]] = {
    "random": lambda: proposals.Random(SPACE, 0),
    "optuna": lambda: proposals.Optuna(SPACE, 0, ("sentiment", "topic"), lambda s: s.mean(-1)),
    "list": lambda: proposals.Random([{"regularization.dropout": d} for d in (0.0, 0.2, 0.4)], 0),
}


@pytest.mark.parametrize("name", ["random", "optuna"])
def test_killed_at_any_point_a_search_proposes_what_it_would_have(
    make: Callable[..., Toy], name: str
) -> None:
    count = 13
    whole = make("whole")
    whole.run(whole.searched(SEARCHES[name](), count))
    assert len(whole.ran) == len(set(whole.ran)) == count + 1
    kinds = [own.kind for own in whole.study.asked]
    assert kinds == ["baseline", *["arm"] * count]
    for point in (0, 1, 12):
        toy = make(f"killed {point}")
        agenda = toy.searched(SEARCHES[name](), count)
        toy.run(agenda, point)
        if point < count:
            agenda.next()
        toy.run(toy.searched(SEARCHES[name](), count))
        assert toy.ran == whole.ran
        assert toy.table() == whole.table()


def test_a_point_that_comes_again_is_the_same_arm_with_another_seed(
    make: Callable[..., Toy],
) -> None:
    toy = make()
    toy.run(toy.searched(SEARCHES["list"](), 7))
    own = [(one.arm, one.seed) for one in toy.study.asked if one.kind == "arm"]
    assert own == [
        ("001", 0),
        ("002", 0),
        ("003", 0),
        ("001", 1),
        ("002", 1),
        ("003", 1),
        ("001", 2),
    ]


def test_a_proposal_that_cannot_be_counts_and_the_search_goes_on(
    make: Callable[..., Toy],
) -> None:
    toy = make()
    space = [{"optimizer.lr": -1.0}, {"regularization.dropout": 0.2}]
    toy.run(toy.searched(proposals.Random(space, 0), 4))
    assert len(toy.study.asked) == 5
    assert len(toy.ran) == 3
    results = toy.study.results()
    errors = [results[own.hash].error for own in toy.study.asked if own.arm == "001"]
    assert len(errors) == 2
    assert all("optimizer.lr" in str(error) for error in errors)


def surrogate(tasks: Sequence[str] = ("sentiment", "topic")) -> proposals.Mixtures:
    space = {"mixture.shares": ("simplex", list(tasks))}
    return proposals.mixtures(space, tasks, lambda scores: scores.mean(-1), {}, 0)


def test_a_search_waits_while_its_design_runs_and_ends_with_nothing_to_gain(
    make: Callable[..., Toy],
) -> None:
    toy = make()
    agenda = toy.searched(surrogate(), 50)
    design = len(surrogate().model.design())
    folders = []
    while (folder := agenda.next()) is not None:
        folders.append(folder)
    assert len(folders) == 1 + design
    for folder in folders:
        assert agenda.next() is None
        agenda.ended(toy.end(folder))
    toy.run(agenda)
    assert len(toy.ran) < 50, "all mixtures score alike"
    arms = [one for one in toy.study.asked if one.kind == "arm"]
    assert len({own.arm for own in arms}) == design - 1
    even = [own for own in arms if own.arm == "001"]
    assert [own.seed for own in even] == [0, 1], "the even mixture tells the noise"


def test_a_search_sees_the_scores_and_shares_of_what_finished(make: Callable[..., Toy]) -> None:
    toy = make(broken=lambda own: own.regularization.dropout == 0.2)
    agenda = toy.searched(SEARCHES["list"](), 3)
    first = agenda.next()
    assert agenda.view() == [], "the baseline is none of the search"
    agenda.ended(toy.end(first))
    toy.run(agenda, 2)
    agenda.next()
    done, failed, running = agenda.view()
    assert done.scores is not None
    assert done.scores.keys() == {"sentiment", "topic"}
    assert len(set(done.scores.values())) == 1
    assert done.shares == {"sentiment": 0.5, "topic": 0.5}
    assert (failed.scores, failed.running) == (None, False)
    assert (running.scores, running.shares, running.running) == (None, {}, True)


def test_trials_on_other_data_find_them(make: Callable[..., Toy]) -> None:
    toy = make()
    other = {"tasks.topic.data.limit": 30}
    toy.run(toy.listed([Wanted("few", "arm", other, s) for s in (0, 1)] + wishes(1)[:1]))
    places = {(toy.study.trial(digest) / "prepared").read_text() for digest in toy.ran}
    assert len(places) == 2
    assert {Prepared.read(Path(own)).tasks["topic"].splits["train"].rows for own in places} == {
        30,
        toy.study.prepared.tasks["topic"].splits["train"].rows,
    }


def test_an_agenda_without_wishes_is_at_its_end(make: Callable[..., Toy]) -> None:
    toy = make()
    with pytest.raises(StopIteration):
        toy.listed([]).next()
    assert isinstance(toy.listed([]), Agenda)
