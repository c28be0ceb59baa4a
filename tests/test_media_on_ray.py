"""Pictures and sounds through Ray Train and DeepSpeed, as a user runs them: learnt and answered."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import drawn
import pytest
import soundfile
import yaml

pytestmark = [pytest.mark.slow, pytest.mark.ray, pytest.mark.timeout(420)]


def tlmt(home: Path, *words: str) -> str:
    """Run a verb; give what it prints."""
    done = subprocess.run(
        [sys.executable, "-P", "-m", "orchestrator", *words],
        cwd=home,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parent.parent)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def pictures(home: Path) -> tuple[Path, dict[str, Any], Path]:
    """Draw stripes; give a network with what is asked of it, and a picture that is new to it."""
    drawn.pictures(home / "data")
    drawn.picture(1000, "standing").save(home / "new.png")
    asked = {"image": "image", "label": "stripes"}
    return drawn.image_encoder("vit", home / "network"), asked, home / "new.png"


def sounds(home: Path) -> tuple[Path, dict[str, Any], Path]:
    """Play tones; give a network with what is asked of it, and a tone that is new to it."""
    drawn.tones(home / "data")
    soundfile.write(home / "new.wav", drawn.tone(1001, "high"), drawn.RATE)
    asked = {"audio": "file", "label": "pitch"}
    return drawn.sound_encoder("wav2vec2", home / "network"), asked, home / "new.wav"


@pytest.mark.parametrize(
    ("made", "stage", "length", "label"),
    [(pictures, 2, 17, "standing"), (sounds, 3, 40, "high")],
    ids=["pictures", "sounds"],
)
def test_two_workers_learn_what_they_see_or_hear_and_answer_by_path(
    tmp_path: Path,
    made: Callable[[Path], tuple[Path, dict[str, Any], Path]],
    stage: int,
    length: int,
    label: str,
) -> None:
    network, asked, new = made(tmp_path)
    tree = {
        "name": "media",
        "encoder": {"model": str(network)},
        "tasks": {"kind": {"family": "classify", "data": {"path": "data", **asked}}},
        "optimizer": {"lr": 2e-3},
        "batch": {"tokens": 24 * length, "micro_tokens": 12 * length},
        "train": {"steps": 60, "evaluate_every": 30, "precision": "fp32"},
        "scaling": {"workers": 2, "threads": 1},
        "deepspeed": {"zero_stage": stage},
    }
    (tmp_path / "media.yaml").write_text(yaml.safe_dump(tree))
    tlmt(tmp_path, "train", "media.yaml")
    (run,) = (tmp_path / "runs" / "media").iterdir()
    scores = json.loads((run / "results.json").read_text())["tasks"]["kind"]["test"]
    assert scores["accuracy"] > 0.9
    assert (run / "model" / "MLmodel").exists(), "a fresh process has asked the logged model"
    (answer,) = json.loads(tlmt(tmp_path, "predict", str(run), "--text", str(new), "--json"))
    assert answer["kind"]["label"] == label
