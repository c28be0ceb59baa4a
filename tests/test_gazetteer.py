"""A gazetteer: what it matches, what a bad line says, and that its content is what counts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from orchestrator import identity
from orchestrator.experiment import parse
from orchestrator.prepare import Prepared, prepare
from orchestrator.problems import ExperimentError
from tasks import gazetteer
from tasks.gazetteer import Gazetteer
from tasks.tag import Tag
from tests.family_rows import ANIMALS
from tests.reading import fitted, packed, reader
from tests.written import write


def test_the_longest_phrase_wins_whatever_its_case_with_all_its_types(tmp_path: Path) -> None:
    file = tmp_path / "names.tsv"
    file.write_text("\ufeffnew york\tCITY\n\nNew York City\tCITY\nYORK\tDUKE\nnew  york\tSTATE\r\n")
    phrases = gazetteer.read(file)
    assert phrases == {
        "CITY": ["new york", "new york city"],
        "DUKE": ["york"],
        "STATE": ["new york"],
    }
    find = Gazetteer(phrases)
    assert find(["in", "New", "YORK", "city"]) == [(1, 0), (2, 0), (3, 0)]
    assert find(["New", "York", ",", "York"]) == [(0, 0), (0, 2), (1, 0), (1, 2), (3, 1)]
    assert find(["new"]) == find([]) == []
    assert Gazetteer({})(["new", "york"]) == []


@pytest.mark.parametrize("line", [b"York", b"York\t", b"\tCITY", b"a\tb\tc", b"caf\xe9\tCITY"])
def test_a_bad_line_is_named(tmp_path: Path, line: bytes) -> None:
    file = tmp_path / "names.tsv"
    file.write_bytes(b"York\tCITY\n" + line + b"\n\nBath\n")
    with pytest.raises(ValueError, match=r"names\.tsv, line 2: found .* expected a phrase, a tab"):
        gazetteer.read(file)
    with pytest.raises(ValueError, match="Other bad lines: 4"):
        gazetteer.read(file)
    file.write_text("\n")
    with pytest.raises(ValueError, match="holds no phrases"):
        gazetteer.read(file)


def test_the_head_sees_one_number_for_each_word_and_type() -> None:
    family = fitted(Tag, ANIMALS, gazetteer=str(Path(__file__).with_name("gazetteer.tsv")))
    batch, _ = packed(family, ANIMALS, reader())
    head = family.head(4, 0.0)
    with torch.no_grad():
        head.out.weight.zero_()
        head.out.bias.zero_()
        head.out.weight[:4, 4:] = torch.eye(4)
    seen = head(torch.randn(len(batch.input_ids), 4), batch.rows["task"])[:, :4].int()
    types = ["BEAST", "PERSON", "PLACE", "WORD"]
    words = [word for row in ANIMALS for word in row["tokens"]]
    found = {(words[at], types[kind]) for at, kind in seen.nonzero().tolist()}
    assert found == {
        ("the", "WORD"),
        ("small", "BEAST"),
        ("bird", "BEAST"),
        ("the", "PLACE"),
        ("river", "PLACE"),
        ("Ann", "PERSON"),
    }
    assert family.export(head) is None


def prepared(folder: Path, **keys: Any) -> tuple[Any, Prepared]:
    tree = {
        "name": "x",
        "encoder": {"model": "tiny"},
        "tasks": {"names": {"family": "tag", "data": {"path": "rows", **keys}}},
    }
    experiment = parse(tree)
    return experiment, prepare(experiment, [folder], folder / "cache", processes=1)


def test_content_and_not_place_makes_another_run_and_other_tokens(tmp_path: Path) -> None:
    write(tmp_path / "rows", train=ANIMALS, validation=ANIMALS)
    (tmp_path / "one.tsv").write_text("bird\tBEAST\ndog\tBEAST\n")
    (tmp_path / "same.tsv").write_text("dog\tBEAST\nbird\tBEAST\n")
    (tmp_path / "other.tsv").write_text("cat\tBEAST\n")
    tokens, hashes = [], []
    for name in ("one.tsv", "same.tsv", "other.tsv", None):
        experiment, made = prepared(tmp_path, gazetteer=name)
        task = made.tasks["names"]
        json.dumps(task.fitted)
        tokens.append(task.splits["train"].tokens)
        digests = {"names": {split: own.digest for split, own in task.splits.items()}}
        contents = identity.Contents(digests, {"names": task.fitted}, "encoder")
        hashes.append(identity.fingerprint(experiment, contents))
    for found in (tokens, hashes):
        assert found[0] == found[1]
        assert len(set(found)) == 3


def test_a_file_that_is_not_there_or_bad_is_a_problem_of_the_experiment(tmp_path: Path) -> None:
    write(tmp_path / "rows", train=ANIMALS, validation=ANIMALS)
    with pytest.raises(ExperimentError, match=r"tasks\.names: there is no file 'none\.tsv'"):
        prepared(tmp_path, gazetteer="none.tsv")
    (tmp_path / "bad.tsv").write_text("York")
    with pytest.raises(ExperimentError, match=r"tasks\.names: .*bad\.tsv, line 1"):
        prepared(tmp_path, gazetteer="bad.tsv")
