"""The built-in corpora: made-up English sentences with feeling, topic and semantic roles at once.

``builtin:demo`` has one row per sentence, ``builtin:demo-roles`` one row per predicate of the same
sentences. Dials follow as in a web address: ``builtin:demo?size=9000&noise=0.05&seed=1``.

========== ======= ==========================================================================
dial       default meaning
========== ======= ==========================================================================
size       8000    training sentences; validation and test have a fifth each. Smaller sizes
                   are beginnings of larger ones.
noise      0       share of wrong labels, in training rows only: the sentiment turned, the
                   topic replaced, each ARG0, ARG1 and ARG2 replaced by another of the three
relatedness 0.3    how much the tasks predict each other: 0 not at all, 1 strongly
seed       0       which sentences
========== ======= ==========================================================================

What is planted: a sentence draws a topic (evenly), then its feeling and its frame (who does what to
whom: ``person``, ``thing``, ``transfer``, ``relative``, ``occasion``) given the topic, then its
voice given the feeling. With relatedness r, P(positive | topic) = 1/2 + r LEANING[topic];
P(frame | topic) = 1/5 + r (2/5 for the topic's favourite frame, -1/10 for the others);
P(passive | feeling) = 2/5 + r (3/10 if negative, -3/10 if positive). Each alone is spread as with
r = 0; ``information`` gives the mutual information of each pair. How the feeling is put into words
(``construction``) depends on nothing.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from hashlib import sha256
from typing import Any
from urllib.parse import parse_qsl

from tasks.grammar import FRAMES, Clause, Dice, event, fill
from tasks.lexicon import OCCASION_MODIFIERS, TOPICS
from tasks.opinion import CONSTRUCTIONS, LABELS, attach, opinion

Rows = list[dict[str, Any]]

LEANING = {"arts": 0.4, "science": 0.2, "sports": 0.0, "travel": -0.2, "business": -0.4}
FAVOURITE = {
    "arts": "occasion",
    "science": "thing",
    "sports": "person",
    "travel": "relative",
    "business": "transfer",
}
SPLITS = {"train": range(4), "validation": range(4, 6), "test": range(6, 8)}
"""Which eighths of all texts (by their hash) each split may use: no text is in two splits."""

MOST_WORDS = 22
"""Words and marks a sentence may have."""


@dataclass(frozen=True)
class Dials:
    """The settings of the demo corpus, see the head of this file."""

    size: int = 8000
    noise: float = 0.0
    relatedness: float = 0.3
    seed: int = 0


_RANGES: Mapping[str, tuple[type, float, float]] = {
    "size": (int, 10, 10_000_000),
    "noise": (float, 0, 1),
    "relatedness": (float, 0, 1),
    "seed": (int, 0, 2**63 - 1),
}


@dataclass(frozen=True)
class Plot:
    """What a sentence is to say, before it is put into words."""

    topic: str
    sentiment: str
    frame: str
    voice: str
    construction: str


def feelings(topic: str, relatedness: float) -> dict[str, float]:
    """Give P(sentiment | topic)."""
    positive = 0.5 + relatedness * LEANING[topic]
    return {"negative": 1 - positive, "positive": positive}


def frames(topic: str, relatedness: float) -> dict[str, float]:
    """Give P(frame | topic)."""
    gain = {frame: 0.4 if frame == FAVOURITE[topic] else -0.1 for frame in FRAMES}
    return {frame: 0.2 + relatedness * gain[frame] for frame in FRAMES}


def voices(sentiment: str, relatedness: float) -> dict[str, float]:
    """Give P(voice | sentiment)."""
    passive = 0.4 + relatedness * (0.3 if sentiment == "negative" else -0.3)
    return {"active": 1 - passive, "passive": passive}


def information(relatedness: float) -> dict[str, float]:
    """Give the planted mutual information, in nats, of each pair of properties that depend."""
    return {
        "sentiment, topic": _mutual([feelings(topic, relatedness) for topic in TOPICS]),
        "frame, topic": _mutual([frames(topic, relatedness) for topic in TOPICS]),
        "sentiment, voice": _mutual([voices(feeling, relatedness) for feeling in LABELS]),
    }


def _mutual(conditionals: list[dict[str, float]]) -> float:
    """Mean divergence of equally likely conditional distributions from their mean."""
    mean = {k: sum(c[k] for c in conditionals) / len(conditionals) for k in conditionals[0]}
    return sum(
        share * math.log(share / mean[k]) for c in conditionals for k, share in c.items() if share
    ) / len(conditionals)


def _plot(dice: Dice, relatedness: float) -> Plot:
    """Decide what to say. Always as many draws, so that the dials change as little as possible."""
    topic = dice.pick(tuple(TOPICS))
    sentiment = dice.weighted(feelings(topic, relatedness))
    frame = dice.weighted(frames(topic, relatedness))
    voice = dice.weighted(voices(sentiment, relatedness))
    return Plot(topic, sentiment, frame, voice, dice.weighted(CONSTRUCTIONS))


def _clause(dice: Dice, plot: Plot) -> Clause:
    """Put a plot into words: an event and a judgement, or a judgement of a described occasion."""
    topic = TOPICS[plot.topic]
    noun = dice.pick(topic.occasions)
    judged: Clause | str = f"the {noun}"
    if dice.chance(0.15):
        judged = f"the {dice.pick(OCCASION_MODIFIERS)} {noun}"
    simple = plot.construction != "contrast"
    most = 1 if simple or plot.frame not in ("relative", "occasion") else 0
    told = plot.frame == "occasion"
    if told:
        judged = event(dice, topic, plot.frame, plot.voice, most, False, str(judged))
    verdict = opinion(dice, topic, plot.construction, plot.sentiment, judged, noun, short=not told)
    if told:
        return verdict
    link = dice.pick((", and", ", and", ";", "after", "when") if simple else (", and", ";"))
    subordinate = link in ("after", "when")
    # "After on Monday the coach ..." is no English: circumstances stay behind in a subclause.
    deed = event(dice, topic, plot.frame, plot.voice, most, front=not subordinate)
    if subordinate:
        front = dice.chance(0.5)
        adjunct = fill(f"{link} {{deed}}", {"deed": deed})
        return attach(verdict, "ARGM-TMP", adjunct, front, "," if front else "")
    return fill(f"{{deed}} {link} {{verdict}}", {"deed": deed, "verdict": verdict})


def _text(words: list[str]) -> str:
    """Join words as one writes them."""
    return " ".join(words).replace(" ,", ",").replace(" ;", ";").replace(" .", ".")


def _sentence(dials: Dials, split: str, index: int) -> tuple[Plot, Clause, str]:
    """Make the sentence ``index`` of a split: a pure function of the dials, the split and it."""
    dice = Dice(dials.seed, "words", split, index)
    plot = _plot(dice, dials.relatedness)
    while True:
        clause = _clause(dice, plot)
        clause.words = [clause.words[0].capitalize(), *clause.words[1:], "."]
        text = _text(clause.words)
        short = len(clause.words) <= MOST_WORDS
        if short and sha256(text.encode()).digest()[0] % 8 in SPLITS[split]:
            return plot, clause, text


def _misjudged(dice: Dice, label: str, labels: tuple[str, ...], noise: float) -> str:
    """Replace a label by another with the probability ``noise``."""
    if not noise:
        return label
    others = [other for other in labels if other != label]
    wrong = dice.pick(others)
    return wrong if dice.chance(noise) else label


def _mistagged(dice: Dice, tags: list[str], noise: float) -> list[str]:
    """Replace core roles by others, whole pieces at a time."""
    core = ("ARG0", "ARG1", "ARG2")
    role, found = "", []
    for tag in tags:
        prefix, _, old = tag.partition("-")
        if prefix == "B":
            role = _misjudged(dice, old, core, noise) if old in core else old
        found.append(f"{prefix}-{role}" if prefix != "O" else tag)
    return found


def _rows(dials: Dials, split: str, index: int) -> Rows:
    """Make the rows of one sentence, the event's first, then the other predicates as they come."""
    plot, clause, text = _sentence(dials, split, index)
    noise = dials.noise if split == "train" else 0.0
    dice = Dice(dials.seed, "noise", split, index)
    sentence = {
        "sent_id": f"{split}-{index:06d}",
        "text": text,
        "tokens": clause.words,
        "sentiment": _misjudged(dice, plot.sentiment, LABELS, noise),
        "topic": _misjudged(dice, plot.topic, tuple(TOPICS), noise),
        "frame": plot.frame,
        "voice": plot.voice,
        "construction": plot.construction,
    }
    length = len(clause.words)
    return [
        sentence
        | {
            "predicate": proposition.predicate,
            "tags": _mistagged(dice, proposition.tags(length), noise),
        }
        for proposition in sorted(clause.propositions, key=lambda p: (not p.told, p.predicate))
    ]


