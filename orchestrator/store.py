"""The MLflow store: what a run sends to it, as plain data."""

from __future__ import annotations

import fcntl
import json
import logging
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "5")  # seconds; MLflow's own is 120
os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")  # that is for results

import mlflow
import requests
from mlflow.entities import (
    Dataset,
    DatasetInput,
    InputTag,
    LoggedModel,
    LoggedModelOutput,
    LoggedModelStatus,
    Metric,
    Param,
    RunTag,
)
from mlflow.exceptions import MlflowException
from sqlalchemy.exc import SQLAlchemyError

from orchestrator.summary import DataSplit

OUTAGES = (MlflowException, requests.RequestException, SQLAlchemyError, OSError)
"""What a store that is away or broken raises."""
METRICS_PER_REQUEST = 1000
PARAMS_PER_REQUEST = 100
DIGEST_LENGTH = 36  # characters of a data set's digest that MLflow keeps

log = logging.getLogger(__name__)

Value = tuple[str, float, int, int]
"""A metric's key, value, time (milliseconds since 1970) and step."""


class ModelError(RuntimeError):
    """A saved model that cannot be loaded and asked in a fresh process."""


@dataclass(frozen=True)
class Held:
    """What a store has of a run."""

    id: str
    status: str
    tags: Mapping[str, str]


