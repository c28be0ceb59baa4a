"""A trial with workers of its own is the trial that one process runs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import driven
import pytest
import yaml

from orchestrator.studies import sealed
from orchestrator.studies.study import Study

PROGRAM = """
import sys
from pathlib import Path
from orchestrator.studies import driver
if __name__ == "__main__":
    for engine in ("deepspeed", "plain"):
        driver.ablate(
            Path("own.yaml"), [f"name={engine}"], "add-one-in", 1, "steps",
            Path(engine), driver.How(1, engine),
        )
"""
STILL = {"dropout": 0.0, "attention_dropout": 0.0, "head_dropout": 0.0}


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_two_workers_of_deepspeed_give_the_result_of_one_process(
    tmp_path: Path, make_experiment: Callable[..., dict[str, Any]]
) -> None:
    changes = {
        "target": "topic",
        "regularization": STILL,
        "train.precision": "fp32",
        "scaling.workers": 2,
        "tracking": {"uri": "http://127.0.0.1:9", "log_model": False},  # nobody answers there
    }
    (tmp_path / "own.yaml").write_text(yaml.safe_dump(make_experiment(**changes)))
    (tmp_path / "program.py").write_text(PROGRAM)
    process = driven.started(tmp_path, "program.py")
    assert process.wait(500) == 0, driven.told(tmp_path)
    own, plain = (Study(tmp_path / n / f"{n}-ablate-add-one-in") for n in ("deepspeed", "plain"))
    found, expected = own.results(), plain.results()
    assert found.keys() == expected.keys()
    for digest, result in found.items():
        other = expected[digest]
        assert result.status == other.status == "finished"
        assert result.examples_seen == other.examples_seen
        assert [step for step, _ in result.curve] == [step for step, _ in other.curve]
        for task, scores in result.scores.items():
            assert scores["loss"] == pytest.approx(other.scores[task]["loss"], rel=1e-4)
        assert result.drift == pytest.approx(other.drift, rel=1e-3)
        kept = sealed.validation(own.trial(digest))
        assert {task: items.item.tolist() for task, items in kept.items()} == {
            task: items.item.tolist()
            for task, items in sealed.validation(plain.trial(digest)).items()
        }
        names = {path.name for path in own.trial(digest).iterdir()}
        assert names == {path.name for path in plain.trial(digest).iterdir()}
