"""Rate: the number that a user gives to an item, from who the user is and the item's text."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from pydantic import Field
from sklearn import metrics
from torch import Tensor, nn
from torch.nn import functional

from tasks import items, labels, numbers
from tasks.family import Encoded, Fault, Head, Row, Rows
from tasks.numbers import Plain
from tasks.texts import TextData, TextFamily

FACTORS = 16
"""Tastes: entries of a user's vector, beside the user's bias."""
UNKNOWN = 0
"""The number of a user who is not among the training rows, or not told."""
TOP = 10
"""Places of a ranking that count."""


class RateData(TextData):
    """Where the user, the item's text and the rating stand."""

    user: str = "user"
    item: str | None = None
    """The column of the item's name, which only tells items that training never saw."""
    target: str = "target"


class Pairwise(Plain):
    """The options of ``loss: {name: pairwise}``."""

    order: float = Field(0.5, gt=0, le=1)
    """How much of the loss is the order of a user's items; the rest is the squared error.

    Order alone says nothing about the scale of ratings, nor about a user's bias.
    """


class RateHead(Head):
    """Matrix factorisation (Koren et al. 2009) whose item vectors are read off the text.

    rating = bias(user) + bias(text) + <vector(user), vector(text)>. While training, a user is
    unknown with the probability of dropout, so that the unknown user is the average one; without
    training that user has no bias and no tastes.
    """

    reads = "summary"

    def __init__(self, width: int, users: int, dropout: float) -> None:
        super().__init__()
        self.user = nn.Embedding(users + 1, FACTORS + 1)
        self.dense = nn.Linear(width, width)
        self.dropout = nn.Dropout(dropout)
        self.item = nn.Linear(width, FACTORS + 1)
        with torch.no_grad():
            self.user.weight.normal_(0, 0.1)
            self.user.weight[:, -1] = 0
            self.user.weight[UNKNOWN] = 0

    def forward(self, hidden: Tensor, rows: Rows) -> Tensor:
        """Give standardised ratings ``[rows]``."""
        told = self.dropout(hidden.new_ones(len(rows))) > 0
        user = self.user(torch.where(told, rows.columns["user"], UNKNOWN))
        item = self.item(self.dropout(self.dense(hidden[rows.summary]).tanh()))
        tastes: Tensor = (user[:, :-1] * item[:, :-1]).sum(1)
        return tastes + user[:, -1] + item[:, -1]


