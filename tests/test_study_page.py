"""The page of a study is whole in itself, for every design and however far the study is."""

from __future__ import annotations

import csv
import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import studied
from studied import without

from orchestrator.prepare import Prepared
from orchestrator.studies import findings, page
from orchestrator.studies.study import Study

THREE = ("roles", "speech", "topic")
FIVE = (*THREE, "mood", "tense")


def half(folder: Path, data: Any) -> Study:
    """Make a study of which some trials are finished, one failed, one was stopped."""
    study = studied.make(folder, data, comparisons=[["without topic", "all"]])
    for arm, changes in (("all", {}), ("without topic", without("topic"))):
        for seed in range(8):
            own = studied.ask(study, arm, seed, changes, "baseline" if arm == "all" else "arm")
            if seed < 4:
                scores = {t: 0.7 for t in data.tasks if t != "topic" or arm == "all"}
                studied.finish(study, own, scores)
            elif seed == 4:
                studied.fail(study, own, "MemoryError: the last <b>straw</b> & more")
            elif seed == 5:
                studied.fail(study, own, "", "stopped")
    return study


Make = Callable[[Path, Any], Study]
STUDIES: dict[str, tuple[Make, tuple[str, ...]]] = {
    "empty": (studied.make, ()),
    "half": (half, ()),
    "pairs": (lambda folder, data: studied.pairs(folder, data, range(2)), THREE),
    "subsets": (lambda folder, data: studied.subsets(folder, data, range(3)), THREE),
    "strengths": (lambda folder, data: studied.strengths(folder, data, range(2)), ()),
    "mixture of two": (studied.mixtures, ()),
    "mixture of three": (studied.mixtures, THREE),
    "mixture of five": (studied.mixtures, FIVE),
    "noise": (lambda folder, data: studied.mixtures(folder, data, noise=0.2), THREE),
    "begun": (lambda folder, data: studied.mixtures(folder, data, 3), THREE),
    "joint": (lambda folder, data: studied.mixtures(folder, data, 8, what="joint"), ()),
}
FIGURES = {
    "empty": set[str](),
    "half": {"Arms", "Differences", "Time"},
    "pairs": {"Transfer matrix", "Time"},
    "subsets": {"Arms", "Differences", "Helpers", "Time"},
    "strengths": {"Arms", "Differences", "Curves", "Time"},
    "joint": {"Best so far", "Time"},
}
SEARCHED = {"Mixture", "Best so far", "Time"}


