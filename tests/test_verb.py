"""What a verb prints: an error as its library told it."""

import errno

import pytest

from orchestrator import verb


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
