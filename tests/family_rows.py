"""Rows that are sound for the families, and what makes them unsound."""

from __future__ import annotations

from typing import Any

from tests.reading import SENTENCES

A, B, C, D = (sentence.split() for sentence in SENTENCES)

Faults = list[tuple[dict[str, Any], str, str]]
"""Changes to the first row, the column at fault, and words of the expectation."""


def spans(words: list[str], *found: tuple[str, int, int]) -> list[str]:
    tags = ["O"] * len(words)
    for kind, start, end in found:
        tags[start:end] = [f"B-{kind}"] + [f"I-{kind}"] * (end - start - 1)
    return tags


def tags_faults(kind: str | None, tag: str = "O") -> Faults:
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
ROLE_FAULTS: Faults = [
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
LABEL_FAULTS: Faults = [
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
SETS_FAULTS: Faults = [
    ({"text": ""}, "text", "not empty"),
    ({"labels": "animal"}, "labels", "a list of labels"),
    ({"labels": None}, "labels", "a list of labels"),
    ({"labels": ["animal", None]}, "labels", "at place 1"),
]
NUMBERS = [
    {"text": text, "target": value}
    for text, value in zip(SENTENCES, [1.5, 4, "2.5", -3.0], strict=True)
]
NUMBER_FAULTS: Faults = [
    ({"text": None}, "text", "a text"),
    *(({"target": bad}, "target", "a finite number") for bad in (None, "much", True, float("nan"))),
]
MOODS = [[0.97, 0.02, 0.01], [0.01, 0.98, 0.01], [0.0, 0.0, 1.0], [0.02, 0.96, 0.02]]
CHANCES = [{"text": t, "mood": mood} for t, mood in zip(SENTENCES, MOODS, strict=True)]
CHANCES_FAULTS: Faults = [
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
WRITTEN_FAULTS: Faults = [
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
QUESTION_FAULTS: Faults = [
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
RATING_FAULTS: Faults = [
    *NUMBER_FAULTS,
    ({"user": None}, "user", "a user (a text or a whole number)"),
    ({"user": 0.5}, "user", "a user (a text or a whole number)"),
    ({"film": None}, "film", "an item (a text or a whole number)"),
]
SUBJECTS = [{"text": " ".join(5 * own)} for own in (A, C, A[:7], C[:5])]
