"""The page of a run is whole in itself, says what the folder says, and needs no finished run."""

from __future__ import annotations

import json
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import trained

from orchestrator import charts, report
from orchestrator.journal import Journal, Record
from orchestrator.problems import ExperimentError


@pytest.fixture
def run(tmp_path: Path) -> Path:
    folder = tmp_path / trained.run().name
    shutil.copytree(trained.run(), folder, ignore=shutil.ignore_patterns("*.safetensors"))
    return folder


class Page(HTMLParser):
    """Gathers a page's text and every address in it; checks that elements are closed."""

    EMPTY = frozenset({"meta", "img", "link", "br"})

    def __init__(self, source: str) -> None:
        super().__init__()
        self.text, self.addresses, self.open = "", list[str](), list[str]()
        self.feed(source)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.text += " "
        self.addresses += [value or "" for name, value in attrs if name in ("src", "href")]
        if tag not in self.EMPTY:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data if self.open[-1:] != ["style"] else ""


def page(folder: Path) -> Page:
    return Page(report.write(folder).read_text(encoding="utf-8"))


def test_the_page_loads_nothing_from_elsewhere(run: Path) -> None:
    source = report.write(run).read_text(encoding="utf-8")
    assert Page(source).addresses
    assert all(address.startswith("data:image/png;base64,") for address in Page(source).addresses)
    assert not re.search(r"<script|@import|url\(", source)


def test_the_page_shows_what_families_tell_at_length(run: Path) -> None:
    prepared = json.loads((run / "prepared.json").read_text())
    prepared["tasks"]["sentiment"]["details"] = {"2 topics": [["0", "cat dog"], ["1", "star <b>"]]}
    (run / "prepared.json").write_text(json.dumps(prepared))
    assert "sentiment: 2 topics 0 cat dog 1 star <b>" in " ".join(page(run).text.split())


def test_the_page_says_what_the_folder_says(run: Path) -> None:
    text = " ".join(page(run).text.split())
    for expected in ("small", run.name, "finished", "1,010 tokens/s", "builtin:demo?size=240"):
        assert expected in text
    # sentiment: the main score, and the share of the largest class among 12 + 12 test rows
    assert "sentiment accuracy 0.8000 0.8000 0.5000" in text
    assert "sentiment classify 50.0 % 300" in text
    assert "optimizer.lr" in text


def test_every_picture_is_drawn_beside_the_page(run: Path) -> None:
    assert len(page(run).addresses) == 3
    kept = {path.name for path in (run / "charts").iterdir()}
    assert kept == {"losses.png", "scores.png", "confusion-sentiment.png"}


def test_a_run_that_was_lost_has_a_page_too(run: Path) -> None:
    (run / "results.json").unlink()
    lines = (run / "journal.jsonl").read_text().splitlines(keepends=True)
    (run / "journal.jsonl").write_text("".join(line for line in lines if '"step": 20' not in line))
    with Journal(run) as journal:
        journal.append([Record(run.name, 2, 0, 15, "event/resume", {"from_step": 15})])
    text = page(run).text
    assert "training, or lost" in text
    assert "Went on from step 15 (attempt 2)." in text


def test_a_run_without_records_has_a_page_too(run: Path) -> None:
    for name in ("results.json", "journal.jsonl", "prepared.json"):
        (run / name).unlink()
    assert "not started" in page(run).text


def test_names_are_shown_as_text_and_not_as_markup(run: Path) -> None:
    settings = run / "experiment.yaml"
    settings.write_text(settings.read_text().replace("name: small", "name: '<b>bold</b>'"))
    assert "<b>" in page(run).text


def test_a_folder_that_is_no_run_is_a_mistake(tmp_path: Path) -> None:
    with pytest.raises(ExperimentError, match=r"experiment\.yaml"):
        report.write(tmp_path)


def test_many_labels_are_drawn_without_names() -> None:
    labels = [str(place) for place in range(150)]
    figure = charts.confusion(labels, [[int(a == b) for a in labels] for b in labels])
    assert figure.get_figwidth() < 12


@pytest.mark.parametrize(
    ("seconds", "text"), [(5, "5 s"), (65, "1 min 5 s"), (7260, "2 h 1 min"), (59.7, "1 min 0 s")]
)
def test_lengths_of_time_are_told_in_two_units(seconds: float, text: str) -> None:
    assert report.duration(seconds) == text


def test_scores_that_share_an_axis_are_those_of_which_one_is_best() -> None:
    def drawn(*metrics: str) -> list[str]:
        series = {f"{task}/validation/{m}": [(1, 0.5)] for task in ("a", "b") for m in metrics}
        summary: Any = SimpleNamespace(series=series, main=lambda task: "f1")
        return charts._shown(summary)

    assert drawn("loss", "rmse", "bleu", "chrf", "f1") == ["a/validation/f1", "b/validation/f1"]
    many = drawn("f1", *(f"recall_{place}" for place in range(8)))
    assert many == ["a/validation/f1", "b/validation/f1"], "of many only the main ones"
