"""What a head of roles says of another task's words, predicate by predicate."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from tasks.frames import RolesHead, said
from tasks.head import Rows
from tasks.helper import Kind
from tasks.roles import Roles, RolesData
from tasks.tag import Tag

COUNTS = [4, 3, 5]
LABELS = 7


def rows(predicates: list[int] | None) -> Rows:
    """Lay out three sentences of words, a token each, with what stands for each before it."""
    counts = torch.tensor(COUNTS)
    lengths = counts + 1
    starts = lengths.cumsum(0) - lengths
    words = [int(s) + 1 + w for s, n in zip(starts, COUNTS, strict=True) for w in range(n)]
    columns = {"predicate": torch.tensor(predicates or [], dtype=torch.int64)}
    ones = torch.ones_like(counts)
    return Rows(ones, starts, lengths, starts, torch.tensor(words), counts, columns)


def alone(head: RolesHead, hidden: Tensor, sentence: int, at: int) -> Tensor:
    """Give the role logits of one sentence with one predicate."""
    whole = rows(None)
    first = int(whole.starts[sentence])
    own = hidden[first : first + COUNTS[sentence] + 1]
    zero = torch.zeros(1, dtype=torch.int64)
    count = torch.tensor([COUNTS[sentence]])
    columns = {"predicate": torch.tensor([at])}
    one = Rows(
        zero + 1, zero, count + 1, zero, torch.arange(1, COUNTS[sentence] + 1), count, columns
    )
    return head(own, one)[0]  # type: ignore[no-any-return]


@pytest.fixture
def head() -> RolesHead:
    return RolesHead(8, LABELS, 0.0, marked=False).eval()


@pytest.fixture
def hidden() -> Tensor:
    return torch.randn(sum(COUNTS) + len(COUNTS), 8)


def test_a_target_with_predicates_is_told_the_roles_of_these(
    head: RolesHead, hidden: Tensor
) -> None:
    parts = said(head, hidden, rows([2, -1, 0]), "probabilities").split(COUNTS)
    torch.testing.assert_close(parts[0], alone(head, hidden, 0, 2).softmax(-1))
    torch.testing.assert_close(parts[2], alone(head, hidden, 2, 0).softmax(-1))
    assert not parts[1].any(), "no predicate, no roles"


def test_other_targets_are_told_the_most_that_any_predicate_found_says(
    head: RolesHead, hidden: Tensor
) -> None:
    whole = rows(None)
    found = head.find(hidden[whole.words]).argmax(1).split(COUNTS)
    assert sum(int(own.sum()) > 1 for own in found), "of several predicates in a sentence"
    parts = said(head, hidden, whole, "logits").split(COUNTS)
    for sentence, (own, part) in enumerate(zip(found, parts, strict=True)):
        every = [alone(head, hidden, sentence, int(at)) for at in own.nonzero()[:, 0]]
        expected = torch.stack(every).amax(0) if every else torch.zeros_like(part)
        torch.testing.assert_close(part, expected)


@pytest.mark.parametrize(("kind", "width"), [("hidden", 8), ("logits", LABELS)])
def test_no_rows_are_told_nothing(head: RolesHead, hidden: Tensor, kind: Kind, width: int) -> None:
    none = torch.zeros(0, dtype=torch.int64)
    empty = Rows(none, none, none, none, none, none, {"predicate": none})
    assert said(head, hidden, empty, kind).shape == (0, width)


@pytest.mark.parametrize(
    ("mark", "target", "expected"),
    [
        ("head", Tag, None),
        ("head", Roles, None),
        ("input", Tag, "marks"),
        ("head", object, "words"),
    ],
)
def test_roles_tell_words_and_only_without_a_mark_in_the_input(
    mark: Any, target: type, expected: str | None
) -> None:
    told = Roles.silent(RolesData(path="x", mark=mark), target)
    assert (told is None) if expected is None else (told is not None and expected in told)