@lru_cache(maxsize=1)
def _splits(dials: Dials) -> dict[str, list[Rows]]:
    """Make the rows of every sentence of the three splits.

    The last corpus is kept: an experiment asks for the same sentences once for every task.
    """
    sizes = {"train": dials.size, "validation": dials.size // 5, "test": dials.size // 5}
    return {
        split: [_rows(dials, split, index) for index in range(size)]
        for split, size in sizes.items()
    }


def _sentences(dials: Dials) -> dict[str, Rows]:
    return {split: [rows[0] for rows in every] for split, every in _splits(dials).items()}


def _predicates(dials: Dials) -> dict[str, Rows]:
    return {
        split: [row for rows in every for row in rows] for split, every in _splits(dials).items()
    }


CORPORA: dict[str, Callable[[Dials], dict[str, Rows]]] = {
    "demo": _sentences,
    "demo-roles": _predicates,
}


def _near(name: str, known: Mapping[str, Any]) -> str:
    """Write the nearest known name and all of them."""
    close = difflib.get_close_matches(name, known, n=1)
    hint = f" Did you mean {close[0]!r}?" if close else ""
    return f"{hint} Known: {', '.join(known)}."


def dials(path: str) -> tuple[str, Dials]:
    """Read ``builtin:NAME?dial=value&...`` into the corpus's name and its dials.

    Raises ``LookupError`` for an unknown corpus or dial, ``ValueError`` for a bad value.
    """
    name, _, query = path.removeprefix("builtin:").partition("?")
    if name not in CORPORA:
        raise LookupError(f"{path}: there is no built-in corpus {name!r}.{_near(name, CORPORA)}")
    values: dict[str, Any] = {}
    for dial, text in parse_qsl(query, keep_blank_values=True):
        if dial not in _RANGES:
            raise LookupError(f"{path}: there is no dial {dial!r}.{_near(dial, _RANGES)}")
        if dial in values:
            raise ValueError(f"{path}: the dial {dial!r} is given twice; keep one of them.")
        kind, least, most = _RANGES[dial]
        try:
            value = kind(text)
        except ValueError:
            value = math.nan
        if not least <= value <= most:
            number = "a whole number" if kind is int else "a number"
            raise ValueError(
                f"{path}: the dial {dial!r} is {text!r}; expected {number} from {least} to "
                f"{most}, for example {dial}={getattr(Dials, dial)}."
            )
        values[dial] = value
    return name, Dials(**values)


def corpus(path: str) -> dict[str, Rows]:
    """Make a built-in corpus: the splits ``train``, ``validation`` and ``test``.

    A row has ``text``, ``tokens``, ``sentiment``, ``topic``, ``predicate`` (index), ``tags`` (BIO,
    the predicate B-V), ``sent_id``, and what was planted: ``frame``, ``voice``, ``construction``.
    Raises as ``dials`` does.
    """
    name, settings = dials(path)
    return CORPORA[name](settings)
