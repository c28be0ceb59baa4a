"""Span: answers are characters of the context, whatever windows it is read in."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch.nn import functional

from tasks import windows
from tasks.family import Row, Rows
from tasks.span import Span
from tests.family_cases import QUESTIONS
from tests.reading import SENTENCES, WIDTH, example, fitted, packed, reader

CONTEXT = SENTENCES[2]
"""Ann gave Bob the book that he had asked for: ten words, each one token."""


def row(answer: str | None, context: str = CONTEXT, **more: Any) -> Row:
    start = context.index(answer) if answer else None
    return {
        "question": "the dog saw",
        "context": context,
        "answer": answer,
        "start": start,
        **more,
    }


def span(longest: int = 20, **options: Any) -> Span:
    return fitted(Span, [row(None) | {"answer": "x" * longest}], **options)  # type: ignore[return-value]


def rows(*sizes: int, answers: list[list[int]] | None = None, token: int = 2) -> Rows:
    """Give rows of one window each, whose tokens have ``token`` characters, a blank between."""
    begins = [(token + 1) * place for size in sizes for place in range(size)]
    answers = [[] for _ in sizes] if answers is None else answers
    columns = {
        "begins": torch.tensor(begins),
        "ends": torch.tensor(begins) + token,
        "answer": torch.tensor([place for own in answers for place in own], dtype=torch.int64),
    }
    counts = {
        "begins": torch.tensor(sizes),
        "answer": torch.tensor([len(own) for own in answers]),
    }
    none = torch.empty(0, dtype=torch.int64)
    return Rows(torch.ones(len(sizes)), none, none, none, none, none, columns, counts)


def choice(text: str | None, context: str) -> dict[str, Any]:
    if text is None:
        return {"start": None, "end": None, "score": 1.0}
    start = context.index(text)
    return {"start": start, "end": start + len(text), "score": 1.0}


@pytest.mark.parametrize(
    ("given", "true", "exact", "f1"),
    [
        ("The dog", ["dog"], 1, 1),  # articles and case do not count
        ("dog.", ["the dog"], 1, 1),  # nor does punctuation
        ("old dog.", ["dog"], 0, 2 / 3),  # precision 1/2, recall 1
        ("The dog", ["a dog saw it"], 0, 1 / 2),  # precision 1, recall 1/3
        ("A bird", ["dog"], 0, 0),
        ("old dog.", ["dog", "an old dog"], 1, 1),  # the best of both
        ("old dog.", ["my old dog", "dog"], 0, 4 / 5),  # precision 1, recall 2/3
        (None, [], 1, 1),
        ("dog.", [], 0, 0),
        (None, ["dog"], 0, 0),
        (None, ["A", "old dog"], 0, 0),  # a reference of articles alone is none beside others
        (None, ["A"], 1, 1),
    ],
)
def test_scores_are_those_of_squad(
    given: str | None, true: list[str], exact: float, f1: float
) -> None:
    context = "The dog saw an old dog. A bird sang."
    gold = choice(None, context) | {"answers": true, "context": context}
    scores = span().score([choice(given, context)], [gold])
    assert scores == pytest.approx({"exact_match": exact, "f1": f1})
    both = span().score(
        [choice(given, context), choice(None, context)], [gold, gold | {"answers": []}]
    )
    assert both == pytest.approx({"exact_match": (exact + 1) / 2, "f1": (f1 + 1) / 2})


def test_all_references_and_the_answer_itself_count_as_right() -> None:
    one = row("Bob", answers=["Bob", "gave Bob", " "])
    assert span(answers="answers").gold(one)["answers"] == ["Bob", "gave Bob"]
    assert span(answers="answers").gold(one | {"answers": ["gave Bob"]})["answers"][0] == "Bob"
    assert span(answers="answers").gold(one | {"answers": None})["answers"] == ["Bob"]
    assert span().gold(one)["answers"] == ["Bob"]
    assert span(answers="answers").gold(row(None, answers=[]))["answers"] == []


def test_the_loss_is_the_cross_entropy_over_the_whole_row_and_none() -> None:
    torch.manual_seed(0)
    none, tokens = torch.randn(4, 2), torch.randn(3 + 5 + 2 + 2, 2)
    found = span().loss((none, tokens), rows(3, 5, 2, 2, answers=[[2, 3], [0, 0], [], [1, 1]]))
    expected = 0.0
    for place, own, (start, end) in (
        (0, (0, 3), (2, 3)),
        (1, (3, 8), (0, 0)),
        (3, (10, 12), (1, 1)),
    ):
        logits = torch.cat((none[place : place + 1], tokens[slice(*own)]))
        cost = functional.cross_entropy(logits[None, :, 0], torch.tensor([start]))
        cost += functional.cross_entropy(logits[None, :, 1], torch.tensor([end]))
        expected += cost.item() / (2 * math.log(len(logits)))
    assert found.item() == pytest.approx(expected, rel=1e-6)


def test_the_smoothed_loss_is_torchs() -> None:
    torch.manual_seed(0)
    none, tokens = torch.randn(1, 2), torch.randn(4, 2)
    found = span(label_smoothing=0.1).loss((none, tokens), rows(4, answers=[[2, 3]]))
    logits = torch.cat((none, tokens)).T
    cost = functional.cross_entropy(
        logits, torch.tensor([2, 3]), label_smoothing=0.1, reduction="sum"
    )
    assert found.item() == pytest.approx(cost.item() / (2 * math.log(5)), rel=1e-6)


@pytest.mark.parametrize("longest", [1, 2, 8, 20, 1000])
def test_the_answer_is_the_best_legal_pair_of_all(longest: int) -> None:
    torch.manual_seed(longest)
    sizes = (7, 1, 12)
    none, tokens = torch.randn(3, 2), 2 * torch.randn(20, 2)
    predictions = span(longest).decode((none, tokens), rows(*sizes))
    for place, (own, size) in enumerate(zip(tokens.split(sizes), sizes, strict=True)):
        logits = torch.cat((none[place : place + 1], own)).log_softmax(0).exp().tolist()
        pairs = {(None, None): logits[0][0] * logits[0][1]}
        for first in range(size):
            for last in range(first, size):
                start, end = 3 * first, 3 * last + 2
                if first == last or end - start <= longest:
                    pairs[start, end] = logits[first + 1][0] * logits[last + 1][1]
        best = max(pairs, key=pairs.__getitem__)
        found = predictions[place]
        assert (found["start"], found["end"]) == best
        assert found["score"] == pytest.approx(pairs[best], rel=1e-5)


def test_an_end_before_the_start_is_never_chosen() -> None:
    none, tokens = torch.full((1, 2), -9.0), torch.tensor([[0.0, 4.0], [3.0, 0.0], [0.0, 2.0]])
    assert span().decode((none, tokens), rows(3))[0]["start"] == 3
    assert span().decode((none, tokens), rows(3))[0]["end"] == 8
    none = torch.full((1, 2), 9.0)
    assert span().decode((none, tokens), rows(3))[0]["start"] is None


@pytest.mark.parametrize("length", [8, 9, 12, 15])
@pytest.mark.parametrize("stride", [0, 1, 3, 128])
def test_windows_change_neither_what_can_be_chosen_nor_what_it_costs(
    length: int, stride: int
) -> None:
    """Here hidden states depend on the token alone, so windows are all that could differ."""
    whole, cut = fitted(Span, QUESTIONS), fitted(Span, QUESTIONS, stride=stride)
    head = whole.head(WIDTH, 0.0)
    table = torch.randn(4000, WIDTH, generator=torch.Generator().manual_seed(1))
    found = []
    for family, limit in ((whole, None), (cut, length)):
        batch, terms = packed(family, QUESTIONS, reader(), limit)
        own = batch.rows["task"]
        output = head(table[batch.input_ids], own)
        found.append((family.loss(output, own).item(), family.decode(output, own), terms, own))
    assert max(found[1][3].sequences.tolist()) > 1
    assert torch.equal(found[0][3].columns["begins"], found[1][3].columns["begins"])
    assert found[1][0] == pytest.approx(found[0][0], rel=1e-5)
    assert found[1][2] == found[0][2] == len(QUESTIONS)
    for one, other in zip(found[0][1], found[1][1], strict=True):
        assert one == other | {"score": pytest.approx(other["score"], rel=1e-4)}


def test_a_token_belongs_to_the_window_where_it_sees_most() -> None:
    """Question 3 and special 3 of 11 tokens leave windows of 5; they share 2, so 1 goes to each."""
    family = span(stride=2)
    encoded = reader()(family.texts(row("Bob")), 11)
    found = family.encode(row("Bob"), encoded)
    assert [one.before for one in encoded] == [0, 3, 6]
    assert found["size"] == [4, 3, 3]
    assert found["first"] == [5, 6, 6]
    words = [CONTEXT[a:b] for a, b in zip(found["begins"], found["ends"], strict=True)]
    assert words == CONTEXT.split()


@pytest.mark.parametrize("length", [None, 8, 10, 13])
def test_every_stretch_of_words_is_found_back_from_its_tokens(length: int | None) -> None:
    family, reads = span(), reader()
    for first in range(10):
        for last in range(first, 10):
            answer = " ".join(CONTEXT.split()[first : last + 1])
            one = row(answer) | {"start": len(" ".join([*CONTEXT.split()[:first], ""]))}
            own = family.encode(one, reads(family.texts(one), length))
            start, end = own["answer"]
            found = CONTEXT[int(own["begins"][int(start) - 1]) : int(own["ends"][int(end) - 1])]
            assert found == answer


def test_none_stands_on_the_mean_of_all_windows() -> None:
    none = torch.empty(0, dtype=torch.int64)
    own = Rows(torch.tensor([1, 2]), none, none, torch.tensor([0, 2, 4]), none, none)
    hidden = torch.tensor([[1.0, 2.0], [9, 9], [3, 4], [9, 9], [5, 8]])
    assert windows.summary(hidden, own).tolist() == [[1, 2], [4, 6]]


def test_what_has_no_tokens_cannot_be_learnt_and_harms_nothing() -> None:
    silent = row("\x07", CONTEXT + " \x07")
    assert span().fault(silent, True) is None
    assert example(span(), silent, reader())["terms"] == 0
    empty = row(None, "\x07")
    batch, terms = packed(span(), [empty], reader())
    own = batch.rows["task"]
    output = (torch.randn(1, 2), torch.empty(0, 2))
    assert (terms, span().loss(output, own).item()) == (1, 0)
    assert span().decode(output, own)[0]["start"] is None


def test_a_start_that_is_wrong_is_told_with_what_stands_there() -> None:
    fault = span().fault(row("Bob") | {"start": 4}, False)
    assert fault is not None
    assert fault.found == "4, where 'gav' stands"
    assert fault.expected == "where the answer 'Bob' begins in the context, counted from 0"
    for same in (9, 9.0, "9"):
        assert span().fault(row("Bob") | {"start": same}, True) is None
        assert span().gold(row("Bob") | {"start": same})["start"] == 9


@pytest.mark.parametrize("answer", [None, "", "  "])
def test_an_answer_that_is_empty_is_none(answer: str | None) -> None:
    none = row(None) | {"answer": answer, "start": "?"}
    assert span().fault(none, True) is None
    assert example(span(), none, reader())["c_answer"].tolist() == [0, 0]
    assert span().gold(none)["start"] is None


def test_references_must_be_texts_and_fit_the_answer() -> None:
    family = span(answers="answers")
    assert "answers" in family.column_names(family.data)
    for bad in ("Bob", [1], ["Bob", None]):
        fault = family.fault(row("Bob", answers=bad), True)
        assert fault is not None
        assert (fault.column, fault.expected) == ("answers", "a list of texts, or null")
    fault = family.fault(row(None, answers=["Bob"]), True)
    assert fault is not None
    assert "'answer' has none" in fault.expected
    assert family.fault(row(None, answers=[""]), True) is None


def test_rows_without_any_answer_teach_nothing() -> None:
    with pytest.raises(ValueError, match="'answer' of the training rows holds no answer"):
        fitted(Span, [row(None)])


def test_a_question_is_asked_about_the_text_or_the_context() -> None:
    family = span()
    asked = family.ask({"question": "who?", "text": CONTEXT})
    assert asked == {"question": "who?", "context": CONTEXT}
    assert family.ask({"question": "who?", "context": CONTEXT}) == asked
    assert family.ask({"question": "", "context": CONTEXT}) is None
    found = {"start": 9, "end": 12, "score": 0.5}
    expected = {"start": 9, "end": 12, "text": "Bob", "label": "answer", "score": 0.5}
    assert family.answer(asked, found, []) == [expected]
    assert family.answer(asked, choice(None, CONTEXT), []) == []
