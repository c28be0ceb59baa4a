"""An exported task gives our own logits in plain Transformers, or says how to be built again."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import trained
import transformers
from torch import nn

import encoders
from encoders import export as plain
from encoders.sources import find, reader
from orchestrator import export as exporting
from orchestrator.export import export
from orchestrator.model import MultiTaskModel
from orchestrator.predict import Predictor
from tasks.classify import Classify
from tasks.span import Span
from tasks.tag import Tag


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("export") / "out"
    export(trained.run(), folder)
    return folder


def test_each_task_has_a_folder_of_the_right_kind(out: Path) -> None:
    assert (out / "sentiment" / "model.safetensors").is_file()
    assert (out / "marks" / "model.safetensors").is_file()
    kept = {path.name for path in (out / "roles").iterdir()}
    assert kept == {"README.md", "encoder", "head.json", "head.safetensors"}


def test_plain_transformers_answers_as_we_do(out: Path) -> None:
    (ours,) = Predictor.load(trained.run())([{"text": trained.TEXT}], "sentiment")
    ask = transformers.pipeline("text-classification", model=str(out / "sentiment"), top_k=None)
    theirs = {found["label"]: found["score"] for found in ask([trained.TEXT])[0]}
    assert theirs == pytest.approx(ours["sentiment"]["probabilities"], abs=1e-5)


def test_no_code_and_no_pickle_is_exported(out: Path) -> None:
    assert {p.suffix for p in out.rglob("*") if p.is_file()} <= {".json", ".safetensors", ".md"}


def test_the_readme_tells_how_to_build_the_head(out: Path) -> None:
    (program,) = re.findall(r"```python\n(.*?)```", (out / "roles" / "README.md").read_text(), re.S)
    ended = subprocess.run(
        [sys.executable, "-c", program],
        check=False,
        cwd=out / "roles",
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])},
    )
    assert ended.returncode == 0


def test_a_folder_with_files_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("x")
    with pytest.raises(ValueError, match="not empty"):
        export(trained.run(), tmp_path)
    assert (tmp_path / "precious").read_text() == "x"


SMALL = {"vocab_size": 400, "hidden_size": 32, "num_attention_heads": 2, "num_hidden_layers": 2}
NETWORKS = {
    "bert": transformers.BertConfig(**SMALL, intermediate_size=64),
    "roberta": transformers.RobertaConfig(  # the tokenizer's padding, or positions go astray
        **SMALL, intermediate_size=64, max_position_embeddings=130, pad_token_id=0
    ),
    "distilbert": transformers.DistilBertConfig(
        vocab_size=400, dim=32, n_heads=2, n_layers=2, hidden_dim=64
    ),
    "electra": transformers.ElectraConfig(**SMALL, intermediate_size=64, embedding_size=32),
}


def predictor(kind: str, folder: Path) -> Predictor:
    """Build a model on another shape of encoder, read with the tokenizer of the small run."""
    own = trained.run() / "checkpoints" / "step-000020" / "encoder"
    torch.manual_seed(0)
    network = transformers.AutoModel.from_config(NETWORKS[kind])
    network.resize_token_embeddings(reader(find(str(own))).vocabulary)
    network.save_pretrained(folder)
    encoders.Reader.load(own).save(folder)
    pair = Classify(Classify.Data(path="x", pair="pair"), {"labels": ["a", "b", "c"]})
    marks = Tag(Tag.Data(path="x"), {"labels": ["N", "V"]})
    span = Span(Span.Data(path="x"), {"longest": 9})
    encoder = encoders.load(str(folder), folder=folder)
    families = {"pair": pair, "marks": marks, "span": span}
    model = MultiTaskModel(encoder, families, {}, seed=0)
    for parameter in model.heads.parameters():
        nn.init.normal_(parameter, std=0.3)
    return Predictor(model, encoder.reader)


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("bert", {"pair": True, "marks": True, "span": True}),
        ("roberta", {"pair": True, "marks": True, "span": True}),
        ("distilbert", {"pair": False, "marks": True, "span": True}),  # its classifier has a relu
        ("electra", {"pair": False, "marks": True, "span": True}),  # its classifier has a gelu
    ],
)
def test_only_equal_logits_make_a_plain_folder(
    kind: str, expected: dict[str, bool], tmp_path: Path
) -> None:
    own = predictor(kind, tmp_path / "encoder")
    found = {}
    for task in expected:
        (tmp_path / task).mkdir()
        found[task] = exporting._plain(own, task, tmp_path / "encoder", tmp_path / task)
        assert any((tmp_path / task).iterdir()) == found[task]
    assert found == expected


def test_labels_keep_their_names(out: Path) -> None:
    config = json.loads((out / "sentiment" / "config.json").read_text())
    assert sorted(config["label2id"]) == ["negative", "positive"]
    assert plain.logits(out / "sentiment", "sequence-classification", "fine").shape == (2,)
