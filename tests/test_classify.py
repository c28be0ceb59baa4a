"""One label a text: scores by hand, labels of any type, the head of BERT and of RoBERTa."""

import pytest
import torch
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    RobertaConfig,
    RobertaForSequenceClassification,
)

from tasks.classify import Classify
from tests.family_cases import PAIRS, TEXTS
from tests.reading import WIDTH, fitted, packed, reader


def test_a_pair_is_asked_only_whole() -> None:
    family = fitted(Classify, PAIRS, pair="other")
    assert family.ask({"text": "a"}) is None
    assert family.texts(family.ask({"text": "a", "pair": "b"})) == [("a", "b")]


def test_labels_in_files_may_be_numbers_or_truth_values() -> None:
    assert fitted(Classify, [{"label": value} for value in (10, 9)]).labels == ["9", "10"]
    family = fitted(Classify, [{"label": value} for value in (True, False)])
    assert family.gold({"label": True}) == {"label": "true"}
    assert family.encode({"label": True}, [])["label"] == [1]


def test_classification_scores_are_those_worked_out_by_hand() -> None:
    family = fitted(Classify, TEXTS)
    golds = [{"label": label} for label in ("animal", "animal", "book", "river")]
    found = [{"label": label} for label in ("animal", "book", "book", "film")]
    scores = family.score(found, golds)
    assert scores["accuracy"] == 0.5
    # F1 of animal 2/3, of book 2/3, of film and river 0.
    assert scores["macro_f1"] == pytest.approx(1 / 3)
    # Gorodkin 2004: (c s - sum p t) / sqrt((s^2 - sum p^2) (s^2 - sum t^2))
    assert scores["mcc"] == pytest.approx((2 * 4 - (1 * 2 + 2 * 1)) / ((16 - 6) * (16 - 6)) ** 0.5)
    assert family.score(found[1:3], golds[:2])["mcc"] == 0
    assert family.confusion(found, golds) == {
        "labels": ["animal", "book", "film", "river"],
        "counts": [[1, 1, 0, 0], [0, 1, 0, 0], [0, 0, 0, 0], [0, 0, 1, 0]],
    }


@pytest.mark.parametrize("kind", ["bert", "roberta"])
def test_a_classify_head_is_the_classifier_of_bert_and_of_roberta(kind: str) -> None:
    family = fitted(Classify, TEXTS)
    head = family.head(WIDTH, 0.1).eval()
    described = family.export(head)
    assert (described["kind"], described["labels"]) == ("sequence-classification", family.labels)
    sizes = {
        "vocab_size": 40,
        "hidden_size": WIDTH,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "intermediate_size": 32,
        "num_labels": 3,
    }
    if kind == "bert":
        model = BertForSequenceClassification(BertConfig(**sizes)).eval()
        dense, out, encoder = model.bert.pooler.dense, model.classifier, model.bert
    else:
        model = RobertaForSequenceClassification(RobertaConfig(**sizes)).eval()
        dense, out, encoder = model.classifier.dense, model.classifier.out_proj, model.roberta
    for layer, name in ((dense, "dense"), (out, "out")):
        for parameter in ("weight", "bias"):
            getattr(layer, parameter).data = described["weights"][f"{name}.{parameter}"]
    ids = torch.tensor([[5, 6, 7, 8]])
    hidden = encoder(ids).last_hidden_state[0]
    batch, _ = packed(family, TEXTS[:1], reader())
    torch.testing.assert_close(head(hidden, batch.rows["task"]), model(ids).logits)


def test_soft_labels_are_scored_against_their_mode() -> None:
    keys = {"distribution": "chances", "classes": ["a", "b"]}
    golds = [{"chances": [own, 1 - own]} for own in (0.9, 0.6, 0.2, 0.4)]
    family = fitted(Classify, golds, **keys)
    true = [family.gold(row) for row in golds]
    found = [{"label": label, "probabilities": {"a": 0.5, "b": 0.5}} for label in "abba"]
    assert family.score(found, true)["accuracy"] == 0.5


def test_the_f1_of_one_label_is_a_score_where_it_is_named() -> None:
    family = fitted(Classify, TEXTS, positive="animal")
    golds = [{"label": label} for label in ("animal", "animal", "book", "book")]
    found = [{"label": label} for label in ("animal", "book", "animal", "animal")]
    assert family.score(found, golds)["f1"] == pytest.approx(2 / 5)  # 1 of 3 and 1 of 2
    with pytest.raises(ValueError, match="positive is 'cat'; expected one of the labels: 'animal'"):
        fitted(Classify, TEXTS, positive="cat")
