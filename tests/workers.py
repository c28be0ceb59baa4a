"""Worker processes that live for a whole test run: one alone, and a pair joined by gloo."""

from __future__ import annotations

import importlib
import multiprocessing as mp
import os
import socket
import traceback
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import pytest


class Workers:
    """Run functions on every rank of a small process group, one after another."""

    def __init__(self, ranks: int) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        context = mp.get_context("spawn")
        self._results: Any = context.Queue()
        self._calls = [context.Queue() for _ in range(ranks)]
        self._processes = [
            context.Process(
                target=_serve, args=(rank, ranks, port, calls, self._results), daemon=True
            )
            for rank, calls in enumerate(self._calls)
        ]
        for process in self._processes:
            process.start()

    def run(self, function: Callable[..., Any], *arguments: Any) -> list[Any]:
        """Call an importable function on all ranks; give the results in order of rank."""
        name = f"{function.__module__}:{function.__qualname__}"
        for calls in self._calls:
            calls.put((name, arguments))
        found = dict(self._results.get(timeout=240) for _ in self._calls)
        failed = [str(value[1]) for value in found.values() if value[0] == "failed"]
        assert not failed, "\n".join(failed)
        return [found[rank][1] for rank in range(len(self._calls))]

    def close(self) -> None:
        for calls in self._calls:
            calls.put(None)
        for process in self._processes:
            process.join(10)
            if process.is_alive():
                process.kill()


def _serve(rank: int, ranks: int, port: int, calls: Any, results: Any) -> None:
    os.environ |= {
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "RANK": str(rank),
        "LOCAL_RANK": str(rank),
        "WORLD_SIZE": str(ranks),
        "GLOO_SOCKET_IFNAME": "lo",
    }
    import torch
    import torch.distributed as dist

    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    dist.init_process_group("gloo", rank=rank, world_size=ranks)
    while (call := calls.get()) is not None:
        name, arguments = call
        module, _, function = name.partition(":")
        try:
            value = ("done", getattr(importlib.import_module(module), function)(*arguments))
        except (Exception, pytest.fail.Exception):  # told to the test, which fails with it
            value = ("failed", f"rank {rank}: {traceback.format_exc()}")
        results.put((rank, value))
    dist.destroy_process_group()


@pytest.fixture(scope="session")
def pair() -> Iterator[Workers]:
    """Two ranks joined by gloo, shared by the whole test run."""
    workers = Workers(2)
    yield workers
    workers.close()


@pytest.fixture(scope="session")
def alone() -> Iterator[Workers]:
    """One rank in a process of its own, shared by the whole test run."""
    workers = Workers(1)
    yield workers
    workers.close()
