"""Families with sound rows, and what is wrong with unsound ones."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from tasks.classify import Classify
from tasks.family import Family
from tasks.roles import Roles
from tasks.tag import Tag
from tests.reading import SENTENCES

A, B, C, D = (sentence.split() for sentence in SENTENCES)


@dataclass
class Case:
    """A family with sound rows, and what is wrong with unsound ones."""

    family: type[Family[Any]]
    rows: list[dict[str, Any]]
    faults: list[tuple[dict[str, Any], str, str]]
    """Changes to the first row, the column at fault, and words of the expectation."""
    strange: dict[str, Any]
    """A label outside the set, fit for the first row."""
    options: dict[str, Any] = field(default_factory=dict)


def spans(words: list[str], *found: tuple[str, int, int]) -> list[str]:
    tags = ["O"] * len(words)
    for kind, start, end in found:
        tags[start:end] = [f"B-{kind}"] + [f"I-{kind}"] * (end - start - 1)
    return tags


def tags_faults(kind: str | None, tag: str = "O") -> list[tuple[dict[str, Any], str, str]]:
    nine = [tag] * 9
    faults = [
        ({"tokens": []}, "tokens", "at least one word"),
        ({"tokens": "the old dog"}, "tokens", "a list of words"),
        ({"tokens": ["the", " "]}, "tokens", "not empty at place 1"),
        ({"tags": None}, "tags", "one tag a word"),
        ({"tags": ["O", "O"]}, "tags", "10 tags, one for each of the words"),
        ({"tags": [*nine, None]}, "tags", "a tag for word 9"),
    ]
    if kind:
        expected = f"B-{kind} or I-{kind} before it"
        faults.append(({"tags": [f"I-{kind}", *nine]}, "tags", expected))
        faults.append(({"tags": [*nine, f"I-{kind}"]}, "tags", expected))
    return faults


def role(words: list[str], predicate: int, *found: tuple[str, int, int]) -> dict[str, Any]:
    tags = spans(words, ("V", predicate, predicate + 1), *found)
    return {"tokens": words, "predicate": predicate, "tags": tags}


FRAMES = [
    role(A, 3, ("ARG0", 0, 3), ("ARG1", 4, 7), ("ARGM-LOC", 7, 10)),
    role(C, 1, ("ARG0", 0, 1), ("ARG2", 2, 3), ("ARG1", 3, 9)),
    role(C, 7, ("ARG1", 3, 5), ("R-ARG1", 5, 6), ("ARG0", 6, 7)),
    role(D, 3, ("ARG0", 0, 2), ("ARGM-DIR", 4, 5), ("ARGM-CAU", 5, 8)),
    role(D, 7, ("ARG0", 6, 7)),
]
ROLE_FAULTS: list[tuple[dict[str, Any], str, str]] = [
    *tags_faults("ARG0"),
    ({"tags": ["ARG0"] + ["O"] * 9}, "tags", "O, B-X or I-X for word 0"),
    ({"predicate": 10}, "predicate", "from 0 to 9"),
    ({"predicate": -1}, "predicate", "from 0 to 9"),
    ({"predicate": None}, "predicate", "from 0 to 9"),
    ({"predicate": "saw"}, "predicate", "from 0 to 9"),
    ({"predicate": True}, "predicate", "from 0 to 9"),
]
STRANGE_TAGS = {"tags": ["B-NEW"] + ["O"] * 9}

TEXTS = [
    {"text": text, "label": label}
    for text, label in zip(SENTENCES, ["animal", "film", "book", "animal"], strict=True)
]
LABEL_FAULTS: list[tuple[dict[str, Any], str, str]] = [
    ({"text": " \n"}, "text", "not empty"),
    ({"text": None}, "text", "a text"),
    ({"label": None}, "label", "a label"),
    ({"label": 0.5}, "label", "a label"),
]
PAIRS = [
    {"text": SENTENCES[i], "label": int(i == j), "other": SENTENCES[j]}
    for i, j in [(0, 0), (0, 1), (1, 1), (2, 3)]
]
ANIMALS = [
    {"tokens": A, "tags": spans(A, ("BEAST", 1, 3), ("BEAST", 5, 7), ("PLACE", 9, 10))},
    {"tokens": B, "tags": spans(B)},
    {"tokens": C, "tags": spans(C, ("PERSON", 0, 1), ("PERSON", 2, 3))},
]
WORD_CLASSES = [
    {
        "tokens": A,
        "tags": ["DET", "ADJ", "NOUN", "VERB", "DET", "ADJ", "NOUN", "ADP", "DET", "NOUN"],
    },
    {"tokens": D, "tags": ["NUM", "NOUN", "AUX", "VERB", "ADV", "SCONJ", "NOUN", "VERB"]},
]

CASES = {
    "classify": Case(Classify, TEXTS, LABEL_FAULTS, {"label": "river"}),
    "classify pairs": Case(
        Classify,
        PAIRS,
        [*LABEL_FAULTS, ({"other": ""}, "other", "not empty")],
        {"label": 7},
        {"pair": "other"},
    ),
    "tag spans": Case(Tag, ANIMALS, tags_faults("BEAST"), STRANGE_TAGS),
    "tag words": Case(Tag, WORD_CLASSES, tags_faults(None, "DET"), {"tags": ["ODD"] + ["DET"] * 9}),
    "roles, marked input": Case(Roles, FRAMES, ROLE_FAULTS, STRANGE_TAGS, {"mark": "input"}),
    "roles, marked head": Case(Roles, FRAMES, ROLE_FAULTS, STRANGE_TAGS, {"mark": "head"}),
}
