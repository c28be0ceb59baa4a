"""Themes: topic models of unlabelled texts, what a text is about by them, and their coherence."""

from __future__ import annotations

import base64
import itertools
import math
import re
import unicodedata
import warnings
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np
import regex
from numpy.typing import NDArray
from safetensors.numpy import load, save
from scipy.optimize import nnls
from scipy.special import psi
from sklearn.decomposition import NMF, LatentDirichletAllocation
from sklearn.exceptions import ConvergenceWarning
from sklearn.feature_extraction.text import (
    ENGLISH_STOP_WORDS,
    CountVectorizer,
    TfidfTransformer,
)

Array = NDArray[np.float64]

WORD = regex.compile(r"\p{L}[\p{L}\p{M}]*(?:['\u2019]\p{L}[\p{L}\p{M}]*)?")
"""Letters with their marks (vowel signs, accents), with what an apostrophe joins to them."""
POSSESSIVE = re.compile(r"['\u2019]s$")
CONTRACTED = re.compile(r"(?:n['\u2019]t|['\u2019](?:ll|re|ve|[dm]))$")
"""Ends of verbs that say nothing of a subject: don't, we'll, they've."""
COMMON = 0.5
"""A word in more than this share of the texts tells no subject."""
TOP = 10
"""Words that stand for a topic."""
ROUNDS, CHANGE = 100, 1e-3
"""LDA reads a text until its weights change by less than this on average, at most so often."""


def terms(text: str) -> list[str]:
    """Give the words of a text that may tell its subject, in lower case.

    A possessive 's is cut off; single letters are left out, and what English uses everywhere.
    """
    plain = unicodedata.normalize("NFC", text).lower()
    found = (POSSESSIVE.sub("", word) for word in WORD.findall(plain))
    return [
        word
        for word in found
        if len(word) > 1 and word not in ENGLISH_STOP_WORDS and not CONTRACTED.search(word)
    ]


def fit(texts: Sequence[str], topics: int, method: str, words: int) -> dict[str, Any]:
    """Fit a topic model; gives its vocabulary, and its tables as safetensors in base64.

    ``nmf`` factorises TF-IDF (Lee and Seung 1999; start of Boutsidis and Gallopoulos 2008), ``lda``
    is latent Dirichlet allocation of counts (Blei et al. 2003; Hoffman et al. 2010). The order of
    the texts does not matter. Raises ``ValueError`` for too few texts or words.
    """
    reads = CountVectorizer(
        analyzer=terms, max_features=words, max_df=max(2, int(COMMON * len(texts)))
    )
    try:
        counts = reads.fit_transform(sorted(texts)).astype(np.float64)
    except ValueError:  # how it says that no word is left
        counts = np.zeros((len(texts), 0))
    if topics > min(counts.shape):
        raise ValueError(
            f"topics is {topics}, and the training rows hold {counts.shape[0]} texts and "
            f"{counts.shape[1]} words that can tell a subject; expected at least {topics} of each."
        )
    tables = _lda(counts, topics) if method == "lda" else _nmf(counts, topics)
    # save() writes the memory as it lies, which for some tables is column by column.
    raw = save({name: np.ascontiguousarray(t, np.float32) for name, t in tables.items()})
    vocabulary = [str(word) for word in reads.get_feature_names_out()]
    return {"vocabulary": vocabulary, "tables": base64.b64encode(raw).decode("ascii")}


def _nmf(counts: Any, topics: int) -> dict[str, Array]:
    weights = TfidfTransformer().fit(counts)
    model = NMF(topics, init="nndsvda", random_state=0, max_iter=400)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # near enough for topics
        model.fit(weights.transform(counts))
    return {"components": model.components_, "idf": weights.idf_}


def _lda(counts: Any, topics: int) -> dict[str, Array]:
    model = LatentDirichletAllocation(topics, random_state=0, max_iter=20)
    return {"components": model.fit(counts).components_}