class Store:
    """One experiment of one MLflow store. Every method may raise one of ``OUTAGES``."""

    def __init__(self, uri: str, experiment: str) -> None:
        """Open the store, and make it and the experiment if they are not there.

        Two processes must not create one SQLite store at once: the first holds a lock beside it.
        """
        for name in ("mlflow", "alembic"):  # they tell every step of creating a store
            logging.getLogger(name).setLevel(logging.WARNING)
        self.uri = uri
        if not uri.startswith("sqlite:///"):
            self.client = mlflow.MlflowClient(uri)
            self.experiment = self._experiment(experiment, None)
            return
        path = Path(uri.removeprefix("sqlite:///"))
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.with_name(f"{path.name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            self.client = mlflow.MlflowClient(uri)
            self.experiment = self._experiment(experiment, path.with_name("mlartifacts").as_uri())

    def _experiment(self, name: str, artifacts: str | None) -> str:
        found = self.client.get_experiment_by_name(name)
        if found is None:
            try:
                kind = {"mlflow.experimentKind": "custom_model_development"}  # opens on metrics
                return str(self.client.create_experiment(name, artifacts, tags=kind))
            except MlflowException as error:
                if error.error_code != "RESOURCE_ALREADY_EXISTS":
                    raise
                found = self.client.get_experiment_by_name(name)  # another process was faster
        assert found is not None
        return str(found.experiment_id)

    def find(self, run: str) -> tuple[str, dict[str, int]] | None:
        """Find a run of ours: MLflow's id of it, and the highest step it has of each metric."""
        same = f"tags.`tlmt.run_id` = '{run}'"
        found = next(iter(self.client.search_runs([self.experiment], same)), None)
        if found is None:
            return None
        number = str(found.info.run_id)
        histories = {key: self.client.get_metric_history(number, key) for key in found.data.metrics}
        return number, {key: max(m.step for m in history) for key, history in histories.items()}

    def holds(self, run: str) -> bool:
        """Say whether the store knows a run by MLflow's id."""
        try:
            self.client.get_run(run)
        except MlflowException as error:
            if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                raise
            return False
        return True

    def create(self, run: str, start: int, tags: Mapping[str, str]) -> str:
        """Make a run that started at this time in milliseconds; give MLflow's id of it."""
        return self.begin(run, start, {"tlmt.run_id": run, **tags})

    def begin(self, name: str, start: int, tags: Mapping[str, str]) -> str:
        """Make a run of any kind, which its tags tell; give MLflow's id of it."""
        own = {"mlflow.source.name": "tlmt", "mlflow.source.type": "LOCAL"}
        made = self.client.create_run(self.experiment, start, {**own, **tags}, run_name=name)
        return str(made.info.run_id)

    def runs(self, tag: str, value: str) -> Iterator[Held]:
        """Give all runs with a tag, the latest first; its value may hold no quotes."""
        same, token = f"tags.`{tag}` = '{value}'", None
        while True:
            page = self.client.search_runs([self.experiment], same, page_token=token)
            yield from (Held(run.info.run_id, run.info.status, run.data.tags) for run in page)
            token = page.token
            if not token:
                return

    def delete(self, run: str) -> None:
        """Take a run away; MLflow keeps it among the deleted ones."""
        self.client.delete_run(run)

    def send(
        self,
        run: str,
        values: Sequence[Value] = (),
        params: Mapping[str, str] | None = None,
        tags: Mapping[str, str] | None = None,
    ) -> None:
        """Send any number of values, parameters and tags at once; what is there already stays."""
        self.client.log_batch(
            run,
            metrics=[Metric(legal(key), *rest) for key, *rest in values],
            params=[Param(legal(key), value) for key, value in (params or {}).items()],
            tags=[RunTag(key, value) for key, value in (tags or {}).items()],
        )

    def params(self, run: str, params: Iterable[tuple[str, str]]) -> None:
        """Set the parameters that the run has not; MLflow lets none be changed."""
        known = self.client.get_run(run).data.params
        new = [Param(legal(key), value) for key, value in params if legal(key) not in known]
        for start in range(0, len(new), PARAMS_PER_REQUEST):
            self.client.log_batch(run, params=new[start : start + PARAMS_PER_REQUEST])

    def metrics(self, run: str, values: Sequence[Value]) -> None:
        """Send up to ``METRICS_PER_REQUEST`` values.

        A value sent again with the same time, after a success that was not seen, stays one.
        """
        self.send(run, values)

    def inputs(self, run: str, splits: Iterable[DataSplit]) -> None:
        """List the data that the run read."""
        self.client.log_inputs(run, [_input(data) for data in splits])

    def artifact(self, run: str, path: Path, folder: str | None) -> None:
        """Copy a file into a folder of the run's artifacts."""
        self.client.log_artifact(run, str(path), folder)

    def tag(self, run: str, key: str, value: str) -> None:
        """Set a tag."""
        self.client.set_tag(run, key, value)

    def status(self, run: str, status: str, moment: int) -> None:
        """Say that the run is RUNNING, or since when FINISHED, FAILED or KILLED."""
        if status == "RUNNING":
            self.client.update_run(run, status)
        else:
            self.client.set_terminated(run, status, moment)

    def model(self, run: str, own: str, folder: Path, scores: Sequence[Value]) -> str:
        """Log a saved model; it is ready only after it was loaded back and asked. Give its id.

        What an outage left of logging the same model, which its ``own`` id tells, is completed.
        ``scores`` are metrics of the run that belong to the model: they are shown with it too.
        """
        logged = self._model(run, own)
        if LoggedModelStatus.is_finalized(logged.status):
            return str(logged.model_id)
        outputs = self.client.get_run(run).outputs.model_outputs
        if logged.model_id not in {output.model_id for output in outputs}:
            self.client.log_outputs(run, [LoggedModelOutput(logged.model_id, step=0)])
        with tempfile.TemporaryDirectory() as place:
            copy = Path(shutil.copytree(folder, Path(place) / "model"))
            description = mlflow.models.Model.load(str(copy))
            description.run_id, description.model_id = run, logged.model_id
            description.artifact_path = logged.artifact_location
            description.save(str(copy / "MLmodel"))
            self.client.log_model_artifacts(logged.model_id, str(copy))
        told = [Metric(legal(k), *rest, model_id=logged.model_id) for k, *rest in scores]
        self.client.log_batch(run, metrics=told)
        try:
            ask(f"models:/{logged.model_id}", self.uri)
        except ModelError as error:
            self.client.finalize_logged_model(logged.model_id, "FAILED")
            log.error("The model that MLflow holds is broken; use %s. %s", folder, error)
        else:
            self.client.finalize_logged_model(logged.model_id, "READY")
        return str(logged.model_id)

    def _model(self, run: str, own: str) -> LoggedModel:
        """Find what the run has of a model, or begin it."""
        same = f"source_run_id = '{run}' AND tags.`tlmt.model` = '{own}'"
        found = next(iter(self.client.search_logged_models([self.experiment], same)), None)
        tag = {"tlmt.model": own}
        return found or self.client.create_logged_model(self.experiment, "model", run, tag)


def own_store() -> str:
    """Give the address of the store that the working folder has of its own."""
    return f"sqlite:///{Path('mlflow.db').resolve()}"


def _input(data: DataSplit) -> DatasetInput:
    contexts = {"train": "training", "validation": "validation", "test": "testing"}
    names = ("rows", "truncated", "set_aside", "strange", "unlabelled")
    counts = {name: getattr(data, name) for name in names}
    dataset = Dataset(
        name=f"{data.task}/{data.split}",
        digest=data.digest[:DIGEST_LENGTH] or "unknown",
        source_type="local",
        source=json.dumps({"uri": data.source}),
        profile=json.dumps(counts),
    )
    return DatasetInput(dataset, [InputTag("mlflow.data.context", contexts[data.split])])


ASK = """
import sys, mlflow
model = mlflow.pyfunc.load_model(sys.argv[1])
print(model.predict(model.input_example))
"""


def ask(model: str, store: str) -> str:
    """Load a model in a fresh process, far from the sources and without pickle, and ask it.

    Returns what it answers to its example. Raises ``ModelError``.
    """
    with tempfile.TemporaryDirectory() as place:
        done = subprocess.run(
            [sys.executable, "-P", "-c", ASK, model],
            cwd=place,
            env={
                **os.environ,
                "MLFLOW_TRACKING_URI": store,  # not an argument: every user sees those
                "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false",
            },
            capture_output=True,
            text=True,
        )
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise ModelError(f"{model} does not answer in a fresh process: {without_secrets(last)}")
    return done.stdout


def interface(store: str, port: int) -> list[str]:
    """Give the command that shows a store in the browser, on this machine only."""
    return [
        *(sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port)),
        *("--workers", "1", "--backend-store-uri", store),
    ]


def legal(key: str) -> str:
    """Replace what MLflow takes in no name."""
    return re.sub(r"[^\w\-. :/]", "_", key)


def without_secrets(text: str) -> str:
    """Hide user and password in addresses."""
    return re.sub(r"://[^/@\s]+@", "://***@", text)
