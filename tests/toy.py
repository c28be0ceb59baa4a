"""A toy encoder and toy families for the tests of the training machinery."""

from __future__ import annotations

import math
from typing import Any, ClassVar

import numpy as np
import torch
from pydantic import BaseModel
from torch import Tensor, nn
from torch.nn import functional as F

from orchestrator import keyed
from orchestrator.balance import Balance
from orchestrator.batch import OWN, Batch, collate
from orchestrator.model import MultiTaskModel
from orchestrator.optimizer import Layers, groups
from orchestrator.plan import Plan, split
from orchestrator.sections import Optimizer, Weighting
from orchestrator.stacking import Stacked
from orchestrator.weighting import coefficients
from tasks import labels
from tasks.agreement import Chances, Comparable
from tasks.family import Data, Family, Fault, Head, Rows
from tasks.helper import Helper


class ToyEncoder(nn.Module):
    """Embeds tokens and lets each see its neighbours within its own sequence."""

    width = 8
    layers = 1
    summary = "first"
    signals = None

    def __init__(self, seed: int = 0, dropout: float = 0.0) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.embed = nn.Embedding(50, self.width)
            self.mix = nn.Linear(self.width, self.width)
            self.norm = nn.LayerNorm(self.width)
            self.dropout = nn.Dropout(dropout)

    def forward(
        self, input_ids: Tensor, type_ids: Tensor, offsets: Tensor, additions: list[Any]
    ) -> Tensor:
        embedded = self.embed(input_ids)
        for positions, vectors in additions:
            embedded = embedded.index_add(0, positions, vectors)
        lengths = offsets.diff()
        sequence = torch.repeat_interleave(torch.arange(len(lengths)), lengths)
        sums = embedded.new_zeros(len(lengths), self.width).index_add(0, sequence, embedded)
        mean = sums / lengths.clamp(min=1)[:, None]
        return self.norm(embedded + self.dropout(torch.tanh(self.mix(embedded + mean[sequence]))))


class ToyData(Data):
    path: str = "toy"


class Nothing(BaseModel):
    pass


class ToyHead(Head):
    marks = ("mark",)

    def __init__(self, width: int, dropout: float, per_word: bool) -> None:
        super().__init__()
        self.per_word = per_word
        self.mark = nn.Embedding(1, width)
        self.dropout = nn.Dropout(dropout)
        self.out = nn.Linear(width, 3)

    def inputs(self, rows: Rows) -> tuple[Tensor, Tensor]:
        return rows.summary, self.mark(torch.zeros_like(rows.summary))

    def forward(self, hidden: Tensor, rows: Rows) -> Tensor:
        return self.out(self.dropout(self.states(hidden, rows)))

    def states(self, hidden: Tensor, rows: Rows) -> Tensor:
        return hidden[rows.words if self.per_word else rows.summary]


class Toy(Family, Comparable, Helper):
    """Three classes, for a whole sequence or for each word."""

    Data = ToyData
    losses: ClassVar[dict[str, type[BaseModel]]] = {"cross_entropy": Nothing}
    columns: ClassVar[dict[str, torch.dtype]] = {"label": torch.int64}
    main = "accuracy"
    gives = "row"
    per_word = False

    @classmethod
    def fit(cls, data: Data, rows: Any) -> dict[str, Any]:
        return {}

    @classmethod
    def column_names(cls, data: Data) -> list[str]:
        return ["text", "label"]

    def fault(self, row: Any, training: bool) -> Fault | None:
        return None

    def texts(self, row: Any) -> list[Any]:
        return [row["text"]]

    def encode(self, row: Any, encoded: Any) -> dict[str, list[int] | list[float]]:
        return {"label": row["label"]}

    def terms(self, row: Any, columns: Any) -> int:
        return len(columns["label"])

    def gold(self, row: Any) -> Any:
        return row["label"]

    def head(self, width: int, dropout: float) -> Head:
        return ToyHead(width, dropout, self.per_word)

    def loss(self, output: Tensor, rows: Rows) -> Tensor:
        return F.cross_entropy(output, rows.columns["label"], reduction="sum") / math.log(3)

    def log_chances(self, output: Tensor, rows: Rows) -> list[Chances]:
        return [labels.log_chances(output, rows.columns["label"])]

    def probabilities(self, logits: Tensor) -> Tensor:
        return logits.softmax(-1)

    def decode(self, output: Tensor, rows: Rows) -> list[Any]:
        best = output.argmax(-1)
        counts = rows.word_counts.tolist() if self.per_word else [1] * len(rows)
        return [part.tolist() for part in best.split(counts)]

    def score(self, predictions: Any, golds: Any) -> dict[str, float]:
        pairs = [
            (p, g)
            for ps, gs in zip(predictions, golds, strict=True)
            for p, g in zip(ps, gs, strict=True)
        ]
        return {"accuracy": sum(p == g for p, g in pairs) / len(pairs)}

    def ask(self, record: Any) -> Any:
        return record

    def answer(self, row: Any, prediction: Any, again: Any) -> Any:
        return prediction


