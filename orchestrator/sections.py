"""The sections of an experiment: every setting with its default and its bounds."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, SerializeAsAny

from tasks.family import Data

NAME = r"^[A-Za-z0-9][A-Za-z0-9_.-]*$"
"""An experiment's name: it names a folder too."""


def _none(value: Any) -> Any:
    """Read the word ``none`` as YAML's null."""
    return None if value == "none" else value


def _named(value: Any) -> Any:
    """Read a word as the name of a way."""
    return {"name": value} if isinstance(value, str) else value


def _whole_or(word: str, least: int = 1) -> Callable[[Any], Any]:
    """Accept a whole number or one word."""

    def check(value: Any) -> Any:
        if value == word or (type(value) is int and value >= least):
            return value
        raise ValueError(f"expected {word}, or a whole number of at least {least}")

    return check


NONE = BeforeValidator(_none)
NAMED = BeforeValidator(_named)
Share = Annotated[float, Field(ge=0, lt=1)]
Positive = Annotated[float, Field(gt=0)]


class Section(BaseModel):
    """A group of settings: an unknown key is an error, ``1`` is not ``true`` and not a text."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


class Lora(Section):
    """Small matrices that learn beside the encoder's linear layers, while all else of it rests."""

    rank: int = Field(8, ge=1)
    """Of each layer's change."""
    alpha: Annotated[Positive | None, NONE] = None
    """The change is scaled by alpha / rank; default is twice the rank."""
    dropout: Share = 0.0
    """Of what the matrices read."""


class Encoder(Section):
    """Who reads."""

    model: str
    """A hub id, a folder, ``tiny`` (seeded, built on the training texts) or ``minilm``."""
    revision: Annotated[str | None, NONE] = None
    """Commit or tag of a hub model."""
    lora: Annotated[Lora | None, NONE] = None
    """What learns in its place (Hu et al. 2022); default: the encoder itself."""


class Optimizer(Section):
    """One group of parameters' optimizer and schedule."""

    name: Literal["adamw", "adam", "sgd", "lion", "adafactor"] = "adamw"
    """AdamW (Loshchilov and Hutter 2019), Adam (Kingma and Ba 2015), SGD with momentum, Lion (Chen
    et al. 2023), Adafactor (Shazeer and Stern 2018). The last needs ``deepspeed.zero_stage: 0``,
    since it looks at whole matrices."""
    lr: float = Field(5e-5, gt=0)
    weight_decay: float = Field(0.01, ge=0)
    """Added to the gradient for adam and sgd, decoupled for the others."""
    momentum: Share = 0.9
    """For sgd."""
    betas: Annotated[tuple[Share, Share], Field(strict=False)] = (0.9, 0.999)
    """For adam, adamw and lion (whose paper takes 0.9 and 0.99)."""
    eps: float = Field(1e-8, gt=0)
    """For adam and adamw."""
    warmup: Share = 0.1
    """Share of the steps over which the rate rises from 0."""
    schedule: Literal["constant", "linear", "cosine"] = "linear"
    """What the rate does after the warm-up; linear and cosine end at 0."""


class HeadRegularization(Section):
    """What keeps one head from learning its training rows by heart."""

    head_dropout: Share = 0.1
    """Of what the last layer of the head reads (Srivastava et al. 2014)."""
    label_smoothing: Share = 0.0
    """Share of the truth that is spread evenly (Szegedy et al. 2016)."""
    r_drop: float = Field(0.0, ge=0)
    """Above 0: each training row is read twice, and how strongly both answers are to agree (alpha
    of Wu et al. 2021). For families whose answers are chances. Needs some dropout: without any both
    readings are the same, and it does nothing."""


class Regularization(HeadRegularization):
    """The same for all heads, and for the encoder."""

    dropout: Share = 0.1
    """Of the encoder's hidden layers."""
    attention_dropout: Share = 0.1
    l2_sp: float = Field(0.0, ge=0)
    """How strongly the encoder is drawn to its first weights (Li et al. 2018)."""
    penalties: dict[str, Annotated[float, Field(ge=0)]] = Field(default_factory=dict)
    """Of one's own on the encoder's weights: ``package.module:function`` to its strength."""
    mixout: Share = 0.0
    """Chance of each weight of the encoder's linear layers to stand at its first value in a step
    (Lee et al. 2020); not at ZeRO stage 3."""
    layer_decay: float = Field(1.0, gt=0, le=1)
    """Factor on the learning rate from each layer of the encoder to the one below it."""
    reinit_layers: int = Field(0, ge=0)
    """Top layers of the encoder that are drawn anew at the start (Zhang et al. 2021); l2_sp and
    mixout leave them alone."""
    ema: Share = 0.0
    """Above 0: an average of the weights, of which each step keeps this share, is what is scored,
    saved and exported."""
    clip: float = Field(1.0, ge=0)
    """Largest norm of the whole gradient (Pascanu et al. 2013); 0 does not clip."""


def drawn(own: Regularization) -> dict[str, float]:
    """Give the penalties on the encoder's weights that have a strength."""
    strengths = {"l2_sp": own.l2_sp, **own.penalties}
    return {name: strength for name, strength in strengths.items() if strength}


class Task(Section):
    """One learning problem. After parsing every part is whole: nothing is left to inherit."""

    family: str
    """A file of ``tasks/``, or ``package.module:Class``."""
    data: SerializeAsAny[Data]
    """Where the rows are and what their columns mean, in the family's own keys."""
    loss: dict[str, Any]
    """``name`` and the loss's options."""
    weight: float = Field(1.0, gt=0)
    """Factor of this task's loss in the sum that is minimised."""
    optimizer: Optimizer = Optimizer()
    """The head's: what is not set is taken from the experiment's, with ``HEAD_LR``."""
    regularization: HeadRegularization = HeadRegularization()
    """What is not set is taken from the experiment's."""


