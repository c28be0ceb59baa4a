"""Generate: pieces say any text, a search finds the likeliest, and scores are sacrebleu's."""

from __future__ import annotations

import itertools
import math
import random
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torchmetrics.text import CHRFScore, SacreBLEUScore
from workers import Workers

from orchestrator.engine import DeepSpeedEngine, PlainEngine, join
from orchestrator.model import MultiTaskModel
from orchestrator.optimizer import groups
from orchestrator.sections import Optimizer
from tasks.decoder import Decoder
from tasks.family import Rows
from tasks.generate import Generate, GenerateData
from tests.reading import WIDTH, Little, fitted, packed, reader

ROWS = [
    {"text": "the old dog", "target": "le vieux chien et le vieux film"},
    {"text": "the film", "target": "le film"},
    {"text": "Ann and Bob saw the dog", "target": "Anne et Bob ont vu le chien"},
]
FAMILY = fitted(Generate, ROWS)


def rows(lengths: list[int], target: list[list[int]]) -> Rows:
    """Put rows of one sequence each one after the other."""
    none = torch.empty(0, dtype=torch.int64)
    count = torch.tensor(lengths, dtype=torch.int64)
    flat = torch.tensor([token for own in target for token in own], dtype=torch.int64)
    sizes = {"target": torch.tensor([len(own) for own in target], dtype=torch.int64)}
    starts = count.cumsum(0) - count
    ones = torch.ones_like(count)
    return Rows(ones, starts, count, starts, none, none, {"target": flat}, sizes)


def decoder(vocabulary: int, beam: int, longest: int = 3) -> Decoder:
    """Build a small decoder that has clear preferences."""
    torch.manual_seed(3)
    head = Decoder(16, vocabulary, 2, longest, beam, 0.0).eval()
    torch.nn.init.normal_(head.tokens, std=0.5)
    return head


def chances(head: Decoder, hidden: Tensor, tokens: list[int]) -> Tensor:
    """Give the log-probability of each token of a text, by the way of training."""
    logits = head(hidden, rows([len(hidden)], [tokens]))["logits"]
    return logits.log_softmax(1)[range(len(tokens)), tokens].detach()


@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=40))
def test_any_text_is_written_and_read_back_whole(text: str) -> None:
    pieces = FAMILY.encode({"target": text}, [])["target"]
    if pieces[-1] == FAMILY.end:
        assert FAMILY._text([*pieces, FAMILY.end]) == text
    else:
        assert len(pieces) == FAMILY.data.max_target


def test_the_pieces_do_not_depend_on_the_order_of_rows() -> None:
    draw = random.Random(0)
    syllables = ["ba", "be", "bi", "do", "du", "k\u00e0", "\u4e2d", "!"]
    many = [{"target": "".join(draw.choices(syllables, k=8)) + " " + str(n)} for n in range(300)]
    keys = GenerateData(path="rows", vocabulary=400)
    found = Generate.fit(keys, many)
    for _ in range(3):
        draw.shuffle(many)
        assert Generate.fit(keys, iter(many)) == found
    assert Generate(keys, found).end == 400


@pytest.mark.parametrize("bad", [[], [{"target": None}, {"target": " "}, {}]])
def test_rows_without_texts_teach_no_pieces(bad: list[dict[str, Any]]) -> None:
    with pytest.raises(ValueError, match="'target' of the training rows holds no text"):
        Generate.fit(GenerateData(path="rows"), bad)


def test_a_long_target_is_cut_and_then_has_no_ending() -> None:
    short = fitted(Generate, ROWS, max_target=5)
    whole = FAMILY.encode(ROWS[0], [])["target"]
    cut = short.encode(ROWS[0], [])["target"]
    assert whole[-1] == FAMILY.end
    assert len(whole) > 5
    assert cut == whole[:5]
    assert short.terms(ROWS[0], {"target": cut}) == 5


