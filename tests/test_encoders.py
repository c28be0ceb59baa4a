"""Encoders: what they read, what stands for a text, and that a saved one is a plain folder."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import transformers
from torch import nn

import encoders
from encoders import tiny
from encoders.encoder import Encoder
from tests.networks import PACKED, VOCABULARY, batch, every, plain, reader, written


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return written(tmp_path_factory)


@pytest.fixture
def encoder(request: pytest.FixtureRequest, folders: dict[str, Path]) -> Encoder:
    return encoders.load(str(folders[request.param]), folder=folders[request.param]).eval()


@every("gpt2")
def test_gpt2_reads_forward_only_and_is_summed_up_by_its_last_token(encoder: Encoder) -> None:
    ids, types, _ = batch()
    offsets = torch.tensor([0, len(ids)])
    before = encoder(ids, types, offsets)
    ids[-1] = (ids[-1] + 1) % VOCABULARY
    after = encoder(ids, types, offsets)
    torch.testing.assert_close(after[:-1], before[:-1])
    assert encoder.summary == "last"


@every("bert", "roberta", "distilbert")
def test_encoders_that_read_both_ways_are_summed_up_by_their_first_token(encoder: Encoder) -> None:
    assert encoder.summary == "first"


@every("bert")
def test_second_texts_have_token_types_of_their_own(encoder: Encoder) -> None:
    ids, types, offsets = batch()
    assert not torch.allclose(
        encoder(ids, types, offsets), encoder(ids, torch.zeros_like(types), offsets)
    )


@every("roberta", "distilbert", "gpt2")
def test_networks_without_token_types_ignore_them(encoder: Encoder) -> None:
    ids, types, offsets = batch()
    assert torch.equal(encoder(ids, types, offsets), encoder(ids, 0 * types, offsets))


@every("bert", "deberta-v2")
def test_additions_act_like_other_input_embeddings(encoder: Encoder) -> None:
    ids, types, offsets = batch()
    table = encoder.network.get_input_embeddings().weight
    other = ids.clone()
    other[10], other[20] = 6, 7
    where = torch.tensor([20, 10])
    vectors = (table[other[where]] - table[ids[where]]).detach().requires_grad_()
    added = encoder(ids, types, offsets, [(where[:1], vectors[:1]), (where[1:], vectors[1:])])
    torch.testing.assert_close(added, encoder(other, types, offsets), rtol=1e-4, atol=1e-5)
    added.square().sum().backward()
    assert vectors.grad is not None
    assert bool((vectors.grad != 0).any(1).all())


@every("bert", "gpt2", "modernbert")
def test_no_tokens_give_no_states_but_gradients_for_all_parameters(encoder: Encoder) -> None:
    nothing = torch.zeros(0, dtype=torch.long)
    hidden = encoder(nothing, nothing, torch.tensor([0]))
    assert hidden.shape == (0, encoder.width)
    hidden.sum().backward()
    for name, parameter in encoder.named_parameters():
        assert parameter.grad is not None, name
        assert not parameter.grad.any(), name


@every("roberta")
def test_a_sequence_too_long_is_told_with_both_numbers(encoder: Encoder) -> None:
    assert encoder.limit == 38  # positions 0 and 1 are the padding's
    ids = torch.full((39,), 7)
    encoder(ids[:38], ids[:38], torch.tensor([0, 38]))
    with pytest.raises(ValueError, match=r"39 tokens.*at most 38"):
        encoder(ids, ids, torch.tensor([0, 39]))


@every("bert", "gpt2")
def test_bf16_autocast_stays_near_fp32_and_gives_fp32_gradients(encoder: Encoder) -> None:
    exact = encoder(*batch())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rough = encoder(*batch())
    apart = (rough - exact).detach().abs().mean() / exact.detach().abs().mean()
    assert float(apart) < 0.05
    rough.float().sum().backward()
    assert {parameter.grad.dtype for parameter in encoder.parameters()} == {torch.float32}


@pytest.mark.parametrize("family", PACKED)
def test_dropouts_reach_every_layer(folders: dict[str, Path], family: str) -> None:
    folder = folders[family]
    loaded = encoders.load(str(folder), folder=folder, dropout=0.25, attention_dropout=0.125)
    rates = [module.p for module in loaded.modules() if isinstance(module, nn.Dropout)]
    assert set(rates) == {0.25, 0.125}
    assert rates.count(0.125) == 2  # one a layer
    assert loaded.training
    torch.manual_seed(3)
    first, again = loaded(*batch()), loaded(*batch())
    torch.manual_seed(3)
    assert torch.equal(loaded(*batch()), first)
    assert not torch.equal(again, first)
    loaded.eval()
    state = torch.random.get_rng_state()
    assert torch.equal(loaded(*batch()), loaded(*batch()))
    assert torch.equal(torch.random.get_rng_state(), state)


@every()
def test_a_saved_encoder_is_a_plain_folder(encoder: Encoder, tmp_path: Path) -> None:
    encoder.save(tmp_path)
    assert "tlmt" not in (tmp_path / "config.json").read_text()
    assert not [path for path in tmp_path.iterdir() if path.suffix in (".bin", ".pt", ".pkl")]
    expected, _ = plain(encoder, tmp_path)
    torch.testing.assert_close(encoder(*batch()), expected, rtol=1e-5, atol=1e-5)
    again = encoders.load(str(tmp_path))
    assert again.digest() == encoder.digest()
    assert again.packs is encoder.packs
    ids = transformers.AutoTokenizer.from_pretrained(tmp_path)("the red cat").input_ids
    assert ids == encoder.reader(["the red cat"])[0].input_ids


def test_the_digest_follows_the_weights() -> None:
    reads = reader()
    encoder = Encoder(tiny.model(reads.vocabulary, 0.1, 0.1, seed=0), reads)
    before = encoder.digest()
    with torch.no_grad():
        next(encoder.parameters()).view(-1)[3] += 1
    assert encoder.digest() != before


def test_the_network_sees_few_different_numbers_of_tokens(folders: dict[str, Path]) -> None:
    encoder = encoders.load(str(folders["bert"]))
    seen = set()
    first = next(m for m in encoder.network.modules() if isinstance(m, torch.nn.Linear))
    first.register_forward_hook(lambda module, given, found: seen.add(given[0].shape[-2]))
    for length in range(3, 9):
        ids = torch.arange(length)
        assert encoder(ids, ids * 0, torch.tensor([0, length])).shape[0] == length
    assert seen == {64}
