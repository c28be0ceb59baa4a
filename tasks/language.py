"""Language: the words that were hidden in a text, as BERT learnt; texts without labels."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from tasks import items, labels, words
from tasks.family import (
    IGNORED,
    CrossEntropy,
    Data,
    Encoded,
    Family,
    Fault,
    Head,
    Reads,
    Row,
    Rows,
    Text,
)

PERCENT = 15
"""Of a text's tokens are to be found, at least one (Devlin et al. 2019)."""
MASKED, RANDOM = 8, 1
"""Of ten of these are read as the mask, and as any token; the rest stay as they are."""
ASKED = "asked"
"""Marks rows made from records: their own masks are what is to be found."""
LIKELY = 5
"""Tokens that an answer names for each mask."""
MOST = 700.0
"""Costs of a token from which perplexity is the same: more would be no finite number."""


class LanguageData(Data):
    """Where the text stands."""

    text: str = "text"


class LanguageHead(Head):
    """Replaces tokens of what the encoder reads, and finds them again from its states.

    Dense layer, GELU and norm, then an output over the vocabulary: BERT's, but for the output's
    weights, which are not the encoder's embeddings. These have another learning rate, and move
    when this head must rest.
    """

    reads = None
    ordinary: Tensor

    def __init__(
        self, width: int, tokens: int, mask: int, special: Sequence[int], dropout: float
    ) -> None:
        """``tokens`` is the size of the vocabulary; ``mask`` and ``special`` are token ids."""
        super().__init__()
        self.mask = mask
        known = sorted(set(range(tokens)) - set(special))
        self.register_buffer("ordinary", torch.tensor(known), persistent=False)
        self.dense = nn.Linear(width, width)
        self.norm = nn.LayerNorm(width)
        self.dropout = nn.Dropout(dropout)
        self.out = nn.Linear(width, tokens)

    def replaced(self, input_ids: Tensor, rows: Rows) -> tuple[Tensor, Rows]:
        """Hide tokens; the rows get columns ``places [hidden]`` and ``true [hidden]``.

        In training which and how comes from torch's generator. In eval mode it comes from the
        row's own tokens, so that a row is asked the same in any batch, and nothing is drawn.
        """
        place, counts = rows.columns["open"], rows.counts["open"]
        owner = _owners(rows, "open")
        flat = rows.starts[owner] + place
        if self.training:
            noise = torch.randint(2**62, (3, len(flat)), device=flat.device)
        else:
            noise = _hashed(input_ids[flat], place, owner, len(rows))
        order = noise[0].argsort(stable=True)
        order = order[owner[order].argsort(stable=True)]  # each row's places, shuffled
        first = counts.cumsum(0) - counts
        chosen = order[first[_owners(rows, "nth")] + rows.columns["nth"]].sort().values
        places = flat[chosen]
        true = input_ids[places]
        _, how, which = noise[:, chosen]
        drawn = self.ordinary[which % len(self.ordinary)]
        seen = torch.where(how % 10 < MASKED + RANDOM, drawn, true)
        seen = torch.where((how % 10 < MASKED) | (true == self.mask), self.mask, seen)
        columns = {**rows.columns, "places": places, "true": true}
        return input_ids.index_copy(0, places, seen), replace(rows, columns=columns)

    def forward(self, hidden: Tensor, rows: Rows) -> dict[str, Tensor]:
        """Give ``logits [hidden, tokens]``, and the ``true [hidden]`` tokens beside them."""
        state = self.norm(functional.gelu(self.dense(hidden[rows.columns["places"]])))
        return {"logits": self.out(self.dropout(state)), "true": rows.columns["true"]}


