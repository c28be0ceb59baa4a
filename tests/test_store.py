"""No password of a store is shown."""

from __future__ import annotations

import subprocess
from typing import Any

import pytest

from orchestrator import store


def test_only_addresses_have_secrets() -> None:
    assert store.without_secrets("at http://a:b@host/x failed") == "at http://***@host/x failed"
    assert store.without_secrets("sqlite:////ada@work/m.db") == "sqlite:////ada@work/m.db"


def test_a_fresh_process_is_not_told_the_store_on_its_command_line(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    told: dict[str, Any] = {}

    def start(command: list[str], **kwargs: Any) -> subprocess.CompletedProcess[str]:
        told.update(command=command, **kwargs)
        return subprocess.CompletedProcess(command, 0, "[]", "")

    monkeypatch.setattr(subprocess, "run", start)
    assert store.ask("models:/m-1", "http://ada:pa55word@host") == "[]"
    assert "pa55word" not in " ".join(told["command"])
    assert told["env"]["MLFLOW_TRACKING_URI"] == "http://ada:pa55word@host"
