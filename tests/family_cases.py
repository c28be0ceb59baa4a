"""Families with sound rows, and what is wrong with unsound ones."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from tasks.classify import Classify
from tasks.family import Family
from tasks.generate import Generate
from tasks.multilabel import Multilabel
from tasks.rate import Rate
from tasks.regress import Regress
from tasks.roles import Roles
from tasks.span import Span
from tasks.tag import Tag
from tasks.topics import Topics
from tests.reading import SENTENCES

A, B, C, D = (sentence.split() for sentence in SENTENCES)


@dataclass
class Case:
    """A family with sound rows, and what is wrong with unsound ones."""

    family: type[Family[Any]]
    rows: list[dict[str, Any]]
    faults: list[tuple[dict[str, Any], str, str]]
    """Changes to the first row, the column at fault, and words of the expectation."""
    strange: dict[str, Any] | None = None
    """A label outside the set, fit for the first row; None where there is no set."""
    options: dict[str, Any] = field(default_factory=dict)
    given: str | None = "labels"
    """The key of ``data`` that gives the label set, where that may be left out."""
    near: float = 1e-6
    """How near to perfect the scores come once the rows are learnt."""
    even: bool = True
    """Whether an even guess costs one unit a term whatever the truth is."""
    asked: dict[str, Any] = field(default_factory=dict)
    """What a record needs beside a text."""
    alone: bool = True
    """Whether the loss of a row does not depend on the other rows of its batch."""
    best: dict[str, float] = field(default_factory=dict)
    """Scores of a perfect prediction that are not 1, or 0 where less is better."""


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

SETS = [
    {"text": text, "labels": found}
    for text, found in zip(
        SENTENCES, [["animal", "water"], ["film"], ["book", "people"], []], strict=True
    )
]
SETS_FAULTS: list[tuple[dict[str, Any], str, str]] = [
    ({"text": ""}, "text", "not empty"),
    ({"labels": "animal"}, "labels", "a list of labels"),
    ({"labels": None}, "labels", "a list of labels"),
    ({"labels": ["animal", None]}, "labels", "at place 1"),
]
NUMBERS = [
    {"text": text, "target": value}
    for text, value in zip(SENTENCES, [1.5, 4, "2.5", -3.0], strict=True)
]
NUMBER_FAULTS: list[tuple[dict[str, Any], str, str]] = [
    ({"text": None}, "text", "a text"),
    *(({"target": bad}, "target", "a finite number") for bad in (None, "much", True, float("nan"))),
]
MOODS = [[0.97, 0.02, 0.01], [0.01, 0.98, 0.01], [0.0, 0.0, 1.0], [0.02, 0.96, 0.02]]
CHANCES = [{"text": t, "mood": mood} for t, mood in zip(SENTENCES, MOODS, strict=True)]
CHANCES_FAULTS: list[tuple[dict[str, Any], str, str]] = [
    ({"text": None}, "text", "a text"),
    *(
        ({"mood": bad}, "mood", "3 chances, none negative, of sum 1")
        for bad in (None, 0.5, [0.5, 0.5], [0.5, 0.7, -0.2], [0.5, 0.4, 0.3], ["a", 0.5, 0.5])
    ),
]
SOFT = {"distribution": "mood", "classes": ["sad", "glad", "calm"]}

WRITTEN = [
    {"text": text, "target": target}
    for text, target in zip(
        SENTENCES,
        [
            "le vieux chien a vu un oiseau",
            "le film ne lui a pas plu",
            "Anne a donn\u00e9 le livre \u00e0 Bob",
            "le vieux livre a plu \u00e0 Anne",
        ],
        strict=True,
    )
]
WRITTEN_FAULTS: list[tuple[dict[str, Any], str, str]] = [
    ({"text": " "}, "text", "not empty"),
    ({"target": None}, "target", "a text"),
    ({"target": ""}, "target", "not empty"),
    ({"target": 7}, "target", "a text"),
]
WELL_WRITTEN = {"bleu": 100.0, "chrf": 100.0, "perplexity": 1.0}

QUESTIONS = [
    {"question": asked, "context": SENTENCES[0], "answer": found, "start": start}
    for asked, found, start in [
        ("what saw the bird", "the old dog", 0),
        ("where was the bird", "near the river", 29),
        ("was the bird old", None, None),
    ]
] + [
    {"question": "who had asked", "context": SENTENCES[2], "answer": "Bob", "start": 9},
    {"question": "why did he run", "context": SENTENCES[2], "answer": "", "start": -1},
]
QUESTION_FAULTS: list[tuple[dict[str, Any], str, str]] = [
    ({"question": " "}, "question", "not empty"),
    ({"context": None}, "context", "a text"),
    ({"answer": 7}, "answer", "a text, or null for none"),
    *(({"start": bad}, "start", "from 0 to 42") for bad in (None, "here", True, -1, 43)),
    ({"start": 4}, "start", "where the answer 'the old dog' begins"),
]

RATINGS = [
    {"user": user, "film": film, "text": SENTENCES[film], "target": value}
    for user, film, value in [("ann", 0, 1.5), ("ann", 1, 4), (7, 2, "2.5"), (7, 0, -3.0)]
]
RATING_FAULTS: list[tuple[dict[str, Any], str, str]] = [
    *NUMBER_FAULTS,
    ({"user": None}, "user", "a user (a text or a whole number)"),
    ({"user": 0.5}, "user", "a user (a text or a whole number)"),
    ({"film": None}, "film", "an item (a text or a whole number)"),
]
SUBJECTS = [{"text": " ".join(5 * own)} for own in (A, C, A[:7], C[:5])]


def rate(loss: str, **options: float) -> Case:
    keys = {"item": "film", "loss": {"name": loss} | options}
    alone = loss != "pairwise"
    return Case(Rate, RATINGS, RATING_FAULTS, None, keys, None, 0.2, False, alone=alone)


def topics(**keys: Any) -> Case:
    return Case(Topics, SUBJECTS, LABEL_FAULTS[:2], None, keys, None, 0.1, False)


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
    "classify soft labels": Case(
        Classify, CHANCES, CHANCES_FAULTS, None, SOFT, given=None, near=0.1, even=False
    ),
    "classify soft labels, cross entropy": Case(
        Classify,
        CHANCES,
        CHANCES_FAULTS,
        None,
        SOFT | {"loss": {"name": "soft_cross_entropy"}},
        given=None,
        near=0.1,
    ),
    "multilabel": Case(Multilabel, SETS, SETS_FAULTS, {"labels": ["river"]}, given="classes"),
    "multilabel focal": Case(
        Multilabel,
        SETS,
        SETS_FAULTS,
        {"labels": ["animal", 7]},
        {"loss": {"name": "focal", "gamma": 2.0}},
        given="classes",
    ),
    "regress": Case(Regress, NUMBERS, NUMBER_FAULTS, given=None, near=0.2, even=False),
    "regress huber": Case(
        Regress,
        NUMBERS,
        NUMBER_FAULTS,
        None,
        {"loss": {"name": "huber", "delta": 4.0}},
        given=None,
        near=0.2,
        even=False,
    ),
    "generate": Case(
        Generate,
        WRITTEN,
        WRITTEN_FAULTS,
        None,
        {"max_target": 32},
        given=None,
        near=0.1,
        best=WELL_WRITTEN,
    ),
    "generate, beam of 3": Case(
        Generate,
        WRITTEN,
        WRITTEN_FAULTS,
        None,
        {"max_target": 32, "layers": 1, "beam": 3},
        given=None,
        near=0.1,
        best=WELL_WRITTEN,
    ),
    "span": Case(Span, QUESTIONS, QUESTION_FAULTS, given=None, asked={"question": "who saw it"}),
    "span in windows": Case(
        Span,
        QUESTIONS,
        QUESTION_FAULTS,
        None,
        {"max_length": 16, "stride": 4},
        given=None,
        asked={"question": "who saw it"},
    ),
    "rate mse": rate("mse"),
    "rate huber": rate("huber", delta=4.0),
    "rate pairwise": rate("pairwise", order=0.2),
    "topics nmf": topics(topics=2),
    "topics lda": topics(topics=2, method="lda"),
}
LABELLED = [name for name, case in CASES.items() if case.strange is not None]
GIVEN = [name for name, case in CASES.items() if case.given is not None]
EVEN = [name for name, case in CASES.items() if case.even]
ALONE = [name for name, case in CASES.items() if case.alone]
