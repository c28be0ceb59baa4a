"""What is asked of a model comes from arguments, a file or stdin; a bad record is named."""

import io
from pathlib import Path
from typing import TextIO

import pytest

from orchestrator import records


def stdin(data: bytes = b"") -> TextIO:
    """Give a stream as the program gets it."""
    return io.TextIOWrapper(io.BytesIO(data), encoding="utf-8")


def texts(data: bytes) -> list[str]:
    """Read a text per line of stdin."""
    return [asked["text"] for asked in records.read(None, None, stdin(data))]


def test_texts_come_from_arguments_else_from_stdin() -> None:
    assert records.read(["A", "B"], None, stdin(b"C\n")) == [{"text": "A"}, {"text": "B"}]
    assert records.read(None, None, stdin(b"C\nD")) == [{"text": "C"}, {"text": "D"}]


def test_every_line_of_stdin_is_asked_so_that_answers_keep_its_order() -> None:
    assert texts(b"A\n\n \nB\n") == ["A", "", " ", "B"]
    assert records.read(["", "A"], None, stdin()) == [{"text": ""}, {"text": "A"}]


def test_only_a_newline_ends_a_line() -> None:
    strange = "A\u2028B\u2029C\x85D\x0cE\x1cF\rG"
    assert texts(f"{strange}\r\nH\r\n".encode()) == [strange, "H"]


def test_json_may_hold_separators_of_unicode(tmp_path: Path) -> None:
    file = tmp_path / "asked.jsonl"
    file.write_bytes('{"text": "A\u2028B\u0085C"}\r\n{"text": "D"}\n'.encode())
    assert records.read(None, file, stdin()) == [{"text": "A\u2028B\u0085C"}, {"text": "D"}]


def test_a_byte_order_mark_is_no_part_of_the_text(tmp_path: Path) -> None:
    file = tmp_path / "asked.jsonl"
    file.write_text('{"text": "A"}\n', encoding="utf-8-sig")
    assert records.read(None, file, stdin()) == [{"text": "A"}]
    assert texts("A\n".encode("utf-8-sig")) == ["A"]


def test_bytes_that_are_not_utf_8_are_named_with_their_line(tmp_path: Path) -> None:
    file = tmp_path / "asked.jsonl"
    file.write_bytes(b'{"text": "fine"}\n{"text": "caf\xe9"}\n')
    with pytest.raises(ValueError, match=r"asked\.jsonl, line 2: byte 0xe9 is not UTF-8"):
        records.read(None, file, stdin())
    with pytest.raises(ValueError, match=r"stdin, line 1: byte 0xff is not UTF-8"):
        texts("A\n".encode("utf-16"))


def test_a_file_holds_one_record_a_line(tmp_path: Path) -> None:
    file = tmp_path / "asked.jsonl"
    file.write_text('{"text": "Ä", "pair": "B"}\n\n{"text": "C"}\n', encoding="utf-8")
    assert records.read(None, file, stdin()) == [{"text": "Ä", "pair": "B"}, {"text": "C"}]


@pytest.mark.parametrize("line", ["{'text': 1}", "[1, 2]", "plain words"])
def test_a_line_that_is_no_record_is_named_with_its_number(tmp_path: Path, line: str) -> None:
    file = tmp_path / "asked.jsonl"
    file.write_text('{"text": "fine"}\n' + line)
    with pytest.raises(ValueError, match=r"asked\.jsonl, line 2: .*record"):
        records.read(None, file, stdin())


@pytest.mark.parametrize("data", [b"", b"\n", b" \n\n"])
def test_asking_nothing_says_how_to_ask(data: bytes) -> None:
    with pytest.raises(ValueError, match="give --text"):
        texts(data)


def test_the_ready_experiments_are_found() -> None:
    assert records.shipped("demo.yaml").is_file()
