"""The guide's family, loss, regularizer and preset of one's own work as they stand there."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch

from orchestrator import document
from orchestrator.checkpoint import Progress
from orchestrator.experiment import ExperimentError, parse
from orchestrator.predict import Predictor
from orchestrator.prepare import prepare
from orchestrator.training import Training
from tests.looped import events, making, trained, values

PAGE = (Path(__file__).parent.parent / "docs" / "extending.md").read_text()


def block(kind: str) -> str:
    (found,) = re.findall(rf"^```{kind}\n(.*?)^```", PAGE, re.M | re.S)
    return str(found)


@pytest.fixture
def experiment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    (tmp_path / "mine.py").write_text(block("python"))
    monkeypatch.syspath_prepend(tmp_path)
    return dict(document.value(block("yml")))


def test_what_the_guide_extends_trains_and_answers(
    experiment: dict[str, Any], tmp_path: Path
) -> None:
    prepared = prepare(parse(experiment), [], tmp_path / "cache", processes=1)
    build = lambda **changes: document.override(experiment, {"train.steps": changes["train.steps"]})  # noqa: E731
    own = making(build, tmp_path, prepared)(**{"train.steps": 30})
    assert [stage.name for stage in own.stages] == ["top", "all"]
    training = Training(own, own.stages[1], Progress(15, (0, 15)))
    drawn = [g["penalties"] for g in training.engine.optimizer.param_groups if g["task"] is None]
    assert drawn == [{"mine:few_changes": 1e-4}] * len(drawn)
    news = trained(own)
    assert events(news)[-1] == (30, "trained")
    told = values(news)
    first, last = (
        torch.tensor([told[step, "before/train/loss"] for step in steps]).mean()
        for steps in (range(1, 6), range(26, 31))
    )
    assert last < first
    own.prepared.write(own.run)
    (answer,) = Predictor.load(own.run)([{"text": "Yesterday the old baker sold a loaf."}])
    assert answer["before"]["value"] > 0
    assert set(answer["topic"]["probabilities"]) == set(prepared.tasks["topic"].fitted["labels"])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"stages": "mine:tip_first"}, "stages is 'mine:tip_first', which cannot be imported"),
        (
            {"regularization.penalties": {"mine:no_changes": 1.0}},
            "regularization.penalties.mine:no_changes cannot be imported",
        ),
        ({"tasks.topic.loss.epsilon": -1}, "tasks.topic.loss.epsilon is -1"),
        ({"tasks.before.loss": "poly"}, "tasks.before.loss"),
    ],
)
def test_what_is_missing_or_wrong_is_told(
    experiment: dict[str, Any], changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(ExperimentError) as refused:
        parse(document.override(experiment, changes))
    assert message in str(refused.value)