HEAD_LR = 1e-3
"""Learning rate of a head that sets none: it starts from nothing, the encoder does not."""


class Mixture(Section):
    """Which share of the examples each task supplies: one of three ways."""

    temperature: Annotated[Positive | None, NONE] = None
    """p ~ n^(1/T) for n training rows: 1 is proportional; default, with 2."""
    shares: Annotated[dict[str, float] | None, NONE] = None
    """Every task's share, sum 1."""
    uniform: bool = False
    """Equal shares."""
    max_epochs: Annotated[Positive | None, NONE] = None
    """Passes over its rows after which a task leaves and its share goes to the others."""


Aggregator = Literal[
    "AlignedMTL", "ConFIG", "DualProj", "GradDrop", "IMTLG",
    "MGDA", "Mean", "Random", "Sum", "UPGrad",
]  # fmt: skip
AGGREGATED = ("pcgrad", "torchjd")
"""Ways of weighing that combine gradients, one for each task."""


class Weighting(Section):
    """How losses are weighed against each other. A name alone stands for it with its defaults."""

    name: Literal["fixed", "uncertainty", "famo", "pcgrad", "torchjd"] = "fixed"
    """By ``tasks.NAME.weight``; by variances that are learnt (Kendall et al. 2018); by how far each
    loss falls (Liu et al. 2023); by combining the encoder's gradients as Yu et al. (2020) do, or as
    an aggregator of TorchJD. The last two not at ZeRO stage 3."""
    lr: float = Field(0.025, gt=0)
    """For famo: learning rate of the weights' logits."""
    decay: float = Field(0.01, ge=0)
    """For famo: how strongly they are drawn back to equal weights."""
    aggregator: Aggregator = "UPGrad"
    """For torchjd: those that need no settings and remember nothing."""


class Stage(Section):
    """A stretch of training: what learns, for how long, on which examples."""

    name: str = Field(pattern=NAME)
    train: list[str] = Field(["encoder", "heads"], min_length=1)
    """``encoder``, ``encoder.layer.8-11``, ``heads``, ``head:TASK``; ``target`` is the target's
    head that reads its helpers. All else rests."""
    steps: Annotated[Annotated[int, Field(ge=1)] | None, NONE] = None
    """Default: an equal part of those of ``train.steps`` that no stage names."""
    optimizer: dict[str, Any] = Field(default_factory=dict)
    """Keys of ``optimizer`` that hold, in this stage, for everything that learns."""
    mixture: Annotated[Mixture | None, NONE] = None
    """Default: the experiment's, of the tasks whose heads learn (all, where no head does)."""
    until: Annotated[Literal["plateau"] | None, NONE] = None
    """``plateau``: ends when the score has not risen for some evaluations."""
    max_steps: Annotated[Annotated[int, Field(ge=1)] | None, NONE] = None
    """At the latest then; with ``until``, in place of ``steps``."""


Kind = Literal["probabilities", "logits", "hidden", "none"]


class Stacking(Section):
    """What the target's head reads of its helpers in a stage that trains ``target``."""

    features: Kind | dict[str, Kind] = "probabilities"
    """Of all helpers, or by name; a helper not named gives none."""
    detach: bool = True
    """Whether helpers learn nothing from the target through what it reads of them."""
    folds: int = Field(5, ge=0)
    """Models of which each answers the texts that it has not seen; 0 leaks, and is told. At least
    2 otherwise; only where texts of the target are among a helper's training rows."""
    fold_steps: Annotated[Annotated[int, Field(ge=1)] | None, NONE] = None
    """Steps of each of them; default is as many as the stages before the target's have, which it
    repeats."""


class Batch(Section):
    """Sizes in tokens, special tokens included."""

    tokens: int = Field(4096, ge=1)
    """Mean size of a global batch."""
    micro_tokens: int = Field(4096, ge=1)
    """Bound of one forward on one worker; a longer single row is one of its own."""


class Train(Section):
    """How long, how often looked at, how exact."""

    steps: int = Field(600, ge=1)
    seed: int = Field(0, ge=0)
    evaluate_every: int = Field(100, ge=1)
    """Steps between evaluations, each of which leaves a checkpoint."""
    evaluate_rows: Annotated[int | Literal["all"], BeforeValidator(_whole_or("all"))] = "all"
    """Validation rows to look at per task."""
    patience: Annotated[Annotated[int, Field(ge=1)] | None, NONE] = None
    """Evaluations without a better score after which training stops (Prechelt 1998)."""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """bf16: autocast over fp32 parameters; auto: where the hardware has it."""
    retries: int = Field(2, ge=0)
    """Times a lost worker is replaced."""


class Scaling(Section):
    """What the run asks of the cluster."""

    workers: int = Field(2, ge=1)
    threads: Annotated[int | Literal["auto"], BeforeValidator(_whole_or("auto"))] = "auto"
    """Threads of each worker."""
    cpus: int = Field(1, ge=1)
    """Per worker."""
    gpus: int = Field(0, ge=0, le=1)
    """Per worker."""


class DeepSpeed(Section):
    """The engine."""

    zero_stage: int = Field(2, ge=0, le=3)
    config: dict[str, Any] = Field(default_factory=dict)
    """DeepSpeed's own keys, except those that follow from the experiment."""


class Tracking(Section):
    """Where records go."""

    uri: Annotated[str | None, NONE] = None
    """An MLflow server; default is a SQLite file in the working folder."""
    experiment: Annotated[str | None, NONE] = None
    """Its name in MLflow; default is the experiment's name."""
    log_model: bool = True


class Storage(Section):
    """Where run folders go."""

    path: str = "runs"