class Page(HTMLParser):
    """Gathers a page's text and every address in it; checks that elements are closed."""

    EMPTY = frozenset({"meta", "br"})

    def __init__(self, source: str) -> None:
        super().__init__()
        self.text, self.addresses, self.open = "", list[str](), list[str]()
        self.feed(source)
        assert self.open == []
        self.text = " ".join(self.text.split())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.text += " "
        self.addresses += [value or "" for name, value in attrs if name in ("src", "href")]
        if tag not in self.EMPTY:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in self.EMPTY:
            self.handle_endtag(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data if self.open[-1:] != ["style"] else ""


def made(folder: Path, tiny: Any, name: str) -> Study:
    make, tasks = STUDIES[name]
    return make(folder, studied.prepared(tiny, *tasks) if tasks else tiny)


def source(study: Study, final: bool = False) -> str:
    return page.write(study, findings.find(study, final)).read_text(encoding="utf-8")


@pytest.mark.parametrize("name", STUDIES)
def test_the_page_is_whole_in_itself(tmp_path: Path, tiny_prepared: Any, name: str) -> None:
    study = made(tmp_path, tiny_prepared, name)
    text = source(study)
    page = Page(text)
    assert all(address.startswith("#") for address in page.addresses)
    assert all(f'id="{address[1:]}"' in text for address in page.addresses)
    assert not re.search(r"https?:|<script|@import|url\((?!#)", text)
    assert findings.find(study).answer in page.text
    rows = re.findall(r'<th scope="row">([\w ]+)</th><td><code>\w+\.csv</code></td>', text)
    assert set(rows) == FIGURES.get(name, SEARCHED)
    assert len(re.findall("<svg", text)) == 2 * len(rows), "each for a wide and a narrow page"
    assert "nan" not in page.text.split()


@pytest.mark.parametrize("name", ["half", "mixture of three"])
def test_the_same_study_gives_the_same_page(tmp_path: Path, tiny_prepared: Any, name: str) -> None:
    study = made(tmp_path, tiny_prepared, name)
    assert source(study) == source(study)


def test_pictures_take_their_colours_from_the_page(tmp_path: Path, tiny_prepared: Any) -> None:
    text = source(made(tmp_path, tiny_prepared, "mixture of three"))
    pictures = "".join(re.findall(r"<svg.*?</svg>", text, re.S))
    assert set(re.findall(r"#[0-9a-f]{6}\b", pictures)) <= {"#ffffff"}
    assert "currentColor" in pictures
    assert "prefers-color-scheme: dark" in text


def test_names_are_shown_and_not_obeyed(tmp_path: Path, tiny_prepared: Any) -> None:
    bad = "<script>alert(1)</script> $x^2$ & 'co'"
    task = "<img src=x>"
    data = studied.prepared(tiny_prepared, task, "topic")
    arms = {bad: ("baseline", {}), f"{bad}2": ("arm", {"stages": "gradual"})}
    study = studied.ablation(
        tmp_path,
        data,
        arms,
        lambda own, task: 0.5 + 0.01 * own.seed,
        range(2),
        experiment={"name": f"{bad}3"},
        baseline=bad,
        comparisons=[[f"{bad}2", bad]],
    )
    own = studied.ask(study, f"{bad}4", 0, {"stages": "lp_ft"})
    studied.fail(study, own, f"ValueError: {bad}")
    text = source(study)
    assert "<script" not in text
    assert "<img" not in text
    shown = Page(text).text
    for expected in (f"{bad}2", f"{bad}3", f"{bad}4", f"ValueError: {bad}", task):
        assert expected in shown


def test_what_failed_is_shown_with_its_reason(tmp_path: Path, tiny_prepared: Any) -> None:
    text = Page(source(half(tmp_path, tiny_prepared))).text
    assert "MemoryError: the last <b>straw</b> & more" in text
    assert "So far (12 of 16 trials ended, 2 of them failed): Too few seeds" in text
    assert "2 stopped early by the scheduler" in text
    assert "4 trials have not ended yet." in text


def test_the_final_page_says_that_test_items_were_opened(
    tmp_path: Path, tiny_prepared: Any
) -> None:
    study = half(tmp_path, tiny_prepared)
    assert "test items opened never" in Page(source(study)).text
    source(study, final=True)
    text = Page(source(study, final=True)).text
    assert "test items opened 2 times" in text
    assert "sentiment/accuracy, on test" in text
    assert "--final" in text
    assert text.count("report --final") >= 2


def test_tables_hold_what_the_page_shows(tmp_path: Path, tiny_prepared: Any) -> None:
    data = studied.prepared(tiny_prepared, *THREE)
    declared = [["roles + speech", "roles alone"]]
    study = studied.pairs(tmp_path, data, range(2), comparisons=declared)
    source(study)

    def table(name: str) -> list[dict[str, str]]:
        with (tmp_path / name).open(newline="", encoding="utf-8") as file:
            return list(csv.DictReader(file))

    assert [row["name"] for row in table("arms.csv")] == list(
        dict.fromkeys(own.arm for own in study.asked)
    )
    assert [row["declared"] for row in table("comparisons.csv")] == ["True"] + ["False"] * 5
    assert len(table("matrix.csv")) == 6
    assert not (tmp_path / "curves.csv").exists()
    rows = pq.read_table(tmp_path / "results.parquet").to_pylist()
    assert len(rows) == len(study.asked) == len(table("trials.csv"))
    found = study.results()
    for row in rows:
        own = found[row["hash"]]
        assert (row["status"], row["score"], row["seconds"]) == ("finished", own.score, own.seconds)
        assert {t: row[f"share/{t}"] for t in own.shares} == pytest.approx(dict(own.shares))


def test_stale_tables_are_taken_away(tmp_path: Path, tiny_prepared: Any) -> None:
    (tmp_path / "matrix.csv").write_text("old")
    source(studied.make(tmp_path, tiny_prepared))
    assert not (tmp_path / "matrix.csv").exists()


def test_settings_that_all_trials_share_are_not_repeated_for_each(
    tmp_path: Path, tiny_prepared: Prepared
) -> None:
    own = studied.make(tmp_path, tiny_prepared, kind="tune", what="own", search="random")
    for place, rate in enumerate((1e-3, 2e-3), 1):
        changes = {"mixture.temperature": None, "optimizer.lr": rate}
        asked = studied.ask(own, f"00{place}", 0, changes)
        studied.finish(own, asked, dict.fromkeys(tiny_prepared.tasks, 0.5 + rate))
    text = page.write(own, findings.find(own)).read_text()
    assert "optimizer.lr" in text
    assert "mixture.temperature" not in text