class ToyTag(Toy):
    gives = "word"
    per_word = True


def examples(task: str, size: int, per_word: bool) -> list[dict[str, Any]]:
    """Make learnable examples: the label follows from the tokens."""
    found = []
    for i in range(size):
        random = keyed.generator(0, task, i)
        ids = random.integers(0, 50, random.integers(3, 20))
        label = ids % 3 if per_word else ids[:1] % 3
        found.append(
            {
                "input_ids": ids,
                "sequences": np.array([len(ids)]),
                "second": np.array([len(ids)]),
                "words": np.arange(len(ids)) if per_word else np.empty(0, np.int64),
                "word_counts": np.array([len(ids) if per_word else 0]),
                "terms": len(label),
                "length": len(ids),
                OWN + "label": label,
            }
        )
    return found


SIZES = {"rare": 6, "tags": 40, "texts": 60}


class ToyRun:
    """Three toy tasks, planned and stepped like a real run."""

    def __init__(self, weighting: str = "fixed", **optimizers: dict[str, Any]) -> None:
        self.weighting = weighting
        way = Weighting.model_validate({"name": weighting})
        self.balance = Balance(way, sorted(SIZES), 0, torch.device("cpu"))
        self.data = {t: examples(t, n, t == "tags") for t, n in SIZES.items()}
        lengths = {t: np.array([e["length"] for e in d], np.int32) for t, d in self.data.items()}
        total = sum(SIZES.values())
        self.plan = Plan(lengths, {t: n / total for t, n in SIZES.items()}, 60, seed=0)
        self.families = {
            t: ToyTag(ToyData(), {}) if t == "tags" else Toy(ToyData(), {}) for t in SIZES
        }
        self.weights = dict.fromkeys(SIZES, 1.0)
        self.twice: dict[str, float] = {}
        self.settings = {
            t: Optimizer(
                **{
                    "lr": 0.05,
                    "schedule": "constant",
                    "warmup": 0.0,
                    **optimizers.get(t or "encoder", {}),
                }
            )
            for t in (None, *SIZES)
        }

    def model(
        self, dropout: float = 0.0, seed: int = 0, stacked: Stacked | None = None
    ) -> MultiTaskModel:
        encoder = ToyEncoder(seed, dropout)
        dropouts = dict.fromkeys(SIZES, dropout)
        more: dict[str, Any] = {"weighting": self.weighting, "stacked": stacked}
        return MultiTaskModel(encoder, self.families, dropouts, seed, **more)

    def groups(self, model: MultiTaskModel, layers: Layers | None = None) -> list[dict[str, Any]]:
        return groups(model.named(), self.settings, layers)

    def batches(
        self, step: int, rank: int, ranks: int, micro: int = 25
    ) -> tuple[list[Batch], dict[str, float]]:
        planned = self.plan.step(step)
        picked = [
            (self.plan.tasks[t], self.data[self.plan.tasks[t]][i])
            for t, i in zip(planned.tasks, planned.examples, strict=True)
        ]
        own = {task: [e["terms"] for t, e in picked if t == task] for task, _ in picked}
        factors = coefficients(
            self.weighting,
            self.weights,
            {task: len(terms) for task, terms in own.items()},
            {task: sum(terms) for task, terms in own.items()},
        )
        batches = []
        for chosen in split([int(n) for n in planned.lengths], ranks, micro)[rank]:
            rows: dict[str, list[Any]] = {}
            for i in chosen or [0]:
                rows.setdefault(picked[i][0], []).append(picked[i][1])
            weight = 1.0 if chosen else 0.0
            batches.append(collate(rows, self.families, "first", weight, twice=self.twice))
        return batches, factors

    def step(
        self, engine: Any, step: int, rank: int = 0, ranks: int = 1, micro: int = 25
    ) -> Tensor:
        engine.optimizer.set_rates(step, 10)
        batches, factors = self.batches(step, rank, ranks, micro)
        seeds = [keyed.torch_seed(0, step, rank, place) for place in range(len(batches))]
        return self.balance.step(step, engine, batches, factors, ranks, seeds)
