"""Pretrained weights are whole, are safetensors, and belong to an encoder; others are refused."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

import encoders
from encoders import tiny
from encoders.encoder import Encoder


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    reader = tiny.reader(lambda: ["the red cat sat on a mat"])
    folder = tmp_path_factory.mktemp("bert")
    Encoder(tiny.model(reader.vocabulary, 0.1, 0.1, seed=0), reader).save(folder)
    return folder


def test_weights_that_lack_a_tensor_are_refused(folder: Path, tmp_path: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    name = "encoder.layer.1.output.dense.weight"
    del weights[name]
    save_file(weights, tmp_path / "model.safetensors", metadata={"format": "pt"})
    (tmp_path / "config.json").write_bytes((folder / "config.json").read_bytes())
    with pytest.raises(ValueError, match=rf"lack 1 .*{name}"):
        encoders.load(str(tmp_path), folder=folder)


def test_pickled_weights_are_refused(folder: Path, tmp_path: Path) -> None:
    torch.save({}, tmp_path / "pytorch_model.bin")
    (tmp_path / "config.json").write_bytes((folder / "config.json").read_bytes())
    with pytest.raises(ValueError, match="cannot be loaded"):
        encoders.load(str(tmp_path), folder=folder)


def test_an_encoder_decoder_is_refused(folder: Path, tmp_path: Path) -> None:
    transformers.T5Config(vocab_size=60).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=r"'t5'.*not an encoder-decoder"):
        encoders.load(str(tmp_path), folder=folder)
