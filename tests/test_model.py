"""The model: every head on one encoder, none in the way of another."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from toy import SIZES, Toy, ToyData, ToyEncoder, ToyHead, ToyRun

from orchestrator.batch import collate
from orchestrator.model import MultiTaskModel
from tasks.family import Rows

ALL = dict.fromkeys(SIZES, 2)


def outputs(run: ToyRun, model: MultiTaskModel, counts: dict[str, int]) -> dict[str, Any]:
    """Forward the first examples of each task."""
    examples = {task: run.data[task][:count] for task, count in counts.items()}
    found: dict[str, Any] = model(collate(examples, run.families, "first"))
    return found


def test_a_heads_outputs_do_not_depend_on_the_other_tasks_of_a_batch() -> None:
    run = ToyRun()
    model = run.model()
    together = outputs(run, model, ALL)
    for task, count in ALL.items():
        alone = outputs(run, model, {task: count})
        torch.testing.assert_close(together[task], alone[task], rtol=1e-6, atol=1e-6)
        assert all(len(alone[other]) == 0 for other in SIZES if other != task)


def test_a_task_without_rows_gives_zeros_and_not_nothing_as_gradients() -> None:
    run = ToyRun()
    model = run.model()
    batch = collate({"texts": run.data["texts"][:3]}, run.families, "first")
    sums = model.loss_sums(model(batch), batch)
    assert sums["rare"].item() == sums["tags"].item() == 0
    torch.stack([sums[task] for task in sorted(sums)]).sum().backward()
    for name, task, parameter in model.named():
        assert parameter.grad is not None, name
        assert bool(parameter.grad.any()) == (task in (None, "texts")), name


def test_models_that_differ_by_a_helper_share_their_first_weights() -> None:
    run = ToyRun()
    whole = {name: p.clone() for name, _, p in run.model().named()}
    for left_out in SIZES:
        families = {t: f for t, f in run.families.items() if t != left_out}
        fewer = MultiTaskModel(ToyEncoder(0), families, {}, 0)
        for name, _, parameter in fewer.named():
            assert torch.equal(parameter, whole[name]), name
        assert {n for n, _, _ in fewer.named()} == {
            n for n in whole if not n.startswith(f"{left_out}.")
        }


def test_heads_of_one_shape_start_from_weights_of_their_own() -> None:
    weights = {name: p for name, _, p in ToyRun().model().named()}
    other = {name: p for name, _, p in ToyRun().model(seed=1).named()}
    assert not torch.equal(weights["rare.out.weight"], weights["texts.out.weight"])
    assert not torch.equal(weights["rare.out.weight"], other["rare.out.weight"])


def test_building_a_model_draws_no_random_numbers() -> None:
    before = torch.get_rng_state()
    ToyRun().model()
    assert torch.equal(torch.get_rng_state(), before)


def test_every_parameter_has_one_name_and_its_task() -> None:
    model = ToyRun().model()
    named = list(model.named())
    assert len({name for name, _, _ in named}) == len(named)
    assert {id(p) for _, _, p in named} == {id(p) for p in model.parameters()}
    for name, task, _ in named:
        assert name.startswith("encoder." if task is None else f"{task}.")


@pytest.mark.parametrize("task", ["items", "keys", "forward", "to", "a-b_c"])
def test_a_task_may_be_called_anything(task: str) -> None:
    model = MultiTaskModel(ToyEncoder(), {task: Toy(ToyData(), {})}, {}, 0)
    assert isinstance(model.head(task), ToyHead)


def test_each_head_has_its_own_dropout() -> None:
    run = ToyRun()
    model = MultiTaskModel(ToyEncoder(), run.families, {"rare": 0.5, "tags": 0.25}, 0)
    rates = {task: model.head(task).dropout.p for task in SIZES}
    assert rates == {"rare": 0.5, "tags": 0.25, "texts": 0.0}


def test_bf16_is_autocast_over_fp32_weights_and_the_losses_see_fp32() -> None:
    run = ToyRun()
    seen: list[torch.dtype] = []
    exact = outputs(run, run.model(), ALL)
    model = MultiTaskModel(ToyEncoder(0), run.families, {}, 0, "bf16")
    model.encoder.mix.register_forward_hook(lambda _, __, output: seen.append(output.dtype))
    rough = outputs(run, model, ALL)
    assert seen == [torch.bfloat16]
    assert {p.dtype for p in model.parameters()} == {torch.float32}
    for task, output in rough.items():
        assert output.dtype == torch.float32
        assert not torch.equal(output, exact[task])
        torch.testing.assert_close(output, exact[task], rtol=0.05, atol=0.05)


class Nested(ToyHead):
    """Gives what roles heads give: several tensors, some of them whole numbers."""

    def forward(self, hidden: Tensor, rows: Rows) -> Any:
        output = super().forward(hidden, rows)
        return {"logits": (output.bfloat16(), output.argmax(-1))}


class NestedToy(Toy):
    def head(self, width: int, dropout: float) -> Any:
        return Nested(width, dropout, False)


def test_outputs_may_be_nested_and_become_fp32_all_through() -> None:
    run = ToyRun()
    run.families = {"texts": NestedToy(ToyData(), {})}
    model = MultiTaskModel(ToyEncoder(), run.families, {}, 0)
    logits, best = outputs(run, model, {"texts": 2})["texts"]["logits"]
    assert (logits.dtype, best.dtype) == (torch.float32, torch.int64)


def test_a_head_that_gives_something_else_is_told() -> None:
    run = ToyRun()
    model = run.model()
    model.heads["task-rare"].forward = lambda hidden, rows: "no tensor"  # type: ignore[assignment]
    with pytest.raises(TypeError, match="a head gave str; expected a tensor, tuple or dict"):
        outputs(run, model, ALL)


def test_each_head_adds_its_marks_to_its_own_rows_only() -> None:
    run = ToyRun()
    model = run.model()
    before = outputs(run, model, ALL)
    mark = model.head("rare").mark
    assert isinstance(mark, nn.Embedding)
    with torch.no_grad():
        mark.weight += 1
    after = outputs(run, model, ALL)
    assert not torch.allclose(after["rare"], before["rare"])
    assert torch.equal(after["tags"], before["tags"])
    assert torch.equal(after["texts"], before["texts"])
