"""Studies through Ray Tune: failures and early ends leave what a reader may believe."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from driven import lay_out, started, told

from orchestrator.studies.agenda import Listed, Wanted
from orchestrator.studies.study import Study
from orchestrator.studies.trials import Trials

pytestmark = [pytest.mark.ray, pytest.mark.timeout(420)]

PROGRAM = """
import json
from pathlib import Path
from orchestrator.studies import driver
from orchestrator.access import secure_ray

secure_ray()
import ray
from orchestrator import cluster

cluster.connect()
cluster.connect = ray.shutdown = lambda: None  # all studies here have one Ray

from orchestrator.studies.agenda import Listed

plain = Listed.next
def watched(self):
    laid_out = set(self.study.folder.glob("trials/*"))
    folder = plain(self)
    said["ready"].append(folder in laid_out)
    return folder
Listed.next = watched

path = Path("own.yaml")
said = {"ablate": [], "tune": [], "pbt": [], "refused": [], "ready": []}
def how(name, parallel):
    return driver.How(parallel, tell=said[name].append)
driver.ablate(path, [], "leave-one-out", 2, "steps", Path("studies"), how("ablate", 2))
asha = {"search": "random", "scheduler": "asha", "objective": None, "earlier": []}
asha |= {"space": "space.py", "count": 6, "studies": Path("studies")}
changes = ["name=early", "tasks.sentiment=null", "batch={tokens: 600, micro_tokens: 600}"]
changes += ["train.steps=40", "train.evaluate_every=20"]
driver.tune(path, changes, **asha, how=how("tune", 1))
Path("strengths.py").write_text(
    'def space(own): return {"tasks.topic.optimizer.lr": ("loguniform", 1e-4, 1e-2)}'
)
pbt = {**asha, "scheduler": "pbt", "space": "strengths.py", "count": 4}
changes = ["name=pop", *changes[1:]]
driver.tune(path, changes, **pbt, how=how("pbt", 2))
try:
    again = ("leave-one-out", 1, "steps", Path("studies"), how("refused", 64))
    driver.ablate(path, ["name=large", "train.seed=9"], *again)
except ValueError as error:
    said["refused"].append(str(error))
