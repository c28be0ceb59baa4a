"""Layers of an encoder: found by the names of their weights, and drawn anew from the top."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import encoders
from encoders.layers import depth, redraw
from tests.reading import reader


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("network.embeddings.word_embeddings.weight", 0),
        ("network.embeddings.LayerNorm.bias", 0),
        ("network.encoder.layer.0.attention.self.query.weight", 1),
        ("network.encoder.layer.5.output.dense.bias", 6),
        ("network.transformer.layer.2.ffn.lin1.weight", 3),
        ("network.wte.weight", 0),
        ("network.wpe.weight", 0),
        ("network.h.3.mlp.c_fc.weight", 4),
        ("network.ln_f.weight", 6),
        ("network.layers.1.self_attn.q_proj.weight", 2),
        ("network.norm.weight", 6),
        ("network.embeddings.patch_embeddings.projection.weight", 0),
        ("network.feature_extractor.conv_layers.3.conv.weight", 0),
        ("network.encoder.pos_conv_embed.conv.bias", 0),
        ("network.conv1.weight", 0),
    ],
)
def test_a_weight_lies_in_the_layer_of_its_name(name: str, expected: int) -> None:
    assert depth(name, 6) == expected


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    reader().save(tmp_path)
    return tmp_path


def weights(folder: Path, redrawn: int = 0) -> dict[str, torch.Tensor]:
    encoder = encoders.load("tiny", folder=folder)
    if redrawn:
        redraw(encoder, redrawn, seed=1)
    return {name: parameter.detach() for name, parameter in encoder.named_parameters()}


def test_only_the_top_layers_are_drawn_anew(folder: Path) -> None:
    plain, fresh = weights(folder), weights(folder, redrawn=1)
    layers = encoders.load("tiny", folder=folder).layers
    changed = {name for name in plain if not torch.equal(plain[name], fresh[name])}
    assert changed
    assert {depth(name, layers) for name in changed} == {layers}
    again = weights(folder, redrawn=1)
    assert all(torch.equal(fresh[name], again[name]) for name in fresh)


def test_more_layers_than_there_are_cannot_be_drawn(folder: Path) -> None:
    with pytest.raises(ValueError, match="this encoder has"):
        weights(folder, redrawn=99)
