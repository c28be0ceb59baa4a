"""Topics: the model is scikit-learn's, each text is read alone, and coherence is its formula."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.decomposition import NMF, LatentDirichletAllocation
from sklearn.feature_extraction.text import CountVectorizer, TfidfVectorizer

from tasks import themes
from tasks.topics import Topics, TopicsData
from tests.reading import packed, reader

PETS = ["cat", "dog", "bird", "fish", "hamster"]
SKY = ["star", "moon", "planet", "comet", "rocket"]
FOOD = ["bread", "cheese", "soup", "salad", "apple"]


def texts(count: int = 60) -> list[str]:
    """Write texts of one subject each, and every fifth of two."""
    draw = np.random.default_rng(0)
    kinds = [PETS, SKY, FOOD]
    found = []
    for place in range(count):
        own = list(draw.choice(kinds[place % 3], 4))
        if place % 5 == 0:
            own += list(draw.choice(kinds[(place + 1) % 3], 2))
        found.append(f"the {' and the '.join(own)} were there")
    return found


def fit(method: str = "nmf", **options: Any) -> Topics:
    data = TopicsData(path="rows", topics=3, method=method, **options)  # type: ignore[arg-type]
    return Topics(data, Topics.fit(data, [{"text": text} for text in texts()]))


@pytest.mark.parametrize("method", ["nmf", "lda"])
def test_topics_are_the_subjects_of_the_texts(method: str) -> None:
    found = fit(method)
    assert {frozenset(own[:5]) for own in found.words} == {
        frozenset(PETS),
        frozenset(SKY),
        frozenset(FOOD),
    }
    for subject in (PETS, SKY, FOOD):
        gold = found.gold({"text": " ".join(subject)})
        assert set(gold["words"][:5]) == set(subject)
        assert sum(gold["distribution"]) == pytest.approx(1)
        assert max(gold["distribution"]) > 0.8
        assert gold["topic"] == np.argmax(gold["distribution"])


def test_nmf_reads_a_text_as_scikit_learn_does() -> None:
    reads = TfidfVectorizer(analyzer=themes.terms)
    known = reads.fit_transform(sorted(texts()))
    model = NMF(3, init="nndsvda", random_state=0, max_iter=400).fit(known)
    found = fit()
    assert found.themes.components == pytest.approx(model.components_, abs=1e-6)
    model.tol = 1e-8
    weights = model.transform(reads.transform(texts()))
    expected = weights / weights.sum(1, keepdims=True)
    for text, own in zip(texts(), expected, strict=True):
        assert found.gold({"text": text})["distribution"] == pytest.approx(own.tolist(), abs=1e-3)


def test_lda_reads_a_text_as_scikit_learn_does() -> None:
    reads = CountVectorizer(analyzer=themes.terms)
    known = reads.fit_transform(sorted(texts()))
    model = LatentDirichletAllocation(3, random_state=0, max_iter=20).fit(known)
    expected = model.transform(reads.transform(texts()))
    found = fit("lda")
    assert list(reads.get_feature_names_out()) == found.themes.vocabulary
    for text, own in zip(texts(), expected, strict=True):
        assert found.gold({"text": text})["distribution"] == pytest.approx(own.tolist(), abs=1e-4)


@pytest.mark.parametrize("method", ["nmf", "lda"])
def test_a_text_without_known_words_is_masked_and_counted(method: str) -> None:
    data = TopicsData(path="rows", topics=3, method=method)  # type: ignore[arg-type]
    blank = {"text": "and so it was, 1999"}
    rows: list[dict[str, Any]] = [blank, *({"text": text} for text in texts()), {"text": 5}]
    found = Topics(data, json.loads(json.dumps(Topics.fit(data, rows))))
    assert found.fault(blank, True) is None
    batch, terms = packed(found, [blank, rows[1]], reader())
    assert terms == 1
    output = torch.tensor([[9.0, -9.0, 0.0], [0.5, 1.0, -1.0]], requires_grad=True)
    found.loss(output, batch.rows["task"]).backward()
    assert output.grad is not None
    assert output.grad.any(1).tolist() == [False, True]
    gold, other = found.gold(blank), found.gold(rows[1])
    assert gold == {"topic": None, "words": [], "distribution": None}
    alone = found.score([other], [other])
    assert found.score([other, other], [gold, other]) == alone | {"coverage": 0.5}
    assert found.score([other], [gold]) == dict.fromkeys(alone, 0.0)


def test_the_loss_is_the_divergence_from_the_topic_model() -> None:
    found = fit()
    row = {"text": "cat dog star moon planet"}
    batch, _ = packed(found, [row], reader())
    true = np.array(found.gold(row)["distribution"])
    given = np.array([0.5, 0.3, 0.2])
    expected = (true * np.log(np.maximum(true, 1e-30) / given)).sum() / math.log(3)
    output = torch.tensor(np.log(given))[None].float()
    assert found.loss(output, batch.rows["task"]).item() == pytest.approx(expected, rel=1e-4)


def test_both_texts_of_a_pair_are_read() -> None:
    data = TopicsData(path="rows", topics=3, pair="other")
    rows = [{"text": text, "other": text} for text in texts()]
    found = Topics(data, Topics.fit(data, rows))
    gold = found.gold({"text": "it is", "other": " ".join(SKY)})
    assert set(gold["words"][:5]) == set(SKY)


@pytest.mark.parametrize(
    ("rows", "options", "message"),
    [
        (["cat dog", "dog bird"], {}, "hold 2 texts and 3 words"),
        (["it was", "and so", "they are"], {"topics": 2}, "hold 3 texts and 0 words"),
        ([], {"topics": 2}, "hold 0 texts and 0 words"),
    ],
)
def test_more_topics_than_texts_or_words_are_refused(
    rows: list[str], options: dict[str, Any], message: str
) -> None:
    data = TopicsData(path="rows", **({"topics": 3} | options))
    with pytest.raises(ValueError, match=message):
        Topics.fit(data, [{"text": text} for text in rows])


def test_the_vocabulary_is_bounded_and_has_no_stop_words() -> None:
    assert set(fit().themes.vocabulary) == {*PETS, *SKY, *FOOD}
    assert len(fit(words=7).themes.vocabulary) == 7


def test_words_that_may_tell_a_subject() -> None:
    text = "The dog's BALL: we don\u2019t play 3 games_now, they'll rest at Ann's. I've 'seen' x"
    assert themes.terms(text) == ["dog", "ball", "play", "games", "rest", "ann", "seen"]


def test_coherence_by_hand() -> None:
    """p(cat) = 3/4, p(dog) = p(cat, dog) = 1/2, and fish is never with them."""
    four = ["cat dog", "dog, cat, dog", "the cat", "fish"]
    near = math.log((1 / 2) / (3 / 4 * 1 / 2)) / math.log(2)
    assert themes.npmi([["dog", "cat"]], four) == pytest.approx(near)
    assert themes.npmi([["dog", "cat", "fish"]], four) == pytest.approx((near - 2) / 3)
    assert themes.npmi([["dog", "cat"], ["cat", "fish"]], four) == pytest.approx((near - 1) / 2)


def test_the_ends_of_coherence() -> None:
    assert themes.npmi([["cat", "dog"]], ["cat dog", "fish"]) == pytest.approx(1)
    assert themes.npmi([["cat", "dog"]], ["cat", "dog"]) == -1
    assert themes.npmi([["cat", "unheard"]], ["cat", "dog"]) == -1
    assert themes.npmi([["cat", "dog"]], ["cat dog", "dog cat"]) == 0
    assert themes.npmi([["cat"]], ["cat"]) == 0
    assert themes.npmi([["cat", "dog"]], []) == -1


def test_coherence_words_and_rows_without_a_topic_are_told() -> None:
    found = fit()
    whole = [{"text": text} for text in texts()]
    told = found.findings({"train": [{"text": "so it was"}, *whole], "validation": whole})
    assert [one.note for one in told] == [
        "1 of 61 train rows have no word of any topic and take no part",
        f"its 3 topics cohere by {themes.npmi(found.words, texts()):.3f} (mean NPMI of their 10 "
        "top words in the validation texts)",
    ]
    assert told[0].details == []
    assert [set(words.split()[:5]) for _, words in told[1].details] == [
        set(own[:5]) for own in found.words
    ]


def test_topics_of_a_subject_cohere_more_than_a_mixture_of_them() -> None:
    mixed = [list(own) for own in zip(PETS, SKY, FOOD, strict=True)]
    assert themes.npmi(fit().words, texts()) > themes.npmi(mixed, texts())


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("हिन्दी भाषा में", ["हिन्दी", "भाषा", "में"]),
        ("قَالَ كِتَاب", ["قَالَ", "كِتَاب"]),
        ("re\u0301sume\u0301 of a naïve café", ["résumé", "naïve", "café"]),
    ],
)
def test_words_keep_their_marks_in_every_script(text: str, expected: list[str]) -> None:
    assert themes.terms(text) == expected


def test_top_topic_accuracy_counts_the_rows_whose_likeliest_topic_is_right() -> None:
    found = fit()
    golds = [found.gold({"text": own[0]}) for own in (PETS, SKY, FOOD, PETS)]
    wrong = {**golds[3], "topic": golds[1]["topic"], "distribution": golds[1]["distribution"]}
    assert found.score([*golds[:3], wrong], golds)["accuracy"] == 0.75
