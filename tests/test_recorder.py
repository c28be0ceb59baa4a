"""What a worker sends is answered."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from orchestrator import recorder as sending
from orchestrator.loop import News


class Recorder:
    """Answers later: what was sent is heard once ``arrived`` is set."""

    def __init__(self) -> None:
        self.append = self
        self.rows: list[Any] = []
        self.arrived = False
        self.stop = False

    def remote(self, rows: list[Any]) -> Recorder:
        self.rows += rows
        return self


@pytest.fixture
def recorder(monkeypatch: pytest.MonkeyPatch) -> Recorder:
    """A recorder whose answers stand in for Ray's references."""
    made = Recorder()
    wait: Callable[..., Any] = lambda asked, timeout: (asked if made.arrived else [], [])  # noqa: E731
    monkeypatch.setattr(sending.ray, "wait", wait)
    monkeypatch.setattr(sending.ray, "get", lambda one: one.stop)
    return made


@pytest.mark.parametrize("every", [0.0, 1e9])
def test_a_request_to_stop_is_heard_however_long_steps_take(
    recorder: Recorder, monkeypatch: pytest.MonkeyPatch, every: float
) -> None:
    monkeypatch.setattr(sending, "EVERY", every)
    sender = sending.Sender(recorder)
    sender._sent = -1e9 if every else 0.0
    sender.add(News(1, {"loss": 1.0}))
    recorder.stop = True
    sender.add(News(2, {"loss": 1.0}))
    assert not sender.asked_to_stop
    recorder.arrived = True
    sender.add(News(3, {"loss": 1.0}))
    assert sender.asked_to_stop


def test_a_settled_sender_has_sent_all_and_heard_the_answer(recorder: Recorder) -> None:
    sender = sending.Sender(recorder)
    sender.add(News(1, {"loss": 1.0}))
    sender.add(News(2, {"loss": 0.5}, events={"start": {}}))
    recorder.stop = True
    sender.settle()
    assert recorder.rows == [(0, 1, "loss", 1.0), (0, 2, "loss", 0.5), (0, 2, "event/start", {})]
    assert sender.asked_to_stop
