"""Runs through Ray Train: killed, stopped and moved, they end where an untouched one does."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest
import torch
import yaml
from safetensors.torch import load_file

from orchestrator import checkpoint, journal, run
from orchestrator.access import held
from orchestrator.experiment import parse, places
from orchestrator.prepare import prepare

pytestmark = [pytest.mark.ray, pytest.mark.timeout(420)]

STEPS = 100
CHANGES = {
    "name": "killed",
    "train.steps": STEPS,
    "train.evaluate_every": 20,
    "train.patience": 50,
    "train.precision": "fp32",
    "scaling.workers": 2,
    "tasks.topic.weight": 0.5,
    "tasks.topic.optimizer": {"name": "sgd", "lr": 0.05},
    "mixture": {"shares": {"sentiment": 0.98, "topic": 0.02}},
    "tracking.log_model": False,
}


class Driver:
    """``tlmt train`` in a process group of its own, and what can be done to it."""

    def __init__(self, home: Path, *words: str) -> None:
        self.home = home
        self.known = set(home.glob("runs/killed/*"))
        command = [sys.executable, "-P", "-m", "orchestrator", "train", *words]
        environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent.parent)}
        with (home / "log.txt").open("a") as log:
            self.process = subprocess.Popen(
                command, cwd=home, stderr=log, stdout=log, env=environment, process_group=0
            )

    @property
    def folder(self) -> Path:
        """The run's folder, once it is there."""
        return _until(lambda: next(iter(sorted(self.home.glob("runs/killed/*"))), None), self)

    def reaches(self, step: int, attempt: int = 1) -> None:
        """Wait until this attempt's journal has a record of a step."""
        tail = journal.Tail(self.folder)
        _until(
            lambda: any(r.step >= step and r.attempt == attempt for r in tail.read()) or None, self
        )

    def workers(self) -> list[psutil.Process]:
        every = psutil.Process(self.process.pid).children(recursive=True)
        return [p for p in every if "RayTrainWorker" in " ".join(p.cmdline())]

    def listening(self) -> set[str]:
        """Give the addresses on which the driver and all that it started listen."""
        driver = psutil.Process(self.process.pid)
        family = [driver, *driver.children(recursive=True)]
        every = [c for process in family for c in process.net_connections("inet")]
        return {c.laddr.ip for c in every if c.status == psutil.CONN_LISTEN}

    def wait(self) -> int:
        return self.process.wait(240)

    def signal(self, number: int) -> None:
        """Signal the whole group, as a terminal and ``timeout`` do."""
        os.killpg(self.process.pid, number)

    def kill(self) -> None:
        """End the driver and all it started, at once."""
        family = psutil.Process(self.process.pid).children(recursive=True)
        self.process.kill()
        self.process.wait(30)
        psutil.wait_procs(family, timeout=30)


def _until(look: Callable[[], Any], driver: Driver) -> Any:
    until = time.monotonic() + 240
    while (found := look()) is None:
        assert driver.process.poll() is None, (driver.home / "log.txt").read_text()[-3000:]
        assert time.monotonic() < until, "waited in vain"
        time.sleep(0.1)
    return found


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("killed")


@pytest.fixture(scope="module")
def written(home: Path, make_experiment: Callable[..., dict[str, Any]]) -> Path:
    path = home / "killed.yaml"
    path.write_text(yaml.safe_dump(make_experiment(**CHANGES)))
    return path


@pytest.fixture(scope="module")
def untouched(tmp_path_factory: pytest.TempPathFactory, written: Path) -> Path:
    """The folder of a run that nothing happened to."""
    driver = Driver(tmp_path_factory.mktemp("untouched"), str(written))
    assert driver.wait() == 0, (driver.home / "log.txt").read_text()[-3000:]
    return driver.folder


