"""A journal loses nothing written, survives killed writers, and takes back void records."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from orchestrator import journal
from orchestrator.journal import Journal, Record, Tail


def record(step: int, key: str = "topic/train/loss", value: object = 1.0) -> Record:
    return Record(run="r", attempt=0, stage=0, step=step, key=key, value=value, time=float(step))


def resume(step: int) -> Record:
    return record(step, "event/resume", {"from_step": step})


def test_what_was_appended_is_read_back_in_order(tmp_path: Path) -> None:
    written = [record(0, "event/start", {"workers": 2}), record(1), record(2, value=0.1 + 0.2)]
    with Journal(tmp_path) as writer:
        writer.append(written[:1])
        writer.append(written[1:])
    assert journal.read(tmp_path) == written


def test_each_line_is_one_json_object_with_the_agreed_fields(tmp_path: Path) -> None:
    with Journal(tmp_path) as writer:
        writer.append([record(3)])
    (line,) = (tmp_path / "journal.jsonl").read_text().splitlines()
    fields = {"run", "attempt", "stage", "step", "time", "key", "value"}
    assert set(json.loads(line)) == fields


def test_a_torn_line_is_skipped_and_later_records_are_kept(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with Journal(tmp_path) as writer:
        writer.append([record(1)])
    with (tmp_path / "journal.jsonl").open("ab") as file:
        file.write(b'{"run": "r", "att')
    assert journal.read(tmp_path) == [record(1)]
    with Journal(tmp_path) as writer:
        writer.append([record(2)])
    assert journal.read(tmp_path) == [record(1), record(2)]
    assert "no record" in caplog.text


def test_a_tail_gives_every_record_once(tmp_path: Path) -> None:
    tail = Tail(tmp_path)
    assert tail.read() == []
    with Journal(tmp_path) as writer:
        writer.append([record(1)])
        assert tail.read() == [record(1)]
        assert tail.read() == []
        writer.append([record(2), record(3)])
    assert Tail(tmp_path, tail.offset).read() == [record(2), record(3)]


def test_a_tail_waits_for_the_end_of_a_line(tmp_path: Path) -> None:
    with Journal(tmp_path) as writer:
        writer.append([record(1)])
    path = tmp_path / "journal.jsonl"
    whole = path.read_bytes()
    path.write_bytes(whole[:-5])
    tail = Tail(tmp_path)
    assert tail.read() == []
    path.write_bytes(whole)
    assert tail.read() == [record(1)]


def test_resuming_takes_back_what_lies_beyond_its_step() -> None:
    records = [record(s) for s in range(1, 8)] + [resume(4), record(5), resume(2), record(3)]
    kept = [r for r in journal.valid(records) if r.event is None]
    assert kept == [record(1), record(2), record(3)]


def test_starting_again_takes_back_all_steps() -> None:
    start = record(0, "event/start", {})
    assert journal.valid([start, record(1), record(2), start, record(1)]) == [
        start,
        start,
        record(1),
    ]


def test_test_scores_are_told_as_metrics() -> None:
    told = record(9, "event/test", {"scores": {"topic": {"f1": 0.5}}, "confusions": {}})
    assert journal.series([told]) == {"topic/test/f1": [(9, 0.5)]}


def test_series_hold_each_step_once_after_a_resume() -> None:
    records = [record(1), record(2), record(3), resume(1), record(2), record(3)]
    assert journal.series(journal.valid(records)) == {
        "topic/train/loss": [(1, 1.0), (2, 1.0), (3, 1.0)]
    }


def test_records_survive_the_kill_of_their_writer(tmp_path: Path) -> None:
    program = (
        "import sys, time; from pathlib import Path\n"
        "from orchestrator.journal import Journal, Record\n"
        "writer = Journal(Path(sys.argv[1]))\n"
        "for step in range(50):\n"
        "    writer.append([Record('r', 0, 0, step, 'a/train/loss', 1.0)])\n"
        "print('written', flush=True); time.sleep(60)\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path)], stdout=subprocess.PIPE, cwd=Path.cwd()
    )
    assert process.stdout is not None
    with process.stdout:
        process.stdout.readline()
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    assert [r.step for r in journal.read(tmp_path)] == list(range(50))


def make_run(storage: Path, name: str, run: str) -> Path:
    folder = storage / name / run
    folder.mkdir(parents=True)
    (folder / "experiment.yaml").write_text(f"name: {name}\n")
    return folder


def test_a_run_is_found_by_path_id_and_name(tmp_path: Path) -> None:
    older = make_run(tmp_path, "demo", "20250101-000000")
    newer = make_run(tmp_path, "demo", "20250102-000000")
    assert journal.find(str(older), tmp_path) == older
    assert journal.find("20250101-000000", tmp_path) == older
    assert journal.find("demo", tmp_path) == newer
    assert journal.runs(tmp_path) == [older, newer]


def test_an_unknown_run_is_named_with_the_nearest_known_one(tmp_path: Path) -> None:
    make_run(tmp_path, "demo", "20250101-000000")
    with pytest.raises(LookupError, match=r"'dmo'.*Did you mean 'demo'"):
        journal.find("dmo", tmp_path)
