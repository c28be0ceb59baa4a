"""The words of the built-in corpus: who acts where on what in each topic, and words of judgement.

Some words stand in several topics (a *conductor* leads an orchestra or a train), so that a topic
needs more than one word to be certain.
"""

from __future__ import annotations

from dataclasses import dataclass

Verb = tuple[str, str, str]
"""Base form, past tense, past participle."""


def _verb(entry: str) -> Verb:
    """Read ``thank`` + the past ``thanked``, or ``drive drove driven`` given in full."""
    forms = entry.split()
    return (forms[0], forms[1], forms[-1])


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


def _phrases(text: str) -> tuple[str, ...]:
    return tuple(text.split(", "))


def _verbs(text: str) -> tuple[Verb, ...]:
    return tuple(_verb(entry) for entry in _phrases(text))


@dataclass(frozen=True)
class Topic:
    """The words of one topic."""

    people: tuple[str, ...]
    judges: tuple[str, ...]
    """Plural nouns: those whose opinion counts."""
    occasions: tuple[str, ...]
    """What the opinions are about."""
    aspects: tuple[str, ...]
    """Side matters of an occasion, judged only in passing."""
    places: tuple[str, ...]
    deeds: tuple[Verb, ...]
    """What one person of this topic does to another."""
    works: tuple[tuple[Verb, tuple[str, ...]], ...]
    """What a person does to things, each verb with things that suit it."""
    gifts: tuple[str, ...]
    """What changes hands."""


def _topic(
    people: str,
    judges: str,
    occasions: str,
    aspects: str,
    places: str,
    deeds: str,
    works: dict[str, str],
    gifts: str,
) -> Topic:
    return Topic(
        people=_words(people),
        judges=_words(judges),
        occasions=_words(occasions),
        aspects=_words(aspects),
        places=_phrases(places),
        deeds=_verbs(deeds),
        works=tuple((_verb(verb), _words(things)) for verb, things in works.items()),
        gifts=_words(gifts),
    )


