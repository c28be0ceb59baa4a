"""Tokens: what the files hold, when they are made anew, and what reading them costs."""

import pickle
import subprocess
import sys
import time
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import reading

from encoders.tokenizer import Reader
from orchestrator import tokenise as making
from orchestrator.tokenise import Work, tokenise
from orchestrator.tokens import Split
from tasks.classify import Classify
from tasks.family import Family
from tasks.roles import Roles
from tasks.span import Span
from tasks.splits import digest

TEXTS = [
    {"text": sentence, "label": "odd" if i % 2 else "even"}
    for i, sentence in enumerate(reading.SENTENCES)
]
WORDS = [
    {
        "tokens": sentence.split(),
        "predicate": 1,
        "tags": ["B-A0", "B-V", *["O"] * (len(sentence.split()) - 2)],
    }
    for sentence in reading.SENTENCES
]


@pytest.fixture(scope="module")
def reader() -> Reader:
    return reading.reader()


def work(reader: Reader, kind: type[Family] = Classify, gold: bool = True, **data: Any) -> Work:
    return Work(reading.fitted(kind, WORDS if kind is Roles else TEXTS, **data), reader, gold)


def make(own: Work, rows: list[dict[str, Any]], cache: Path, **options: Any) -> Split:
    table = pa.Table.from_pylist(
        [dict(row) for row in type(own.family).gather(own.family.data, rows)]
    )
    return Split(tokenise(own, "train", table, digest(table), cache, **options))


@pytest.mark.parametrize("kind", [Classify, Roles])
def test_an_example_is_what_the_reader_and_the_family_made(
    tmp_path: Path, reader: Reader, kind: type[Family]
) -> None:
    own, rows = work(reader, kind), WORDS if kind is Roles else TEXTS
    split = make(own, rows, tmp_path)
    assert len(split) == len(rows)
    for index, row in enumerate(kind.gather(own.family.data, rows)):
        expected = reading.example(own.family, row, reader)
        found = split.example(index)
        assert split.terms[index] == expected.pop("terms")
        assert split.lengths[index] == len(expected["input_ids"])
        assert set(found) == set(expected)
        for name, column in found.items():
            assert column.tolist() == list(expected[name]), name
            assert column.dtype in (np.int32, np.float32)
        assert split.gold(index) == own.family.gold(row)


def test_every_row_gets_its_own_windows(tmp_path: Path, reader: Reader) -> None:
    rows = [
        {"question": "the dog", "context": context, "answer": "the", "start": context.index("the")}
        for context in (" ".join(reading.SENTENCES[:count]) for count in (3, 1, 2))
    ]
    own = Work(reading.fitted(Span, rows, max_length=16, stride=2), reader, True)
    split = make(own, rows, tmp_path)
    assert [len(split.example(index)["sequences"]) for index in range(3)] == [3, 1, 2]
    for index, row in enumerate(rows):
        expected = reading.example(own.family, row, reader)
        assert split.terms[index] == expected.pop("terms")
        found = {name: column.tolist() for name, column in split.example(index).items()}
        assert found == {name: list(column) for name, column in expected.items()}


