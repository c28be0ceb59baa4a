"""The guide tells every setting with its real default, and every verb; its examples are sound."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

import tasks
from orchestrator.cli import app
from orchestrator.document import value
from orchestrator.experiment import parse
from orchestrator.sections import Lora, Section, Task
from orchestrator.settings import Experiment
from tasks.builtin import Dials
from tasks.family import Data

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
GUIDE = (ROOT / "docs" / "experiment.md").read_text()
DATA = (ROOT / "docs" / "data.md").read_text()
INHERITED = {"tasks.NAME.loss", "tasks.NAME.optimizer", "tasks.NAME.regularization"}
"""Settings whose default is a rule and not a value."""


def told(text: str) -> dict[str, str]:
    """Read the tables with a default and a meaning: key to default."""
    rows = re.findall(r"^\| `([\w.]+)` \| ([^|]+) \| [^|]+ \|$", text, re.M)
    assert len(dict(rows)) == len(rows), "a key stands there twice"
    return dict(rows)


def part(heading: str) -> str:
    """Cut a part out of the guide."""
    return re.split(r"^##+ ", GUIDE.partition(f"{heading}\n")[2], maxsplit=1, flags=re.M)[0]


def settings(section: type[BaseModel], before: str = "") -> Iterator[tuple[str, Any]]:
    """Walk a model: dotted key, and its default (``...`` where there is none)."""
    for name, field in section.model_fields.items():
        inner = field.annotation
        if name == "tasks":
            yield from settings(Task, "tasks.NAME.")
        elif isinstance(inner, type) and issubclass(inner, Section) and section is Experiment:
            yield from settings(inner, f"{name}.")
        else:
            required = field.is_required()
            default = ... if required else field.get_default(call_default_factory=True)
            yield f"{before}{name}", default


def assert_told(found: Mapping[str, str], real: Mapping[str, Any]) -> None:
    assert set(found) == set(real)
    for key, default in real.items():
        if key in INHERITED:
            continue
        if default is ...:
            assert found[key] == "required", key
        else:
            shown = value(found[key].strip("`"))
            plain = list(default) if isinstance(default, tuple) else default
            assert (None if shown == "none" else shown) == plain, key


def test_every_setting_is_told_with_its_default() -> None:
    assert_told(told(part("## Every setting")), dict(settings(Experiment)))


def test_the_keys_of_lora_are_told_with_their_defaults() -> None:
    assert_told(told(part("### `encoder.lora`")), dict(settings(Lora)))


def test_the_keys_of_data_are_told_with_their_defaults() -> None:
    assert_told(told(part("## `data`")), dict(settings(Data)))


@pytest.mark.parametrize("name", tasks.names())
def test_the_keys_of_a_family_are_told_with_their_defaults(name: str) -> None:
    shared = list(settings(Data))
    own = [key for key in settings(tasks.get(name).Data) if key not in shared]
    assert_told(told(part(f"### `{name}`")), dict(own))


def test_the_dials_of_the_built_in_corpus_are_told_with_their_defaults() -> None:
    assert_told(told(DATA), {field.name: field.default for field in fields(Dials)})


def test_every_verb_stands_in_the_readme() -> None:
    rows = re.findall(r"^\| `tlmt (\w+)", PAGES[0].read_text(), re.M)
    names = [command.name or command.callback.__name__ for command in app.registered_commands]  # type: ignore[union-attr]
    assert sorted(rows) == sorted(names)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere_and_examples_are_sound(page: Path) -> None:
    text = page.read_text()
    for link in re.findall(r"\]\(([^)#]+)[^)]*\)", text):
        assert link.startswith("https://") or (page.parent / link).exists(), link
    for block in re.findall(r"^```yaml\n(.*?)^```", text, re.M | re.S):
        parse(value(block), page.name)
