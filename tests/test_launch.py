"""What a worker sends is answered, and a run that finds no room is known before it waits."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from orchestrator import launch
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
    monkeypatch.setattr(launch.ray, "wait", wait)
    monkeypatch.setattr(launch.ray, "get", lambda one: one.stop)
    return made


@pytest.mark.parametrize("every", [0.0, 1e9])
def test_a_request_to_stop_is_heard_however_long_steps_take(
    recorder: Recorder, monkeypatch: pytest.MonkeyPatch, every: float
) -> None:
    monkeypatch.setattr(launch, "EVERY", every)
    sender = launch.Sender(recorder)
    sender._sent = -1e9 if every else 0.0
    sender.add(News(1, {"loss": 1.0}))
    recorder.stop = True
    sender.add(News(2, {"loss": 1.0}))
    assert not sender.asked_to_stop
    recorder.arrived = True
    sender.add(News(3, {"loss": 1.0}))
    assert sender.asked_to_stop


def test_a_settled_sender_has_sent_all_and_heard_the_answer(recorder: Recorder) -> None:
    sender = launch.Sender(recorder)
    sender.add(News(1, {"loss": 1.0}))
    sender.add(News(2, {"loss": 0.5}, events={"start": {}}))
    recorder.stop = True
    sender.settle()
    assert recorder.rows == [(1, "loss", 1.0), (2, "loss", 0.5), (2, "event/start", {})]
    assert sender.asked_to_stop


@pytest.mark.parametrize(
    ("node", "each", "room"),
    [
        ({"CPU": 4.0}, {"CPU": 8}, 0),
        ({"CPU": 4.0}, {"CPU": 1}, 4),
        ({"CPU": 16.0, "GPU": 2.0}, {"CPU": 2, "GPU": 1}, 2),
        ({"CPU": 16.0}, {"CPU": 2, "GPU": 1}, 0),
    ],
)
def test_a_worker_needs_one_machine_with_room_for_it(
    node: dict[str, float], each: dict[str, float], room: int
) -> None:
    assert launch.room(node, each) == room
