"""Language: BERT's recipe, exact in number, the same questions in every evaluation."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from encoders.tokenizer import Reader
from orchestrator.experiment import parse
from orchestrator.prepare import prepare
from orchestrator.problems import ExperimentError
from tasks.family import IGNORED, Rows
from tasks.language import Language, LanguageHead, hidden
from tests.reading import SENTENCES, WIDTH, fitted, packed, reader

MANY = [
    {"text": " ".join(np.random.default_rng(seed).permutation(" ".join(SENTENCES).split()))}
    for seed in range(300)
]


@pytest.fixture(scope="module")
def family() -> Language:
    found = fitted(Language, MANY)
    assert isinstance(found, Language)
    return found


def seen(
    family: Language, texts: list[dict[str, Any]], training: bool = False
) -> tuple[torch.Tensor, torch.Tensor, Rows]:
    """Give the tokens of some rows as they are, as the encoder sees them, and the hidden ones."""
    batch, terms = packed(family, texts, reader())
    head = family.head(WIDTH, 0.0).train(training)
    state = torch.get_rng_state()
    ids, rows = head.replaced(batch.input_ids, batch.rows["task"])
    assert torch.equal(torch.get_rng_state(), state) != training
    assert len(rows.columns["places"]) == terms
    assert torch.equal(batch.input_ids[rows.columns["places"]], rows.columns["true"])
    rest = torch.ones(len(ids), dtype=torch.bool).index_fill(0, rows.columns["places"], False)
    assert torch.equal(ids[rest], batch.input_ids[rest])
    return batch.input_ids, ids, rows


def inside(rows: Rows) -> list[list[int]]:
    """Give the hidden places of each row, counted from its first token."""
    own = rows.columns["places"].split(rows.counts["nth"].tolist())
    return [(o - s).tolist() for o, s in zip(own, rows.starts, strict=True)]


@pytest.mark.parametrize(("tokens", "count"), [(0, 0), (1, 1), (9, 1), (10, 2), (16, 2), (100, 15)])
def test_fifteen_in_a_hundred_tokens_are_hidden_and_at_least_one(tokens: int, count: int) -> None:
    assert hidden(tokens) == count


@pytest.mark.parametrize("training", [True, False])
def test_what_is_hidden_follows_berts_recipe(family: Language, training: bool) -> None:
    _, after, rows = seen(family, MANY, training)
    places, true = rows.columns["places"], rows.columns["true"]
    assert len(set(places.tolist())) == len(places) > 1000
    special = torch.tensor(sorted(family.special))
    assert not torch.isin(true, special).any()
    now = after[places]
    assert not torch.isin(now[now != family.mask], special).any()
    kept = (now == true).float().mean().item()
    masked = (now == family.mask).float().mean().item()
    assert masked == pytest.approx(0.8, abs=0.03)
    assert kept == pytest.approx(0.1, abs=0.03)
    for own, length in zip(inside(rows), rows.lengths.tolist(), strict=True):
        assert len(own) == hidden(length - 2)
    # Every place is as likely as any other.
    share = np.bincount(np.concatenate(inside(rows)))[1:35] / len(MANY)
    assert share == pytest.approx(np.full(34, share.mean()), abs=0.08)


def test_in_training_other_tokens_are_hidden_each_time_and_the_seed_says_which(
    family: Language,
) -> None:
    found = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        found.append(seen(family, MANY[:9], training=True)[1].tolist())
    assert found[0] == found[1] != found[2]


def test_in_evaluation_a_row_is_asked_the_same_in_any_company_and_nothing_is_drawn(
    family: Language,
) -> None:
    every, after, rows = seen(family, MANY[:9])
    turned, _, other = seen(family, MANY[8::-1])
    assert len(turned) == len(every)
    assert inside(rows) == inside(other)[::-1]
    alone = torch.cat([seen(family, [row])[1] for row in MANY[:9]])
    assert torch.equal(alone, after)


def test_the_loss_is_pytorchs_cross_entropy_over_the_log_of_the_vocabulary(
    family: Language,
) -> None:
    batch, terms = packed(family, MANY[:9], reader())
    head = family.head(WIDTH, 0.0).eval()
    ids, rows = head.replaced(batch.input_ids, batch.rows["task"])
    output = head(torch.randn(len(ids), WIDTH), rows)
    labels = torch.full((len(ids),), IGNORED)
    labels[rows.columns["places"]] = rows.columns["true"]
    logits = torch.zeros(len(ids), len(family.pieces))
    logits[rows.columns["places"]] = output["logits"]
    nll = torch.nn.functional.cross_entropy(logits, labels, reduction="sum").item()
    assert family.loss(output, batch.rows["task"]).item() == pytest.approx(
        nll / math.log(len(family.pieces)), rel=1e-5
    )
    predictions = family.decode(output, batch.rows["task"])
    assert sum(p["tokens"] for p in predictions) == terms
    scores = family.score(predictions, [family.gold(row) for row in MANY[:9]])
    assert scores["perplexity"] == pytest.approx(math.exp(nll / terms), rel=1e-5)
    assert scores["inverse_perplexity"] == pytest.approx(1 / scores["perplexity"])


def test_a_text_of_nothing_but_special_tokens_hides_nothing(family: Language) -> None:
    _, after, rows = seen(family, [{"text": "[UNK] [MASK] \u4e00"}, MANY[0]])
    assert rows.counts["nth"].tolist()[0] == 0
    assert family.mask in after[: rows.lengths[0]]


def test_the_masks_of_a_text_that_is_asked_are_answered_in_their_order(family: Language) -> None:
    text = "[MASK] old dog, and the [MASK] river"
    row = family.ask({"text": text})
    assert row is not None
    assert family.ask({"text": "the old dog"}) is None
    batch, terms = packed(family, [row], reader())
    head = family.head(WIDTH, 0.0).eval()
    ids, rows = head.replaced(batch.input_ids, batch.rows["task"])
    assert terms == 0
    assert torch.equal(ids, batch.input_ids)
    with torch.no_grad():
        head.out.weight.zero_()
        head.out.bias[reader().tokenizer.token_to_id("the")] = 9.0
    output = head(torch.randn(len(ids), WIDTH), rows)
    assert family.loss(output, rows).item() == 0
    answer = family.answer(row, family.decode(output, rows)[0], [])
    assert [(a["start"], a["text"]) for a in answer] == [(0, "[MASK]"), (24, "[MASK]")]
    for mask in answer:
        assert mask["tokens"][0]["token"] == "the"
        assert mask["tokens"][0]["score"] > mask["tokens"][1]["score"]


def test_the_head_has_no_state_but_its_weights(family: Language) -> None:
    head = family.head(WIDTH, 0.0)
    assert isinstance(head, LanguageHead)
    assert set(head.state_dict()) == {name for name, _ in head.named_parameters()}


def test_a_tokenizer_without_a_mask_is_a_problem_of_the_experiment(tmp_path: Path) -> None:
    tree = {
        "name": "x",
        "encoder": {"model": "tiny"},
        "tasks": {"words": {"family": "language", "data": {"path": "builtin:demo?size=60"}}},
    }
    own = reader()
    maskless = Reader(own.tokenizer, {}, own.limit)
    with pytest.raises(ExperimentError, match=r"tasks\.words\.family is 'language', which hides"):
        prepare(parse(tree), [], tmp_path, maskless)
    prepared = prepare(parse(tree), [], tmp_path, own)
    fitted = prepared.tasks["words"].fitted
    assert (fitted["pieces"][fitted["mask"]], len(fitted["special"])) == ("[MASK]", 5)


def test_where_nothing_was_hidden_nothing_is_claimed(family: Language) -> None:
    found = family.score([{"nll": 0.0, "tokens": 0, "masks": []}], [{}])
    assert found == {"inverse_perplexity": 0.0, "perplexity": 0.0}
