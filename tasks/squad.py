"""How answers to questions are scored: exact match and F1, as SQuAD 2.0 does."""

from __future__ import annotations

import string
from collections.abc import Sequence
from typing import Any


def scores(pairs: Sequence[tuple[str, Sequence[str]]]) -> dict[str, float]:
    """Give the mean exact match and F1 of words (Rajpurkar et al. 2018), in [0, 1].

    ``pairs`` are an answer and all that are right, none of them for a question without answer. Both
    scores ignore case, punctuation and articles, and take the best of the right answers; those of
    which nothing else is left do not count beside others.
    """
    from torchmetrics.functional.text.squad import squad

    if not pairs:
        return {"exact_match": 0.0, "f1": 0.0}
    given = [
        {"id": str(place), "prediction_text": answer} for place, (answer, _) in enumerate(pairs)
    ]
    right = [[text for text in own if _says(text)] or [""] for _, own in pairs]
    true: list[Any] = [
        {"id": str(place), "answers": {"text": own, "answer_start": [0]}}
        for place, own in enumerate(right)
    ]
    found = squad(given, true)
    return {name: float(found[name]) / 100 for name in ("exact_match", "f1")}


def _says(answer: str) -> bool:
    """Say whether anything is left of an answer without punctuation and articles."""
    words = "".join(c for c in answer.lower() if c not in string.punctuation).split()
    return any(word not in ("a", "an", "the") for word in words)
