"""A winner on fresh seeds, through Ray Train and DeepSpeed, and what MLflow then has of it."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from driven import lay_out, started, told

from orchestrator.studies.study import Study

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.timeout(900)]

PROGRAM = """
import json
from pathlib import Path
from orchestrator.studies import driver
from orchestrator.access import secure_ray

secure_ray()
from orchestrator.studies import confirm

store = "tracking.uri=sqlite:///" + str(Path("store.db").resolve())
said = []
how = driver.How(2, tell=said.append)
driver.ablate(Path("own.yaml"), [store], "leave-one-out", 1, "steps", Path("studies"), how)
folder = Path("studies/tiny-ablate-leave-one-out")
both = [confirm.confirmed(folder, "without sentiment", count, how) for count in (1, 2)]
other = confirm.confirmed(folder, "topic + sentiment", 1, how)
Path("said.json").write_text(json.dumps([vars(own) for own in (*both, other)]))
"""


def test_fresh_seeds_are_trained_once_and_the_winner_is_the_champion(
    tmp_path: Path, make_experiment: Any
) -> None:
    lay_out(tmp_path, make_experiment)
    process = started(tmp_path, "-c", PROGRAM)
    assert process.wait(850) == 0, told(tmp_path)
    once, twice, other = json.loads((tmp_path / "said.json").read_text())
    own = Study(tmp_path / "studies" / "tiny-ablate-leave-one-out")
    asked = {one.seed for one in own.asked}
    assert asked == {0}
    assert (once["seeds"], twice["seeds"], other["seeds"]) == ([1], [1, 2], [3])
    assert once["baseline"] == own.question["baseline"]
    for arm, folders in once["runs"].items():
        assert twice["runs"][arm][:1] == folders, "what is trained is not trained again"
        assert twice["scores"][arm][:1] == once["scores"][arm]
        results = json.loads((Path(folders[0]) / "results.json").read_text())
        assert once["scores"][arm] == [results["tasks"]["topic"]["test"]["accuracy"]]
    openings = [(one["arm"], one["seeds"]) for one in own.question["openings"]]
    assert openings == [
        ("without sentiment", [1]),
        ("without sentiment", [1, 2]),
        ("topic + sentiment", [3]),
    ]
    assert "fresh seed" in (own.folder / "report.html").read_text()
    with closing(sqlite3.connect(tmp_path / "store.db")) as store:
        aliases = store.execute("SELECT name, alias FROM registered_model_aliases").fetchall()
    assert aliases == [("tiny", "champion")]
