"""A trained run as an MLflow model, which answers without pickle and far from the sources."""

from __future__ import annotations

import importlib.util
import shutil
import sys
import warnings
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pandas as pd

with warnings.catch_warnings():
    warnings.simplefilter("ignore", UserWarning)  # MLflow warns of hints in types of its own
    import mlflow
    from mlflow.exceptions import MlflowException
    from mlflow.models import ModelSignature
    from mlflow.pyfunc import PythonModel
    from mlflow.types.schema import AnyType, ColSpec, DataType, Schema

from tasks.media import KINDS
from tasks.opened import URI

PACKAGES = ("encoders", "orchestrator", "tasks", "tune_spaces")
NEEDED = (
    "mlflow",
    "numpy",
    "pandas",
    "pillow",
    "pyarrow",
    "pydantic",
    "pyyaml",
    "regex",
    "sacrebleu",
    "safetensors",
    "scikit-learn",
    "scipy",
    "soundfile",
    "tokenizers",
    "torch",
    "transformers",
    "typing-extensions",
)
"""What answering needs of the libraries; training needs more."""
EXAMPLES = {
    "text": "The old baker sold a warm loaf to the quiet farmer.",
    "image": "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABAQAAAAA3bvkkAAAACklEQVR42mNg"
    "AAAAAgAB5Sfe/AAAAABJRU5ErkJggg==",
    "audio": "data:audio/wav;base64,UklGRiwAAABXQVZFZm10IBAAAAABAAEAQB8AAEAfAAABAAgAZGF0YQgAAACA"
    "gICAgICAgA==",
}
"""By what the encoder reads; a client has no files here, so pictures and sounds travel as text."""
FIELDS = ("pair", "question", "user")
"""Texts that some tasks need beside ``text``."""


class Served(PythonModel):
    """Answers records, one a row: ``{task: answer}`` for each."""

    def load_context(self, context: Any) -> None:
        """Load the run that lies in the model's folder."""
        from orchestrator.predict import Predictor

        self.predictor = Predictor.load(Path(context.artifacts["run"]))

    def predict(
        self, context: Any, model_input: pd.DataFrame, params: dict[str, Any] | None = None
    ) -> list[dict[str, Any]]:
        """Answer a frame with a column ``text`` (or ``image``, ``audio``) and what tasks need.

        Raises ``MlflowException``, whose text the server sends back with status 400, for a record
        that cannot be asked.
        """
        try:
            return self._answers(model_input)
        except ValueError as error:
            raise MlflowException.invalid_parameter_value(str(error)) from error

    def _answers(self, model_input: pd.DataFrame) -> list[dict[str, Any]]:
        """Answer a frame.

        Raises ``ValueError`` also for a picture or a sound that is no data URI: whoever may ask the
        server may not therefore have it open the files of its machine.
        """
        records = [
            {str(key): value for key, value in row.items() if not absent(value)}
            for row in model_input.to_dict(orient="records")
        ]
        field = self.predictor.reader.kind
        for place, record in enumerate(records if field in KINDS else ()):
            if not str(record.get(field, URI)).startswith(URI):
                raise ValueError(
                    f"record {place + 1}: {field} is {str(record[field])[:80]!r}; expected a data "
                    f"URI, such as {EXAMPLES[field]!r}. A server opens no paths."
                )
        return self.predictor(records)


def absent(value: Any) -> bool:
    """Say whether a frame's cell stands for a field that its record lacks: None, NaN, NaT or NA."""
    return bool(pd.api.types.is_scalar(value) and pd.isna(value))


def save(run: Path) -> Path:
    """Make ``model/`` of a finished run, and call it done only after a fresh process asked it.

    Raises ``ModelError`` if the saved model does not answer; ``model/`` is then not there.
    """
    from orchestrator.prepare import Prepared
    from orchestrator.store import ask

    reads = Prepared.read(run).reads
    final, made = run / "model", run / ".model.tmp"
    shutil.rmtree(made, ignore_errors=True)
    small = made / "run"
    small.mkdir(parents=True)
    _strip(run, small)
    mlflow.pyfunc.save_model(
        made / "model",
        python_model=str(Path(__file__).resolve()),
        artifacts={"run": str(small)},
        code_paths=[str(_source(package)) for package in PACKAGES],
        signature=signature(run),
        input_example=pd.DataFrame({reads: [EXAMPLES[reads]]}),
        pip_requirements=[_pinned(name) for name in NEEDED],
    )
    for cache in (made / "model").rglob("__pycache__"):
        shutil.rmtree(cache)
    ask(str(made / "model"), f"sqlite:///{made / 'unused.db'}")
    shutil.rmtree(final, ignore_errors=True)
    (made / "model").rename(final)
    shutil.rmtree(made)
    return final


def _strip(run: Path, small: Path) -> None:
    """Copy what answering needs: settings, label sets, the best checkpoint without its state."""
    from orchestrator import checkpoint

    best = checkpoint.best(run)
    for name in ("experiment.yaml", "prepared.json"):
        shutil.copy2(run / name, small / name)
    checkpoint.lean(best, small / best.relative_to(run))


def _pinned(name: str) -> str:
    """Name the release in use; a build such as ``+cpu`` is not on every index."""
    return f"{name}=={version(name).partition('+')[0]}"


def _source(package: str) -> Path:
    """Find the folder of one of our packages, in a checkout or where it was installed."""
    spec = importlib.util.find_spec(package)
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin).parent


def signature(run: Path) -> ModelSignature:
    """Say what may be asked, and that each task answers in its own form."""
    from orchestrator.prepare import Prepared

    prepared = Prepared.read(run)
    optional = [ColSpec(DataType.string, name, required=False) for name in FIELDS]
    optional.append(ColSpec(AnyType(), "predicate", required=False))
    answers = [ColSpec(AnyType(), task, required=False) for task in prepared.tasks]
    needed = ColSpec(DataType.string, prepared.reads)
    return ModelSignature(inputs=Schema([needed, *optional]), outputs=Schema(answers))


def command(run: Path, port: int) -> list[str]:
    """Give the command that serves a run's model on this machine only."""
    return [
        *(sys.executable, "-m", "mlflow", "models", "serve", "--model-uri", str(run / "model")),
        *("--env-manager", "local", "--host", "127.0.0.1", "--port", str(port)),
    ]


mlflow.models.set_model(Served())
