"""Rate: users are told apart, the order of pairs is RankNet's, and scores agree with others."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from sklearn import metrics

from tasks.family import Rows
from tasks.rate import FACTORS, UNKNOWN, Rate, RateData, RateHead, pairwise
from tests.reading import SENTENCES, WIDTH, fitted, packed, reader

RATINGS: list[dict[str, Any]] = [
    {"user": user, "film": film, "text": SENTENCES[film], "target": value}
    for user, film, value in [("ann", 0, 4.0), ("ann", 1, 1.0), (7, 2, 3.0), (7, 3, 2.0)]
]


def family(**options: Any) -> Rate:
    found = fitted(Rate, RATINGS, item="film", **options)
    assert isinstance(found, Rate)
    return found


def rows(users: list[int], targets: list[float]) -> Rows:
    none = torch.empty(0, dtype=torch.int64)
    columns = {"user": torch.tensor(users), "target": torch.tensor(targets)}
    counts = {name: torch.ones(len(users), dtype=torch.int64) for name in columns}
    places = torch.arange(len(users))
    return Rows(torch.ones(len(users)), places, none, places, none, none, columns, counts)


def test_users_have_numbers_and_all_others_share_one() -> None:
    rate = family()
    assert rate.fitted["users"] == ["7", "ann"]
    users = [rate.encode({"user": user}, [])["user"] for user in ("7", 7, 7.0, "ann", "eve", None)]
    assert users == [[1], [1], [1], [2], [UNKNOWN], [UNKNOWN]]


@pytest.mark.parametrize(
    ("change", "message"),
    [({"user": None}, "'user' .* no user"), ({"target": 3}, "'target' .* only 3")],
)
def test_without_users_or_different_ratings_there_is_nothing_to_fit(
    change: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        Rate.fit(RateData(path="rows"), [row | change for row in RATINGS])


def test_a_user_may_be_asked_about_or_left_out() -> None:
    rate, text = family(), SENTENCES[0]
    head = rate.head(WIDTH, 0.0).eval()
    asked = [rate.ask({"text": text} | who) for who in ({"user": "ann"}, {"user": "eve"}, {})]
    batch, terms = packed(rate, [row for row in asked if row is not None], reader())
    assert terms == 0
    torch.manual_seed(0)
    hidden = torch.randn(4000, WIDTH)[batch.input_ids]
    known, other, nobody = (
        p["value"] for p in rate.decode(head(hidden, batch.rows["task"]), batch.rows["task"])
    )
    assert known != other == nobody
    with pytest.raises(ValueError, match=r"user is \[\]"):
        rate.ask({"text": text, "user": []})


def test_a_rating_is_biases_and_the_product_of_tastes() -> None:
    head = RateHead(WIDTH, 2, 0.0)
    hidden = torch.randn(2, WIDTH)
    found = head(hidden, rows([1, UNKNOWN], [0.0, 0.0]))
    item = head.item(head.dense(hidden).tanh())
    torch.nn.init.normal_(head.user.weight)
    user = head.user.weight
    expected = item[0, FACTORS] + user[1, FACTORS] + item[0, :FACTORS] @ user[1, :FACTORS]
    assert found[1].item() == pytest.approx(item[1, FACTORS].item())
    assert head(hidden, rows([1, 1], [0.0, 0.0]))[0].item() == pytest.approx(expected.item())


def test_in_training_a_share_of_the_users_is_unknown_and_else_none() -> None:
    torch.manual_seed(0)
    head = RateHead(4, 1, 0.3)
    torch.nn.init.zeros_(head.item.weight)
    torch.nn.init.zeros_(head.item.bias)
    torch.nn.init.zeros_(head.user.weight)
    with torch.no_grad():
        head.user.weight[1, FACTORS] = 1.0
    many = rows([1] * 2000, [0.0] * 2000)
    assert head(torch.zeros(2000, 4), many).mean().item() == pytest.approx(0.7, abs=0.03)
    assert head.eval()(torch.zeros(2000, 4), many).unique().tolist() == [1.0]


def test_pairs_are_those_of_one_known_user_with_different_ratings() -> None:
    predicted = torch.tensor([1.0, 0.0, 3.0, 0.5, 9.0, 5.0, 6.0])
    true = torch.tensor([2.0, 1.0, 1.0, 5.0, 4.0, 1.0, 2.0])
    users = torch.tensor([1, 1, 1, 2, 3, UNKNOWN, UNKNOWN])
    # The first row is above the next two by 1 and -2; they have only the first as their partner.
    near, far = math.log(1 + math.exp(-1)), math.log(1 + math.exp(2))
    expected = ((near + far) / 2 + near + far) / math.log(2)
    assert pairwise(predicted, true, users).item() == pytest.approx(expected, rel=1e-6)
    even = pairwise(torch.zeros(7), true, users).item()
    assert even == pytest.approx(3)


@pytest.mark.parametrize("order", [0.25, 1.0])
def test_the_pairwise_loss_mixes_order_and_squared_error(order: float) -> None:
    output, own = torch.tensor([1.0, 0.0]), rows([1, 1], [0.5, -0.5])
    ranked = 2 * math.log(1 + math.exp(-1)) / math.log(2)
    found = family(loss={"name": "pairwise", "order": order}).loss(output, own)
    assert found.item() == pytest.approx(order * ranked + (1 - order) * 0.5, rel=1e-6)


def test_the_loss_of_pairs_leads_to_the_right_order_only() -> None:
    rate = family(loss={"name": "pairwise", "order": 1.0})
    own = rows([1, 1, 2, 2], [0.3, -0.1, 2.0, 3.0])
    output = torch.zeros(4, requires_grad=True)
    rate.loss(output, own).backward()
    assert output.grad is not None
    assert output.grad.sign().tolist() == [-1, 1, 1, -1]


def test_scores_agree_with_scikit_learn() -> None:
    golds = [
        {"value": value, "user": user}
        for user, values in {
            "a": [5.0, 3.0, 1.0],
            "b": [2.0, 4.0],
            "c": [3.0],
            "d": [2.0, 2.0],
        }.items()
        for value in values
    ]
    given = [3.0, 4.0, 1.0, 3.0, 2.5, 1.0, 4.0, 2.0]
    rate = family()
    found = rate.score([{"value": value} for value in given], golds)
    true = [gold["value"] for gold in golds]
    rmse = metrics.root_mean_squared_error(true, given)
    ranked = [
        metrics.ndcg_score([true[:3]], [given[:3]], k=10),
        metrics.ndcg_score([true[3:5]], [given[3:5]], k=10),
    ]
    assert found == pytest.approx(
        {
            "rmse": rmse,
            "mae": metrics.mean_absolute_error(true, given),
            "closeness": 1 / (1 + rmse / math.sqrt(1.25)),  # the deviation of 1, 2, 3, 4
            "ndcg_at_10": sum(ranked) / 2,
        }
    )


def test_ratings_below_zero_can_be_ranked() -> None:
    golds = [{"value": value, "user": "a"} for value in (-1.0, 1.0)]
    best = family().score(golds, golds)["ndcg_at_10"]
    worst = family().score(golds[::-1], golds)["ndcg_at_10"]
    assert (best, worst) == pytest.approx((1, 1 / math.log2(3)))


def test_the_mean_of_all_ratings_is_half_close() -> None:
    rate = family()
    golds = [rate.gold(row) for row in RATINGS]
    assert rate.score([{"value": 2.5}] * 4, golds)["closeness"] == pytest.approx(0.5)


def test_items_that_training_never_saw_are_scored_apart() -> None:
    rate = family()
    seen, new = (rate.gold(RATINGS[0] | {"film": film}) for film in (0, 9))
    assert (seen.get("new"), new.get("new")) == (None, True)
    sd = rate.sd
    found = rate.score([{"value": 4.0}, {"value": 4.0 + sd}], [seen, new])
    assert found["closeness_new_items"] == pytest.approx(0.5)
    assert "closeness_new_items" not in rate.score([{"value": 4.0}], [seen])


def test_only_the_ten_best_of_a_user_are_ranked() -> None:
    """By hand (Jarvelin and Kekalainen 2002): gains 1, ..., 12 given in the opposite order."""
    values = [float(n) for n in range(1, 13)]
    golds: list[dict[str, Any]] = [
        {"user": "ann", "item": str(n), "value": value} for n, value in enumerate(values)
    ]
    given = [{"value": -value} for value in values]

    def gain(order: list[float]) -> float:
        return sum(v / math.log2(place + 2) for place, v in enumerate(order[:10]))

    expected = gain(values) / gain(values[::-1])
    assert family().score(given, golds)["ndcg_at_10"] == pytest.approx(expected)
