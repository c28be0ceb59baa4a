"""Who reads: pretrained encoders over packed tokens, and the tokenizers that go with them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from encoders.encoder import Encoder
    from encoders.sources import Source
    from encoders.stored import Stored
    from encoders.tokenizer import Encoded, Reader

__all__ = [
    "AnyReader",
    "Encoded",
    "Encoder",
    "Lora",
    "Reader",
    "draws",
    "layer_count",
    "load",
    "reader",
]


class Lora(NamedTuple):
    """How much learns: a layer with weight W0 computes W0 x + (alpha / rank) B A x."""

    rank: int
    """Columns of B and rows of A."""
    alpha: float
    dropout: float = 0.0
    """Of x before A."""


class AnyReader(Protocol):
    """A tokenizer, or what brings pictures or sounds into the form that a network takes."""

    kind: str
    """``text``, ``image`` or ``audio``."""
    limit: int
    """The most tokens that a sequence has."""
    fixed: bool
    """Whether every sequence has so many."""

    def __call__(self, texts: Sequence[Any], max_length: int | None = None, /) -> list[Any]:
        """Read: one result for each, with a length in tokens."""

    def digest(self) -> str:
        """Give the sha256 of all that decides what the network is given."""

    def save(self, folder: Path | str) -> None:
        """Write a folder that ``load`` takes."""


def reader(
    model: str,
    *,
    revision: str | None = None,
    texts: Callable[[], Iterable[str]] | None = None,
    reads: str = "text",
) -> AnyReader:
    """Give what turns data into the inputs of ``model``: ``tiny``, ``minilm``, a folder or hub id.

    ``reads`` is ``text``, ``image`` or ``audio``: a tokenizer, or a processor. ``texts`` gives the
    training texts, anew at each call; only ``tiny`` reads them, to learn its vocabulary. Raises
    ``ValueError`` if the model reads something else, ``LookupError`` if there is none.
    """
    from encoders import network, sources, tiny

    if model == sources.TINY:
        if texts is None:
            raise ValueError("encoder.model is 'tiny': its vocabulary needs texts; give texts=...")
        return tiny.reader(texts)
    source = sources.find(model, revision)
    network.fits(sources.configuration(source), reads, source)
    return _reader(source, reads)


def _reader(source: Source, reads: str) -> AnyReader:
    if reads == "image":
        from encoders import images

        return images.reader(source)
    if reads == "audio":
        from encoders import speech

        return speech.reader(source)
    from encoders import sources

    return sources.reader(source)


def _encoder(reads: str) -> Callable[[PreTrainedModel, Any], Stored]:
    if reads == "image":
        from encoders.images import ImageEncoder

        return ImageEncoder
    if reads == "audio":
        from encoders.speech import SpeechEncoder

        return SpeechEncoder
    from encoders.encoder import Encoder

    return Encoder


def layer_count(model: str, revision: str | None = None) -> int:
    """Count the layers of ``model`` without loading its weights."""
    from encoders import sources, tiny

    if model == sources.TINY:
        return tiny.LAYERS
    config = sources.configuration(sources.find(model, revision))
    return int(getattr(config, "num_hidden_layers", 1))


def draws(model: str, lora: object) -> bool:
    """Say whether a seed decides anything of the first weights that ``load`` gives."""
    from encoders import sources

    return model == sources.TINY or lora is not None


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
) -> Stored:
    """Load the encoder ``model`` with its first weights, in fp32 and in training mode.

    ``folder`` holds the reader that its ``save`` wrote; ``tiny`` must have it, for others it
    may replace the model's own. ``seed`` draws the weights of ``tiny`` and LoRA's matrices, nothing
    else. Where ``model`` is the folder of a network with such matrices beside it, they are merged
    into it, unless they are to stay ``apart``. The global random state is left as it was.
    """
    from encoders import lora as adapters
    from encoders import network, sources, tiny

    own: Any = None if folder is None else _kept(folder)
    if model == sources.TINY:
        if own is None:
            raise ValueError(
                "encoder.model is 'tiny': load needs folder=, where its Reader was saved"
            )
        built = tiny.model(own.vocabulary, dropout, attention_dropout, seed)
    else:
        source = sources.find(model, revision)
        built = network.pretrained(source, dropout, attention_dropout)
        own = own or _reader(source, sources.kind(source.path))
        beside = Path(source.path) / adapters.FOLDER
        if beside.is_dir():
            (adapters.load if apart else adapters.merge)(built, beside)
    if lora is not None:
        adapters.add(built, lora, seed)
    return _encoder(own.kind)(built, own)


def _kept(folder: Path | str) -> AnyReader:
    """Read back what the ``save`` of a reader wrote."""
    from encoders import sources
    from encoders.tokenizer import Reader

    reads = sources.kind(folder)
    return Reader.load(folder) if reads == "text" else _reader(sources.find(str(folder)), reads)


def __getattr__(name: str) -> Any:
    """Import the classes when they are asked for: torch and transformers take seconds."""
    if name == "Encoder":
        from encoders.encoder import Encoder

        return Encoder
    if name in ("Encoded", "Reader"):
        from encoders import tokenizer

        return getattr(tokenizer, name)
    raise AttributeError(f"module 'encoders' has no attribute {name!r}")
