"""Studies whose processes are killed end as those that nothing happened to."""

from __future__ import annotations

import random
import signal
import subprocess
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest
from driven import killed, lay_out, started, told

from orchestrator.studies import study
from orchestrator.studies.study import Study

pytestmark = [pytest.mark.slow, pytest.mark.ray, pytest.mark.timeout(1800)]

PROGRAM = """
import sys
from pathlib import Path
from orchestrator.studies import driver

how = driver.How(2)
if sys.argv[1] == "begin":
    driver.ablate(Path("own.yaml"), [], "leave-one-out", 5, "steps", Path("studies"), how)
else:
    driver.resume(Path("studies/tiny-ablate-leave-one-out"), how)
"""


def table(own: Study) -> list[tuple[Any, ...]]:
    """Give all that trials came to, but for how long they took."""
    results = own.results()
    ended = {digest: replace(found, seconds=0.0) for digest, found in results.items()}
    return sorted((one.arm, one.seed, one.hash, str(ended[one.hash])) for one in own.asked)


def finished(folder: Path) -> dict[str, int]:
    """Give when each finished trial of a study was written, in nanoseconds."""
    found = {}
    for path in folder.glob(f"trials/*/{study.RESULTS}"):
        result = study.result(path.parent)
        if result is not None and result.status == "finished":
            found[path.parent.name] = path.stat().st_mtime_ns
    return found


def trains(own: psutil.Process) -> bool:
    """Say whether a process is at a trial's steps, not between two; Tune wraps the class."""
    try:
        return "Trainable.train" in " ".join(own.cmdline())
    except psutil.Error:  # it ended meanwhile
        return False


def amid_a_trial(process: subprocess.Popen[bytes], folder: Path) -> psutil.Process:
    """Stop a process that is at a trial's steps, a while before or after any trial's end."""
    while True:
        known = finished(folder)
        family = psutil.Process(process.pid).children(recursive=True)
        first = {own for own in family if trains(own)}
        time.sleep(0.3)
        assert process.poll() is None, told(folder.parent.parent)
        for own in filter(trains, first):
            own.suspend()
            if finished(folder) == known:
                return own
            own.resume()


def test_a_study_killed_five_times_repeats_no_trial_and_loses_none(
    tmp_path: Path, make_experiment: Any
) -> None:
    dice = random.Random(time.time_ns())  # any moment must do
    homes = {name: tmp_path / name for name in ("untouched", "killed")}
    for home in homes.values():
        home.mkdir()
        lay_out(home, make_experiment)
    whole = started(homes["untouched"], "-c", PROGRAM, "begin")
    assert whole.wait(900) == 0, told(homes["untouched"])
    expected = Study(homes["untouched"] / "studies" / "tiny-ablate-leave-one-out")
    assert len(expected.results()) >= 20

    home = homes["killed"]
    folder = home / "studies" / "tiny-ablate-leave-one-out"
    known: dict[str, int] = {}
    for attempt, goal in enumerate((2, 5, 9, 12, 16)):
        process = started(home, "-c", PROGRAM, "begin" if attempt == 0 else "resume")
        while len(finished(folder)) < goal:
            assert process.poll() is None, told(home)
            time.sleep(0.05)
        time.sleep(dice.uniform(0, 1))
        killed(process, all_of_it=attempt % 2 == 0)
        now = finished(folder)
        assert {digest: now[digest] for digest in known} == known
        known = now
    last = started(home, "-c", PROGRAM, "resume")
    assert last.wait(900) == 0, told(home)
    now = finished(folder)
    assert {digest: now[digest] for digest in known} == known
    assert table(Study(folder)) == table(expected)
    assert len(Study(folder).asked) == len(expected.asked)


def test_a_trial_whose_process_is_lost_has_failed_and_the_rest_goes_on(
    tmp_path: Path, make_experiment: Any
) -> None:
    lay_out(tmp_path, make_experiment)
    folder = tmp_path / "studies" / "tiny-ablate-leave-one-out"
    process = started(tmp_path, "-c", PROGRAM, "begin")
    while len(finished(folder)) < 2:
        assert process.poll() is None, told(tmp_path)
        time.sleep(0.05)
    amid_a_trial(process, folder).kill()
    assert process.wait(400) == 0, told(tmp_path)
    results = Study(folder).results()
    failed = [result for result in results.values() if result.status == "failed"]
    assert ["its process was lost" in str(own.error) for own in failed] == [True]
    assert len(finished(folder)) == len(results) - 1
    again = started(tmp_path, "-c", PROGRAM, "resume")
    assert again.wait(400) == 0, told(tmp_path)
    assert len(finished(folder)) == len(results)


def test_a_study_that_is_interrupted_says_how_to_go_on(
    tmp_path: Path, make_experiment: Any
) -> None:
    lay_out(tmp_path, make_experiment)
    folder = tmp_path / "studies" / "tiny-ablate-leave-one-out"
    words = ("-m", "orchestrator", "ablate")
    process = started(tmp_path, *words, "own.yaml", "--seeds", "6", "--parallel", "1")
    while len(finished(folder)) < 2:
        assert process.poll() is None, told(tmp_path)
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    assert process.wait(400) == 130, told(tmp_path)
    assert f"Go on with: tlmt ablate --resume {folder}" in told(tmp_path)
    known = finished(folder)
    assert 2 <= len(known) < 24
    again = started(tmp_path, *words, "--resume", str(folder))
    assert again.wait(900) == 0, told(tmp_path)
    now = finished(folder)
    assert {digest: now[digest] for digest in known} == known
    assert len(now) == len(Study(folder).results()) == 24
