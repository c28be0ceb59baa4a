"""What a verb prints: the answer in full in a pipe, and an error as its library told it."""

import errno

import pytest
from rich.table import Table
from rich.text import Text

from orchestrator import verb

LONG = "The old baker sold a warm loaf to the quiet farmer. " * 300


def test_a_pipe_gets_every_text_on_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    verb.show(Text(LONG))
    verb.show(LONG)
    assert capsys.readouterr().out == f"{LONG}\n{LONG}\n"


def test_a_pipe_gets_every_row_of_a_table_on_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    table = Table("task", "metric", box=None, pad_edge=False)
    table.add_row("t" * 300, "m" * 300)
    verb.show(table)
    head, row = capsys.readouterr().out.splitlines()
    assert head.split() == ["task", "metric"]
    assert row.split() == ["t" * 300, "m" * 300]


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (FileNotFoundError(errno.ENOENT, "No such file", "x.yaml"), "x.yaml: No such file."),
        (FileNotFoundError("There is no model at x."), "There is no model at x."),
        (FileNotFoundError(errno.ENOENT, "No such file"), "[Errno 2] No such file"),
        (FileNotFoundError(), "FileNotFoundError"),
    ],
)
def test_a_missing_file_is_told_in_the_words_there_are(
    capsys: pytest.CaptureFixture[str], error: OSError, message: str
) -> None:
    assert verb.told(error) == verb.MISTAKE
    assert capsys.readouterr().err == f"{message}\n"
