"""How the built-in corpus judges: the feeling lies in how words combine, not in the words.

Each construction takes a word of one polarity and keeps it (``sign`` +1) or turns it (-1).
"""

from __future__ import annotations

from tasks.grammar import Clause, Dice, article, fill
from tasks.lexicon import DEGREES, EFFECTS, QUALITIES, Topic

LABELS = ("negative", "positive")

CONSTRUCTIONS = {"plain": 0.6, "negated": 0.25, "double": 0.02, "verdict": 0.05, "contrast": 0.08}
"""How often each way to judge is chosen, whatever the topic and the feeling.

With many more turned words than these, a small encoder from scratch finds no beginning: it is the
plain sentences that teach it the words, and only then the others what turns them.
"""

_THAT = "that b:ARG1[ {t} ] b:V[ was ] b:ARG2[ {d} {a} ]"
_PLEASE = "b:V[ {please} ] b:ARG1[ {h} ]"

# {t} what is judged, {h} who judges, {a} a quality, {d} a degree, {e} the bare noun of {t}.
_PLAIN = (
    "ARG1[ {t} ] V[ was ] ARG2[ {d} {a} ]",
    "ARG1[ {t} ] V[ seemed ] ARG2[ {d} {a} ]",
    f"ARG0[ {{h}} ] V[ said ] ARG1[ {_THAT} ]",
    "ARG1[ b:ARG1[ {t} ] ] , ARG0[ {h} ] V[ said ] , C-ARG1[ b:V[ was ] b:ARG2[ {d} {a} ] ]",
    "ARG0[ {t} ] V[ {pleased} ] ARG1[ {h} ]",
    f"ARG0[ b:ARG0[ {{t}} ] ] V[ managed ] ARG1[ to {_PLEASE} ]",
)
_PLAIN_SHORT = (
    "ARG0[ {h} ] V[ called ] ARG1[ {t} ] ARG2[ {d} {a} ]",
    "ARG0[ {h} ] V[ considered ] ARG1[ {t} ] ARG2[ {d} {a} ]",
    "ARG0[ {h} ] V[ remembered ] ARG1[ {an} {e} ]",
)
_NEGATED = (
    "ARG1[ {t} ] V[ was ] ARG2[ far from {d} {a} ]",
    "ARG1[ {t} ] V[ was ] ARGM-NEG[ not ] ARG2[ {d} {a} ]",
    f"ARG0[ nobody ] V[ said ] ARG1[ {_THAT} ]",
    "ARG0[ {t} ] did ARGM-NEG[ not ] V[ {please} ] ARG1[ {h} ]",
    f"ARG1[ b:ARG0[ {{t}} ] ] V[ failed ] ARG2[ to {_PLEASE} ]",
)
_NEGATED_SHORT = (
    "ARG0[ nobody ] V[ called ] ARG1[ {t} ] ARG2[ {d} {a} ]",
    "ARG0[ nobody ] V[ considered ] ARG1[ {t} ] ARG2[ {d} {a} ]",
    "ARG0[ {h} ] did ARGM-NEG[ not ] V[ call ] ARG1[ {t} ] ARG2[ {d} {a} ]",
)
_DOUBLE = (
    f"ARG0[ nobody ] V[ doubted ] ARG1[ {_THAT} ]",
    f"ARG0[ hardly any {{hs}} ] V[ denied ] ARG1[ {_THAT} ]",
    f"ARG1[ b:ARG0[ {{t}} ] ] did ARGM-NEG[ not ] V[ fail ] ARG2[ to {_PLEASE} ]",
)
_VERDICT = (
    (f"ARG0[ {{h}} ] ARGM-ADV[ rightly ] V[ said ] ARG1[ {_THAT} ]", 1),
    (f"ARG0[ {{h}} ] ARGM-ADV[ wrongly ] V[ said ] ARG1[ {_THAT} ]", -1),
)
_VERDICT_SHORT = (
    ("ARG0[ {h} ] ARGM-ADV[ rightly ] V[ called ] ARG1[ {t} ] ARG2[ {d} {a} ]", 1),
    ("ARG0[ {h} ] ARGM-ADV[ wrongly ] V[ called ] ARG1[ {t} ] ARG2[ {d} {a} ]", -1),
)
_ASIDE = (
    ("ARG1[ the {n} ] V[ was ] ARG2[ {d} {a} ]", 1),
    ("ARG0[ {h} ] V[ called ] ARG1[ the {n} ] ARG2[ {d} {a} ]", 1),
    ("ARG1[ the {n} ] V[ was ] ARG2[ far from {a} ]", -1),
)