def test_batches_of_a_file_join_without_a_seam(
    tmp_path: Path, reader: Reader, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = TEXTS * 10
    whole = make(work(reader), rows, tmp_path / "whole")
    monkeypatch.setattr(making, "BATCH_ROWS", 7)
    monkeypatch.setattr(making, "CHUNK_ROWS", 3)
    parts = make(work(reader), rows, tmp_path / "parts")
    assert len(parts) == len(whole) == len(rows)
    np.testing.assert_array_equal(parts.lengths, whole.lengths)
    np.testing.assert_array_equal(parts.terms, whole.terms)
    for index in range(len(rows)):
        found, expected = parts.example(index), whole.example(index)
        assert {k: v.tolist() for k, v in found.items()} == {
            k: v.tolist() for k, v in expected.items()
        }
        assert parts.gold(index) == whole.gold(index)
    assert parts.contents.tolist() == whole.contents.tolist() == whole.contents.tolist()[:4] * 10
    assert len(set(whole.contents.tolist())) == 4
    turned = make(work(reader), TEXTS[::-1], tmp_path / "turned")
    assert turned.contents.tolist() == whole.contents.tolist()[3::-1]
    with pytest.raises(IndexError, match="no example 40"):
        parts.example(len(rows))


def test_no_rows_give_an_empty_split(tmp_path: Path, reader: Reader) -> None:
    split = make(work(reader), [], tmp_path)
    assert len(split) == len(split.lengths) == split.counts.tokens == 0


def test_processes_write_the_file_that_one_writes(
    tmp_path: Path, reader: Reader, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(making, "CHUNK_ROWS", 5)
    alone = make(work(reader), TEXTS * 10, tmp_path / "one", processes=1)
    pooled = make(work(reader), TEXTS * 10, tmp_path / "two", processes=2)
    assert pooled.path.read_bytes() == alone.path.read_bytes()


def test_truncation_is_counted(tmp_path: Path, reader: Reader) -> None:
    own = work(reader, max_length=8)
    split = make(own, TEXTS, tmp_path)
    full = make(work(reader), TEXTS, tmp_path)
    assert split.counts.truncated == sum(length > 8 for length in full.lengths) > 0
    assert split.counts.longest == max(split.lengths) == 8
    assert full.counts.truncated == 0


def test_tokens_are_made_once_for_equal_content_and_anew_for_other(
    tmp_path: Path, reader: Reader
) -> None:
    first = make(work(reader), TEXTS, tmp_path)
    made = first.path.stat().st_mtime_ns
    moved = make(work(reader, max_bad_rows=3, limit=100), TEXTS, tmp_path)
    assert moved.path == first.path
    assert moved.path.stat().st_mtime_ns == made
    other = [
        make(work(reader), TEXTS[::-1], tmp_path),
        make(work(reader, gold=False), TEXTS, tmp_path),
        make(work(reader, max_length=8), TEXTS, tmp_path),
        make(work(reader, labels=["even", "odd", "third"]), TEXTS, tmp_path),
        make(work(reading.tiny.reader(lambda: ["other words"])), TEXTS, tmp_path),
    ]
    assert len({first.path, *(split.path for split in other)}) == 6


def test_a_file_cut_short_is_made_anew_and_never_read(tmp_path: Path, reader: Reader) -> None:
    path = make(work(reader), TEXTS, tmp_path).path
    content = path.read_bytes()
    path.write_bytes(content[:-10])
    with pytest.raises(LookupError, match="cut short"):
        Split(path)
    (path.parent.parent / f".{path.parent.name}.tmp").mkdir()
    assert make(work(reader), TEXTS, tmp_path).path.read_bytes() == content
    assert sorted(p.name for p in path.parent.iterdir()) == ["meta.json", "train.arrow"]


def test_of_two_that_want_the_same_tokens_one_makes_them(
    tmp_path: Path, reader: Reader, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[int] = []
    write = making._write

    def slow(*arguments: Any) -> Any:
        made.append(1)
        time.sleep(0.2)
        return write(*arguments)

    monkeypatch.setattr(making, "_write", slow)
    with ThreadPoolExecutor(4) as pool:
        asked = [pool.submit(make, work(reader), TEXTS, tmp_path) for _ in range(4)]
        found = {one.result().path for one in asked}
    assert len(found) == len(made) == 1


def test_processes_that_want_the_same_tokens_get_the_same_file(
    tmp_path: Path, reader: Reader
) -> None:
    with ProcessPoolExecutor(2, get_context("spawn")) as pool:
        asked = [pool.submit(make, work(reader), TEXTS * 50, tmp_path) for _ in range(2)]
        first, second = (one.result() for one in asked)
    assert first.path == second.path
    assert (
        first.lengths.tolist() == make(work(reader), TEXTS * 50, tmp_path / "own").lengths.tolist()
    )
    assert [p.name for p in (tmp_path / "tokens").rglob("*.arrow")] == ["train.arrow"]


def test_a_split_travels_as_its_path(tmp_path: Path, reader: Reader) -> None:
    split = make(work(reader), TEXTS, tmp_path)
    sent = pickle.dumps(split)
    assert len(sent) < 1000
    assert pickle.loads(sent).example(2)["input_ids"].tolist() == (
        split.example(2)["input_ids"].tolist()
    )


MEASURE = """
import sys, time, random
from orchestrator.tokens import Split
def own():
    lines = open("/proc/self/status").read().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("RssAnon"))
Split(sys.argv[2]).example(0)
before = own()
split = Split(sys.argv[1])
places = random.Random(0).sample(range(len(split)), 50_000)
total = int(split.lengths.sum()) + int(split.terms.sum())
start = time.perf_counter()
for place in places:
    split.example(place)
seconds = (time.perf_counter() - start) / len(places)
print(len(split), own() - before, seconds * 1e6, "torch" in sys.modules)
"""


def test_a_million_rows_cost_a_reader_less_than_50_megabytes(
    tmp_path: Path, reader: Reader, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = make(work(reader, gold=False), TEXTS, tmp_path)
    own = work(reader, gold=False)
    batch, truncated = own.encode([TEXTS[i % 4] for i in range(20_000)])
    monkeypatch.setattr(making, "_encoded", lambda *_: [(batch, truncated)] * 50)
    large = make(own, [{**TEXTS[0], "text": "a million of these"}], tmp_path)
    command = [sys.executable, "-c", MEASURE, str(large.path), str(small.path)]
    found = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    assert int(found[0]) == 1_000_000
    assert int(found[1]) < 50_000  # kilobytes
    assert float(found[2]) < 100  # microseconds an example
    assert found[3] == "False"
