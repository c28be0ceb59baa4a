"""What is asked of a model comes from arguments, a file or stdin; a bad record is named."""

from pathlib import Path

import pytest

from orchestrator import records


def test_texts_come_from_arguments_else_from_stdin() -> None:
    assert records.read(["A", "B"], None, ["C\n"]) == [{"text": "A"}, {"text": "B"}]
    assert records.read(None, None, ["C\n", "\n", "D"]) == [{"text": "C"}, {"text": "D"}]


def test_a_file_holds_one_record_a_line(tmp_path: Path) -> None:
    file = tmp_path / "asked.jsonl"
    file.write_text('{"text": "Ä", "pair": "B"}\n\n{"text": "C"}\n', encoding="utf-8")
    assert records.read(None, file, []) == [{"text": "Ä", "pair": "B"}, {"text": "C"}]


@pytest.mark.parametrize("line", ["{'text': 1}", "[1, 2]", "plain words"])
def test_a_line_that_is_no_record_is_named_with_its_number(tmp_path: Path, line: str) -> None:
    file = tmp_path / "asked.jsonl"
    file.write_text('{"text": "fine"}\n' + line)
    with pytest.raises(ValueError, match=r"asked\.jsonl, line 2: .*record"):
        records.read(None, file, [])


def test_asking_nothing_says_how_to_ask() -> None:
    with pytest.raises(ValueError, match="give --text"):
        records.read(None, None, ["\n"])


def test_the_ready_experiments_are_found() -> None:
    assert records.shipped("demo.yaml").is_file()
