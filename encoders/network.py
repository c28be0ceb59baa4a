"""A pretrained network, loaded from its source without running any code that came with it."""

from __future__ import annotations

import inspect
import logging
import sys
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
FURTHER_DROPOUTS = {"activation_dropout", "feat_proj_dropout", "drop_path_rate"}
"""Left as configured, but where the rate of dropout is 0."""
RANDOM = {
    "layerdrop",
    "encoder_layerdrop",
    "decoder_layerdrop",
    "apply_spec_augment",
    "mask_time_prob",
    "mask_feature_prob",
}
"""Set to nothing: dropping whole layers leaves a rank without gradients that others have, and
SpecAugment draws from a random state that nobody seeds."""
INPUTS = {
    "input_ids": "text",
    "pixel_values": "image",
    "input_values": "audio",
    "input_features": "audio",
}
"""What a network reads, by the name of its first argument."""
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
    off = RANDOM | FURTHER_DROPOUTS if dropout == 0 else RANDOM
    for name in off & set(config.to_dict()):
        setattr(config, name, type(getattr(config, name))(0))
    kind = _kind(config)
    if kind is None or (config.is_encoder_decoder and INPUTS.get(kind.main_input_name) != "audio"):
        raise ValueError(
            f"encoder.model is {source.name!r}, of type {config.model_type!r}; expected a network "
            "that turns each token into one vector (BERT, RoBERTa, GPT-2, ...), not an "
            "encoder-decoder. Choose another model."
        )
    with plain_errors(source), quiet(), torch.random.fork_rng(devices=[]):
        loaded, found = _saved_as(kind, config).from_pretrained(
            source.path,
            config=config,
            dtype=torch.float32,
            use_safetensors=True,
            output_loading_info=True,
            **source.options,
            **_options(kind),
        )
    lacking = sorted(found["missing_keys"]) + sorted(str(key) for key in found["mismatched_keys"])
    if lacking:
        raise ValueError(
            f"encoder.model is {source.name!r}, but its weights lack {len(lacking)} of the "
            f"encoder's tensors (first: {lacking[0]}); expected weights of a whole {kind.__name__}."
        )
    whole = config.is_encoder_decoder and isinstance(loaded, kind)
    return loaded.get_encoder() if whole else loaded


def _saved_as(kind: type[PreTrainedModel], config: PreTrainedConfig) -> Any:
    """Find the class of what a folder holds: the whole network, or its encoder as we save it."""
    name = (config.architectures or [""])[0]
    part = getattr(sys.modules[kind.__module__], name, None) if name.endswith("Encoder") else None
    return AutoModel if part is None else part


def _kind(config: PreTrainedConfig) -> Any:
    """Find the class of a configuration's network, None where Transformers has no single one."""
    found = AutoModel._model_mapping.get(type(config), None)
    return found if isinstance(found, type) else None


def _options(kind: type[PreTrainedModel]) -> dict[str, Any]:
    pools = "add_pooling_layer" in inspect.signature(kind.__init__).parameters
    return {"add_pooling_layer": False} if pools else {}  # parameters without a gradient


def fits(config: PreTrainedConfig, reads: str, source: Source) -> None:
    """Raise ``ValueError`` unless a network of this configuration reads ``text`` and so on."""
    kind = _kind(config)
    found = INPUTS.get(kind.main_input_name, "text") if kind else reads
    if found != reads:
        raise ValueError(
            f"encoder.model is {source.name!r}, of type {config.model_type!r}, which reads {found};"
            f" the tasks' data hold {reads}. Choose a model that reads {reads}, or other data."
        )


def blank(config: PreTrainedConfig) -> PreTrainedModel:
    """Build a network without weights, which shows what shape its states have."""
    kind = _kind(config)
    with torch.device("meta"):
        built: PreTrainedModel = kind(config, **_options(kind))
    return built.eval()


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
