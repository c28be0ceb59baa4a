"""An encoder that does not suit its tasks or strengths is found when the experiment is read."""

from collections.abc import Callable
from typing import Any

import pytest

from orchestrator.experiment import ExperimentError, parse

Build = Callable[..., dict[str, Any]]
PICTURES = {"family": "classify", "data": {"path": "x", "image": "file", "label": "kind"}}
SOUNDS = {"family": "regress", "data": {"path": "x", "audio": "file"}}


def problems(tree: dict[str, Any]) -> list[str]:
    """Parse what is wrong and give what is said of it."""
    with pytest.raises(ExperimentError) as caught:
        parse(tree)
    return caught.value.problems


def test_tasks_with_other_inputs_are_named_with_what_they_read(tiny_experiment: Build) -> None:
    changes = {"encoder.model": "some/vit", "tasks.kind": PICTURES}
    (problem,) = problems(tiny_experiment(**changes))
    assert problem.startswith("tasks.kind.data.image is set, and sentiment, topic reads text")
    changes = {"tasks.topic": None, "tasks.sentiment": SOUNDS, **changes}
    assert len(problems(tiny_experiment(**changes))) == 2


def test_a_text_encoder_is_refused_for_pictures(tiny_experiment: Build) -> None:
    only = {"tasks.topic": None, "tasks.sentiment": PICTURES}
    (problem,) = problems(tiny_experiment(**only))
    assert problem.startswith("encoder.model is 'tiny', which reads text, and the tasks' data hold")
    parse(tiny_experiment(**only, **{"encoder.model": "some/vit"}))


@pytest.mark.parametrize(
    "more", [{"audio": "file"}, {"text": "caption"}, {"pair": "caption"}, {"max_length": 20}]
)
def test_a_row_has_one_input(tiny_experiment: Build, more: dict[str, Any]) -> None:
    task = {**PICTURES, "data": {**PICTURES["data"], **more}}  # type: ignore[dict-item]
    changes = {"tasks.topic": None, "tasks.sentiment": task, "encoder.model": "some/vit"}
    (problem,) = problems(tiny_experiment(**changes))
    assert problem.startswith("tasks.sentiment.data is ")


@pytest.mark.parametrize("family", ["tag", "roles", "span", "generate", "rate", "topics"])
def test_other_families_read_texts_alone(tiny_experiment: Build, family: str) -> None:
    task = {"family": family, "data": {"path": "x", "image": "file"}}
    assert any(
        "data.image is not a setting" in problem
        for problem in problems(tiny_experiment(**{"tasks.topic": task}))
    )


@pytest.mark.parametrize(
    ("strength", "value"), [("l2_sp", 0.1), ("mixout", 0.2), ("reinit_layers", 1)]
)
def test_what_acts_on_weights_that_rest_is_refused_beside_lora(
    tiny_experiment: Build, strength: str, value: float
) -> None:
    changes = {f"regularization.{strength}": value}
    (problem,) = problems(tiny_experiment(**changes, **{"encoder.lora": {}}))
    assert problem.startswith(f"regularization.{strength} is {value:g}, but with encoder.lora")
    parse(tiny_experiment(**changes))
    parse(tiny_experiment(**{"encoder.lora": {}, "regularization.layer_decay": 0.8}))
