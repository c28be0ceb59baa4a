"""The one file that ``ray submit`` uploads: the ``tlmt`` command line, run on a cluster's head.

``ray submit cluster.yaml orchestrator/submit.py -- train experiments/demo.yaml`` copies this file
to the head's home directory and runs it with plain ``python`` there. It stands alone: it finds the
project that ``cluster.yaml`` installed, and imports nothing of it.
"""

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

PROJECT = Path.home() / "tlmt"
"""Where ``cluster.yaml`` puts the project; its virtual environment is ``.venv`` inside."""

STARTED_WITH = Path.home() / "ray_bootstrap_config.yaml"
"""The cluster file as ``ray up`` leaves it on the head: it knows the port of this head."""


def head_address(cluster_file: Path) -> str:
    """Give the address of this head, read off its start command; 6379 is Ray's own default port."""
    text = cluster_file.read_text() if cluster_file.is_file() else ""
    port = re.search(r"--head\b[^\n]*?--port[= ](\d+)", text.replace("\\\n", ""))
    return f"127.0.0.1:{port[1] if port else 6379}"


def environment() -> dict[str, str]:
    """Give the command's environment: this head and no other, with its token, unbuffered.

    Named explicitly because a machine may carry several heads, and because Ray's mode of
    authentication otherwise depends on which files lie in the home directory.
    """
    return {
        "RAY_ADDRESS": head_address(STARTED_WITH),
        "RAY_AUTH_MODE": "token",
        "PYTHONUNBUFFERED": "1",
        **os.environ,
    }


def command(arguments: list[str]) -> list[str]:
    """Give the command line to run, in the project's own interpreter."""
    python = PROJECT / ".venv" / "bin" / "python"
    if not python.is_file():
        raise FileNotFoundError(
            f"{python} does not exist on this head; `ray up cluster.yaml` installs the project."
        )
    return [str(python), "-P", "-m", "orchestrator", *arguments]


def main(arguments: list[str]) -> int:
    """Run ``tlmt`` with these arguments in the project's folder and give its exit code.

    ``ray submit`` answers 1 for every failure, so the code is printed too. Ctrl-C reaches the
    command through the terminal and SIGTERM is passed on; either way it is waited for, because
    the first of them saves a checkpoint.
    """
    try:
        child = subprocess.Popen(command(arguments), cwd=PROJECT, env=environment())
    except FileNotFoundError as error:
        print(error, file=sys.stderr)
        return 2
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda number, _frame: child.send_signal(number))
    code = child.wait()
    if code:
        print(f"tlmt ended with exit code {code}.", file=sys.stderr, flush=True)
    return code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
