"""A head put into the model of plain Transformers that has its shape."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import (
    AutoModelForQuestionAnswering,
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
    AutoTokenizer,
    PreTrainedModel,
)

from encoders.network import quiet

KINDS: dict[str, Any] = {
    "sequence-classification": AutoModelForSequenceClassification,
    "token-classification": AutoModelForTokenClassification,
    "question-answering": AutoModelForQuestionAnswering,
}
PLACES: dict[str, Sequence[Mapping[str, str]]] = {
    "sequence-classification": (
        {"dense": "{base}.pooler.dense", "out": "classifier"},  # BERT
        {"dense": "classifier.dense", "out": "classifier.out_proj"},  # RoBERTa and its kin
        {"dense": "{base}.pooler", "out": "classifier"},  # ALBERT
    ),
    "token-classification": ({"out": "classifier"}, {"out": "score"}),
    "question-answering": ({"out": "qa_outputs"},),
}
"""Where each kind of encoder keeps the layers of such a head."""


def save(encoder: Path, described: Mapping[str, Any], folder: Path) -> bool:
    """Write a plain Transformers folder of an encoder's folder and a head; say if there is one.

    ``described`` is what ``Family.export`` gives. Whether the model computes the same is not known
    yet: activations differ between encoders, so compare ``logits`` with the head's own.
    """
    kind, labels = KINDS.get(described["kind"]), list(described["labels"])
    if kind is None:
        return False
    names = dict(enumerate(labels))
    with quiet(), torch.random.fork_rng(devices=[]):
        try:
            model = kind.from_pretrained(
                encoder,
                local_files_only=True,
                trust_remote_code=False,
                num_labels=len(labels),
                id2label=names,
                label2id={label: number for number, label in names.items()},
            )
        except ValueError:  # Transformers has no such model for this encoder
            return False
    weights: Mapping[str, Tensor] = described["weights"]
    for layout in PLACES[described["kind"]]:
        if _put(model, layout, weights):
            with quiet():
                model.save_pretrained(folder)
            for path in sorted(encoder.glob("*token*")) + sorted(encoder.glob("vocab*")):
                (folder / path.name).write_bytes(path.read_bytes())
            return True
    return False


def _put(model: PreTrainedModel, layout: Mapping[str, str], weights: Mapping[str, Tensor]) -> bool:
    """Copy the head's layers to where a layout says, if all of them are there."""
    modules = dict(model.named_modules())
    found = {}
    for layer, place in layout.items():
        module = modules.get(place.format(base=model.base_model_prefix))
        if not isinstance(module, nn.Linear) or module.bias is None:
            return False
        if module.weight.shape != weights[f"{layer}.weight"].shape:
            return False
        found[layer] = module
    if {name.split(".")[0] for name in weights} != set(layout):
        return False
    with torch.no_grad():
        for layer, module in found.items():
            module.weight.copy_(weights[f"{layer}.weight"])
            module.bias.copy_(weights[f"{layer}.bias"])
    return True


def logits(folder: Path, kind: str, text: str | tuple[str, str] | list[str]) -> Tensor:
    """Read a saved folder with nothing but Transformers, and ask it.

    Gives ``[classes]`` for a sequence, ``[words, classes]`` at the first token of each word. For a
    question with its context it gives ``[1 + tokens, 2]``: the first token, then the context's own.
    """
    with quiet():
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        model = KINDS[kind].from_pretrained(folder, local_files_only=True).eval()
    if isinstance(text, tuple):
        encoded = tokenizer(text[0], text[1], return_tensors="pt")
    else:
        split = isinstance(text, list)
        encoded = tokenizer(text, is_split_into_words=split, return_tensors="pt")
    with torch.inference_mode():
        output = model(**encoded)
    if kind == "question-answering":
        context = [place for place, text in enumerate(encoded.sequence_ids()) if text == 1]
        return torch.stack([output.start_logits[0], output.end_logits[0]], 1)[[0, *context]]
    found: Tensor = output.logits[0]
    if kind == "sequence-classification":
        return found
    words = encoded.word_ids()
    first = [place for place, word in enumerate(words) if word is not None]
    return found[[p for p in first if words[p] not in words[:p]]]
