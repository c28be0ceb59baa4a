"""Packed attention: as if each sequence were read alone, in every family of encoders."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import transformers

import encoders
from encoders.encoder import Encoder
from encoders.packed import Packing
from tests.networks import LENGTHS, PACKED, batch, every, plain, written


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return written(tmp_path_factory)


@pytest.fixture
def encoder(request: pytest.FixtureRequest, folders: dict[str, Path]) -> Encoder:
    return encoders.load(str(folders[request.param]), folder=folders[request.param]).eval()


@every()
def test_packed_hidden_states_equal_each_sequence_alone(
    encoder: Encoder, folders: dict[str, Path]
) -> None:
    kind = encoder.network.config.model_type
    assert encoder.packs is (kind in PACKED)
    expected, _ = plain(encoder, folders[kind])
    torch.testing.assert_close(encoder(*batch()), expected, rtol=1e-5, atol=1e-5)


@every()
def test_packed_gradients_equal_those_of_each_sequence_alone(
    encoder: Encoder, folders: dict[str, Path]
) -> None:
    expected, model = plain(encoder, folders[encoder.network.config.model_type])
    weights = torch.linspace(-1, 1, expected.numel()).view_as(expected)
    (expected * weights).sum().backward()
    (encoder(*batch()) * weights).sum().backward()
    wanted = dict(model.named_parameters())
    for name, parameter in encoder.network.named_parameters():
        # Sums of several hundred products: errors grow with the largest of them.
        largest = float(wanted[name].grad.abs().max())
        torch.testing.assert_close(
            parameter.grad, wanted[name].grad, rtol=1e-4, atol=1e-5 * (1 + largest)
        )


@every(*PACKED)
def test_padding_inside_gives_the_same_as_packing(encoder: Encoder) -> None:
    packed = encoder(*batch())
    encoder.network.set_attn_implementation("sdpa")
    encoder.packs = False
    torch.testing.assert_close(encoder(*batch()), packed, rtol=1e-5, atol=1e-5)


@every("bert", "gpt2")
def test_attention_with_dropout_has_the_mean_of_attention_without(encoder: Encoder) -> None:
    draw = torch.Generator().manual_seed(1)
    query, key, value = torch.randn(3, 1, 4, sum(LENGTHS), 8, generator=draw)
    packing = Packing.of(batch()[2], torch.device("cpu"))
    attend = transformers.AttentionInterface()["tlmt_packed"]
    module = next(m for m in encoder.modules() if hasattr(m, "is_causal"))
    still, _ = attend(module, query, key, value, None, packing=packing)
    almost, _ = attend(module, query, key, value, None, dropout=1e-9, packing=packing)
    torch.testing.assert_close(almost, still)
    torch.manual_seed(0)
    dropped = [
        attend(module, query, key, value, None, dropout=0.5, packing=packing)[0] for _ in range(400)
    ]
    assert not torch.equal(dropped[0], dropped[1])
    mean = torch.stack(dropped).mean(0)
    assert float((mean - still).abs().mean()) < 0.04


@every("bert", "gpt2")
def test_one_sequence_never_sees_another(encoder: Encoder) -> None:
    ids, types, offsets = batch()
    before = encoder(ids, types, offsets)
    start, end = int(offsets[2]), int(offsets[3])
    ids[start:end] = 9
    after = encoder(ids, types, offsets)
    outside = torch.ones(len(ids), dtype=torch.bool)
    outside[start:end] = False
    torch.testing.assert_close(after[outside], before[outside])
    assert not torch.allclose(after[start:end], before[start:end])


@every("bert")
def test_empty_sequences_take_no_place(encoder: Encoder) -> None:
    ids, types, offsets = batch()
    gapped = torch.cat((offsets[:1], offsets[:1], offsets[1:3], offsets[2:]))
    assert torch.equal(encoder(ids, types, gapped), encoder(ids, types, offsets))
