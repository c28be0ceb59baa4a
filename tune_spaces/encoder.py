"""Who reads: the experiment's encoder whole and by small matrices, and the two that come along."""

from __future__ import annotations

from tune_spaces import Changes, Experiment

RANKS = (8, 32)
"""Of LoRA."""
LOCAL = ("minilm", "tiny")
"""Encoders that need no download."""


def space(experiment: Experiment) -> Changes:
    """Try the encoder, LoRA on it, and the local ones; off goes what has no use beside LoRA."""
    own = str(experiment["encoder"]["model"])
    idle = {"l2_sp": 0.0, "mixout": 0.0, "reinit_layers": 0}
    set_ = experiment.get("regularization") or {}
    off = {f"regularization.{key}": value for key, value in idle.items() if set_.get(key, value)}
    return [
        {"encoder.lora": None},
        *({"encoder.lora": {"rank": rank}, **off} for rank in RANKS),
        *(
            {"encoder": {"model": other}}
            for other in LOCAL
            if other != own and not _media(experiment)
        ),
    ]


def _media(experiment: Experiment) -> bool:
    """Say whether pictures or sounds are read, which the local encoders cannot."""
    tasks = experiment["tasks"].values()
    return any(task["data"].get(kind) for task in tasks for kind in ("image", "audio"))
