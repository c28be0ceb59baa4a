"""The built-in corpus: repeatable, well-formed, as related as said, not solved by single words."""

from __future__ import annotations

import math
from collections import Counter
from typing import Any

import pytest
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

from tasks.builtin import CORPORA, Dials, corpus, dials, information
from tasks.grammar import Dice, fill
from tasks.lexicon import TOPICS

Row = dict[str, Any]

CEILING = 0.83
"""The best of C = 0.3, 1, 10 reached 0.792 on validation and 0.799 on test when measured."""


@pytest.fixture(scope="module")
def demo() -> dict[str, list[Row]]:
    return corpus("builtin:demo")


@pytest.fixture(scope="module")
def roles() -> dict[str, list[Row]]:
    return corpus("builtin:demo-roles?size=600")


@pytest.fixture(scope="module")
def related() -> dict[float, list[Row]]:
    """Training rows at rising relatedness."""
    return {r: corpus(f"builtin:demo?size=1000&relatedness={r}")["train"] for r in (0, 0.5, 1)}


def measured(rows: list[Row], first: str, second: str) -> float:
    """Estimate the mutual information of two columns, in nats."""
    both = Counter((row[first], row[second]) for row in rows)
    one, two = Counter(row[first] for row in rows), Counter(row[second] for row in rows)
    total = len(rows)
    return sum(n / total * math.log(n * total / (one[a] * two[b])) for (a, b), n in both.items())


def test_the_same_path_gives_the_same_rows() -> None:
    path = "builtin:demo?size=60&noise=0.2&seed=3"
    assert corpus(path) == corpus(path)
    assert corpus(path) != corpus("builtin:demo?size=60&noise=0.2&seed=4")


def test_a_known_row_never_changes() -> None:
    row = corpus("builtin:demo?size=10")["train"][0]
    assert row["text"] == (
        "The receptionist who greeted the skipper stamped the form; despite the terrible food, "
        "the trip delighted the guests."
    )


def test_smaller_sizes_are_beginnings_of_larger_ones() -> None:
    small, large = corpus("builtin:demo?size=50"), corpus("builtin:demo?size=100")
    for split, rows in small.items():
        assert large[split][: len(rows)] == rows


def test_splits_have_their_sizes_and_share_no_text(demo: dict[str, list[Row]]) -> None:
    assert {split: len(rows) for split, rows in demo.items()} == {
        "train": Dials.size,
        "validation": Dials.size // 5,
        "test": Dials.size // 5,
    }
    texts = [{row["text"] for row in rows} for rows in demo.values()]
    assert sum(map(len, texts)) == len(set.union(*texts))
    other = corpus("builtin:demo?size=200&seed=1")["train"]
    assert not texts[2] & {row["text"] for row in other}


def test_text_is_the_tokens_written_as_one_writes(demo: dict[str, list[Row]]) -> None:
    for row in demo["test"]:
        assert (
            row["text"].replace(",", " ,").replace(";", " ;").replace(".", " .").split()
            == (row["tokens"])
        )
        assert row["text"][0].isupper()
        assert row["text"].endswith(".")
        assert 6 <= len(row["tokens"]) <= 22
        assert all(" " not in token and token for token in row["tokens"])


def test_tags_are_legal_bio_with_one_predicate(roles: dict[str, list[Row]]) -> None:
    for row in roles["train"]:
        tags = row["tags"]
        assert len(tags) == len(row["tokens"])
        assert [i for i, tag in enumerate(tags) if tag == "B-V"] == [row["predicate"]]
        for before, tag in zip(["O", *tags], tags, strict=False):
            assert not tag.startswith("I-") or before[2:] == tag[2:]


def test_all_promised_roles_occur(roles: dict[str, list[Row]]) -> None:
    found = {tag[2:] for row in roles["train"] for tag in row["tags"]} - {""}
    assert found == {
        *("V", "ARG0", "ARG1", "ARG2", "C-ARG1", "R-ARG0", "R-ARG1"),
        *("ARGM-ADV", "ARGM-LOC", "ARGM-MNR", "ARGM-NEG", "ARGM-TMP"),
    }


def test_syntax_decides_the_role_of_a_noun(roles: dict[str, list[Row]]) -> None:
    seen = {
        tag[2:]
        for row in roles["train"]
        for word, tag in zip(row["tokens"], row["tags"], strict=True)
        if word == "manager"
    }
    assert {"ARG0", "ARG1", "ARG2"} <= seen


def test_rows_per_predicate_belong_to_the_rows_per_sentence(roles: dict[str, list[Row]]) -> None:
    sentences = corpus("builtin:demo?size=600")["train"]
    groups: dict[str, list[Row]] = {}
    for row in roles["train"]:
        groups.setdefault(row["sent_id"], []).append(row)
    assert [rows[0] for rows in groups.values()] == sentences
    for rows in groups.values():
        assert len({row["text"] for row in rows}) == 1
        assert len({row["predicate"] for row in rows}) == len(rows) >= 2


