"""Two sides of a comparison, each in processes of its own, that compute by turns on request."""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import psutil

ROOT = Path(__file__).resolve().parent.parent
START = 900.0
"""Seconds in which a side must have loaded everything: Ray needs minutes on a busy machine."""
STEP = 300.0
"""Seconds that one step may take before a side counts as stuck."""


class Step(NamedTuple):
    """One optimizer step as a side has measured it."""

    seconds: float
    """By the clock on the wall; of the slowest rank."""
    cpu: float
    """Processor seconds of all ranks; hardly moved by what else runs on the machine."""
    tokens: int
    """Real tokens of the global batch."""


class Turns:
    """A rank's end: waits for the driver's requests and answers them."""

    def __init__(self, port: int, rank: int) -> None:
        self._stream = socket.create_connection(("127.0.0.1", port)).makefile("rw")
        self._say(rank)

    def _say(self, value: Any) -> None:
        self._stream.write(json.dumps(value) + "\n")
        self._stream.flush()

    def requests(self) -> Iterator[int]:
        """Give how many steps to take, until the driver wants no more."""
        for line in self._stream:
            count = int(json.loads(line))
            if count == 0:
                return
            yield count

    def answer(self, steps: Sequence[Step]) -> None:
        """Tell of the steps that were asked for."""
        self._say(steps)


class Clock:
    """Measures one step: ``with Clock() as clock: ...``, then ``clock.step(tokens)``."""

    def __enter__(self) -> Clock:
        self._began = time.perf_counter(), time.process_time()
        return self

    def __exit__(self, *error: object) -> None:
        self._ended = time.perf_counter(), time.process_time()

    def step(self, tokens: int) -> Step:
        """Give what was measured."""
        wall, cpu = (end - begin for begin, end in zip(self._began, self._ended, strict=True))
        return Step(wall, cpu, tokens)


class Side:
    """The driver's end: the processes of one side, and all their ranks by socket.

    Each command gets ``--port`` appended and writes to ``log``; ``ranks`` of them (or of their
    own workers) must connect. Raises ``RuntimeError`` with the log's end when one dies.
    """

    def __init__(
        self,
        commands: Sequence[Sequence[str]],
        ranks: int,
        log: Path,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self._log = log
        self._ranks: dict[int, tuple[socket.socket, Any]] = {}
        self._processes: list[subprocess.Popen[bytes]] = []
        paths = [str(ROOT), str(ROOT / "benchmarks"), os.environ.get("PYTHONPATH", "")]
        own = {"PYTHONPATH": os.pathsep.join(filter(None, paths)), **(environment or {})}
        with socket.create_server(("127.0.0.1", 0)) as server:
            port = str(server.getsockname()[1])
            with log.open("wb") as output:
                for command in commands:
                    self._processes.append(
                        subprocess.Popen(
                            [*command, "--port", port],
                            stdout=output,
                            stderr=subprocess.STDOUT,
                            env=os.environ | own,
                            start_new_session=True,  # so that a Ctrl-C reaches the driver alone
                        )
                    )
            try:
                while len(self._ranks) < ranks:
                    self._wait(server, START)
                    connection, _ = server.accept()
                    stream = connection.makefile("rw")
                    self._ranks[int(json.loads(stream.readline()))] = connection, stream
            except BaseException:
                self.close()
                raise

    def turn(self, steps: int) -> list[Step]:
        """Let the side take some steps, while this process waits."""
        for _, stream in self._ranks.values():
            stream.write(f"{steps}\n")
            stream.flush()
        answers = []
        for connection, stream in self._ranks.values():
            self._wait(connection, STEP * steps)
            answers.append([Step(*step) for step in json.loads(stream.readline())])
        return [
            Step(max(s.seconds for s in same), sum(s.cpu for s in same), same[0].tokens)
            for same in zip(*answers, strict=True)
        ]

    def cpu_seconds(self) -> float:
        """Sum the processor time that all processes of this side have used so far."""
        total = 0.0
        for process in self._processes:
            try:
                parent = psutil.Process(process.pid)
                family = [parent, *parent.children(recursive=True)]
            except psutil.NoSuchProcess:
                continue
            for one in family:
                try:
                    used = one.cpu_times()
                except psutil.NoSuchProcess:
                    continue
                total += used.user + used.system
        return total

    def _wait(self, readable: socket.socket, seconds: float) -> None:
        until = time.monotonic() + seconds
        while not select.select([readable], [], [], 0.5)[0]:
            ended = [p.returncode for p in self._processes if p.poll() is not None]
            if ended or time.monotonic() > until:
                what = f"ended with {ended[0]}" if ended else f"said nothing for {seconds:.0f} s"
                raise RuntimeError(f"a process {what}; the end of {self._log}:\n{self.tail()}")

    def tail(self, lines: int = 25) -> str:
        """Give the end of what the processes have printed."""
        printed = self._log.read_text(errors="replace").splitlines()
        # Ray's cleaner says this every second where there is no dashboard to ask.
        told = [line for line in printed if "PlacementGroupCleaner" not in line]
        return "\n".join(told[-lines:])

    def close(self) -> None:
        """Let the processes end by themselves, then make them."""
        for _, stream in self._ranks.values():
            try:
                stream.write("0\n")
                stream.flush()
            except OSError:
                continue
        for process in self._processes:
            for last in (signal.SIGTERM, signal.SIGKILL, None):
                try:
                    process.wait(60 if self._ranks else 5)
                    break
                except subprocess.TimeoutExpired:
                    if last is not None:
                        os.killpg(process.pid, last)
