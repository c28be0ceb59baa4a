"""Clauses with their predicates and arguments, and the events that the built-in corpus tells.

A template is a string of words, ``{slots}`` and labelled brackets: ``ARG0[ {x} ] V[ thanked ]``.
With several predicates, each has a letter: ``a:ARG0[ b:ARG0[ {x} ] b:R-ARG0[ who ] ... ]``.
Roles follow PropBank (Palmer, Gildea and Kingsbury 2005).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from hashlib import sha256
from typing import TypeVar

from numpy.random import Generator, Philox

from tasks.lexicon import (
    DEEDS,
    MANNERS,
    NAMES,
    PERSON_MODIFIERS,
    PLACES,
    STAGINGS,
    THING_MODIFIERS,
    TIMES,
    TRANSFERS,
    Topic,
    Verb,
)

T = TypeVar("T")
FRAMES = ("person", "thing", "transfer", "relative", "occasion")


class Dice:
    """A stream of random choices that depends on its key only (Philox, Salmon et al. 2011)."""

    def __init__(self, *key: object) -> None:
        self._key = "/".join(map(str, key))
        self._generator: Generator | None = None
        self._numbers: list[float] = []

    def number(self) -> float:
        """Draw from [0, 1)."""
        if not self._numbers:
            if self._generator is None:
                digest = sha256(self._key.encode()).digest()
                self._generator = Generator(Philox(key=int.from_bytes(digest[:16])))
            self._numbers = self._generator.random(64).tolist()
        return self._numbers.pop()

    def chance(self, probability: float) -> bool:
        """Say yes with this probability."""
        return self.number() < probability

    def pick(self, choices: Sequence[T]) -> T:
        """Draw one, each as likely."""
        return choices[int(self.number() * len(choices))]

    def weighted(self, shares: Mapping[T, float]) -> T:
        """Draw a key with its share; the shares sum to 1."""
        left = self.number()
        *early, last = shares
        for choice in early:
            left -= shares[choice]
            if left < 0:
                return choice
        return last


@dataclass
class Proposition:
    """A predicate, by the index of its word, with its arguments ``(start, end, role)``."""

    predicate: int = -1
    arguments: list[tuple[int, int, str]] = field(default_factory=list)
    told: bool = False
    """Whether this is the event that the sentence tells, rather than a judgement."""

    def shifted(self, by: int) -> Proposition:
        """Give the same, ``by`` words later."""
        return Proposition(
            self.predicate + by,
            [(start + by, end + by, role) for start, end, role in self.arguments],
            self.told,
        )

    def tags(self, length: int) -> list[str]:
        """Write the proposition as BIO tags of a sentence of this length."""
        tags = ["O"] * length
        tags[self.predicate] = "B-V"
        for start, end, role in self.arguments:
            tags[start:end] = [f"B-{role}"] + [f"I-{role}"] * (end - start - 1)
        return tags


@dataclass
class Clause:
    """Words with the propositions they hold; the first proposition is that of the main verb."""

    words: list[str]
    propositions: list[Proposition] = field(default_factory=list)


def phrase(text: str) -> Clause:
    """Make a clause without predicates."""
    return Clause(text.split())


@lru_cache(maxsize=4096)
def _parsed(template: str) -> tuple[tuple[str, str, str], ...]:
    """Read a template into steps: (open, letter, role), (close, ...), (slot, name), (word, ...)."""
    steps = []
    for piece in template.split():
        if piece.endswith("["):
            letter, colon, role = piece[:-1].rpartition(":")
            steps.append(("open", letter if colon else "", role))
        elif piece == "]":
            steps.append(("close", "", ""))
        elif piece.startswith("{"):
            steps.append(("slot", piece[1:-1], ""))
        else:
            steps.append(("word", piece, ""))
    return tuple(steps)


def fill(template: str, slots: Mapping[str, Clause | str]) -> Clause:
    """Put phrases and clauses into the slots of a template."""
    words: list[str] = []
    own: dict[str, Proposition] = {}
    nested: list[Proposition] = []
    brackets: list[tuple[str, str, int]] = []
    for kind, name, role in _parsed(template):
        if kind == "word":
            words.append(name)
        elif kind == "slot":
            content = slots[name]
            if isinstance(content, str):
                words += content.split()
            else:
                nested += [p.shifted(len(words)) for p in content.propositions]
                words += content.words
        elif kind == "open":
            brackets.append((name, role, len(words)))
        else:
            letter, role, start = brackets.pop()
            proposition = own.setdefault(letter, Proposition())
            if role == "V":
                proposition.predicate = start
            else:
                proposition.arguments.append((start, len(words), role))
    return Clause(words, [own[letter] for letter in sorted(own)] + nested)


def article(noun: str) -> str:
    """Put ``a`` or ``an`` before a noun phrase."""
    return f"an {noun}" if noun[0] in "aeiou" else f"a {noun}"


def noun_phrase(dice: Dice, noun: str, modifiers: Sequence[str]) -> str:
    """Give the noun an article, and now and then a modifier."""
    if dice.chance(0.15):
        noun = f"{dice.pick(modifiers)} {noun}"
    return article(noun) if dice.chance(0.25) else f"the {noun}"


def _people(dice: Dice, topic: Topic, names: bool) -> list[str]:
    """Name two different people, by their proper names now and then."""
    first, second = dice.pick(topic.people), dice.pick(topic.people)
    while second == first:
        second = dice.pick(topic.people)
    return [
        dice.pick(NAMES)
        if names and dice.chance(0.1)
        else noun_phrase(dice, noun, PERSON_MODIFIERS)
        for noun in (first, second)
    ]


# What stands around the verb in each voice; {v} is the verb group.
_CORES: dict[tuple[str, str], tuple[str, ...]] = {
    ("person", "active"): ("ARG0[ {x} ] {v} ARG1[ {y} ]",),
    ("person", "passive"): ("ARG1[ {y} ] {v} ARG0[ by {x} ]",),
    ("thing", "active"): ("ARG0[ {x} ] {v} ARG1[ {z} ]",),
    ("thing", "passive"): ("ARG1[ {z} ] {v} ARG0[ by {x} ]",),
    ("transfer", "active"): (
        "ARG0[ {x} ] {v} ARG2[ {y} ] ARG1[ {z} ]",
        "ARG0[ {x} ] {v} ARG1[ {z} ] ARG2[ to {y} ]",
    ),
    ("transfer", "passive"): (
        "ARG2[ {y} ] {v} ARG1[ {z} ] ARG0[ by {x} ]",
        "ARG1[ {z} ] {v} ARG2[ to {y} ] ARG0[ by {x} ]",
    ),
    ("relative", "active"): (
        "ARG0[ b:ARG0[ {x} ] b:R-ARG0[ who ] b:V[ {past} ] b:ARG1[ {y} ] ] {v} ARG1[ {z} ]",
        "ARG0[ b:ARG1[ {y} ] b:R-ARG1[ whom ] b:ARG0[ {x} ] b:V[ {past} ] ] {v} ARG1[ {z} ]",
    ),
    ("relative", "passive"): (
        "ARG0[ b:ARG1[ {y} ] b:R-ARG1[ who ] was b:V[ {done} ] b:ARG0[ by {x} ] ] {v} ARG1[ {z} ]",
    ),
    ("occasion", "active"): ("ARG1[ {o} ] R-ARG1[ that ] ARG0[ {x} ] {v}",),
    ("occasion", "passive"): ("ARG1[ {o} ] R-ARG1[ that ] {v} ARG0[ by {x} ]",),
}


def _verb_group(verb: Verb, passive: bool, negated: bool, how: str) -> str:
    """Write the verb with its voice, its negation and perhaps an adverb before it."""
    base, past, participle = verb
    adverb = f"ARGM-MNR[ {how} ] " if how else ""
    negation = "ARGM-NEG[ not ] " if negated else ""
    if passive:
        return f"was {negation}{adverb}V[ {participle} ]"
    if negated:
        return f"did {negation}{adverb}V[ {base} ]"
    return f"{adverb}V[ {past} ]"


def _adjuncts(
    dice: Dice, topic: Topic, kinds: list[str], most: int, front: bool
) -> tuple[str, str, str]:
    """Choose up to ``most`` circumstances: what stands in front, before the verb, at the end."""
    before, adverb, after = "", "", ""
    for _ in range(most):
        if dice.chance(0.3):
            continue
        kind = kinds.pop(int(dice.number() * len(kinds)))
        if kind == "MNR":
            how = dice.pick(MANNERS)
            if " " not in how and dice.chance(0.5):
                adverb = how
            else:
                after += f" ARGM-MNR[ {how} ]"
            continue
        where = PLACES if dice.chance(0.2) else topic.places
        text = dice.pick(TIMES if kind == "TMP" else where)
        if front and not before and dice.chance(0.45):
            before = f"ARGM-{kind}[ {text} ] , "
        else:
            after += f" ARGM-{kind}[ {text} ]"
    return before, adverb, after


def event(
    dice: Dice, topic: Topic, frame: str, voice: str, most: int, front: bool, occasion: str = ""
) -> Clause:
    """Tell who did what to whom. With the frame ``occasion``, describe that occasion by a clause.

    ``most`` bounds the circumstances told (when, where, how); ``front`` allows one before the
    subject.
    """
    x, y = _people(dice, topic, names=frame != "relative")
    work, things = dice.pick(topic.works)
    z = dice.pick(things)
    deed = dice.pick(DEEDS if dice.chance(0.6) else topic.deeds)
    verb = {"person": deed, "transfer": dice.pick(TRANSFERS), "occasion": dice.pick(STAGINGS)}.get(
        frame, work
    )
    if frame == "transfer":
        z = dice.pick(topic.gifts)
    kinds = ["TMP", "LOC"] if frame == "occasion" else ["TMP", "LOC", "MNR"]
    before, adverb, after = _adjuncts(dice, topic, kinds, most, front)
    passive = voice == "passive" and frame != "relative"
    group = _verb_group(verb, passive, frame != "occasion" and dice.chance(0.06), adverb)
    core = dice.pick(_CORES[frame, voice]).replace("{v}", group)
    slots: dict[str, Clause | str] = {
        "x": x,
        "y": y,
        "z": noun_phrase(dice, z, THING_MODIFIERS),
        "past": deed[1],
        "done": deed[2],
        "o": occasion,
    }
    clause = fill(before + core + after, slots)
    clause.propositions[0].told = True
    return clause
