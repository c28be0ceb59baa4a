"""The built-in encoder is a function of its seed and its texts."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import encoders
from encoders import tiny
from encoders.tokenizer import Reader


@pytest.fixture(scope="module")
def reader() -> Reader:
    return tiny.reader(lambda: ["the red cat sat on a mat", "no dog ran over the hill"])


def test_tiny_is_a_function_of_its_seed_and_disturbs_no_other_draw(
    reader: Reader, tmp_path: Path
) -> None:
    reader.save(tmp_path)
    torch.manual_seed(11)
    before = torch.random.get_rng_state()
    first = encoders.load("tiny", folder=tmp_path, seed=1)
    assert torch.equal(torch.random.get_rng_state(), before)
    torch.manual_seed(12)
    assert encoders.load("tiny", folder=tmp_path, seed=1).digest() == first.digest()
    assert encoders.load("tiny", folder=tmp_path, seed=2).digest() != first.digest()
    assert first.packs
    assert first.vocabulary == reader.vocabulary


def test_weights_of_one_layer_do_not_depend_on_other_layers(
    reader: Reader, monkeypatch: pytest.MonkeyPatch
) -> None:
    two = dict(tiny.model(reader.vocabulary, 0.1, 0.1, seed=0).named_parameters())
    monkeypatch.setattr(tiny, "LAYERS", 1)
    for name, parameter in tiny.model(reader.vocabulary, 0.1, 0.1, seed=0).named_parameters():
        assert torch.equal(parameter, two[name])


def test_matrices_are_drawn_scales_begin_at_one_and_all_else_at_zero(reader: Reader) -> None:
    network = tiny.model(reader.vocabulary, 0.1, 0.1, seed=0)
    padding = network.config.pad_token_id
    for name, parameter in network.named_parameters():
        if parameter.ndim > 1:
            wide = network.config.initializer_range
            assert float(parameter.detach().std()) == pytest.approx(wide, rel=0.1), name
        else:
            assert torch.all(parameter == (1 if name.endswith("LayerNorm.weight") else 0)), name
    assert not network.embeddings.word_embeddings.weight[padding].any()
