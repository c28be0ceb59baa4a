"""Families, each with rows that are sound for it, and what else is true of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tasks.classify import Classify
from tasks.family import Family
from tasks.generate import Generate
from tasks.language import Language
from tasks.multilabel import Multilabel
from tasks.rate import Rate
from tasks.regress import Regress
from tasks.roles import Roles
from tasks.span import Span
from tasks.tag import Tag
from tasks.topics import Topics
from tests.family_rows import (
    ANIMALS,
    CHANCES,
    CHANCES_FAULTS,
    FRAMES,
    LABEL_FAULTS,
    NUMBER_FAULTS,
    NUMBERS,
    PAIRS,
    QUESTION_FAULTS,
    QUESTIONS,
    RATING_FAULTS,
    RATINGS,
    ROLE_FAULTS,
    SETS,
    SETS_FAULTS,
    SOFT,
    STRANGE_TAGS,
    SUBJECTS,
    TEXTS,
    WELL_WRITTEN,
    WORD_CLASSES,
    WRITTEN,
    WRITTEN_FAULTS,
    Faults,
    tags_faults,
)


@dataclass
class Case:
    """A family with sound rows, and what is wrong with unsound ones."""

    family: type[Family[Any]]
    rows: list[dict[str, Any]]
    faults: Faults
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
    "tag spans, gazetteer": Case(
        Tag,
        ANIMALS,
        tags_faults("BEAST"),
        STRANGE_TAGS,
        {"gazetteer": str(Path(__file__).with_name("gazetteer.tsv"))},
    ),
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
    "language": Case(
        Language,
        8 * TEXTS,
        LABEL_FAULTS[:2],
        given=None,
        near=0.2,
        asked={"text": "  Ann's old [MASK]\u2014Rex\u2014saw the [MASK]!"},
        best={"perplexity": 1.0},
    ),
}
LABELLED = [name for name, case in CASES.items() if case.strange is not None]
GIVEN = [name for name, case in CASES.items() if case.given is not None]
EVEN = [name for name, case in CASES.items() if case.even]
ALONE = [name for name, case in CASES.items() if case.alone]