def weights(run: Path, step: int = STEPS) -> dict[str, torch.Tensor]:
    folder = run / "checkpoints" / f"step-{step:06d}"
    encoder = load_file(folder / "encoder" / "model.safetensors")
    return encoder | load_file(folder / checkpoint.HEADS) | load_file(folder / checkpoint.OPTIMIZER)


def told(run: Path) -> dict[str, list[tuple[int, float]]]:
    """All losses and scores, without speeds."""
    every = journal.series(journal.read(run))
    return {key: values for key, values in every.items() if not key.startswith("speed/")}


def results(run: Path) -> dict[str, Any]:
    found = json.loads((run / "results.json").read_text())
    return {key: found[key] for key in ("experiment_hash", "steps", "examples_seen", "tasks")}


@pytest.mark.slow
def test_a_run_whose_worker_and_then_driver_are_killed_ends_with_the_same_bits_and_records(
    home: Path, written: Path, untouched: Path
) -> None:
    driver = Driver(home, str(written))
    driver.reaches(12)
    assert driver.listening() <= {"127.0.0.1", "::1", "::ffff:127.0.0.1"}
    driver.workers()[-1].kill()
    driver.reaches(45)
    driver.kill()
    again = Driver(home, "--resume", str(driver.folder))
    assert again.wait() == 0, (home / "log.txt").read_text()[-3000:]
    expected, found = weights(untouched), weights(driver.folder)
    assert expected.keys() == found.keys()
    assert [name for name in expected if not torch.equal(expected[name], found[name])] == []
    assert told(driver.folder) == told(untouched)
    assert results(driver.folder) == results(untouched)
    resumed = [r for r in journal.read(driver.folder) if r.event == "resume"]
    assert len(resumed) >= 1
    with closing(sqlite3.connect(home / "mlflow.db")) as store:
        runs = store.execute("SELECT run_uuid, status FROM runs").fetchall()
        query = "SELECT step FROM metrics WHERE key = 'sentiment/train/loss' ORDER BY step"
        steps = [step for (step,) in store.execute(query)]
    assert [status for _, status in runs] == ["FINISHED"]  # one, though it was killed twice
    assert steps == list(range(1, STEPS + 1))


def stopped(driver: Driver, number: int, first: int) -> int:
    """Signal a run that has come to a step; give the step of the checkpoint that it leaves."""
    driver.signal(number)
    assert driver.wait() == 130
    assert f"tlmt train --resume {driver.folder}" in (driver.home / "log.txt").read_text()
    left = checkpoint.newest(driver.folder)
    assert left is not None
    reached = checkpoint.progress(left).step
    assert first <= reached < STEPS
    return reached


@pytest.mark.slow
def test_a_signal_saves_and_another_number_of_workers_goes_on(
    tmp_path: Path, written: Path, untouched: Path
) -> None:
    driver = Driver(tmp_path, str(written))
    driver.reaches(12)
    stopped(driver, signal.SIGINT, 12)
    alone = Driver(tmp_path, "--resume", "killed", "scaling.workers=1")
    assert alone.wait() == 0, (tmp_path / "log.txt").read_text()[-3000:]
    # Dropout is drawn per rank, so other ranks give another, equally good run.
    assert results(driver.folder)["examples_seen"] == results(untouched)["examples_seen"]


@pytest.mark.slow
def test_a_run_moves_to_fewer_workers_and_back(
    tmp_path: Path, written: Path, untouched: Path
) -> None:
    driver = Driver(tmp_path, str(written))
    driver.reaches(12)
    first = stopped(driver, signal.SIGTERM, 12)
    alone = Driver(tmp_path, "--resume", str(driver.folder), "scaling.workers=1")
    alone.reaches(first + 1, attempt=2)
    stopped(alone, signal.SIGTERM, first + 1)
    again = Driver(tmp_path, "--resume", "killed", "scaling.workers=2")
    assert again.wait() == 0, (tmp_path / "log.txt").read_text()[-3000:]
    assert results(driver.folder)["examples_seen"] == results(untouched)["examples_seen"]