def test_the_loss_is_pytorchs_own_but_for_the_unit() -> None:
    target = [[1, 2], [], [0, 3, 3]]
    logits = torch.randn(5, 4)
    family = Generate(FAMILY.data, FAMILY.fitted, label_smoothing=0.1)
    flat = torch.tensor([1, 2, 0, 3, 3])
    own = torch.nn.functional.cross_entropy(logits, flat, reduction="sum", label_smoothing=0.1)
    found = family.loss({"logits": logits}, rows([2, 2, 2], target))
    assert found.item() == pytest.approx(own.item() / math.log(4), rel=1e-6)


def test_a_token_is_foretold_from_the_source_and_those_before_it_alone() -> None:
    head, hidden = decoder(6, 1), torch.randn(7, 16)
    one = head(hidden, rows([3, 4], [[1, 2, 3], [4]]))["logits"]
    for places, others in [([0, 1], [[1, 4, 0], [5]]), ([3], [[2, 2], [4]])]:
        other = head(hidden, rows([3, 4], others))["logits"]
        kept = places if len(others[0]) == 3 else [2]
        torch.testing.assert_close(other[kept], one[places])
    hidden[5] += 1
    moved = head(hidden, rows([3, 4], [[1, 2, 3], [4]]))["logits"]
    torch.testing.assert_close(moved[:3], one[:3])
    assert (moved[3] - one[3]).abs().max() > 1e-4


def test_a_beam_of_one_takes_the_likeliest_token_every_time() -> None:
    head, hidden = decoder(9, 1, longest=12), torch.randn(8, 16)
    output = head(hidden, rows([3, 5], [[], []]))
    for own, found in zip(hidden.split([3, 5]), output["found"].tolist(), strict=True):
        logits = head(own, rows([len(own)], [found]))["logits"]
        written = found.index(8) + 1 if 8 in found else 12
        assert logits.argmax(1).tolist()[:written] == found[:written]
        assert set(found[written:]) <= {8}


def test_a_beam_that_holds_every_text_finds_the_best_one() -> None:
    """The best of all texts of at most three tokens, by mean log-probability."""
    head, hidden = decoder(4, 64), torch.randn(9, 16) * 2
    found = head(hidden, rows([2, 3, 4], [[], [], []]))["found"].tolist()
    ended = [[*text, 3] for n in range(3) for text in itertools.product(range(3), repeat=n)]
    every = ended + [list(text) for text in itertools.product(range(3), repeat=3)]
    for own, tokens in zip(hidden.split([2, 3, 4]), found, strict=True):
        best = max(every, key=lambda text: chances(head, own, text).mean().item())
        assert tokens == best + [3] * (3 - len(best))


@pytest.mark.parametrize("beam", [1, 3])
def test_a_search_that_may_not_stop_early_finds_the_same(beam: int) -> None:
    head, hidden = decoder(4, beam, longest=9), torch.randn(5, 16)
    soon = head(hidden, rows([2, 3], [[], []]))["found"]
    head.tokens.ds_id = 0  # type: ignore[attr-defined]
    assert torch.equal(head(hidden, rows([2, 3], [[], []]))["found"], soon)
    assert head(hidden[:0], rows([], []))["found"].shape == (0, 9)


def test_a_head_in_training_does_not_search() -> None:
    head, hidden = decoder(4, 2), torch.randn(2, 16)
    assert set(head(hidden, rows([2], [[1]]))) == {"logits", "found"}
    assert set(head.train()(hidden, rows([2], [[1]]))) == {"logits"}


def test_predictions_tell_how_likely_the_true_text_is() -> None:
    head = FAMILY.head(WIDTH, 0.0).eval()
    batch, _ = packed(FAMILY, ROWS, reader())
    output = Little(head).eval()(batch)
    found = FAMILY.decode(output, batch.rows["task"])
    total = FAMILY.loss(output, batch.rows["task"]).item() * math.log(FAMILY.end + 1)
    assert sum(p["nll"] for p in found) == pytest.approx(total, rel=1e-5)
    assert [p["tokens"] for p in found] == batch.rows["task"].counts["target"].tolist()
    terms = sum(p["tokens"] for p in found)
    scores = FAMILY.score(found, [FAMILY.gold(row) for row in ROWS])
    assert scores["perplexity"] == pytest.approx(math.exp(total / terms), rel=1e-5)
    assert FAMILY.answer(ROWS[0], found[0], []) == {"text": found[0]["text"]}


