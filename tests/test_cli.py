"""The command line answers on stdout, fails with one message and a code, and starts quickly."""

import json
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from orchestrator import verb

HEAVY = ("torch", "ray", "mlflow", "transformers", "datasets", "deepspeed", "numpy", "pandas")
SECONDS = 0.4


def tlmt(*arguments: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run the command in a folder, as a user would."""
    command = [sys.executable, "-P", "-m", "orchestrator", *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120)


def processor_seconds() -> float:
    """Give the processor time of all ended children; other work on the machine does not count."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def test_help_comes_at_once(tmp_path: Path) -> None:
    tlmt("--help", folder=tmp_path)
    before = processor_seconds()
    assert "Commands:" in tlmt("--help", folder=tmp_path).stdout
    assert processor_seconds() - before <= SECONDS


def test_help_loads_nothing_heavy() -> None:
    program = (
        "import contextlib, sys; sys.argv = ['tlmt', '--help']\n"
        "from orchestrator.cli import main\n"
        "with contextlib.suppress(SystemExit): main()\n"
        f"print('loaded', [name for name in {HEAVY} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert "loaded []" in done.stdout, done.stderr


def test_the_import_of_the_package_loads_nothing_heavy() -> None:
    program = f"import orchestrator, sys; print([n for n in {HEAVY} if n in sys.modules])"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout == "[]\n"


def test_a_mistyped_verb_is_a_mistake_of_the_user(tmp_path: Path) -> None:
    done = tlmt("synk", folder=tmp_path)
    assert done.returncode == verb.MISTAKE
    assert "'sync'" in done.stderr


def test_a_mistake_gives_one_message_and_no_traceback(tmp_path: Path) -> None:
    done = tlmt("sync", "nowhere", folder=tmp_path)
    assert done.returncode == verb.MISTAKE
    assert "There is no run 'nowhere'" in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""


def test_debug_shows_the_traceback_wherever_it_stands(tmp_path: Path) -> None:
    done = tlmt("sync", "nowhere", "--debug", folder=tmp_path)
    assert done.returncode == verb.MISTAKE
    assert "Traceback" in done.stderr


def test_json_is_the_only_thing_on_stdout(capsys: pytest.CaptureFixture[str]) -> None:
    def chatty(as_json: bool) -> verb.Answer:
        print("a library says hello")
        return verb.Answer({"loss": 0.5}, "loss 0.5")

    with pytest.raises(SystemExit) as end:
        verb.answering(chatty)(as_json=True)
    out, errors = capsys.readouterr()
    assert end.value.code == 0
    assert json.loads(out) == {"loss": 0.5}
    assert errors == "a library says hello\n"


def test_a_pipe_gets_plain_text(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        verb.answering(lambda: verb.Answer({}, "[bold]0.5[/bold] :smile:"))()
    assert capsys.readouterr().out == "[bold]0.5[/bold] :smile:\n"


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (ValueError("a setting"), verb.MISTAKE),
        (LookupError("a name"), verb.MISTAKE),
        (FileNotFoundError(2, "No such file", "x.yaml"), verb.MISTAKE),
        (KeyError("a bug"), verb.FAILURE),
        (RuntimeError("a worker died"), verb.FAILURE),
        (KeyboardInterrupt(), verb.INTERRUPTED),
    ],
)
def test_the_exit_code_tells_mistakes_from_failures(error: BaseException, code: int) -> None:
    assert verb.exit_code(error) == code


def test_a_failure_says_how_to_see_more(capsys: pytest.CaptureFixture[str]) -> None:
    verb.told(RuntimeError("a worker died"))
    assert capsys.readouterr().err == (
        "RuntimeError: a worker died\n`--debug` shows where it happened.\n"
    )
