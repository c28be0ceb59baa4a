"""An encoder that does not suit what is asked of it: its inputs, and strengths beside LoRA."""

from __future__ import annotations

from collections.abc import Iterator

from orchestrator.problems import Problem
from orchestrator.settings import Experiment
from tasks import media

TEXT_ENCODERS = ("tiny", "minilm")


def unsuited(experiment: Experiment) -> Iterator[Problem]:
    """Find what can be known without loading the encoder; ``prepare`` finds the rest."""
    yield from _inputs(experiment)
    yield from _resting(experiment)


def _inputs(experiment: Experiment) -> Iterator[Problem]:
    """Find tasks that need different encoders, and an encoder known for texts that gets others."""
    found = {name: media.reads(task.data) for name, task in experiment.tasks.items()}
    kinds = sorted(set(found.values()))
    for name, kind in found.items():
        others = [
            f"{', '.join(n for n, k in found.items() if k == other)} reads {other}"
            for other in kinds
            if other != kind
        ]
        if others and (kind != "text" or "text" not in kinds):
            yield Problem(
                f"tasks.{name}.data.{kind}",
                f"is set, and {', '.join(others)}; expected one kind of "
                "input, since all tasks share one encoder. Train the others in a run of their own",
            )
    model = experiment.encoder.model
    if experiment.encoder.revision is not None and model in TEXT_ENCODERS:
        yield Problem(
            "encoder.revision",
            f"is {experiment.encoder.revision!r}, but {model!r} is from no hub; leave it out",
        )
    for kind in kinds:
        if kind != "text" and model in TEXT_ENCODERS:
            yield Problem(
                "encoder.model",
                f"is {model!r}, which reads text, and the tasks' data hold {kind}; expected a hub "
                f"id or folder of an encoder that reads {kind}",
            )


def _resting(experiment: Experiment) -> Iterator[Problem]:
    """Find strengths that act on the encoder's own weights, where LoRA lets them rest."""
    if experiment.encoder.lora is None:
        return
    reasons = {
        "l2_sp": "there is nothing to draw back; lower encoder.lora.rank to hold it more tightly",
        "mixout": "each already stands at its first value; set encoder.lora.dropout",
        "reinit_layers": "layers drawn anew would stay as they were drawn",
    }
    for name, reason in reasons.items():
        if value := getattr(experiment.regularization, name):
            yield Problem(
                f"regularization.{name}",
                f"is {value:g}, but with encoder.lora the encoder's own weights rest: {reason}. "
                f"Set regularization.{name}=0, or leave encoder.lora out",
            )
