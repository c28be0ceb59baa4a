"""First weights belong to seed and task name; stored ones come back without data or hub."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch

import encoders
from orchestrator import checkpoint, weights
from orchestrator.experiment import Experiment, load
from orchestrator.model import MultiTaskModel
from orchestrator.prepare import Prepared
from tests import trained


@pytest.fixture(scope="module")
def experiment() -> Experiment:
    return load(trained.run() / "experiment.yaml")


def first(experiment: Experiment, *tasks: str, seed: int | None = None) -> MultiTaskModel:
    """Build the first weights of a run with some of the tasks."""
    prepared = Prepared.read(trained.run())
    families = {task: prepared.family(task) for task in tasks or prepared.tasks}
    return weights.first(experiment, families, Path(prepared.reader), seed)


def named(model: MultiTaskModel) -> dict[str, torch.Tensor]:
    return {name: parameter.detach() for name, _, parameter in model.named()}


def test_runs_that_differ_by_a_helper_share_their_first_weights(experiment: Experiment) -> None:
    whole = named(first(experiment))
    for left in ("roles", "sentiment", "marks"):
        kept = [task for task in experiment.tasks if task != left]
        fewer = named(first(experiment, *kept))
        assert fewer.keys() == {name for name in whole if not name.startswith(f"{left}.")}
        assert all(torch.equal(value, whole[name]) for name, value in fewer.items())


def test_another_seed_gives_other_weights_to_encoder_and_heads(experiment: Experiment) -> None:
    one, other = named(first(experiment)), named(first(experiment, seed=1))
    drawn = {name for name in one if one[name].ndim > 1}
    assert {name.split(".")[0] for name in drawn} == {"encoder", *experiment.tasks}
    assert not any(torch.equal(one[name], other[name]) for name in drawn if one[name].any())


def test_building_a_model_leaves_the_random_numbers_alone(experiment: Experiment) -> None:
    before = torch.get_rng_state()
    first(experiment)
    assert torch.equal(torch.get_rng_state(), before)


def test_a_checkpoint_gives_its_model_back_in_training_mode_with_its_dropout(
    experiment: Experiment,
) -> None:
    folder = checkpoint.best(trained.run())
    prepared = Prepared.read(trained.run())
    families = {task: prepared.family(task) for task in prepared.tasks}
    model = weights.restored(experiment, families, folder)
    assert all(part.training for part in model.modules())
    rates = {m.p for m in model.encoder.modules() if isinstance(m, torch.nn.Dropout)}
    assert rates == {experiment.regularization.dropout}
    again = named(weights.restored(experiment, families, folder))
    assert all(torch.equal(value, again[name]) for name, value in named(model).items())


@pytest.mark.parametrize("lora", [None, encoders.Lora(2, 4.0)])
@pytest.mark.parametrize("own", ["tiny", "stored"])
def test_a_remembered_encoder_is_the_one_that_would_be_loaded(
    own: str, lora: encoders.Lora | None
) -> None:
    reader = Path(Prepared.read(trained.run()).reader)
    model = "tiny" if own == "tiny" else str(checkpoint.best(trained.run()) / "encoder")
    remembered = weights.Remembered()
    for seed in (1, 1, 2):
        given = {"folder": reader, "seed": seed, "lora": lora}
        found = remembered(model, **given)
        expected = encoders.load(model, **given).state_dict()
        assert all(torch.equal(value, expected[n]) for n, value in found.state_dict().items())
        for parameter in found.parameters():
            parameter.data.zero_()  # what is given is the taker's own


def test_weights_that_no_seed_decides_are_read_once_for_all_seeds(tmp_path: Path) -> None:
    stored = shutil.copytree(checkpoint.best(trained.run()) / "encoder", tmp_path / "encoder")
    remembered = weights.Remembered()
    remembered(str(stored), seed=1)
    shutil.rmtree(stored)
    remembered(str(stored), seed=2)


def test_drift_is_the_way_in_parts_of_the_first_norm_for_parameters_of_any_shape() -> None:
    shapes = [(), (5,), (2 * weights.ROWS + 3, 4), (3, 4, 2, 2)]
    draw = torch.Generator().manual_seed(0)
    first, now = (
        torch.nn.ParameterList([torch.randn(shape, generator=draw) for shape in shapes])
        for _ in range(2)
    )
    one, other = (torch.cat([p.detach().flatten() for p in own]).double() for own in (first, now))
    expected = float((other - one).norm() / one.norm())
    assert weights.drift(now, first) == pytest.approx(expected, rel=1e-6)
    assert weights.drift(first, first) == 0