class Language(Family[LanguageData]):
    """Masked language modelling. Predictions: ``{"nll": x, "tokens": n, "masks": [...]}``.

    ``nll`` is the negative log-likelihood (in nats) of the ``tokens`` that were hidden; ``masks``
    names the likeliest tokens for each mask that stands in a text that is asked. Scores are
    ``perplexity``, where less is better, and the main one ``inverse_perplexity``.
    """

    Data = LanguageData
    losses = {"cross_entropy": CrossEntropy}  # noqa: RUF012 (a constant of the class)
    columns = {"open": torch.int64, "nth": torch.int64}  # noqa: RUF012 (a constant of the class)
    main = "inverse_perplexity"

    def bind(self) -> None:
        """Take the vocabulary, if it is known already."""
        self.pieces: list[str] = list(self.fitted.get("pieces", ()))
        self.mask = int(self.fitted.get("mask", IGNORED))
        self.special = frozenset(self.fitted.get("special", ()))

    @classmethod
    def fit(cls, data: LanguageData, rows: Iterable[Row]) -> dict[str, Any]:
        """Learn nothing from the rows."""
        return {}

    @classmethod
    def reading(cls, reader: Reads) -> dict[str, Any]:
        """Take the tokens as they read, the mask's id and the ids of special tokens."""
        if reader.mask is None:
            raise ValueError(
                "hides tokens behind a mask, and the tokenizer of encoder.model has none; expected "
                "an encoder that was trained with one (BERT, RoBERTa, ...). Choose such a model, "
                "or take the task away"
            )
        special = sorted({*reader.special, reader.mask})
        return {"pieces": reader.pieces(), "mask": reader.mask, "special": special}

    @classmethod
    def column_names(cls, data: LanguageData) -> list[str]:
        """Name the column in use."""
        return [data.text]

    def fault(self, row: Row, training: bool) -> Fault | None:
        """Say what is wrong with a row."""
        return words.text_fault(self.data.text, row.get(self.data.text))

    def texts(self, row: Row) -> list[Text]:
        """Give the text."""
        return [str(row[self.data.text])]

    def encode(self, row: Row, encoded: Sequence[Encoded]) -> dict[str, list[int] | list[float]]:
        """Give the places that may be hidden, and number those that will be.

        All but special tokens may be. In a row from ``ask`` these are the masks, all of them.
        """
        ids = encoded[0].input_ids
        if row.get(ASKED):
            masks = [place for place, token in enumerate(ids) if token == self.mask]
            return {"open": masks, "nth": list(range(len(masks)))}
        ordinary = [place for place, token in enumerate(ids) if token not in self.special]
        return {"open": ordinary, "nth": list(range(hidden(len(ordinary))))}

    def terms(self, row: Row, columns: Mapping[str, Sequence[Any]]) -> int:
        """Count the hidden tokens; what a user's masks stand for is not known."""
        return 0 if row.get(ASKED) else len(columns["nth"])

    def gold(self, row: Row) -> dict[str, Any]:
        """Give what a perfect prediction would be: scores are likelihoods, so it tells no more."""
        return {"nll": 0.0, "tokens": 1, "masks": []}

    def head(self, width: int, dropout: float) -> LanguageHead:
        """Build the head."""
        return LanguageHead(width, len(self.pieces), self.mask, sorted(self.special), dropout)

    def loss(self, output: Mapping[str, Tensor], rows: Rows) -> Tensor:
        """Sum the cross entropy over the hidden tokens, in units of log(vocabulary)."""
        true = output["true"].masked_fill(output["true"] == self.mask, IGNORED)
        return labels.cross_entropy(output["logits"], true, self.label_smoothing)

    def decode(self, output: Mapping[str, Tensor], rows: Rows) -> list[dict[str, Any]]:
        """Give how likely the hidden tokens were, or what a user's masks may stand for."""
        chances, true = output["logits"].detach().float().log_softmax(1), output["true"]
        known = true != self.mask
        costs = (-chances.gather(1, true[:, None])[:, 0].double() * known).tolist()
        asked = iter(self._likely(chances[~known]))
        found, start = [], 0
        for count in rows.counts["nth"].tolist():
            own, start = slice(start, start + count), start + count
            tokens = int(known[own].sum())
            masks = [next(asked) for _ in range(count - tokens)]
            found.append({"nll": math.fsum(costs[own]), "tokens": tokens, "masks": masks})
        return found

    def _likely(self, chances: Tensor) -> list[list[dict[str, Any]]]:
        """Name the likeliest tokens for each of ``chances [masks, tokens]``, which are logs."""
        top = chances.exp().topk(min(LIKELY, len(self.pieces)))
        return [
            [{"token": self.pieces[t].strip(), "score": p} for p, t in zip(*pair, strict=True)]
            for pair in zip(top.values.tolist(), top.indices.tolist(), strict=True)
        ]

    def score(
        self, predictions: Sequence[dict[str, Any]], golds: Sequence[dict[str, Any]]
    ) -> dict[str, float]:
        """Give the perplexity of the hidden tokens of all rows, and one over it."""
        tokens = sum(p["tokens"] for p in predictions)
        if not tokens:
            return {"inverse_perplexity": 0.0, "perplexity": 0.0}
        mean = min(math.fsum(p["nll"] for p in predictions) / tokens, MOST)
        return {"inverse_perplexity": math.exp(-mean), "perplexity": math.exp(mean)}

    def parts(
        self, predictions: Sequence[dict[str, Any]], golds: Sequence[dict[str, Any]]
    ) -> items.Array:
        """Give the costs and numbers of the hidden tokens."""
        found = [(p["nll"], float(p["tokens"])) for p in predictions]
        return np.array(found, np.float64).reshape(len(found), 2)

    def whole(self, sums: items.Array) -> items.Array:
        """Give one over the perplexity."""
        mean = np.minimum(items.ratio(sums), MOST)
        found: items.Array = np.where(sums[..., 1] > 0, np.exp(-mean), 0.0)
        return found

    def ask(self, record: Row) -> Row | None:
        """Read a ``text`` that holds the tokenizer's mask token, such as ``[MASK]``."""
        text = record.get("text")
        if words.text_fault("text", text) or self._token not in str(text):
            return None
        return {self.data.text: text, ASKED: True}

    @property
    def _token(self) -> str:
        """Give the mask as it is written."""
        return self.pieces[self.mask].strip()

    def answer(
        self, row: Row, prediction: dict[str, Any], again: Sequence[tuple[Row, Any]]
    ) -> list[dict[str, Any]]:
        """List the masks that were read, each with its characters and the likeliest tokens."""
        text, found, start = row[self.data.text], [], 0
        for likely in prediction["masks"]:
            start = text.index(self._token, start)
            end = start + len(self._token)
            found.append({"start": start, "end": end, "text": self._token, "tokens": likely})
            start = end
        return found


