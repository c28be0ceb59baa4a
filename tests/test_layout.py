"""The tree is what its table of contents says, and is read in the order in which it is imported."""

import ast
import re
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from types import ModuleType

import pytest
from packaging.requirements import Requirement

import orchestrator
from orchestrator import studies

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
README = (ROOT / "README.md").read_text()
PACKAGES = PROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]
PARTS = ("tasks", "encoders", "tune_spaces")
SOURCES = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))
TESTS = sorted((ROOT / "tests").rglob("*.py"))


def reading_order(package: ModuleType) -> list[str]:
    """Give the names of a package's files as it lists them."""
    return re.findall(r"\w+", (package.__doc__ or "").partition(":\n")[2])


STUDIES = [f"studies.{name}" for name in reading_order(studies)]
READING_ORDER = [
    name for own in reading_order(orchestrator) for name in (STUDIES if own == "studies" else [own])
]
"""Of the machine's files, with dots for folders."""

HOMES = {
    "deepspeed": ("orchestrator/engine.py",),
    "mlflow": ("orchestrator/store.py", "orchestrator/served.py"),
    "ray.train": ("orchestrator/launch.py",),
    "ray.tune": ("orchestrator/studies/tuning.py",),
    "optuna": ("orchestrator/studies/proposals.py",),
    "transformers": ("encoders/",),
    "peft": ("encoders/lora.py",),
    "datasets": ("tasks/rows.py",),
    "torchjd": ("orchestrator/aggregation.py",),
}
"""Where to look when a heavy library changes: nobody else imports it."""

UNSAFE = (
    r"\bimport pickle|yaml\.(unsafe|full)_load|yaml\.load\([^,]*\)"
    r"|trust_remote_code=True|weights_only=False|(?<![.\w])(eval|exec)\("
)
NAMELESS = {"utils", "helpers", "common", "misc", "base", "manager", "handler"}


def place(path: Path) -> str:
    """Give a path as it reads from the root."""
    return path.relative_to(ROOT).as_posix()


def imports(path: Path) -> Iterator[str]:
    """Give all that a file imports, also inside functions; ``from a import b`` is ``a.b``."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def ours(path: Path) -> set[str]:
    """Give the orchestrator files that a file imports."""
    found = (name.split(".")[1:] for name in imports(path) if name.startswith("orchestrator."))
    return {".".join(words[: 1 + (words[0] == "studies")]) for words in found}


def test_every_file_has_a_place_in_the_reading_order() -> None:
    home = ROOT / "orchestrator"
    files = {path.relative_to(home).with_suffix("") for path in home.rglob("*.py")}
    named = {".".join(path.parts) for path in files if path.stem not in ("__init__", "__main__")}
    assert named == set(READING_ORDER)
    assert len(READING_ORDER) == len(set(READING_ORDER))


@pytest.mark.parametrize("name", READING_ORDER)
def test_a_file_imports_only_files_that_are_read_before_it(name: str) -> None:
    earlier = READING_ORDER[: READING_ORDER.index(name)]
    assert ours(ROOT / "orchestrator" / f"{name.replace('.', '/')}.py") <= set(earlier)


@pytest.mark.parametrize("part", PARTS)
def test_a_part_knows_neither_the_machine_nor_the_other_parts(part: str) -> None:
    others = {"orchestrator", *PARTS} - {part}
    for path in (ROOT / part).rglob("*.py"):
        assert {name.split(".")[0] for name in imports(path)}.isdisjoint(others), place(path)


@pytest.mark.parametrize("library", HOMES)
def test_a_heavy_library_has_one_home(library: str) -> None:
    for path in SOURCES:
        if any(f"{name}.".startswith(f"{library}.") for name in imports(path)):
            assert place(path).startswith(HOMES[library] or "nowhere"), place(path)


def test_the_distribution_lists_the_packages_of_the_tree() -> None:
    folders = {path.parent.name for path in ROOT.glob("*/__init__.py")}
    assert set(PACKAGES) == folders


def test_every_package_opens_with_a_sentence_of_its_own() -> None:
    openings = [(path.parent / "__init__.py").read_text().splitlines()[0] for path in SOURCES]
    of_folder = dict(zip((place(path.parent) for path in SOURCES), openings, strict=True))
    assert all(opening.startswith('"""') for opening in of_folder.values())
    assert len(set(of_folder.values())) == len(of_folder)


