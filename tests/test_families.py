"""What every family promises: rows, loss, decoding and scores that fit each other."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

import tasks
from orchestrator.coherence import LESS_IS_BETTER
from tasks.family import Family, Row
from tests.family_cases import ALONE, CASES, EVEN, GIVEN, LABELLED, Case
from tests.reading import WIDTH, Little, fitted, packed, reader


@pytest.fixture(params=CASES, ids=[name.replace(" ", "-") for name in CASES])
def case(request: pytest.FixtureRequest) -> Case:
    return CASES[request.param]


@pytest.fixture
def family(case: Case) -> Family[Any]:
    return fitted(case.family, case.rows, **case.options)


@pytest.fixture
def rows(case: Case, family: Family[Any]) -> list[Row]:
    return case.family.gather(family.data, list(case.rows))


@pytest.fixture
def made(family: Family[Any], rows: list[Row]) -> Callable[..., Any]:
    """Give the outputs of a fresh head on these rows, with the rows as the head saw them."""

    def make(chosen: list[Row] = rows, head: Any = None, limit: int | None = None) -> Any:
        head = head or family.head(WIDTH, 0.0)
        batch, terms = packed(family, chosen, reader(), limit)
        torch.manual_seed(0)
        table = torch.nn.functional.layer_norm(torch.randn(4000, WIDTH), [WIDTH])
        ids, found = head.eval().replaced(batch.input_ids, batch.rows["task"])
        return head(table[ids], found), found, terms

    return make


def perfect(case: Case, scores: dict[str, float], near: float = 1e-6) -> Any:
    """Give what the best prediction scores."""
    best = {name: float(name not in LESS_IS_BETTER) for name in scores}
    return pytest.approx(best | case.best, abs=near)


def losses(family: Family[Any], made: Callable[..., Any], chosen: list[Row], head: Any) -> float:
    output, found, _ = made(chosen, head)
    return family.loss(output, found).item()


def test_every_family_of_the_folder_can_be_had() -> None:
    assert {"classify", "multilabel", "regress", "roles", "tag"} <= set(tasks.names())
    for name in tasks.names():
        assert issubclass(tasks.get(name), Family)


@pytest.mark.parametrize("name", tasks.names())
def test_the_word_none_is_null_where_null_may_stand(name: str) -> None:
    keys = tasks.get(name).Data
    free = [key for key, field in keys.model_fields.items() if field.default is None]
    assert {"revision", "config", "limit", "group", "max_length"} <= set(free)
    assert keys(path="rows", **dict.fromkeys(free, "none")) == keys(path="rows")
    texts = [key for key, field in keys.model_fields.items() if field.annotation is str]
    assert set(keys(**dict.fromkeys(texts, "none")).model_dump(include=set(texts)).values()) == {
        "none"
    }


def test_sound_rows_have_no_fault(family: Family[Any], rows: list[Row]) -> None:
    assert [family.fault(row, True) for row in rows] == [None] * len(rows)


def test_unsound_rows_are_told_with_column_and_expectation(
    case: Case, family: Family[Any], rows: list[Row]
) -> None:
    for change, column, expected in case.faults:
        for training in (True, False):
            fault = family.fault(rows[0] | change, training)
            assert fault is not None, change
            assert (fault.column, expected in fault.expected) == (column, True), fault


@pytest.mark.parametrize("case", LABELLED, indirect=True)
def test_a_label_outside_the_set_is_wrong_in_training_and_missed_elsewhere(
    case: Case, family: Family[Any], rows: list[Row], made: Callable[..., Any]
) -> None:
    assert case.strange is not None
    strange = rows[0] | case.strange
    assert "one of the" in family.fault(strange, True).expected
    assert family.fault(strange, False) is None
    asked = made([rows[0]])[2]
    assert made([strange])[2] == asked if case.given == "classes" else made([strange])[2] < asked
    gold, true = family.gold(strange), family.gold(rows[0])
    assert family.score([true], [gold])[family.main] < 1
    assert family.score([gold], [gold])[family.main] == pytest.approx(1)


def test_what_was_fitted_is_json_and_does_not_depend_on_the_order_of_rows(
    case: Case, family: Family[Any]
) -> None:
    again = fitted(case.family, case.rows[::-1], **case.options)
    assert json.dumps(again.fitted) == json.dumps(family.fitted)


@pytest.mark.parametrize("case", GIVEN, indirect=True)
def test_labels_given_are_the_label_set(case: Case) -> None:
    found = fitted(case.family, case.rows, **case.options)
    given = [*found.labels[::-1], "B-ZZZ"]
    fixed = fitted(case.family, case.rows, **case.options, **{str(case.given): given})
    assert set(given) <= set(fixed.labels)


def test_a_perfect_prediction_scores_one(case: Case, family: Family[Any], rows: list[Row]) -> None:
    golds = [family.gold(row) for row in rows]
    scores = family.score(golds, golds)
    assert family.main in scores
    assert scores == perfect(case, scores)
    json.dumps(golds)


def test_sums_over_rows_make_the_main_score(
    family: Family[Any], rows: list[Row], made: Callable[..., Any]
) -> None:
    """Of any choice of rows, also with some twice, as a bootstrap draws them."""
    output, batch, _ = made()
    given, golds = family.decode(output, batch), [family.gold(row) for row in rows]
    random = np.random.default_rng(0)
    choices = [random.integers(0, len(rows), len(rows)) for _ in range(8)]
    for predictions in (given, golds):
        parts = family.parts(predictions, golds)
        assert parts is not None
        sums = np.stack([parts.sum(0), *(parts[own].sum(0) for own in choices)])
        expected = [
            family.score([predictions[i] for i in own], [golds[i] for i in own])[family.main]
            for own in (range(len(rows)), *choices)
        ]
        assert family.whole(sums) == pytest.approx(expected, abs=1e-6)
        assert family.whole(sums[:, None]).shape == (9, 1)
        assert family.whole(np.zeros_like(sums[0])) == 0


def test_no_rows_score_zero(family: Family[Any]) -> None:
    scores = family.score([], [])
    assert scores == dict.fromkeys(scores, 0.0)


def test_an_untrained_head_costs_about_one_a_term(
    family: Family[Any], made: Callable[..., Any]
) -> None:
    output, found, terms = made()
    assert terms > 0
    assert family.loss(output, found).item() / terms == pytest.approx(1, abs=0.25)


@pytest.mark.parametrize("case", ALONE, indirect=True)
def test_the_loss_of_a_batch_is_the_sum_of_its_rows(
    family: Family[Any], rows: list[Row], made: Callable[..., Any]
) -> None:
    head = family.head(WIDTH, 0.0)
    apart = sum(losses(family, made, [row], head) for row in rows)
    assert losses(family, made, rows, head) == pytest.approx(apart, rel=1e-5)


def test_the_prediction_of_a_row_does_not_depend_on_its_company(
    family: Family[Any], rows: list[Row], made: Callable[..., Any]
) -> None:
    head = family.head(WIDTH, 0.0)
    together = family.decode(*made(rows, head)[:2])
    apart = [family.decode(*made([row], head)[:2])[0] for row in rows]
    assert len(together) == len(rows)
    chances = ("nll", "probabilities", "score", "scores", "value", "distribution")
    for one, other in zip(together, apart, strict=True):
        assert one.keys() == other.keys()
        for key in one:
            same = pytest.approx(other[key], rel=1e-4) if key in chances else other[key]
            assert one[key] == same


def test_without_rows_loss_and_gradients_are_zeros_and_nothing_is_missing(
    family: Family[Any], made: Callable[..., Any]
) -> None:
    head = family.head(WIDTH, 0.1)
    output, found, terms = made([], head)
    assert len(found) == terms == 0
    assert family.decode(output, found) == []
    loss = family.loss(output, found)
    if (added := head.inputs(found)) is not None:
        assert added[0].shape == (0,)
        loss = loss + added[1].sum()
    assert loss.item() == 0
    loss.backward()
    for name, parameter in head.named_parameters():
        assert parameter.grad is not None, name
        assert not parameter.grad.any(), name


def test_with_rows_every_parameter_of_the_head_learns(family: Family[Any], rows: list[Row]) -> None:
    little = Little(family.head(WIDTH, 0.0))
    batch, _ = packed(family, rows, reader())
    family.loss(little(batch), batch.rows["task"]).backward()
    for name, parameter in little.head.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.any(), name


def test_training_leads_to_the_right_answers(
    case: Case, family: Family[Any], rows: list[Row]
) -> None:
    torch.manual_seed(1)
    little = Little(family.head(WIDTH, 0.0))
    batch, terms = packed(family, rows, reader())
    found = batch.rows["task"]
    optimizer = torch.optim.Adam(little.parameters(), lr=0.01)
    for _ in range(100):
        optimizer.zero_grad()
        loss = family.loss(little(batch), found) / terms
        loss.backward()
        optimizer.step()
    predictions = family.decode(little.eval()(batch), found)
    scores = family.score(predictions, [family.gold(row) for row in rows])
    assert scores == perfect(case, scores, case.near)
    json.dumps(predictions)


@pytest.mark.parametrize("case", EVEN, indirect=True)
def test_label_smoothing_changes_the_loss_and_not_what_an_even_guess_costs(
    case: Case, rows: list[Row], made: Callable[..., Any]
) -> None:
    smooth = fitted(case.family, case.rows, **case.options, label_smoothing=0.2)
    plain = fitted(case.family, case.rows, **case.options)
    output, found, terms = made()
    assert smooth.loss(output, found).item() != plain.loss(output, found).item()
    even = torch.utils._pytree.tree_map(torch.zeros_like, output)
    assert smooth.loss(even, found).item() == pytest.approx(terms, rel=1e-5)


def test_cut_rows_are_still_answered_and_scored_in_full(
    family: Family[Any], rows: list[Row], made: Callable[..., Any]
) -> None:
    output, found, terms = made(rows, None, 8)
    assert 0 < terms <= made()[2]
    predictions = family.decode(output, found)
    golds = [family.gold(row) for row in rows]
    assert -1 <= family.score(predictions, golds)[family.main] <= 1


def test_raw_texts_are_answered_with_their_own_characters(
    case: Case, family: Family[Any], made: Callable[..., Any]
) -> None:
    record = {
        "text": "  Ann's old dog\u2014Rex\u2014saw the film!",
        "pair": "the film",
        "unasked": 3,
    }
    record |= case.asked
    row, text = family.ask(record), str(record["text"])
    output, found, terms = made([row])
    assert terms == 0
    prediction = family.decode(output, found)[0]
    again = family.ask_again(row, prediction)
    second = family.decode(*made(again)[:2]) if again else []
    answer = family.answer(row, prediction, list(zip(again, second, strict=True)))
    assert all(text[p["start"] : p["end"]] == p["text"] for p in pieces(answer))
    json.dumps(answer)


def pieces(answer: Any) -> list[dict[str, Any]]:
    """Find all stretches of text in an answer."""
    inner = answer.values() if isinstance(answer, dict) else answer
    found = [piece for part in inner if isinstance(part, (dict, list)) for piece in pieces(part)]
    return found + ([answer] if isinstance(answer, dict) and "start" in answer else [])


def test_a_record_without_the_fields_is_not_asked(family: Family[Any]) -> None:
    for record in ({}, {"text": ""}, {"text": None}, {"question": "who?"}):
        assert family.ask(record) is None