def opposite(feeling: str) -> str:
    """Turn a feeling into its opposite."""
    return LABELS[1 - LABELS.index(feeling)]


def _judge(
    dice: Dice, topic: Topic, template: str, polarity: str, judged: Clause | str, noun: str
) -> Clause:
    """Fill a template with words of one polarity."""
    quality, judges = dice.pick(QUALITIES[polarity]), dice.pick(topic.judges)
    please, pleased, _ = dice.pick(EFFECTS[polarity])
    slots: dict[str, Clause | str] = {
        "t": judged,
        "n": noun,
        "e": noun,
        "h": f"the {judges}",
        "hs": judges,
        "a": quality,
        "an": article(quality),
        "d": dice.pick(DEGREES),
        "please": please,
        "pleased": pleased,
    }
    return fill(template, slots)


def attach(main: Clause, role: str, adjunct: Clause, front: bool, link: str = ",") -> Clause:
    """Make a clause an adjunct of the main verb of another, before or after it."""
    first, last = (adjunct, main) if front else (main, adjunct)
    whole = fill(f"{{first}} {link} {{last}}", {"first": first, "last": last})
    start = 0 if front else len(whole.words) - len(adjunct.words)
    propositions = whole.propositions
    matrix = propositions.pop(len(adjunct.propositions) if front else 0)
    matrix.arguments.append((start, start + len(adjunct.words), role))
    return Clause(whole.words, [matrix, *propositions])


def _contrast(
    dice: Dice, topic: Topic, feeling: str, judged: Clause | str, noun: str, short: bool
) -> Clause:
    """Judge the occasion one way and a side matter the other way."""
    construction = "negated" if dice.chance(0.2) else "plain"
    main = opinion(dice, topic, construction, feeling, judged, noun, short)
    other, aspect = opposite(feeling), dice.pick(topic.aspects)
    way = dice.pick(("although first", "although last", "but", "despite first", "despite last"))
    front = way.endswith("first")
    if way.startswith("despite"):
        aside = fill("despite the {a} {n}", {"a": dice.pick(QUALITIES[other]), "n": aspect})
        return attach(main, "ARGM-ADV", aside, front, "," if front else "")
    template, sign = dice.pick(_ASIDE)
    aside = _judge(dice, topic, template, other if sign > 0 else feeling, "", aspect)
    if way == "but":
        joined = fill("{aside} , but {main}", {"aside": aside, "main": main})
        # The occasion's judgement stays first: it is the one that later adjuncts belong to.
        skip = len(aside.propositions)
        return Clause(joined.words, joined.propositions[skip:] + joined.propositions[:skip])
    aside = fill("although {aside}", {"aside": aside})
    return attach(main, "ARGM-ADV", aside, front)


def opinion(
    dice: Dice,
    topic: Topic,
    construction: str,
    feeling: str,
    judged: Clause | str,
    noun: str,
    short: bool,
) -> Clause:
    """Judge something (a phrase whose bare noun is ``noun``) by one of ``CONSTRUCTIONS``.

    ``short`` says that the phrase is short enough to stand before the end of a clause.
    """
    if construction == "contrast":
        return _contrast(dice, topic, feeling, judged, noun, short)
    sign = 1
    if construction == "plain":
        template = dice.pick(_PLAIN + _PLAIN_SHORT if short else _PLAIN)
    elif construction == "negated":
        template, sign = dice.pick(_NEGATED + _NEGATED_SHORT if short else _NEGATED), -1
    elif construction == "double":
        template = dice.pick(_DOUBLE)
    else:
        template, sign = dice.pick(_VERDICT_SHORT if short else _VERDICT)
    return _judge(dice, topic, template, feeling if sign > 0 else opposite(feeling), judged, noun)