class Rate(TextFamily[RateData]):
    """One rating a row. Predictions: ``{"value": x}``, in the units of the data.

    The head learns ratings standardised by mean and deviation of the training rows.
    """

    Data = RateData
    losses = {"mse": Plain, "huber": numbers.Huber, "pairwise": Pairwise}  # noqa: RUF012 (constant)
    columns = {"user": torch.int64, "target": torch.float32}  # noqa: RUF012 (a constant)
    main = "closeness"
    smooths = False

    def bind(self) -> None:
        """Take the scale of the ratings, and number the users."""
        self.mean, self.sd = float(self.fitted["mean"]), float(self.fitted["sd"])
        self.places = {user: place for place, user in enumerate(self.fitted["users"], UNKNOWN + 1)}
        self.items = frozenset(self.fitted["items"])

    @classmethod
    def fit(cls, data: RateData, rows: Iterable[Row]) -> dict[str, Any]:
        """Collect users and items of the training rows, and the scale of the ratings.

        Raises ``ValueError`` where there is no user, or where all ratings are the same.
        """
        users, items, targets = set(), set(), []
        for row in rows:
            users.add(labels.name(row.get(data.user)))
            items.add(labels.name(row.get(data.item)) if data.item else None)
            targets.append(row.get(data.target))
        known = labels.ordered(user for user in users if user is not None)
        if not known:
            raise ValueError(
                f"column {data.user!r} of the training rows holds no user; expected texts or "
                "whole numbers."
            )
        scale = numbers.scale(targets, data.target)
        return {**scale, "users": known, "items": labels.ordered(i for i in items if i is not None)}

    @classmethod
    def column_names(cls, data: RateData) -> list[str]:
        """Name the columns in use."""
        item = [data.item] if data.item else []
        return [data.user, *item, *cls.text_columns(data), data.target]

    @classmethod
    def label_columns(cls, data: RateData) -> list[str]:
        """Name the column of the answer."""
        return [data.target]

    def fault(self, row: Row, training: bool) -> Fault | None:
        """Say what is wrong with a row."""
        for column, what in ((self.data.user, "a user"), (self.data.item, "an item")):
            if column and labels.name(row.get(column)) is None:
                return Fault(column, row.get(column), f"{what} (a text or a whole number)")
        return self.text_fault(row) or numbers.fault(self.data.target, row.get(self.data.target))

    def encode(self, row: Row, encoded: Sequence[Encoded]) -> dict[str, list[int] | list[float]]:
        """Number the user and standardise the rating; a row from ``ask`` has none."""
        user = labels.name(row.get(self.data.user))
        value = numbers.read(row.get(self.data.target))
        return {
            "user": [UNKNOWN if user is None else self.places.get(user, UNKNOWN)],
            "target": [] if value is None else [(value - self.mean) / self.sd],
        }

    def terms(self, row: Row, columns: Mapping[str, Sequence[Any]]) -> int:
        """Count the rating, also one that ``pairwise`` finds no partner for."""
        return len(columns["target"])

    def gold(self, row: Row) -> dict[str, Any]:
        """Give the true rating, who gave it and, if items are told, whether the item is new."""
        value, user = numbers.read(row[self.data.target]), labels.name(row[self.data.user])
        new = self.data.item and labels.name(row[self.data.item]) not in self.items
        return {"value": value, "user": user} | ({"new": True} if new else {})

    def head(self, width: int, dropout: float) -> RateHead:
        """Build the vectors of users and what reads those of items."""
        return RateHead(width, len(self.places), dropout)

    def loss(self, output: Tensor, rows: Rows) -> Tensor:
        """Sum the loss over the rows that have a rating."""
        known = rows.counts["target"] > 0
        predicted, true = output[known], rows.columns["target"]
        if self.loss_options["name"] != "pairwise":
            return numbers.loss(self.loss_options, predicted, true)
        order = float(self.loss_options["order"])
        ranked = pairwise(predicted, true, rows.columns["user"][known])
        squared = functional.mse_loss(predicted, true, reduction="sum")
        return order * ranked + (1 - order) * squared

    def decode(self, output: Tensor, rows: Rows) -> list[dict[str, Any]]:
        """Give the ratings in the units of the data."""
        return [{"value": value * self.sd + self.mean} for value in output.float().tolist()]

    def score(
        self, predictions: Sequence[dict[str, Any]], golds: Sequence[dict[str, Any]]
    ) -> dict[str, float]:
        """Give the mean errors, how well each user's items are ranked, and the closeness.

        Closeness is 1 / (1 + rmse of standardised ratings): about 1/2 for the mean of all ratings.
        Where there are items that training never saw, their closeness is given beside it.
        """
        predicted = [p["value"] for p in predictions]
        found = numbers.scores(predicted, [g["value"] for g in golds])
        scores = {name: found[name] for name in ("rmse", "mae")}
        scores["closeness"] = self._closeness(predictions, golds)
        scores[f"ndcg_at_{TOP}"] = _ndcg(predicted, golds)
        if new := [(p, g) for p, g in zip(predictions, golds, strict=True) if g.get("new")]:
            scores["closeness_new_items"] = self._closeness(*zip(*new, strict=True))
        return scores

    def parts(
        self, predictions: Sequence[dict[str, Any]], golds: Sequence[dict[str, Any]]
    ) -> items.Array:
        """Give the squared errors of standardised ratings."""
        both = zip(predictions, golds, strict=True)
        return items.means(((p["value"] - g["value"]) / self.sd) ** 2 for p, g in both)

    def whole(self, sums: items.Array) -> items.Array:
        """Give the closeness."""
        found: items.Array = np.where(sums[..., 1] > 0, 1 / (1 + np.sqrt(items.ratio(sums))), 0.0)
        return found

    def _closeness(
        self, predictions: Sequence[dict[str, Any]], golds: Sequence[dict[str, Any]]
    ) -> float:
        if not golds:
            return 0.0
        true, predicted = [g["value"] for g in golds], [p["value"] for p in predictions]
        return 1 / (1 + float(metrics.root_mean_squared_error(true, predicted)) / self.sd)

    def ask(self, record: Row) -> Row | None:
        """Read ``text`` and, if it is there, ``user``; without one the user is unknown.

        Raises ``ValueError`` for a user that is neither a text nor a whole number.
        """
        row, user = super().ask(record), record.get("user")
        if row is None or user is None:
            return row
        if labels.name(user) is None:
            raise ValueError(f"user is {user!r}; expected a text or a whole number.")
        return {**row, self.data.user: user}


def pairwise(predicted: Tensor, true: Tensor, users: Tensor) -> Tensor:
    """Sum the loss of RankNet (Burges et al. 2005) over rows, in units of log 2.

    All are ``[rows]``. The term of a row is the mean over its partners, the rows of the same user
    in the same forward with another rating, of -log sigmoid(how far the pair is in right order),
    as in BPR (Rendle et al. 2009). Rows without a partner, and unknown users, cost nothing. So
    the loss of a batch depends on how it is cut into micro-batches.
    """
    above = (true[:, None] - true[None, :]).sign()
    same = (users[:, None] == users[None, :]) & (users != UNKNOWN)
    partners = same & (above != 0)
    costs = functional.softplus(-above * (predicted[:, None] - predicted[None, :])) * partners
    return (costs.sum(1) / partners.sum(1).clamp(min=1)).sum() / math.log(2)


def _ndcg(predicted: Sequence[float], golds: Sequence[dict[str, Any]]) -> float:
    """Give NDCG (Järvelin and Kekäläinen 2002) as the mean over users whose ratings differ.

    The gain is the rating, above the user's lowest where that is negative.
    """
    own: dict[str, list[int]] = {}
    for place, gold in enumerate(golds):
        own.setdefault(gold["user"], []).append(place)
    found = []
    for places in own.values():
        true = np.array([golds[place]["value"] for place in places])
        if np.ptp(true) > 0:
            gains = true - min(0.0, true.min())
            given = [predicted[place] for place in places]
            found.append(metrics.ndcg_score([gains], [given], k=TOP))
    return float(np.mean(found)) if found else 0.0
