"""A run's progress, scores and answers read well, and plainly where there is no terminal."""

from typing import Any

import pytest
from rich.console import Console, RenderableType

from orchestrator import view
from orchestrator.journal import Record

MAINS = {"topic": "accuracy"}


def plain(renderable: RenderableType) -> str:
    """Render as into a pipe."""
    console = Console(width=120, force_terminal=False)
    with console.capture() as capture:
        console.print(renderable)
    return capture.get()


def record(step: int, key: str, value: object) -> Record:
    """Make one record of a run."""
    return Record("run", 1, 0, step, key, value)


def test_an_evaluation_is_told_on_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    with view.watching(20, MAINS) as watch:
        watch([record(9, "topic/train/loss", 0.5), record(9, "speed/tokens_per_second", 1234.0)])
        watch(
            [record(10, "topic/validation/accuracy", 0.75), record(10, "topic/validation/mcc", 1.0)]
        )
    out, errors = capsys.readouterr()
    assert out == ""
    assert errors == "step 10, validation: topic accuracy 0.750\n"


def test_a_log_hears_of_the_training_now_and_then(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(view, "PAUSE", 0.0)
    with view.watching(20, MAINS) as watch:
        watch([record(9, "topic/train/loss", 0.5), record(9, "speed/tokens_per_second", 1234.0)])
    assert capsys.readouterr().err.startswith("step 9, loss: topic 0.500  1,234 tokens/s")


def test_going_on_says_from_where(capsys: pytest.CaptureFixture[str]) -> None:
    with view.watching(20, MAINS) as watch:
        watch([record(10, "event/resume", {"from_step": 10})])
    assert "going on from step 10" in capsys.readouterr().err


def test_only_a_second_start_is_worth_a_word(capsys: pytest.CaptureFixture[str]) -> None:
    with view.watching(20, MAINS) as watch:
        watch([record(0, "event/start", {})])
        assert capsys.readouterr().err == ""
        watch([record(5, "topic/train/loss", 0.5), record(0, "event/start", {})])
    assert capsys.readouterr().err == "going on from step 0\n"


def test_scores_have_a_line_for_each_metric() -> None:
    tasks = {
        "topic": {"validation": {"accuracy": 0.5, "mcc": 0.25}, "test": {"accuracy": 0.75}},
        "roles": {"validation": {"f1": 1.0}, "test": None},
    }
    lines = [line.split() for line in plain(view.scores(tasks)).splitlines()]
    assert lines == [
        ["task", "metric", "validation", "test"],
        ["topic", "accuracy", "0.5000", "0.7500"],
        ["topic", "mcc", "0.2500"],
        ["roles", "f1", "1.0000"],
    ]


def test_answers_are_put_into_words() -> None:
    roles = [{"predicate": {"text": "saw"}, "arguments": [{"label": "ARG0", "text": "Ann"}]}]
    found = {
        "topic": {"label": "arts", "probabilities": {"arts": 0.9, "travel": 0.1}},
        "roles": roles,
        "names": [{"start": 0, "end": 3, "text": "Ann", "label": "PER", "score": 0.9}],
        "none": [],
        "pairs": None,
    }
    assert plain(view.answers([{"text": "Ann saw [it]."}], [found])).splitlines() == [
        "Ann saw [it].",
        "  topic: arts (0.90)",
        "  roles: saw(ARG0 'Ann')",
        "  names: PER 'Ann'",
        "  none: none",
        "  pairs: -",
    ]


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ({"labels": ["joy"], "probabilities": {"joy": 0.8, "fear": 0.1}}, "joy (0.80)"),
        ({"labels": [], "probabilities": {"joy": 0.3}}, "none"),
        ({"value": 3.4567}, "3.457"),
        ({"text": "Ein Mann [rennt]."}, "Ein Mann [rennt]."),
        ({"topic": 1, "words": ["oil", "gas"], "distribution": [0.2, 0.8]}, "1 (0.80): oil gas"),
        ([{"start": 0, "end": 3, "text": "Ann", "label": "answer", "score": 0.9}], "answer 'Ann'"),
        (
            [{"text": "[MASK]", "tokens": [{"token": "dog", "score": 0.5}]}],
            "[MASK] dog (0.50)",
        ),
        ({"odd": [1, 2]}, '{"odd": [1, 2]}'),
    ],
)
def test_every_kind_of_answer_has_words(answer: Any, expected: str) -> None:
    assert view.phrase(answer) == expected
