"""A pretrained network, loaded from its source without running any code that came with it."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from transformers import AutoModel, PreTrainedConfig, PreTrainedModel
from transformers.utils import logging as transformers_logging

from encoders.sources import Source, configuration, plain_errors

DROPOUTS = (
    "hidden_dropout_prob",
    "hidden_dropout",
    "dropout",
    "dropout_rate",
    "resid_pdrop",
    "embd_pdrop",
    "embedding_dropout",
    "mlp_dropout",
)
ATTENTION_DROPOUTS = ("attention_probs_dropout_prob", "attention_dropout", "attn_pdrop")
"""What the families of encoders call these two in their configurations."""


def pretrained(
    source: Source, dropout: float | None = None, attention_dropout: float | None = None
) -> PreTrainedModel:
    """Load the network of a model in fp32, without a pooler; safetensors only.

    Dropouts are set where rates are given.
    """
    config = configuration(source)
    _set(config, DROPOUTS, dropout, source)
    _set(config, ATTENTION_DROPOUTS, attention_dropout, source)
    if type(config) not in AutoModel._model_mapping or config.is_encoder_decoder:
        raise ValueError(
            f"encoder.model is {source.name!r}, of type {config.model_type!r}; expected a network "
            "that turns each token into one vector (BERT, RoBERTa, GPT-2, ...), not an "
            "encoder-decoder. Choose another model."
        )
    kind = AutoModel._model_mapping[type(config)]
    options: dict[str, Any] = {}
    if "add_pooling_layer" in inspect.signature(kind.__init__).parameters:
        options["add_pooling_layer"] = False  # it would be a parameter without a gradient
    with plain_errors(source), quiet(), torch.random.fork_rng(devices=[]):
        loaded, found = AutoModel.from_pretrained(
            source.path,
            config=config,
            dtype=torch.float32,
            use_safetensors=True,
            output_loading_info=True,
            **source.options,
            **options,
        )
    lacking = sorted(found["missing_keys"]) + sorted(str(key) for key in found["mismatched_keys"])
    if lacking:
        raise ValueError(
            f"encoder.model is {source.name!r}, but its weights lack {len(lacking)} of the "
            f"encoder's tensors (first: {lacking[0]}); expected weights of a whole {kind.__name__}."
        )
    return loaded


def _set(
    config: PreTrainedConfig, names: tuple[str, ...], rate: float | None, source: Source
) -> None:
    if rate is None:
        return
    known = [name for name in names if hasattr(config, name)]
    if rate and not known:
        raise ValueError(
            f"encoder.model is {source.name!r}, whose configuration has none of the dropouts "
            f"{', '.join(names)}; set the rate {rate} to 0."
        )
    for name in known:
        setattr(config, name, rate)


@contextmanager
def quiet() -> Iterator[None]:
    """Keep the loading report (it lists the pooler as unexpected) and its progress bar away."""
    level = transformers_logging.get_verbosity()
    bars = transformers_logging.is_progress_bar_enabled()
    transformers_logging.set_verbosity(logging.ERROR)
    transformers_logging.disable_progress_bar()
    try:
        yield
    finally:
        transformers_logging.set_verbosity(level)
        if bars:
            transformers_logging.enable_progress_bar()
