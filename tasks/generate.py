"""Generate: a text for a text or for a pair of texts, as in translation and dialogue."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import sacrebleu
import torch
from pydantic import Field
from sacrebleu.metrics.chrf import CHRF
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from torch import Tensor

from tasks import items, labels, words
from tasks.decoder import Decoder
from tasks.family import Encoded, Fault, Row, Rows
from tasks.numbers import Plain
from tasks.texts import TextData, TextFamily

# Work is spread over processes; one that has used the library's threads warns at every later fork.
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

BYTES = 256
"""Pieces that any text can be written in."""
MOST = 700.0
"""Costs of a piece from which perplexity is the same: more would be no finite number."""


class GenerateData(TextData):
    """Where the text, its second part and the text to write stand, and how it is written."""

    target: str = "target"
    vocabulary: int = Field(8000, ge=BYTES)
    """Pieces of the target texts, at most."""
    layers: int = Field(2, ge=1)
    """Layers of the decoder."""
    max_target: int = Field(64, ge=2)
    """Pieces of a text, its ending among them; more are neither learnt nor written."""
    beam: int = Field(1, ge=1)
    """Texts that are pursued at the same time; 1 takes the likeliest piece every time."""


class Generate(TextFamily[GenerateData]):
    """One text a row. Predictions: ``{"text": ..., "nll": x, "tokens": n}``.

    ``nll`` is the negative log-likelihood (in nats) of the true text's ``tokens``, 0 where none is
    known. Scores are ``bleu`` and ``chrf`` of sacrebleu, in 0..100; the main one ``chrf_ratio``,
    which is chrf / 100; and ``perplexity``, that of the true text, where less is better.
    """

    Data = GenerateData
    losses = {"cross_entropy": Plain}  # noqa: RUF012 (a constant of the class)
    columns = {"target": torch.int64}  # noqa: RUF012 (a constant of the class)
    main = "chrf_ratio"

    def bind(self) -> None:
        """Take the pieces; the one after them ends a text."""
        self.tokenizer = Tokenizer.from_str(self.fitted["tokenizer"])
        self.end = int(self.tokenizer.get_vocab_size())

    @classmethod
    def fit(cls, data: GenerateData, rows: Iterable[Row]) -> dict[str, Any]:
        """Find the pieces of the target texts: byte pairs (Sennrich et al. 2016) over bytes."""
        tokenizer = Tokenizer(models.BPE())
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        tokenizer.decoder = decoders.ByteLevel()
        trainer = trainers.BpeTrainer(
            vocab_size=data.vocabulary,
            min_frequency=2,
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        )
        tokenizer.train_from_iterator(_targets(data.target, rows), trainer)
        return {"tokenizer": tokenizer.to_str()}

    @classmethod
    def column_names(cls, data: GenerateData) -> list[str]:
        """Name the columns in use."""
        return [*cls.text_columns(data), data.target]

    @classmethod
    def plain_columns(cls, data: GenerateData) -> list[str]:
        """Name the columns of the texts that are read, and of those that are written."""
        return [*cls.text_columns(data), data.target]

    @classmethod
    def label_columns(cls, data: GenerateData) -> list[str]:
        """Name the column of the answer."""
        return [data.target]

    def fault(self, row: Row, training: bool) -> Fault | None:
        """Say what is wrong with a row."""
        column = self.data.target
        return self.text_fault(row) or words.text_fault(column, row.get(column))

    def encode(self, row: Row, encoded: Sequence[Encoded]) -> dict[str, list[int] | list[float]]:
        """Number the pieces of the target and add its ending; a row from ``ask`` has none."""
        target = row.get(self.data.target)
        if target is None:
            return {"target": []}
        return {"target": [*self.tokenizer.encode(target).ids, self.end][: self.data.max_target]}

    def terms(self, row: Row, columns: Mapping[str, Sequence[Any]]) -> int:
        """Count the pieces of the target and its ending."""
        return len(columns["target"])

    def gold(self, row: Row) -> dict[str, Any]:
        """Give the true text, whole."""
        return {"text": row[self.data.target]}

    def head(self, width: int, dropout: float) -> Decoder:
        """Build the decoder."""
        data = self.data
        return Decoder(width, self.end + 1, data.layers, data.max_target, data.beam, dropout)

    def loss(self, output: Mapping[str, Tensor], rows: Rows) -> Tensor:
        """Sum the cross entropy in units of log(pieces)."""
        return labels.cross_entropy(output["logits"], rows.columns["target"], self.label_smoothing)

    def decode(self, output: Mapping[str, Tensor], rows: Rows) -> list[dict[str, Any]]:
        """Give the texts that the head found in eval mode, and how likely the true ones were."""
        target, counts = rows.columns["target"], rows.counts["target"].tolist()
        known = output["logits"].detach().float().log_softmax(1).gather(1, target[:, None])[:, 0]
        costs = [-float(own.double().sum()) for own in torch.split(known, counts)]
        return [
            {"text": self._text(own), "nll": cost, "tokens": count}
            for own, cost, count in zip(output["found"].tolist(), costs, counts, strict=True)
        ]

    def _text(self, tokens: list[int]) -> str:
        """Put pieces together, up to the ending; bytes that are no text become U+FFFD."""
        own = tokens[: tokens.index(self.end)] if self.end in tokens else tokens
        return str(self.tokenizer.decode(own))

    def score(
        self, predictions: Sequence[dict[str, Any]], golds: Sequence[dict[str, Any]]
    ) -> dict[str, float]:
        """Give BLEU (Papineni et al. 2002), chrF (Popovic 2015) and perplexity of all rows.

        A text without ``nll`` is taken to be the true one, known for sure.
        """
        if not golds:
            return dict.fromkeys(("bleu", "chrf", "chrf_ratio", "perplexity"), 0.0)
        found, true = [p["text"] for p in predictions], [[g["text"] for g in golds]]
        chrf = float(sacrebleu.corpus_chrf(found, true).score)
        nll = sum(p.get("nll", 0.0) for p in predictions)
        tokens = sum(p.get("tokens", 0) for p in predictions)
        return {
            "bleu": float(sacrebleu.corpus_bleu(found, true, force=True).score),
            "chrf": chrf,
            "chrf_ratio": min(1.0, chrf / 100),
            "perplexity": math.exp(min(nll / max(1, tokens), MOST)),
        }

    def parts(
        self, predictions: Sequence[dict[str, Any]], golds: Sequence[dict[str, Any]]
    ) -> items.Array:
        """Give the counts of characters that chrF is made of."""
        true = [[gold["text"] for gold in golds]]
        found = CHRF()._extract_corpus_statistics([p["text"] for p in predictions], true)
        return np.array(found, np.float64).reshape(len(golds), -1)

    def whole(self, sums: items.Array) -> items.Array:
        """Give chrF / 100."""
        measure, counts = CHRF(), sums.reshape(-1, sums.shape[-1]).astype(np.int64)
        flat = [measure._compute_f_score(own) for own in counts.tolist()]
        return np.minimum(1.0, np.array(flat).reshape(sums.shape[:-1]) / 100)

    def answer(
        self, row: Row, prediction: dict[str, Any], again: Sequence[tuple[Row, Any]]
    ) -> dict[str, Any]:
        """Give the text."""
        return {"text": prediction["text"]}


def _targets(column: str, rows: Iterable[Row]) -> Iterator[str]:
    """Give the texts of a column. Raises ``ValueError`` if it has none."""
    found = False
    for row in rows:
        if words.text_fault(column, text := row.get(column)) is None:
            found = True
            yield str(text)
    if not found:
        raise ValueError(f"column {column!r} of the training rows holds no text; expected texts.")
