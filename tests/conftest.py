"""A clean environment, fixed seeds and a tiny experiment for every test."""

import os
import random
import secrets
import shutil
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytest_plugins = ["workers"]

for name in [n for n in os.environ if n.startswith(("RAY_", "MLFLOW_", "TLMT_", "HF_", "DS_"))]:
    del os.environ[name]

SCRATCH = Path(tempfile.mkdtemp(prefix="tlmt-"))
"""What belongs to the whole test run: the token of its Ray processes, empty caches."""

(SCRATCH / "token").touch(0o600)
(SCRATCH / "token").write_text(secrets.token_hex(32))

os.environ.update(
    # Set before anything heavy is imported; the processes that tests start inherit it.
    HF_HOME=str(SCRATCH / "hf"),
    HF_HUB_OFFLINE="1",
    HF_DATASETS_OFFLINE="1",
    OMP_NUM_THREADS="1",
    MLFLOW_DISABLE_TELEMETRY="true",
    MPLBACKEND="Agg",
    NO_COLOR="1",
    RAY_AUTH_MODE="token",
    RAY_AUTH_TOKEN_PATH=str(SCRATCH / "token"),
    RAY_USAGE_STATS_ENABLED="0",
    TORCH_EXTENSIONS_DIR=str(SCRATCH / "extensions"),
)
os.environ.pop("FORCE_COLOR", None)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the file that waits longest: at the end there is nothing to run beside it."""
    items.sort(key=lambda item: item.path.stem != "test_tuning")


def pytest_sessionfinish() -> None:
    """Leave nothing behind."""
    shutil.rmtree(SCRATCH, ignore_errors=True)


@pytest.fixture(autouse=True)
def _seeds() -> None:
    """Start every test from the same random numbers, without importing torch for its sake."""
    random.seed(0)
    if "numpy" in sys.modules:
        sys.modules["numpy"].random.seed(0)
    if "torch" in sys.modules:
        sys.modules["torch"].manual_seed(0)


@pytest.fixture
def tiny_experiment(
    tmp_path: Path, make_experiment: Callable[..., dict[str, Any]]
) -> Callable[..., dict[str, Any]]:
    """Make experiments like ``make_experiment``'s, with their runs in a folder of the test's."""
    return lambda **changes: make_experiment(**{"storage.path": str(tmp_path / "runs"), **changes})


@pytest.fixture(scope="session")
def make_experiment() -> Callable[..., dict[str, Any]]:
    """Make experiments that train in seconds: two tasks of the built-in corpus, one worker.

    ``make_experiment(**{"train.steps": 4})`` changes settings by their dotted names.
    """

    def build(**changes: Any) -> dict[str, Any]:
        from orchestrator.document import override

        corpus = "builtin:demo?size=240"
        tree = {
            "name": "tiny",
            "encoder": {"model": "tiny"},
            "tasks": {
                "sentiment": {
                    "family": "classify",
                    "data": {"path": corpus, "text": "text", "label": "sentiment"},
                },
                "topic": {
                    "family": "classify",
                    "data": {"path": corpus, "text": "text", "label": "topic"},
                },
            },
            "batch": {"tokens": 256, "micro_tokens": 256},
            "train": {"steps": 4, "evaluate_every": 2},
            "scaling": {"workers": 1, "threads": 1},
        }
        return override(tree, changes)

    return build


@pytest.fixture(scope="session")
def tiny_prepared(
    make_experiment: Callable[..., dict[str, Any]], tmp_path_factory: pytest.TempPathFactory
) -> Any:
    """The data of the tiny experiment, prepared once: no test changes it."""
    from orchestrator.experiment import parse
    from orchestrator.prepare import prepare

    return prepare(parse(make_experiment()), [], tmp_path_factory.mktemp("cache"), processes=1)


@pytest.fixture
def work(
    tiny_experiment: Callable[..., dict[str, Any]], tmp_path: Path, tiny_prepared: Any
) -> Callable[..., Any]:
    """Make the work of runs of the tiny experiment (see ``looped.making``)."""
    from looped import making

    return making(tiny_experiment, tmp_path, tiny_prepared)
