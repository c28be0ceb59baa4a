"""A run's tasks as folders of their own: for plain Transformers, or as weights with a README."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from encoders import export as plain
from encoders import lora
from orchestrator import checkpoint
from orchestrator.batch import collate
from orchestrator.predict import Predictor, example

TEXTS = (
    "The old baker sold a warm loaf to the quiet farmer.",
    "Nobody knew why, in 1998, the ship's café (on deck 3) had closed!",
)
"""Sentences on which an exported model must give our own logits."""
READERS = {
    "text": "`AutoTokenizer`",
    "image": "`AutoImageProcessor`",
    "audio": "`AutoFeatureExtractor`",
}
TOLERANCE = 1e-4
"""Largest difference between logits, both in fp32."""


@dataclass(frozen=True)
class Exported:
    """What became of one task."""

    task: str
    folder: Path
    plain: bool
    """Whether Transformers alone can load and run it."""


def export(run: Path, out: Path) -> list[Exported]:
    """Write a folder for each task of a run's best checkpoint below ``out``, which must not exist.

    A task becomes a plain Transformers folder if there is a model of its head's shape that gives
    equal logits; otherwise encoder, head and a README. Raises ``ValueError`` if ``out`` has files.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ValueError(f"{out} exists and is not empty; expected a new folder. Give another.")
    predictor = Predictor.load(run)
    done = []
    with tempfile.TemporaryDirectory() as place:
        encoder = Path(place) / "encoder"
        shutil.copytree(checkpoint.best(run) / "encoder", encoder)
        lora.settle(encoder)
        for task in predictor.model.families:
            folder = out / task
            folder.mkdir(parents=True)
            found = _plain(predictor, task, encoder, folder)
            if not found:
                _weights(predictor, task, encoder, folder)
            done.append(Exported(task, folder, found))
    return done


def _plain(predictor: Predictor, task: str, encoder: Path, folder: Path) -> bool:
    """Write a plain Transformers folder, and keep it only if it computes the same."""
    family, head = predictor.model.families[task], predictor.model.head(task)
    described = family.export(head)
    if predictor.reader.kind != "text":
        return False  # Transformers' heads for pictures and sounds are single layers
    if described is None or not plain.save(encoder, described, folder):
        return False
    data = family.data.model_dump()
    for text in TEXTS:
        asked: str | tuple[str, str] | list[str] = text
        if described["kind"] == "token-classification":
            asked = text.split()
        elif data.get("pair") or described["kind"] == "question-answering":
            asked = (text, TEXTS[0])
        theirs = plain.logits(folder, described["kind"], asked)
        if not _equal(_logits(predictor, task, asked), theirs):
            shutil.rmtree(folder)
            folder.mkdir()
            return False
    return True


def _equal(ours: Tensor, theirs: Tensor) -> bool:
    ours = ours.reshape(theirs.shape) if ours.numel() == theirs.numel() else ours
    return ours.shape == theirs.shape and torch.allclose(ours, theirs, rtol=0, atol=TOLERANCE)


def _logits(predictor: Predictor, task: str, asked: str | tuple[str, str] | list[str]) -> Tensor:
    """Give our own logits for a text, a pair or words."""
    family = predictor.model.families[task]
    data = family.data.model_dump()
    if isinstance(asked, list):
        row: dict[str, Any] = {data["tokens"]: asked}
    elif isinstance(asked, str):
        row = {data["text"]: asked}
    else:
        names = ("question", "context") if "question" in data else ("text", "pair")
        row = {data[name]: text for name, text in zip(names, asked, strict=True)}
    texts = family.texts(row)
    encoded = predictor.reader(texts, family.data.max_length)
    rows = {task: [example(family, row, texts, encoded)]}
    batch = collate(rows, predictor.model.families, predictor.model.encoder.summary)
    with torch.inference_mode():
        found: Tensor | tuple[Tensor, ...] = predictor.model(batch)[task]
    return torch.cat(found) if isinstance(found, tuple) else found


def _weights(predictor: Predictor, task: str, encoder: Path, folder: Path) -> None:
    """Write encoder, head and what is needed to use them; what it reads of helpers, too."""
    shutil.copytree(encoder, folder / "encoder")
    about, shapes = _head(predictor, task, folder)
    kinds = f"`{type(predictor.model.encoder.network).__name__}`", READERS[predictor.reader.kind]
    readme, stack = _readme(task, about, shapes, kinds), predictor.model.stack
    if stack is not None and task == stack.stacked.target:
        for helper in stack.stacked.features:
            (folder / "helpers" / helper).mkdir(parents=True)
            _head(predictor, helper, folder / "helpers" / helper)
        save_file({"join.weight": stack.join.weight.detach()}, folder / "stack.safetensors")
        (folder / "stack.json").write_text(json.dumps(asdict(stack.stacked), indent=2) + "\n")
        readme += STACKED
    (folder / "README.md").write_text(readme, encoding="utf-8")


def _head(
    predictor: Predictor, task: str, folder: Path
) -> tuple[dict[str, Any], dict[str, tuple[int, ...]]]:
    """Write a head's weights and what it learnt; give the latter, and the shapes."""
    family, head = predictor.model.families[task], predictor.model.head(task)
    weights = {name: value.contiguous() for name, value in head.state_dict().items()}
    save_file(weights, folder / "head.safetensors")
    about = {
        "task": task,
        "family": f"{type(family).__module__}:{type(family).__qualname__}",
        "data": family.data.model_dump(mode="json"),
        "fitted": dict(family.fitted),
    }
    (folder / "head.json").write_text(json.dumps(about, indent=2, ensure_ascii=False) + "\n")
    return about, {name: tuple(value.shape) for name, value in weights.items()}


STACKED = """
## What it reads of other tasks

The hidden states that this head reads are first changed by what the heads in `helpers/` say of the
same text: `stack.json` names them, `stack.safetensors` holds the linear map. With `built(folder)`
giving family and head as above, built from a folder:

```python
from orchestrator.stacking import Stack, Stacked

stacked = Stacked(**json.load(open("stack.json")))
helpers = {task: built(f"helpers/{task}") for task in stacked.features}
stack = Stack(stacked, encoder.width, helpers.__getitem__)
stack.load_state_dict(load_file("stack.safetensors"))
# Between encoder and head: hidden, rows = stack(hidden, rows, helpers.__getitem__)
```
"""


def _readme(
    task: str,
    about: Mapping[str, Any],
    shapes: Mapping[str, tuple[int, ...]],
    kinds: tuple[str, str],
) -> str:
    rows = "\n".join(f"| `{name}` | {list(shape)} |" for name, shape in sorted(shapes.items()))
    return f"""# The task `{task}`

Its head has no counterpart in Transformers that computes the same, so it lies here as weights:

* `encoder/`: what {" and ".join(kinds)} of Transformers load;
* `head.safetensors`: the head's own layers;
* `head.json`: its family (`{about["family"]}`), settings, and what it learnt from the training
  rows, such as the label set.

| tensor | shape |
|---|---|
{rows}

With TLMT installed, here is how to build the head again:

```python
import json
from safetensors.torch import load_file
import encoders
import tasks

about = json.load(open("head.json"))
kind = tasks.get(about["family"])
family = kind(kind.Data.model_validate(about["data"]), about["fitted"])
encoder = encoders.load("encoder")
head = family.head(encoder.width, dropout=0.0)
head.load_state_dict(load_file("head.safetensors"))
```

The forward method of `{about["family"].partition(":")[2]}`'s head says how the layers follow one
another; whoever has the run's folder needs none of this: `tlmt predict` answers from there.
"""