def test_a_hopeless_head_has_a_finite_perplexity() -> None:
    scores = FAMILY.score([{"text": "a", "nll": 1e6, "tokens": 2}], [{"text": "b"}])
    assert math.isfinite(scores["perplexity"])


def test_scores_agree_with_torchmetrics() -> None:
    found = ["the old dog saw a bird near the water", "she did like the long film a lot"]
    true = ["the old dog saw a small bird near the river", "she did not like the film"]
    scores = FAMILY.score([{"text": t} for t in found], [{"text": t} for t in true])
    bleu, chrf = SacreBLEUScore(), CHRFScore(n_word_order=0)
    references = [[text] for text in true]
    assert scores["bleu"] == pytest.approx(100 * bleu(found, references).item(), rel=1e-4)
    assert scores["chrf"] == pytest.approx(100 * chrf(found, references).item(), rel=1e-3)
    assert scores["chrf_ratio"] == scores["chrf"] / 100


class Bare(torch.nn.Module):
    """An encoder of nothing but embeddings."""

    width, summary, signals = 16, "first", None

    def __init__(self) -> None:
        super().__init__()
        self.embed = torch.nn.Embedding(400, 16)

    def forward(self, ids: Tensor, types: Tensor, offsets: Tensor, additions: Any) -> Tensor:
        found: Tensor = self.embed(ids)
        return found


def step_and_search(stage: int | None) -> tuple[dict[str, Tensor], list[Any]]:
    """Take a step on all ranks, then let each search for texts of its own."""
    rank, ranks = torch.distributed.get_rank(), torch.distributed.get_world_size()
    torch.manual_seed(0)
    model = MultiTaskModel(Bare(), {"task": FAMILY}, {}, seed=0).train()
    made = groups(model.named(), dict.fromkeys((None, "task"), Optimizer(name="sgd", lr=0.05)))
    engine: Any
    if stage is None:
        engine = PlainEngine(model, made, 1.0, ranks)
    else:
        join(torch.device("cpu"))
        engine = DeepSpeedEngine(model, made, 1.0, stage)
    batch, _ = packed(FAMILY, [] if rank else ROWS, reader())
    sums = model.loss_sums(engine.forward(batch), batch)
    engine.backward(sums["task"], True)
    engine.step({"task"})
    model.eval()
    with torch.no_grad():
        found = FAMILY.decode(model(batch)["task"], batch.rows["task"])
        weights = {name: value.clone() for name, value in engine.weights()}
    if stage is not None:
        engine.close()
    return weights, found


def test_ranks_with_and_without_rows_search_together_at_zero_stage_3(pair: Workers) -> None:
    (expected, texts), _ = pair.run(step_and_search, None)
    (weights, found), (_, nothing) = pair.run(step_and_search, 3)
    assert [one["text"] for one in found] == [one["text"] for one in texts]
    assert any(one["text"] for one in found)
    assert (len(found), nothing) == (3, [])
    for name, value in expected.items():
        torch.testing.assert_close(weights[name], value, rtol=1e-4, atol=1e-5)


def test_input_and_output_embeddings_are_one_matrix() -> None:
    head, hidden = decoder(6, 1), torch.randn(4, 16)
    found: list[Tensor] = []
    head.norm.register_forward_hook(lambda _, given, state: found.append(state.detach()))
    logits = head.train()(hidden, rows([4], [[2, 0, 5]]))["logits"]
    torch.testing.assert_close(logits, found[0].reshape(-1, 16) @ head.tokens.T)
    names = [name for name, p in head.named_parameters() if 6 in p.shape]
    assert names == ["tokens"], "nothing else has the size of the vocabulary"