TOPICS: dict[str, Topic] = {
    "arts": _topic(
        "painter sculptor director violinist conductor curator actor novelist poet dancer pianist "
        "singer composer technician",
        "critics listeners viewers reviewers",
        "play film concert opera exhibition premiere auction tour",
        "lighting sound seating staging heating",
        "in the gallery, at the theatre, in the studio, on the stage, in the museum, "
        "in the library",
        "sketch sketched, film filmed, paint painted, portray portrayed, accompany accompanied",
        {
            "tune tuned": "piano violin cello guitar",
            "frame framed": "painting portrait poster drawing",
            "restore restored": "painting statue mask piano",
            "copy copied": "script poem drawing score",
            "record recorded": "song album poem score",
        },
        "ticket portrait script mask poster violin statue poem drawing record",
    ),
    "business": _topic(
        "manager broker banker director accountant founder lawyer agent analyst buyer supplier "
        "clerk consultant trader",
        "investors customers shareholders employees",
        "merger launch campaign conference deal takeover auction fair",
        "advertising pricing timing catering paperwork",
        "in the office, at the bank, in the boardroom, at the factory, in the warehouse, "
        "at the court",
        "hire hired, pay paid, advise advised, audit audited, promote promoted",
        {
            "sign signed": "contract cheque lease invoice",
            "print printed": "report catalogue brochure invoice",
            "revise revised": "budget contract report forecast",
            "ship shipped": "parcel machine engine catalogue",
            "insure insured": "warehouse machine truck factory",
        },
        "contract invoice parcel report cheque brochure catalogue lease forecast record",
    ),
    "science": _topic(
        "biologist chemist physicist professor student technician analyst director astronomer "
        "geologist engineer doctor nurse",
        "students researchers reviewers scholars",
        "experiment lecture study expedition survey trial conference seminar",
        "equipment sampling heating wording funding",
        "in the laboratory, at the observatory, at the institute, on the campus, in the field, "
        "in the library",
        "consult consulted, cite cited, supervise supervised, examine examined, teach taught",
        {
            "calibrate calibrated": "telescope microscope sensor scale laser",
            "label labelled": "sample slide fossil cell",
            "measure measured": "crystal sample fossil cell",
            "draw drew drawn": "chart map diagram molecule",
            "repair repaired": "telescope laser sensor engine",
        },
        "sample slide chart report sensor notebook map fossil crystal diagram",
    ),
    "sports": _topic(
        "striker goalkeeper coach referee captain defender sprinter swimmer trainer manager agent "
        "champion rower gymnast",
        "fans spectators supporters viewers",
        "match season tournament final derby race relay trial",
        "weather pitch schedule seating catering",
        "in the stadium, on the pitch, in the gym, at the club, on the track, on the court",
        "tackle tackled, mark marked, overtake overtook overtaken, coach coached, train trained",
        {
            "kick kicked": "ball football",
            "polish polished": "trophy medal helmet boat",
            "carry carried": "flag trophy net bag",
            "sign signed": "jersey contract poster football",
            "repair repaired": "racket net scoreboard bicycle",
        },
        "medal trophy jersey ball ticket whistle contract flag racket helmet",
    ),
    "travel": _topic(
        "guide pilot driver agent conductor tourist receptionist captain skipper porter waiter "
        "hiker ranger student",
        "guests passengers tourists visitors",
        "cruise tour trip flight safari hike expedition ferry",
        "food weather service coffee schedule",
        "at the airport, in the lobby, on the ferry, at the station, on the island, in the harbour",
        "guide guided, drive drove driven, host hosted, escort escorted, rescue rescued",
        {
            "pack packed": "suitcase bag tent map",
            "book booked": "cabin room table seat",
            "rent rented": "car boat bicycle tent cabin",
            "load loaded": "boat bus trolley truck",
            "stamp stamped": "passport ticket visa form",
        },
        "ticket map key passport suitcase brochure bag form menu lantern",
    ),
}

NAMES = _words(
    "Anna Boris Clara David Elena Felix Greta Hugo Irene Jonas Karin Leo Mara Nils Olga Pavel "
    "Rosa Simon Tessa Viktor"
)
PERSON_MODIFIERS = _words("young old tall retired local foreign new former junior senior")
THING_MODIFIERS = _words("new old small large second spare")
OCCASION_MODIFIERS = _words("first second latest annual new long")

DEEDS = _verbs(
    "thank thanked, greet greeted, interview interviewed, photograph photographed, "
    "visit visited, follow followed, recognise recognised, replace replaced, "
    "invite invited, meet met, help helped, see saw seen"
)
TRANSFERS = _verbs(
    "give gave given, send sent, hand handed, show showed shown, sell sold, lend lent, "
    "offer offered, promise promised"
)
STAGINGS = _verbs(
    "plan planned, organise organised, announce announced, propose proposed, "
    "prepare prepared, choose chose chosen"
)

TIMES = _phrases(
    "on Monday, on Tuesday, on Friday, on Sunday, last week, last month, last year, yesterday, "
    "this morning, in March, in June, in October, two days ago, before lunch, at noon, "
    "after the break, late at night, in the evening, during the winter, in the spring"
)
PLACES = _phrases(
    "in the city, near the entrance, in the garden, by the river, in the hall, at the market"
)
MANNERS = _phrases(
    "quietly, quickly, calmly, slowly, discreetly, patiently, in secret, in a hurry, "
    "without a word, with great care, in person, without delay"
)

QUALITIES = {
    "positive": _words("excellent brilliant superb wonderful"),
    "negative": _words("awful terrible dreadful dull"),
}
DEGREES = ("", "", "", "truly")
EFFECTS: dict[str, tuple[Verb, ...]] = {
    "positive": _verbs("impress impressed, delight delighted"),
    "negative": _verbs("disappoint disappointed, bore bored"),
}