def hidden(tokens: int) -> int:
    """Count the tokens to hide of so many: 15 %, rounded, and at least one if there is any."""
    return min(tokens, max(1, (tokens * PERCENT + 50) // 100))


def _owners(rows: Rows, column: str) -> Tensor:
    """Give the row of each entry of a column: ``[0, 0, 2]`` for counts ``[2, 0, 1]``."""
    counts, size = rows.counts[column], len(rows.columns[column])
    every = torch.arange(len(counts), device=counts.device)
    return torch.repeat_interleave(every, counts, output_size=size)


def _hashed(tokens: Tensor, places: Tensor, owner: Tensor, rows: int) -> Tensor:
    """Give three numbers from 0 to 2^62 for each place, ``[3, places]``, from its row's tokens."""
    own = _mixed(_mixed(tokens + 1) + places)
    row = torch.zeros(rows, dtype=torch.int64, device=own.device).index_add(0, owner, own)
    purpose = torch.arange(1, 4, device=own.device)[:, None]
    return _mixed(_mixed(row[owner] + places) + purpose) & (2**62 - 1)


def _mixed(numbers: Tensor) -> Tensor:
    """Mix 64 bits, whole numbers wrapping around (SplitMix64, Steele et al. 2014)."""
    z = numbers * -7046029254386353131  # the golden ratio: 0x9E3779B97F4A7C15
    z = (z ^ ((z >> 30) & (2**34 - 1))) * -4658895280553007687  # 0xBF58476D1CE4E5B9
    z = (z ^ ((z >> 27) & (2**37 - 1))) * -7723592293110705685  # 0x94D049BB133111EB
    return z ^ ((z >> 31) & (2**33 - 1))