def test_a_setting_that_changes_the_result_is_refused_on_resume(untouched: Path) -> None:
    driver = Driver(untouched.parents[2], "--resume", str(untouched), "optimizer.lr=0.1")
    assert driver.wait() == 2
    assert "optimizer.lr" in (untouched.parents[2] / "log.txt").read_text()


def test_other_tasks_and_another_encoder_are_refused_on_resume(untouched: Path) -> None:
    with pytest.raises(ValueError, match=r'encoder.model: "tiny" before, "minilm" now'):
        run.resume(untouched, None, ["encoder.model=minilm"])
    fewer = ["tasks.topic=null", "mixture.shares=null"]
    with pytest.raises(ValueError, match=r'tasks: \["sentiment", "topic"\] before'):
        run.resume(untouched, None, fewer)


def test_the_settings_of_a_run_that_is_alive_stay(untouched: Path) -> None:
    before = (untouched / run.EXPERIMENT).read_text()
    with held(untouched, ".driver.lock"), pytest.raises(ValueError, match="in use"):
        run.resume(untouched, None, ["train.retries=7"])
    assert (untouched / run.EXPERIMENT).read_text() == before


def test_the_first_start_of_a_run_is_the_one_that_is_timed(untouched: Path) -> None:
    records = journal.read(untouched)
    later = journal.Record(untouched.name, 2, 0, STEPS, "speed/seconds_to_first_step", 9e9)
    timed = run.results(untouched, [*records, later])["speed"]["seconds_to_first_step"]
    assert 0 < timed < 9e9


def test_folders_of_a_run_are_found_from_anywhere(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    make_experiment: Callable[..., dict[str, Any]],
) -> None:
    rows = "".join(f"a sentence about {n},{'ab'[n % 2]}\n" for n in range(400))
    for name in ("near/reviews", "shared/news", "models/bert"):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "train.csv").write_text(f"text,label\n{rows}")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TLMT_DATA", str(tmp_path / "shared"))
    tree = make_experiment()
    tree["tasks"]["sentiment"]["data"] = {"path": "reviews"}
    tree["tasks"]["topic"]["data"] = {"path": "news"}
    looked_up = places(tmp_path / "near" / "mine.yaml")
    prepared = prepare(parse(tree), looked_up, tmp_path / "cache", processes=1)
    tree["encoder"]["model"] = "models/bert"
    found = run.anchored(parse(tree), prepared)
    assert found.encoder.model == str(tmp_path / "models" / "bert")
    assert found.tasks["sentiment"].data.path == str(tmp_path / "near" / "reviews")
    assert found.tasks["topic"].data.path == "news"


def test_a_run_that_ends_without_a_word_has_failed(tmp_path: Path, untouched: Path) -> None:
    folder = tmp_path / untouched.name
    shutil.copytree(untouched, folder)
    tracker: Any = SimpleNamespace(sync=lambda now: None)
    with pytest.raises(RuntimeError, match="without a word"):
        run._ended(folder, 2, None, tracker)
    last = journal.read(folder)[-1]
    assert (last.attempt, last.event) == (2, "failed")


def test_the_second_signal_ends_at_once() -> None:
    program = (
        "import signal, sys, time\n"
        "from orchestrator import run\n"
        "with run._stopping(lambda: print('asked', flush=True)):\n"
        "    print('ready', flush=True)\n"
        "    time.sleep(60)\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    assert process.stdout is not None
    assert process.stdout.readline() == b"ready\n"
    process.send_signal(signal.SIGINT)
    assert process.stdout.readline() == b"asked\n"
    process.send_signal(signal.SIGINT)
    assert process.wait(20) == 130
    process.stdout.close()


def test_more_workers_than_the_cluster_has_are_refused_at_once(
    tmp_path: Path, written: Path
) -> None:
    driver = Driver(tmp_path, str(written), "scaling.workers=64")
    assert driver.wait() == 2
    assert "scaling.workers" in (tmp_path / "log.txt").read_text()