def test_labels_are_balanced_whatever_the_relatedness(related: dict[float, list[Row]]) -> None:
    for rows in related.values():
        positive = Counter(row["sentiment"] for row in rows)["positive"]
        assert positive / len(rows) == pytest.approx(1 / 2, abs=0.05)
        for count in Counter(row["topic"] for row in rows).values():
            assert count / len(rows) == pytest.approx(1 / len(TOPICS), abs=0.04)


def test_relatedness_plants_the_information_it_promises(related: dict[float, list[Row]]) -> None:
    before = dict.fromkeys(information(0), -1e-9)
    for relatedness, rows in related.items():
        truth = information(relatedness)
        for pair, planted in truth.items():
            assert planted > before[pair]
            # The estimate is too high by about (k - 1)(l - 1) / 2n, here at most 0.008.
            assert measured(rows, *pair.split(", ")) == pytest.approx(planted, abs=0.05)
        before = truth
    assert information(0) == pytest.approx(dict.fromkeys(truth, 0.0), abs=1e-12)


def test_noise_is_in_the_training_labels_only() -> None:
    clean = corpus("builtin:demo?size=700")
    noisy = corpus("builtin:demo?size=700&noise=0.2")
    assert noisy["test"] == clean["test"]
    assert noisy["validation"] == clean["validation"]
    pairs = list(zip(clean["train"], noisy["train"], strict=True))
    assert all(a["tokens"] == b["tokens"] for a, b in pairs)
    for column in ("sentiment", "topic"):
        wrong = sum(a[column] != b[column] for a, b in pairs) / len(pairs)
        assert wrong == pytest.approx(0.2, abs=0.05)
    changes = [
        (old, new)
        for a, b in pairs
        for old, new in zip(a["tags"], b["tags"], strict=True)
        if old in ("B-ARG0", "B-ARG1", "B-ARG2")
    ]
    assert sum(old != new for old, new in changes) / len(changes) == pytest.approx(0.2, abs=0.04)


def test_single_words_and_pairs_do_not_solve_the_sentiment(demo: dict[str, list[Row]]) -> None:
    model = make_pipeline(
        TfidfVectorizer(ngram_range=(1, 2)), LogisticRegression(C=10, max_iter=500)
    )
    model.fit([row["text"] for row in demo["train"]], [row["sentiment"] for row in demo["train"]])
    accuracy = model.score(
        [row["text"] for row in demo["test"]], [row["sentiment"] for row in demo["test"]]
    )
    assert accuracy <= CEILING


@pytest.mark.parametrize(
    ("path", "error", "words"),
    [
        ("builtin:dmo", LookupError, ["'dmo'", "Did you mean 'demo'?", "demo-roles"]),
        ("builtin:demo?siz=3", LookupError, ["'siz'", "Did you mean 'size'?", "relatedness"]),
        ("builtin:demo?size=many", ValueError, ["'size'", "'many'", "a whole number", "size="]),
        ("builtin:demo?size=", ValueError, ["'size'", "''"]),
        ("builtin:demo?size=3", ValueError, ["'3'", "from 10"]),
        ("builtin:demo?noise=1.5", ValueError, ["'1.5'", "from 0 to 1"]),
        ("builtin:demo?relatedness=nan", ValueError, ["'nan'"]),
        ("builtin:demo?seed=1&seed=2", ValueError, ["'seed'", "twice"]),
    ],
)
def test_mistakes_in_a_path_are_named(path: str, error: type[Exception], words: list[str]) -> None:
    with pytest.raises(error) as caught:
        corpus(path)
    for word in [path, *words]:
        assert word in str(caught.value)


def test_dials_are_read_from_the_path() -> None:
    assert dials("builtin:demo-roles?size=20&noise=0.1&relatedness=1&seed=7") == (
        "demo-roles",
        Dials(size=20, noise=0.1, relatedness=1.0, seed=7),
    )
    assert dials("builtin:demo") == ("demo", Dials())
    assert set(CORPORA) == {"demo", "demo-roles"}


def test_templates_nest_and_shift_their_propositions() -> None:
    inner = fill("ARG0[ {x} ] V[ ran ]", {"x": "the dog"})
    outer = fill("ARG0[ she ] V[ said ] ARG1[ that {inner} ]", {"inner": inner})
    assert outer.words == ["she", "said", "that", "the", "dog", "ran"]
    assert [p.tags(6) for p in outer.propositions] == [
        ["B-ARG0", "B-V", "B-ARG1", "I-ARG1", "I-ARG1", "I-ARG1"],
        ["O", "O", "O", "B-ARG0", "I-ARG0", "B-V"],
    ]


def test_dice_depend_on_their_key_only() -> None:
    first, second = Dice(0, "a", 1), Dice(0, "a", 1)
    assert [first.number() for _ in range(200)] == [second.number() for _ in range(200)]
    assert Dice(0, "a", 2).number() != Dice(0, "a", 1).number()
