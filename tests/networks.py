"""A small random network of each family, as folders that ``transformers`` wrote."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from torch import Tensor, nn

from encoders import network, tiny
from encoders.encoder import Encoder
from encoders.tokenizer import Reader

VOCABULARY = 60
SMALL: dict[str, Any] = {"vocab_size": VOCABULARY, "pad_token_id": 0}
BERT: dict[str, Any] = {
    **SMALL,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 48,
    "max_position_embeddings": 40,
}
FAMILIES: dict[str, Callable[[], Any]] = {
    "bert": lambda: transformers.BertConfig(**BERT),
    "roberta": lambda: transformers.RobertaConfig(
        **{**BERT, "pad_token_id": 1, "type_vocab_size": 1}
    ),
    "distilbert": lambda: transformers.DistilBertConfig(
        **SMALL, dim=32, n_layers=2, n_heads=4, hidden_dim=48, max_position_embeddings=40
    ),
    "gpt2": lambda: transformers.GPT2Config(
        vocab_size=VOCABULARY,
        n_embd=32,
        n_layer=2,
        n_head=4,
        n_positions=40,
        bos_token_id=3,
        eos_token_id=3,
    ),
    # These two cannot attend packed: relative positions, and windows.
    "deberta-v2": lambda: transformers.DebertaV2Config(
        **BERT, relative_attention=True, pos_att_type=["c2p", "p2c"], type_vocab_size=0
    ),
    "modernbert": lambda: transformers.ModernBertConfig(
        **BERT, local_attention=4, global_attn_every_n_layers=2
    ),
}
PACKED = ("bert", "roberta", "distilbert", "gpt2")
LENGTHS = (7, 3, 12, 7, 1, 5)
TEXTS = ["the red cat sat on a mat", "no dog ran over the hill", "what is it"] * 3


def reader() -> Reader:
    """Train a vocabulary on a few texts."""
    return tiny.reader(lambda: TEXTS)


def written(place: pytest.TempPathFactory, families: Iterable[str] = FAMILIES) -> dict[str, Path]:
    """Write one folder per family, with weights large enough that mistakes show."""
    found, reads = {}, reader()
    with torch.random.fork_rng(devices=[]), network.quiet():
        for name in families:
            torch.manual_seed(5)
            model = transformers.AutoModel.from_config(FAMILIES[name]())
            for parameter in model.parameters():
                nn.init.normal_(parameter, 0.0, 0.3)
            found[name] = place.mktemp(name)
            model.save_pretrained(found[name])
            reads.save(found[name])
    return found


def every(*names: str) -> pytest.MarkDecorator:
    """Run a test with the encoder of each family, or of those named."""
    return pytest.mark.parametrize("encoder", names or tuple(FAMILIES), indirect=True)


def batch() -> tuple[Tensor, Tensor, Tensor]:
    """Give input ids, type ids and offsets of six sequences."""
    draw = torch.Generator().manual_seed(0)
    ids = torch.randint(5, VOCABULARY, (sum(LENGTHS),), generator=draw)
    types = torch.cat([(torch.arange(n) > n // 2).long() for n in LENGTHS])
    return ids, types, torch.tensor([0, *LENGTHS]).cumsum(0)


def plain(encoder: Encoder, folder: Path, **added: Tensor) -> tuple[Tensor, nn.Module]:
    """Give what plain transformers says about each sequence alone, with its own positions."""
    with network.quiet():
        model = transformers.AutoModel.from_pretrained(folder).eval()
    ids, types, offsets = batch()
    pieces = []
    for start, end in pairwise(offsets):
        options = {}
        if model.config.model_type == "bert":
            options["token_type_ids"] = types[None, start:end]
        pieces.append(model(ids[None, start:end], **options).last_hidden_state[0])
    return torch.cat(pieces), model
