"""LoRA: only its matrices learn, at every ZeRO stage; kept apart, merged, or read by peft."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
import torch.distributed as dist
import transformers
from looped import MakeWork, Stopping, last, trained
from networks import BERT, PACKED, batch, every, reader, written
from torch import Tensor, nn
from toy import SIZES, ToyRun
from workers import Workers

import encoders
from encoders import Lora, lora
from encoders.encoder import Encoder
from encoders.network import quiet
from orchestrator import checkpoint
from orchestrator.engine import DeepSpeedEngine, Engine, PlainEngine, join
from orchestrator.model import MultiTaskModel
from orchestrator.predict import Predictor
from orchestrator.training import Training

SMALL = Lora(rank=3, alpha=6.0)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return written(tmp_path_factory)


@pytest.fixture
def encoder(request: pytest.FixtureRequest, folders: dict[str, Path]) -> Encoder:
    return encoders.load(str(folders[request.param]), lora=SMALL).eval()


def moved(encoder: Encoder) -> Encoder:
    """Let every matrix be as after some training."""
    with torch.no_grad():
        for name, weight in encoder.named_parameters():
            if weight.requires_grad:
                draw = torch.Generator().manual_seed(len(name))
                weight.normal_(0, 0.2, generator=draw)
    return encoder


@every()
def test_at_the_start_a_network_computes_what_it_did(
    encoder: Encoder, folders: dict[str, Path]
) -> None:
    plain = encoders.load(encoder.network.name_or_path).eval()
    assert torch.equal(encoder(*batch()), plain(*batch()))
    assert encoder.packs is plain.packs


@every()
def test_a_layer_adds_the_product_of_its_matrices(encoder: Encoder) -> None:
    """Hu et al. 2022, equation 3, with their scale alpha / r."""
    layers = [m for m in moved(encoder).modules() if hasattr(m, "lora_A")]
    plain = (nn.Linear, transformers.pytorch_utils.Conv1D)
    assert len(layers) == sum(isinstance(m, plain) for m in encoder.modules()) - 2 * len(layers)
    for layer in layers:
        a, b = (getattr(layer, f"lora_{one}")["default"].weight for one in "AB")
        x = torch.randn(5, a.shape[1])
        expected = layer.base_layer(x) + 6.0 / 3 * x @ a.T @ b.T
        torch.testing.assert_close(layer(x), expected, rtol=1e-4, atol=1e-4)


@every()
def test_only_the_matrices_learn(encoder: Encoder) -> None:
    moved(encoder)(*batch()).square().sum().backward()
    for name, weight in encoder.named_parameters():
        assert weight.requires_grad == (".lora_" in name) == (weight.grad is not None), name


def test_first_matrices_belong_to_the_seed_and_the_layers_name(folders: dict[str, Path]) -> None:
    before = torch.get_rng_state()
    drawn = [
        dict(encoders.load(str(folders["bert"]), lora=SMALL, seed=s).named_parameters())
        for s in (0, 0, 1)
    ]
    assert torch.equal(torch.get_rng_state(), before)
    for name, weight in drawn[0].items():
        assert torch.equal(weight, drawn[1][name])
        if ".lora_A." in name:
            assert not torch.equal(weight, drawn[2][name])
            bound = weight.shape[1] ** -0.5
            assert 0.5 * bound < weight.detach().abs().max() <= bound
    assert not any(w.any() for n, w in drawn[0].items() if ".lora_B." in n)


@every()
def test_a_saved_encoder_comes_back_apart_or_merged(encoder: Encoder, tmp_path: Path) -> None:
    expected = moved(encoder)(*batch())
    encoder.save(tmp_path)
    apart = encoders.load(str(tmp_path), apart=True).eval()
    assert apart.digest() == encoders.load(encoder.network.name_or_path).digest()
    assert torch.equal(apart(*batch()), expected)
    again = dict(apart.named_parameters())
    for name, weight in encoder.named_parameters():
        assert torch.equal(again[name], weight)
        assert again[name].requires_grad is weight.requires_grad
    merged = encoders.load(str(tmp_path)).eval()
    torch.testing.assert_close(merged(*batch()), expected, rtol=1e-4, atol=1e-4)
    assert not any("lora" in name or "base_layer" in name for name, _ in merged.named_parameters())
    assert all(p.requires_grad for p in merged.parameters())


@pytest.mark.parametrize("family", PACKED)
def test_a_settled_folder_is_a_plain_one_and_keeps_its_dropout(
    folders: dict[str, Path], family: str, tmp_path: Path
) -> None:
    moved(encoders.load(str(folders[family]), lora=SMALL, dropout=0.25)).save(tmp_path)
    expected = encoders.load(str(tmp_path)).eval()(*batch())
    lora.settle(tmp_path)
    assert not (tmp_path / lora.FOLDER).exists()
    assert torch.equal(encoders.load(str(tmp_path)).eval()(*batch()), expected)
    assert 0.25 in json.loads((tmp_path / "config.json").read_text()).values()
    lora.settle(tmp_path)


@pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing:FutureWarning")  # peft's own
def test_peft_reads_what_is_saved(folders: dict[str, Path], tmp_path: Path) -> None:
    encoder = moved(encoders.load(str(folders["bert"]), lora=SMALL)).eval()
    encoder.save(tmp_path)
    with quiet():
        network = transformers.AutoModel.from_pretrained(tmp_path)
    theirs = peft.PeftModel.from_pretrained(network, tmp_path / lora.FOLDER).eval()
    ids = torch.arange(5, 12)
    found = theirs(ids[None]).last_hidden_state[0]
    ours = encoder(ids, 0 * ids, torch.tensor([0, 7]))
    torch.testing.assert_close(found, ours, rtol=1e-4, atol=1e-4)


class LoraRun(ToyRun):
    """The toy run on a small BERT whose own weights rest."""

    def model(self, dropout: float = 0.0, seed: int = 0) -> MultiTaskModel:
        torch.manual_seed(seed)
        config = transformers.BertConfig(
            **BERT, hidden_dropout_prob=dropout, attention_probs_dropout_prob=dropout
        )
        built = transformers.BertModel(config, add_pooling_layer=False)
        lora.add(built, Lora(4, 8.0, dropout), seed)
        return MultiTaskModel(Encoder(built, reader()), self.families, {}, seed)


def trajectory(stage: int | None) -> dict[str, Tensor]:
    """Train a few steps, going on once from what was left; give weights and averages."""
    rank, ranks = dist.get_rank(), dist.get_world_size()
    run = LoraRun(**{key: {"name": "sgd", "lr": 0.5} for key in ("encoder", *SIZES)})
    first = dict(run.model().named_parameters())
    left: Any = None
    for start, stop in ((0, 2), (2, 4)):
        model = run.model()
        if left is not None:
            with torch.no_grad():
                for name, _, parameter in model.named():
                    parameter.copy_(left[0][name])
        engine: Engine
        if stage is None:
            engine = PlainEngine(model, run.groups(model), 1.0, ranks)
        else:
            join(torch.device("cpu"))
            engine = DeepSpeedEngine(model, run.groups(model), 1.0, stage)
        engine.average({n: p.detach() for n, _, p in run.model().named()}, 0.5)
        if left is not None:
            engine.restore(left[1])
        for step in range(start, stop):
            run.step(engine, step, rank, ranks)
        weights = {name: value.clone() for name, value in engine.weights()}
        left = weights, dict(engine.state())
        averages = {f"{name} averaged": value.clone() for name, value in engine.averaged()}
        if isinstance(engine, DeepSpeedEngine):
            engine.close()
    assert all(left[0][name].any() for name in left[0] if ".lora_B." in name)
    rests = {n for n in left[0] if n.startswith("encoder.") and ".lora_" not in n}
    assert rests
    assert all(torch.equal(left[0][name], first[name]) for name in rests)
    assert not any(name.rpartition("/")[0] in rests for name in left[1])
    return left[0] | averages


@pytest.fixture(scope="module")
def expected(alone: Workers) -> dict[str, Tensor]:
    return alone.run(trajectory, None)[0]


@pytest.mark.parametrize("stage", [0, 2, 3])
def test_two_ranks_reach_the_matrices_of_the_plain_twin_and_the_rest_keeps_its_bits(
    pair: Workers, expected: dict[str, Tensor], stage: int | None
) -> None:
    for found in pair.run(trajectory, stage):
        for name, value in expected.items():
            torch.testing.assert_close(found[name], value, rtol=1e-4, atol=1e-5)


ADAPTED = {
    "encoder.lora": {"rank": 4, "dropout": 0.1},
    "regularization": {"ema": 0.8, "layer_decay": 0.8},
    "optimizer.lr": 0.01,
}


def test_a_run_stopped_twice_ends_with_the_bits_of_an_untouched_one(work: MakeWork) -> None:
    untouched = work("untouched", **ADAPTED)
    trained(untouched)
    for place, stop in enumerate((3, 1, 99)):
        own = work("stopped", stop=Stopping(stop), **ADAPTED)
        torch.manual_seed(place)
        trained(own)
    found, right = last(own), last(untouched)
    assert found.keys() == right.keys()
    assert any(".lora_A." in name for name in right)
    assert all(torch.equal(found[name], value) for name, value in right.items())


def test_deeper_matrices_learn_more_slowly_and_nothing_else_has_a_group(work: MakeWork) -> None:
    own = work(**ADAPTED)
    groups = Training(own, own.stages[0], checkpoint.Progress(0)).engine.optimizer.param_groups
    rates = {g["name"]: g["base_lr"] for g in groups if g["task"] is None}
    assert rates == {"encoder.1": pytest.approx(0.008), "encoder.2": pytest.approx(0.01)}
    names = [name for group in groups for name in group["names"]]
    assert all(".lora_" in name for name in names if name.startswith("encoder."))


def test_what_is_served_is_merged_and_answers_alike(work: MakeWork, tmp_path: Path) -> None:
    own = work(**ADAPTED)
    trained(own)
    own.prepared.write(own.run)
    records = [{"text": "The old baker sold a warm loaf to the quiet farmer."}]
    answers = Predictor.load(own.run)(records)
    best = checkpoint.best(own.run)
    lean = tmp_path / "lean" / best.relative_to(own.run)
    checkpoint.lean(best, lean)
    own.prepared.write(tmp_path / "lean")
    assert checkpoint.verified(lean)
    assert not (lean / "encoder" / lora.FOLDER).exists()
    assert Predictor.load(tmp_path / "lean")(records) == answers
