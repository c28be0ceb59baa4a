"""The doctor finds what would spoil a run, and says what to do about it."""

import json
import socket
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from orchestrator import cli, doctor, verb


def test_a_version_below_its_floor_is_a_problem_with_a_cure() -> None:
    found = doctor.version(Requirement("packaging>=999"))
    assert found.level == "problem"
    assert found.advice == "pip install 'packaging>=999'"


def test_a_missing_library_is_a_problem() -> None:
    assert doctor.version(Requirement("no-such-thing>=1")).level == "problem"


def test_versions_cover_what_the_distribution_needs_and_no_extras() -> None:
    names = [finding.what for finding in doctor.versions()]
    assert {"python", "torch", "ray", "mlflow", "deepspeed"} <= set(names)
    assert "pytest" not in names


def test_the_token_must_exist_and_be_private(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(tmp_path / "token"))
    assert doctor.authentication().level == "problem"
    (tmp_path / "token").write_text("secret")
    (tmp_path / "token").chmod(0o644)
    assert "chmod 600" in doctor.authentication().advice
    (tmp_path / "token").chmod(0o600)
    found = doctor.authentication()
    assert found.level == "ok"
    assert "secret" not in found.found


def test_an_open_ray_is_a_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    assert doctor.authentication().level == "problem"


def test_a_mode_left_unset_matters_on_a_cluster_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_AUTH_MODE")
    assert doctor.authentication().level == "ok"
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:6379")
    assert doctor.authentication().level == "note"


def test_a_data_folder_that_is_not_there_is_a_problem(tmp_path: Path) -> None:
    assert doctor.data(str(tmp_path / "nowhere")).level == "problem"
    (tmp_path / "sst2").mkdir()
    assert doctor.data(str(tmp_path)).found.endswith("1 folder")


def test_a_busy_port_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        monkeypatch.setattr(doctor, "PORTS", {"MLflow": server.getsockname()[1]})
        (found,) = doctor.ports()
    assert found.level == "note"


def test_a_cluster_that_is_away_is_told_at_once() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    (found,) = doctor.placement_groups(f"127.0.0.1:{port}")
    assert found.level == "problem"
    assert "does not answer" in found.found


def test_what_ended_jobs_left_reserved_is_listed(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = {
        "jobs": [
            {"job_id": "01", "status": "SUCCEEDED"},
            {"job_id": "02", "status": "RUNNING"},
        ],
        "placement-groups": [
            {"placement_group_id": "a", "name": "", "creator_job_id": "01"},
            {"placement_group_id": "b", "name": "", "creator_job_id": "02"},
        ],
    }
    monkeypatch.setattr(doctor, "listed", lambda what, *_: answers[what])
    (found,) = doctor.placement_groups("auto")
    assert found.what == "placement group a"
    assert found.level == "problem"


def test_a_library_that_cannot_be_imported_is_a_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "HEAVY", ("json", "no_such_thing"))
    works, broken = doctor.imports()
    assert works.level == "ok"
    assert broken.level == "problem"
    assert "No module named 'no_such_thing'" in broken.found


def test_the_command_gives_one_document(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(doctor, "HEAVY", ("json", "no_such_thing"))
    with pytest.raises(SystemExit) as end:
        cli.doctor(as_json=True)
    document = json.loads(capsys.readouterr().out)
    assert not document["ok"]
    assert end.value.code == verb.FAILURE
    assert {"python", "cores", "minilm"} <= {finding["what"] for finding in document["findings"]}
