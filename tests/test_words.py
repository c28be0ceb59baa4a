"""Texts split into words as the corpora split them; every word keeps its characters."""

import math
from typing import Any

import pytest

from tasks import words


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("I can't say they're Ann's.", "I|ca|n't|say|they|'re|Ann|'s|."),
        ("It isn\u2019t well-known...", "It|is|n\u2019t|well|-|known|..."),
        ("$3.50, 1,000 at 10:30?!", "$|3.50|,|1,000|at|10:30|?|!"),
        ("see http://a.b/c now", "see|http://a.b/c|now"),
        (
            "caf\u00e9 \U0001f600\U0001f600 \u4f60\u597d",
            "caf\u00e9|\U0001f600\U0001f600|\u4f60\u597d",
        ),
    ],
)
def test_words_are_split_as_in_the_treebanks(text: Any, expected: Any) -> None:
    tokens, offsets = words.split(text)
    assert "|".join(tokens) == expected
    assert [text[start:end] for start, end in offsets] == tokens


def test_a_record_without_words_makes_no_row() -> None:
    for record in ({}, {"text": None}, {"text": "  "}, {"text": 3}):
        assert words.row(record, "tokens") is None


def test_a_word_is_found_by_index_characters_or_itself() -> None:
    tokens, offsets = words.split("He saw the saw")
    for value in (1, 1.0, "saw", "SAW", [3, 6], (3, 6)):
        assert words.place("predicate", value, tokens, offsets) == 1
    for value in (4, -1, True, "seen", "1", [3, 5], None, 1.5, math.nan, math.inf):
        with pytest.raises(ValueError, match=r"predicate is .*expected a word.*He \| saw \| the"):
            words.place("predicate", value, tokens, offsets)


@pytest.mark.parametrize("value", ["a b", None, [], ["a", " "], ["a", 3], ["a", None]])
def test_bad_words_are_faults(value: Any) -> None:
    assert words.words_fault("tokens", value) is not None


def test_an_empty_text_is_a_fault() -> None:
    assert words.text_fault("text", "a") is None
    for value in ("", " \n", None, 3):
        assert words.text_fault("text", value) is not None