Path("said.json").write_text(json.dumps(said))
"""


@dataclass(frozen=True)
class Ran:
    """What the program left."""

    home: Path
    said: dict[str, list[Any]]

    def study(self, name: str) -> Study:
        return Study(self.home / "studies" / name)


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory, make_experiment: Any) -> Ran:
    """Three studies, one after another in one process."""
    home = tmp_path_factory.mktemp("studies")
    lay_out(home, make_experiment)
    process = started(home, "-c", PROGRAM)
    assert process.wait(400) == 0, told(home)
    return Ran(home, json.loads((home / "said.json").read_text()))


def test_all_trials_of_an_ablation_finish_in_a_folder_each(ran: Ran) -> None:
    own = ran.study("tiny-ablate-leave-one-out")
    results = own.results()
    assert {result.status for result in results.values()} == {"finished"}
    assert {asked.seed for asked in own.asked} == {0, 1}
    assert {asked.hash for asked in own.asked} == results.keys()
    folders = {folder.name for folder in (own.folder / "trials").iterdir()}
    assert folders == results.keys()
    arms = {asked.arm for asked in own.asked}
    assert {"topic + sentiment", "without sentiment", "topic + sentiment shuffled"} <= arms
    for folder in (own.folder / "trials").iterdir():
        assert {file.name for file in folder.iterdir()} == {
            "experiment.yaml",
            "prepared",
            "results.json",
            "items-validation.parquet",
            "items-test.parquet",
        }
        assert sum(file.stat().st_size for file in folder.iterdir()) < 1_000_000
    assert all(result.steps == 30 and result.seconds > 0 for result in results.values())


def test_trials_are_laid_out_while_others_run(ran: Ran) -> None:
    first, *rest = ran.said["ready"]
    assert not first
    assert any(rest)


def test_nothing_of_the_machinery_is_left(ran: Ran) -> None:
    for name in ("tiny-ablate-leave-one-out", "early-tune-space"):
        own = ran.study(name)
        assert not (own.folder / ".tune").exists()
        assert not list(own.folder.glob("trials/*/scratch"))
        assert not list(own.folder.glob("trials/.*"))


def test_what_a_study_costs_and_can_show_is_told_first(ran: Ran) -> None:
    own = ran.study("tiny-ablate-leave-one-out")
    folder, counts, cost, reach, *ends = ran.said["ablate"]
    assert folder == f"study: {own.folder}"
    count = len(own.results())
    assert counts == f"{count} trials to run, 0 known already."
    assert cost.startswith("About ")
    assert reach.startswith("2 seeds and ")
    assert "below 6 seeds" in reach
    assert len(ends) == len(own.asked)
    assert ends[-1].startswith(f"{len(own.asked)} of {len(own.asked)}: ")
    assert all(" finished " in line or " known " in line for line in ends)


def test_a_trial_that_fails_keeps_its_reason_and_stops_no_other(ran: Ran) -> None:
    own = ran.study("early-tune-space")
    results = own.results()
    by_arm = {asked.arm: results[asked.hash] for asked in own.asked}
    assert list(by_arm) == ["as written", *(f"00{place}" for place in range(1, 7))]
    broken, impossible = by_arm["001"], by_arm["006"]
    assert (broken.status, impossible.status) == ("failed", "failed")
    assert str(broken.error).startswith("FloatingPointError: ")
    assert "Lower optimizer.lr" in str(broken.error)
    assert "FloatingPointError" in (own.trial(broken.hash) / "error.txt").read_text()
    assert "leads to no task" in str(impossible.error)
    assert by_arm["005"].status in ("finished", "stopped")
    assert sum("failed: " in line for line in ran.said["tune"]) == 2


def test_a_scheduler_ends_what_lags_behind_and_lets_the_others_finish(ran: Ran) -> None:
    own = ran.study("early-tune-space")
    results = own.results()
    finished = [result for result in results.values() if result.status == "finished"]
    stopped = [result for result in results.values() if result.status == "stopped"]
    assert results[own.asked[0].hash] in finished, "the first has nothing to be compared with"
    assert all(result.steps == 40 for result in finished)
    assert all(len(result.curve) == 2 for result in finished)
    assert stopped, ran.said["tune"]
    assert all(result.steps == 20 and len(result.curve) == 1 for result in stopped)
    assert all(result.score == result.curve[0][1] for result in stopped)
    assert all(sum(result.examples_seen.values()) > 0 for result in stopped)
    items = {path.parent.name for path in own.folder.glob("trials/*/items-test.parquet")}
    assert items == {result.hash for result in finished}


def test_what_was_ended_early_is_run_again_when_a_study_goes_on(ran: Ran, tmp_path: Path) -> None:
    shutil.copytree(ran.study("early-tune-space").folder, tmp_path / "own")
    own = Study(tmp_path / "own")
    results, question = own.results(), own.question
    trials = Trials(question["experiment"], [], tmp_path / "cache", prepared=own.prepared)
    wanted = [Wanted(one.arm, one.kind, one.changes, one.seed) for one in own.asked]
    agenda = Listed(own, trials, wanted)
    again = set()
    while True:
        try:
            again.add(agenda.next().name)  # type: ignore[union-attr]
        except StopIteration:
            break
    ended = {result.hash for result in results.values() if result.status != "finished"}
    impossible = {asked.hash for asked in own.asked if asked.arm == "006"}
    assert again == ended - impossible
    assert len(again) > 1


def test_members_of_a_population_hand_their_weights_over(ran: Ran) -> None:
    own = ran.study("pop-tune-strengths")
    results = own.results()
    assert [asked.arm for asked in own.asked] == ["as written", "001", "002", "003", "004"]
    assert {result.status for result in results.values()} == {"finished"}
    parts = {asked.hash: own.result(asked.hash) for asked in own.parts}
    assert len(parts) == 4
    assert all(part is not None and part.curve[-1][0] == 20 for part in parts.values())
    parents = [str(asked.parent) for asked in own.asked[1:]]
    assert set(parents) < parts.keys()
    assert len(set(parents)) == 3, "the worst of four went on from the best"
    for asked in own.asked[1:]:
        result, before = results[asked.hash], parts[str(asked.parent)]
        assert before is not None
        assert result.curve[:1] == before.curve
        assert [step for step, _ in result.curve] == [20, 40]
    assert sum(" so far " in line for line in ran.said["pbt"]) == 4


def test_more_trials_at_a_time_than_there_is_room_for_are_refused(ran: Ran) -> None:
    expected = (
        r"64 trials at a time .*with 1 CPU each do not fit on the Ray cluster, which has room"
    )
    assert re.match(expected, ran.said["refused"][-1])
    assert not (ran.home / "studies" / "large-ablate-leave-one-out").exists(), "its name is free"