class Themes:
    """A fitted topic model. What it says of a text does not depend on other texts."""

    def __init__(self, fitted: Mapping[str, Any], method: str) -> None:
        """``fitted`` is what ``fit`` gave for this method."""
        self.vocabulary: list[str] = list(fitted["vocabulary"])
        self.places = {word: place for place, word in enumerate(self.vocabulary)}
        tables = load(base64.b64decode(fitted["tables"]))
        self.components: Array = tables["components"].astype(np.float64)
        """``[topics, words]``"""
        self._last: tuple[str | None, list[float] | None] = None, None
        self.idf: Array | None = tables["idf"].astype(np.float64) if method == "nmf" else None

    def words(self) -> list[list[str]]:
        """Give the words that weigh most in each topic, most first."""
        order = np.argsort(-self.components, axis=1, kind="stable")[:, :TOP]
        return [
            [self.vocabulary[place] for place in own if weights[place] > 0]
            for weights, own in zip(self.components, order, strict=True)
        ]

    def distribution(self, text: str) -> list[float] | None:
        """Give the share of each topic in a text, or None where it has no word of any topic.

        The last answer is kept: a row is asked what it is about and what is true of it.
        """
        if self._last[0] != text:
            self._last = text, self._distribution(text)
        return self._last[1]

    def _distribution(self, text: str) -> list[float] | None:
        places, counts = self._counted(text)
        own = self.components[:, places]
        if not own.any():
            return None
        weights = self._nmf(own, counts, places) if self.idf is not None else self._lda(own, counts)
        found: list[float] = (weights / weights.sum()).tolist()
        return found

    def knows(self, text: str) -> bool:
        """Tell whether a text has a word of any topic."""
        return bool(self.components[:, self._counted(text)[0]].any())

    def _counted(self, text: str) -> tuple[list[int], Array]:
        found = Counter(place for w in terms(text) if (place := self.places.get(w)) is not None)
        return list(found), np.array(list(found.values()), np.float64)

    @cached_property
    def _root(self) -> tuple[Array, Array]:
        """Give R and S with RᵀR = HHᵀ and RᵀS = 1 on its range, H being the components."""
        values, vectors = np.linalg.eigh(self.components @ self.components.T)
        kept = values > values[-1] * 1e-12
        roots, vectors = np.sqrt(values[kept])[:, None], vectors[:, kept].T
        return roots * vectors, vectors / roots

    def _nmf(self, own: Array, counts: Array, places: Sequence[int]) -> Array:
        """Find w >= 0 of least ||x - wH||, exactly (Lawson and Hanson 1974)."""
        assert self.idf is not None
        x = counts * self.idf[places]
        root, inverse = self._root
        found: Array = nnls(root, inverse @ (own @ (x / np.linalg.norm(x))))[0]
        return found

    @cached_property
    def _totals(self) -> Array:
        return psi(self.components.sum(1))

    def _lda(self, own: Array, counts: Array) -> Array:
        """Find the weights of topics by variational inference (Hoffman et al. 2010, E step)."""
        topics = len(own)
        likely = np.exp(psi(own) - self._totals[:, None])
        weights = np.ones(topics)
        for _ in range(ROUNDS):
            before, shares = weights, np.exp(psi(weights) - psi(weights.sum()))
            weights = 1 / topics + shares * (likely @ (counts / (shares @ likely + 1e-100)))
            if np.abs(weights - before).mean() < CHANGE:
                break
        return weights


def npmi(topics: Sequence[Sequence[str]], texts: Sequence[str]) -> float:
    """Give the coherence of topics in [-1, 1]: how far the words of each stand in the same texts.

    The mean, over all pairs of words of a topic, of normalised pointwise mutual information
    (Bouma 2009; for topics, Lau et al. 2014): log(p(a, b) / (p(a) p(b))) / -log p(a, b), with
    shares of texts for p. It is -1 for words that never meet, 0 for two that are in every text.
    """
    found = [set(terms(text)) for text in texts]
    pairs = [tuple(sorted(pair)) for own in topics for pair in itertools.combinations(own, 2)]
    if not pairs:
        return 0.0
    wanted = {word for pair in pairs for word in pair}
    single: Counter[str] = Counter()
    together: Counter[tuple[str, ...]] = Counter()
    for words in found:
        here = sorted(words & wanted)
        single.update(here)
        together.update(itertools.combinations(here, 2))

    def measure(a: str, b: str) -> float:
        both = together[a, b]
        if both in (0, len(texts)):
            return -1.0 if both == 0 else 0.0
        return math.log(both * len(texts) / (single[a] * single[b])) / math.log(len(texts) / both)

    return math.fsum(measure(*pair) for pair in pairs) / len(pairs)
