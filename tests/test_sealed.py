"""What rows add to scores; those of the test split are opened in one place, and never unseen."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import studied

from orchestrator.prepare import Prepared
from orchestrator.studies import sealed
from orchestrator.studies.sealed import Items

ROOT = Path(__file__).parent.parent
FOLDERS = ("orchestrator", "tasks", "encoders", "tune_spaces", "benchmarks")
SOURCES = sorted(path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py"))

WRITES = {"orchestrator/studies/trial.py"}
"""Who puts items away."""
OPENS = {"orchestrator/studies/confirm.py", "orchestrator/studies/evidence.py"}
"""Who opens test rows and says so: what is told of a study on them, and fresh runs of its best."""
ASKS = {
    "benchmarks/swarm.py",
    "orchestrator/studies/asking.py",
    "orchestrator/cli.py",
    "orchestrator/studies/confirm.py",
    "orchestrator/studies/findings.py",
    "orchestrator/studies/page.py",
}
"""Who may ask for a final report: the verbs, what is between them and the evidence, and one program
that tells of seeds by which nothing was chosen."""


def drawn(seed: int, rows: int, size: int) -> Items:
    random = np.random.default_rng(seed)
    item = np.sort(random.choice(1000, rows, replace=False)).astype(np.int64)
    group = random.integers(-(2**62), 2**62, rows)[random.integers(0, rows, rows)]
    return Items(item, group, random.normal(size=(rows, size)))


def equal(one: Items, other: Items) -> bool:
    return all(
        np.array_equal(getattr(one, name), getattr(other, name))
        for name in ("item", "group", "parts")
    )


def test_items_of_several_tasks_are_read_again_to_the_last_bit(tmp_path: Path) -> None:
    found = {"topic": drawn(0, 50, 2), "größe": drawn(1, 7, 6), "alone": drawn(2, 1, 1)}
    sealed.write(tmp_path, "validation", found)
    again = sealed.validation(tmp_path)
    assert again.keys() == found.keys()
    assert all(equal(again[task], own) for task, own in found.items())
    assert [file.name for file in tmp_path.iterdir()] == ["items-validation.parquet"]


def test_where_no_score_is_made_of_rows_there_are_no_items(tmp_path: Path) -> None:
    sealed.write(tmp_path, "validation", {})
    assert sealed.validation(tmp_path) == {}


@pytest.mark.parametrize("rows", [1, 2, 60])
def test_groups_add_up_to_what_rows_add_up_to(rows: int) -> None:
    own = drawn(rows, rows, 3)
    found = own.grouped()
    assert len(found) == len(np.unique(own.group))
    assert found.sum(0) == pytest.approx(own.parts.sum(0))
    expected = [own.parts[own.group == group].sum(0) for group in np.unique(own.group)]
    assert found == pytest.approx(np.array(expected))


def test_groups_of_no_rows_are_none() -> None:
    empty = np.empty(0, np.int64)
    assert Items(empty, empty, np.empty((0, 2))).grouped().shape == (0, 2)


def test_opening_gives_what_finished_trials_put_away_and_leaves_a_record_each_time(
    tmp_path: Path, tiny_prepared: Prepared
) -> None:
    study = studied.make(tmp_path, studied.prepared(tiny_prepared, "topic"))
    done, ended, left = (studied.ask(study, "arm", seed) for seed in range(3))
    studied.finish(study, done, {"topic": 0.5})
    studied.finish(study, ended, {"topic": 0.6}, status="stopped")
    assert study.question["openings"] == []
    assert sealed.validation(study.trial(done.hash)).keys() == {"topic"}
    assert study.question["openings"] == [], "validation is no secret"
    for count, by in enumerate(("report --final", "confirm"), 1):
        found = sealed.opened(study, by)
        assert found.keys() == {done.hash}, (ended, left)
        assert len(study.question["openings"]) == count
        assert study.question["openings"][-1]["by"] == by
    assert found[done.hash]["topic"].parts[:, 0].mean() == pytest.approx(0.5 + 2 / studied.ROWS)


def test_an_opening_that_fails_is_on_record_too(tmp_path: Path, tiny_prepared: Prepared) -> None:
    study = studied.make(tmp_path, studied.prepared(tiny_prepared, "topic"))
    own = studied.ask(study, "arm", 0)
    studied.finish(study, own, {"topic": 0.5})
    (study.trial(own.hash) / "items-test.parquet").unlink()
    with pytest.raises(FileNotFoundError):
        sealed.opened(study, "report --final")
    assert len(study.question["openings"]) == 1


def named(tree: ast.Module) -> Iterator[str]:
    """Give all texts of a program, but for those that only explain."""
    explaining = {
        id(node.value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and id(node) not in explaining:
            yield str(node.value)


def used(tree: ast.Module) -> Iterator[str]:
    """Give what a program takes from ``sealed``."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            if node.value.id == "sealed":
                yield node.attr
        elif isinstance(node, ast.ImportFrom) and node.module == "orchestrator.studies.sealed":
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.Import | ast.ImportFrom):
            for alias in node.names:
                if alias.name.endswith("sealed") and alias.asname not in (None, "sealed"):
                    yield f"the module as {alias.asname}"


def final(tree: ast.Module) -> bool:
    """Say whether a program asks for a final report, or hands on that someone does."""
    calls = [
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
        and (node.func.attr if isinstance(node.func, ast.Attribute) else ast.unparse(node.func))
        in ("Evidence", "find", "write")
    ]
    return any(
        any(keyword.arg == "final" for keyword in call.keywords)
        or any(isinstance(given, ast.Name) and given.id == "final" for given in call.args)
        for call in calls
    )


def wrong(place: str, text: str) -> list[str]:
    """Say what a program does with sealed items that is not its to do."""
    if place == "orchestrator/studies/sealed.py":
        return []
    tree = ast.parse(text)
    allowed = {"Items", "validation"}
    allowed |= {"write"} if place in WRITES else set()
    allowed |= {"opened"} if place in OPENS else set()
    found = sorted(set(used(tree)) - allowed)
    found += [name for name in named(tree) if "items-" in name and place not in WRITES]
    found += ["study.opened"] if ".opened(" in text and place not in OPENS else []
    found += ["final"] if final(tree) and place not in ASKS else []
    return found


def test_nothing_else_in_the_project_reaches_for_test_items() -> None:
    places = {path.relative_to(ROOT).as_posix(): path for path in SOURCES}
    found = {place: wrong(place, path.read_text("utf-8")) for place, path in places.items()}
    assert {place: what for place, what in found.items() if what} == {}


@pytest.mark.parametrize(
    "text",
    [
        "import pyarrow.parquet as pq\npq.read_table(folder / 'items-test.parquet')",
        "open(f'{folder}/items-{split}.parquet')",
        "from orchestrator.studies import sealed\nsealed.opened(study, 'me')",
        "from orchestrator.studies import sealed\nsealed._read(file)",
        "from orchestrator.studies import sealed as other\nother._read(file)",
        "from orchestrator.studies.sealed import opened",
        "found = findings.find(study, final=True)",
        "found = findings.find(study, final)",
        "study.opened('nobody')",
    ],
)
def test_code_that_did_would_be_found(text: str) -> None:
    assert wrong("orchestrator/other.py", text)


def test_those_who_may_do_it_do() -> None:
    texts = {place: (ROOT / place).read_text(encoding="utf-8") for place in WRITES | OPENS}
    assert all("write" in set(used(ast.parse(texts[place]))) for place in WRITES)
    assert all(".opened(" in texts[place] for place in OPENS)
