"""Who reads: pretrained encoders over packed tokens, and the tokenizers that go with them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from encoders.encoder import Encoder
    from encoders.lora import Lora
    from encoders.tokenizer import Encoded, Reader

__all__ = ["Encoded", "Encoder", "Reader", "layer_count", "load", "reader"]


def reader(
    model: str,
    *,
    revision: str | None = None,
    texts: Callable[[], Iterable[str]] | None = None,
) -> Reader:
    """Give the tokenizer of ``model``: ``tiny``, ``minilm``, a folder, or a hub id.

    ``texts`` gives the training texts, anew at each call; only ``tiny`` reads them, to learn its
    vocabulary.
    """
    from encoders import sources, tiny

    if model == sources.TINY:
        if texts is None:
            raise ValueError("encoder.model is 'tiny': its vocabulary needs texts; give texts=...")
        return tiny.reader(texts)
    return sources.reader(sources.find(model, revision))


def layer_count(model: str, revision: str | None = None) -> int:
    """Count the layers of ``model`` without loading its weights."""
    from encoders import sources, tiny

    if model == sources.TINY:
        return tiny.LAYERS
    found: int = sources.configuration(sources.find(model, revision)).num_hidden_layers
    return found


def load(
    model: str,
    *,
    revision: str | None = None,
    folder: Path | str | None = None,
    dropout: float = 0.0,
    attention_dropout: float = 0.0,
    seed: int = 0,
    lora: Lora | None = None,
    apart: bool = False,
) -> Encoder:
    """Load the encoder ``model`` with its first weights, in fp32 and in training mode.

    ``folder`` holds the tokenizer that ``Reader.save`` wrote; ``tiny`` must have it, for others it
    may replace the model's own. ``seed`` draws the weights of ``tiny`` and LoRA's matrices, nothing
    else. Where ``model`` is the folder of a network with such matrices beside it, they are merged
    into it, unless they are to stay ``apart``. The global random state is left as it was.
    """
    from encoders import lora as adapters
    from encoders import network, sources, tiny
    from encoders.encoder import Encoder
    from encoders.tokenizer import Reader

    own = Reader.load(folder) if folder is not None else None
    if model == sources.TINY:
        if own is None:
            raise ValueError(
                "encoder.model is 'tiny': load needs folder=, where its Reader was saved"
            )
        built = tiny.model(own.vocabulary, dropout, attention_dropout, seed)
    else:
        source = sources.find(model, revision)
        built = network.pretrained(source, dropout, attention_dropout)
        own = own or sources.reader(source)
        beside = Path(source.path) / adapters.FOLDER
        if beside.is_dir():
            (adapters.load if apart else adapters.merge)(built, beside)
    if lora is not None:
        adapters.add(built, lora, seed)
    return Encoder(built, own)


def __getattr__(name: str) -> Any:
    """Import the classes when they are asked for: torch and transformers take seconds."""
    if name == "Encoder":
        from encoders.encoder import Encoder

        return Encoder
    if name in ("Encoded", "Reader"):
        from encoders import tokenizer

        return getattr(tokenizer, name)
    raise AttributeError(f"module 'encoders' has no attribute {name!r}")