@pytest.mark.parametrize("path", [*SOURCES, *TESTS], ids=place)
def test_a_file_is_short_and_says_first_what_it_is(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= 300
    assert ast.get_docstring(ast.parse(path.read_text()))
    assert path.stem not in NAMELESS


@pytest.mark.parametrize("path", SOURCES, ids=place)
def test_nothing_that_is_loaded_can_run_code(path: Path) -> None:
    assert not re.search(UNSAFE, path.read_text())


def test_tests_lie_flat() -> None:
    assert all(path.parent == ROOT / "tests" for path in TESTS)
    assert not (ROOT / "tests" / "__init__.py").exists()


def test_the_readme_names_every_file_with_a_phrase() -> None:
    tree = README.partition("## The tree")[2].partition("\n## ")[0]
    shelves = re.split(r"^([\w/]+)/ .*$", tree, flags=re.M)
    listed = {
        folder: re.findall(r"^  (\S+) {2,}\S", files, re.M)
        for folder, files in zip(shelves[1::2], shelves[2::2], strict=True)
    }
    for part in PARTS:
        files = {path.name for path in (ROOT / part).glob("*.py")} - {"__init__.py"}
        assert set(listed[part]) == files, part
    machine = [name for name in READING_ORDER if name not in STUDIES]
    assert listed["orchestrator"] == [f"{name}.py" for name in machine]
    assert [f"studies.{name}" for name in listed["orchestrator/studies"]] == [
        f"{name}.py" for name in STUDIES
    ]
    assert set(listed["experiments"]) == {path.name for path in (ROOT / "experiments").iterdir()}


def test_the_check_on_a_clean_checkout_runs_the_readmes_test_command() -> None:
    command = "make test"
    assert f"\n{command}" in README
    assert command in (ROOT / ".ci" / "run").read_text().splitlines()


def test_every_library_that_is_imported_is_asked_for() -> None:
    extras = PROJECT["project"]["optional-dependencies"]
    asked = [*PROJECT["project"]["dependencies"], *extras["minilm"], *extras["torchjd"]]
    declared = {re.sub(r"[-_.]+", "-", Requirement(text).name) for text in asked}
    known = metadata.packages_distributions()
    for path in SOURCES:
        for top in {name.split(".")[0] for name in imports(path)} - set(PACKAGES):
            if top not in sys.stdlib_module_names:
                names = {re.sub(r"[-_.]+", "-", name).lower() for name in known.get(top, [top])}
                assert names & declared, f"{place(path)} imports {top}"


def test_the_tested_versions_satisfy_the_floors() -> None:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pinned = dict(line.split("==") for line in lines if not line.startswith("#"))
    versions = {re.sub(r"[-_.]+", "-", name).lower(): version for name, version in pinned.items()}
    extras = PROJECT["project"]["optional-dependencies"].values()
    for text in [*PROJECT["project"]["dependencies"], *(t for extra in extras for t in extra)]:
        requirement = Requirement(text)
        name = re.sub(r"[-_.]+", "-", requirement.name).lower()
        assert requirement.specifier, f"{name} has no floor"
        assert requirement.specifier.contains(versions[name]), name
    assert versions["torch"] == "2.13.0"


def test_a_wheel_holds_the_four_packages_and_the_experiments(tmp_path: Path) -> None:
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    subprocess.run(build, cwd=ROOT, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    inside = zipfile.ZipFile(wheel).namelist()
    assert {name.split("/")[0] for name in inside if ".dist-info" not in name} == set(PACKAGES)
    assert {place(path) for path in SOURCES} <= set(inside)
    assert "orchestrator/experiments/demo.yaml" in inside
