"""A population: the worst take over from the best, whatever was killed or failed in between."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from errands import Toy

from orchestrator.experiment import load, parse
from orchestrator.prepare import Prepared
from orchestrator.studies import findings, lineages, page, population, study
from orchestrator.studies.agenda import Wanted
from orchestrator.studies.population import Population
from orchestrator.studies.study import Result, Study
from orchestrator.studies.trial import SCRATCH, Part
from orchestrator.studies.trials import Trials

SPACE = {
    "regularization.dropout": ("uniform", 0.0, 0.5),
    "regularization.ema": ("choice", [0.0, 0.5, 0.9]),
    "optimizer.lr": ("loguniform", 1e-5, 1e-2),
}
STEPS, EVERY, MEMBERS = 8, 2, 9
BASELINE = Wanted("as written", "baseline", {}, 0)


class Crowd(Toy):
    """A toy study whose parts add to the score of the one before, as their settings allow."""

    def population(self, count: int = MEMBERS) -> Population:
        own = Study(self.study.folder)
        return Population(own, self.trials, SPACE, count, BASELINE, tell=self.tell)

    def end(self, folder: Path) -> Result:
        part = Part.read(folder)
        if part is None:
            return super().end(folder)
        experiment = load(folder / "experiment.yaml")
        self.ran.append(folder.name)
        curve: list[tuple[int, float]] = []
        if part.parent is not None:
            before = Path(part.parent)
            assert (before / SCRATCH / "weights").is_file(), "its weights are there"
            found = study.result(before)
            assert found is not None
            curve = list(found.curve)
        if self.broken(experiment):
            result = Result(folder.name, "failed", 0, error="ValueError: broken")
        else:
            step, score = curve[-1] if curve else (0, 0.0)
            gain = 1 - abs(np.log10(experiment.optimizer.lr) + 3) / 2
            curve.append((min(step + EVERY, STEPS), float(score + gain)))
            last = curve[-1][0] == STEPS
            scores = {task: {"accuracy": curve[-1][1]} for task in experiment.tasks}
            result = Result(
                folder.name,
                "finished" if last else "stopped",
                0,
                steps=curve[-1][0],
                score=curve[-1][1],
                scores=scores,
                curve=curve,
                seconds=1.0,
            )
            if not last:
                (folder / SCRATCH).mkdir()
                (folder / SCRATCH / "weights").write_text("here")
        study.write(folder, result)
        return result


@pytest.fixture
def make(make_experiment: Any, tiny_prepared: Prepared, tmp_path: Path) -> Callable[..., Crowd]:
    def made(name: str = "own", seed: int = 0, **more: Any) -> Crowd:
        fixed = {"train.steps": STEPS, "train.evaluate_every": EVERY, "train.seed": seed}
        tree = make_experiment(**fixed)
        trials = Trials(tree, [], tmp_path / "cache", prepared=tiny_prepared)
        return Crowd(tmp_path / name, trials, **more)

    return made


def generation(own: Crowd, part: int) -> dict[str, lineages.Piece]:
    found = lineages.pieces(Study(own.study.folder))
    return {piece.member: piece for piece in found if piece.part == part}


def test_the_worst_quarter_goes_on_from_the_best_with_settings_moved(
    make: Callable[..., Crowd],
) -> None:
    crowd = make()
    crowd.run(crowd.population())
    points = {(own.arm.partition(",")[0], own.hash): own.point for own in crowd.study.lines()}
    for part in range(1, STEPS // EVERY):
        before, after = generation(crowd, part), generation(crowd, part + 1)
        assert before.keys() == after.keys()
        ranked = sorted(before, key=lambda name: -(before[name].score or 0.0))
        best, worst = ranked[:2], ranked[-2:]
        for name, piece in after.items():
            source = piece.source
            old = points[source, before[source].hash]
            new = points[name, piece.hash]
            assert piece.parent == before[source].hash
            if name not in worst:
                assert source == name
                assert new == old
                continue
            assert source in best
            assert new["regularization.ema"] == old["regularization.ema"]
            assert any(new[key] != old[key] for key in new)
            assert all(0 <= value <= 1 for value in new.values())


def test_members_are_the_trials_and_parts_are_on_record_beside_them(
    make: Callable[..., Crowd],
) -> None:
    crowd = make()
    crowd.run(crowd.population())
    own = Study(crowd.study.folder)
    names = [f"{place:03d}" for place in range(1, MEMBERS + 1)]
    assert [asked.arm for asked in own.asked] == ["as written", *names]
    assert {result.status for result in own.results().values()} == {"finished"}
    assert len(own.parts) == MEMBERS * (STEPS // EVERY - 1)
    assert len(crowd.ran) == len(set(crowd.ran)) == MEMBERS * STEPS // EVERY + 1
    for asked in own.asked[1:]:
        result = own.result(asked.hash)
        assert result is not None
        assert [step for step, _ in result.curve] == [2, 4, 6, 8]
    assert not list(own.folder.glob(f"trials/*/{SCRATCH}")), "no weights are left"


def test_killed_at_any_point_a_population_ends_as_it_would_have(
    make: Callable[..., Crowd],
) -> None:
    whole, killed = make("whole"), make("killed")
    whole.run(whole.population())
    for most in (1, 4, 0, 9, 7, 11, 1, 30):
        killed.run(killed.population(), most)
        agenda = killed.population()
        try:
            agenda.next()  # laid out, and nothing of it done
        except StopIteration:
            continue
    assert len(killed.ran) == len(set(killed.ran)), "none is run twice"
    assert killed.table() == whole.table()
    assert lineages.pieces(killed.study) == lineages.pieces(whole.study)


def test_a_part_that_fails_is_replaced_and_stays_on_record(make: Callable[..., Crowd]) -> None:
    crowd = make(broken=lambda own: own.optimizer.lr > 3e-3)
    crowd.run(crowd.population())
    own = Study(crowd.study.folder)
    failed = {asked.arm: reason for asked, reason in own.failures()}
    parts = [arm.split(", part ") for arm in failed if ", part " in arm]
    assert parts
    for member, part in parts:
        assert generation(crowd, int(part) + 1)[member].source != member
    assert all("broken" in reason for reason in failed.values())
    shown = {ended.arm for ended in findings.find(own).failures}
    assert shown == failed.keys()


def test_a_population_that_fails_whole_ends(make: Callable[..., Crowd]) -> None:
    crowd = make(broken=lambda own: True)
    crowd.run(crowd.population())
    assert len(crowd.study.failures()) == MEMBERS + 1
    assert not list(crowd.study.folder.glob(f"trials/*/{SCRATCH}"))


def test_a_last_part_that_failed_is_tried_again_from_the_same_weights(
    make: Callable[..., Crowd],
) -> None:
    crowd, whole = make(), make("whole")
    whole.run(whole.population())
    agenda = crowd.population()
    crowd.run(agenda, 1 + MEMBERS * (STEPS // EVERY - 1))
    crowd.broken = lambda own: True
    crowd.run(agenda)
    assert len(crowd.study.failures()) == MEMBERS
    crowd.broken = lambda own: False
    crowd.run(crowd.population())
    assert crowd.study.failures() == []
    assert crowd.table() == whole.table()
    assert not list(crowd.study.folder.glob(f"trials/*/{SCRATCH}"))


def test_the_seed_decides_all(make: Callable[..., Crowd]) -> None:
    first, again, other = make("first"), make("again"), make("other", seed=1)
    for crowd in (first, again, other):
        crowd.run(crowd.population())
    assert first.table() == again.table()
    points = [[own.point for own in crowd.study.parts] for crowd in (first, other)]
    assert points[0] != points[1]


def test_the_page_shows_the_lineage_and_the_schedule_of_the_best(
    make: Callable[..., Crowd],
) -> None:
    crowd = make()
    crowd.run(crowd.population())
    question = {"kind": "tune", "what": "own", "search": "random", "scheduler": "pbt"}
    own = study.create(
        crowd.study.folder, {**crowd.study.question, **question}, crowd.trials.prepared
    )
    found = findings.find(own)
    assert found.search is not None
    text = page.write(own, found).read_text()
    best = max(found.search.trials, key=lambda trial: trial.score or 0.0)
    path = lineages.schedule(found.lineage, best.hash)
    assert [piece.step for piece in path] == [2, 4, 6, 8]
    assert path[0].parent == ""
    assert "The schedule that led to the best" in text
    assert "Dodge" not in text, "members are no independent draws"
    lines = (own.folder / "lineage.csv").read_text().splitlines()
    assert len(lines) == 1 + MEMBERS * STEPS // EVERY
    assert found.spent.seconds == MEMBERS * STEPS // EVERY, "parts count"


@pytest.mark.parametrize(
    ("space", "changes", "asked", "reason"),
    [
        ({"mixture.shares": ("simplex", ["a", "b"])}, {}, {}, "mixture.shares, which a run has"),
        ({"tasks.topic.loss": ("choice", ["focal"])}, {}, {}, "tasks.topic.loss, which a run"),
        ([{"stages": "joint"}], {}, {}, "a list of changes"),
        (SPACE, {"stages": "lp_ft"}, {}, "stages=joint"),
        (SPACE, {"train.patience": 2}, {}, "no train.patience"),
        (SPACE, {"train.evaluate_every": STEPS}, {}, "none before the last of 8 steps"),
        (SPACE, {}, {"count": 3}, "4 members or more"),
        (SPACE, {}, {"search": "optuna"}, "no --search optuna"),
        (SPACE, {}, {"objective": "worst"}, "no --objective worst"),
    ],
)
def test_what_a_population_cannot_search_is_refused(
    make_experiment: Any, space: Any, changes: Any, asked: Any, reason: str
) -> None:
    base = parse(make_experiment(**{"train.steps": STEPS, "train.evaluate_every": 2, **changes}))
    given = {"count": 8, "search": "random", "objective": None, **asked}
    assert reason in str(population.refused(space, base, **given))


def test_weights_of_tasks_and_settings_of_heads_may_move(make_experiment: Any) -> None:
    base = parse(make_experiment(**{"train.steps": STEPS, "train.evaluate_every": EVERY}))
    space = {
        "tasks.topic.weight": ("loguniform", 0.1, 10.0),
        "tasks.topic.optimizer.lr": ("loguniform", 1e-5, 1e-2),
        "mixture.temperature": ("fixed", None),
    }
    assert population.refused(space, base, 8, "random", None) is None
