"""Encoders: packed equals padded for every family, and what is saved is a plain model folder."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from torch import Tensor, nn

import encoders
from encoders import network, tiny
from encoders.encoder import Encoder
from encoders.packed import Packing
from encoders.tokenizer import Reader

VOCABULARY = 60
SMALL: dict[str, Any] = {"vocab_size": VOCABULARY, "pad_token_id": 0}
BERT: dict[str, Any] = {
    **SMALL,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 48,
    "max_position_embeddings": 40,
}
FAMILIES: dict[str, Callable[[], Any]] = {
    "bert": lambda: transformers.BertConfig(**BERT),
    "roberta": lambda: transformers.RobertaConfig(
        **{**BERT, "pad_token_id": 1, "type_vocab_size": 1}
    ),
    "distilbert": lambda: transformers.DistilBertConfig(
        **SMALL, dim=32, n_layers=2, n_heads=4, hidden_dim=48, max_position_embeddings=40
    ),
    "gpt2": lambda: transformers.GPT2Config(
        vocab_size=VOCABULARY,
        n_embd=32,
        n_layer=2,
        n_head=4,
        n_positions=40,
        bos_token_id=3,
        eos_token_id=3,
    ),
    # These two cannot attend packed: relative positions, and windows.
    "deberta-v2": lambda: transformers.DebertaV2Config(
        **BERT, relative_attention=True, pos_att_type=["c2p", "p2c"], type_vocab_size=0
    ),
    "modernbert": lambda: transformers.ModernBertConfig(
        **BERT, local_attention=4, global_attn_every_n_layers=2
    ),
}
PACKED = ("bert", "roberta", "distilbert", "gpt2")
LENGTHS = (7, 3, 12, 7, 1, 5)
TEXTS = ["the red cat sat on a mat", "no dog ran over the hill", "what is it"] * 3


@pytest.fixture(scope="session")
def reader() -> Reader:
    return tiny.reader(lambda: TEXTS)


@pytest.fixture(scope="session")
def folders(tmp_path_factory: pytest.TempPathFactory, reader: Reader) -> dict[str, Path]:
    """Write one folder per family, with weights large enough that mistakes show."""
    found = {}
    with torch.random.fork_rng(devices=[]), network.quiet():
        for name, config in FAMILIES.items():
            torch.manual_seed(5)
            model = transformers.AutoModel.from_config(config())
            for parameter in model.parameters():
                nn.init.normal_(parameter, 0.0, 0.3)
            found[name] = tmp_path_factory.mktemp(name)
            model.save_pretrained(found[name])
            reader.save(found[name])
    return found


@pytest.fixture
def encoder(request: pytest.FixtureRequest, folders: dict[str, Path]) -> Encoder:
    return encoders.load(str(folders[request.param]), folder=folders[request.param]).eval()


def every(*names: str) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("encoder", names or tuple(FAMILIES), indirect=True)


def batch() -> tuple[Tensor, Tensor, Tensor]:
    draw = torch.Generator().manual_seed(0)
    ids = torch.randint(5, VOCABULARY, (sum(LENGTHS),), generator=draw)
    types = torch.cat([(torch.arange(n) > n // 2).long() for n in LENGTHS])
    return ids, types, torch.tensor([0, *LENGTHS]).cumsum(0)


def plain(encoder: Encoder, folder: Path, **added: Tensor) -> tuple[Tensor, nn.Module]:
    """Give what plain transformers says about each sequence alone, with its own positions."""
    with network.quiet():
        model = transformers.AutoModel.from_pretrained(folder).eval()
    ids, types, offsets = batch()
    pieces = []
    for start, end in pairwise(offsets):
        options = {}
        if model.config.model_type == "bert":
            options["token_type_ids"] = types[None, start:end]
        pieces.append(model(ids[None, start:end], **options).last_hidden_state[0])
    return torch.cat(pieces), model


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


@every("bert")
def test_empty_sequences_take_no_place(encoder: Encoder) -> None:
    ids, types, offsets = batch()
    gapped = torch.cat((offsets[:1], offsets[:1], offsets[1:3], offsets[2:]))
    assert torch.equal(encoder(ids, types, gapped), encoder(ids, types, offsets))


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


def test_the_digest_follows_the_weights(reader: Reader) -> None:
    encoder = Encoder(tiny.model(reader.vocabulary, 0.1, 0.1, seed=0), reader)
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
