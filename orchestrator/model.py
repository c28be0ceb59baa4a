"""One shared encoder and one head per task, as a plain module over packed batches."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import torch
from torch import Tensor, nn

from encoders.layers import depth
from orchestrator import keyed
from orchestrator.batch import Batch, Signals
from orchestrator.features import partly
from orchestrator.stacking import Stack, Stacked
from orchestrator.stages import STACK
from orchestrator.weighting import LogVariance
from tasks.agreement import Comparable, agreed
from tasks.family import Family, Head, Rows
from tasks.helper import Helper

VARIANCES = ""
"""Where log variances stand among the outputs: no task has this name."""
VARIANCE = "log-variance"
"""Ends the name of a task's log variance; no head has a parameter of this name."""


PULLED = "/"
"""Where the answer to a ``Pull`` stands among the outputs: no task has this name either."""


@dataclass(frozen=True)
class Pull:
    """Gradients to be left in the parameters, by name, in place of those of a batch.

    An engine takes it for a batch: its forward gives sum <parameter, gradient>, whose backward
    leaves them there by the engine's own ways.
    """

    gradients: Mapping[str, Tensor]


class Encoder(Protocol):
    """What the model needs of an encoder (see ``encoders/encoder.py``).

    It is called with ``input_ids`` and ``type_ids``, or with what its ``signals`` gave; then with
    ``offsets`` and ``additions``.
    """

    width: int
    summary: str
    signals: Signals | None

    def __call__(self, *given: Any) -> Tensor: ...


class MultiTaskModel(nn.Module):
    """All heads on one encoder. ``forward`` passes every head, so ranks agree by construction."""

    def __init__(
        self,
        encoder: Any,
        families: Mapping[str, Family],
        dropouts: Mapping[str, float],
        seed: int,
        precision: str = "fp32",
        weighting: str = "fixed",
        stacked: Stacked | None = None,
    ) -> None:
        """Build the heads; each one's first weights depend on seed and task name alone."""
        super().__init__()
        self._resting: list[nn.Module] = []
        self.kept: frozenset[str] = frozenset()
        """Tasks whose hidden states are read, not computed (see ``features.py``)."""
        self.encoder = encoder
        self.families = dict(sorted(families.items()))
        self.heads = nn.ModuleDict()
        self.log_variances = nn.ModuleDict()
        self.bf16 = precision == "bf16"
        for task, family in self.families.items():
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(keyed.torch_seed(seed, "head", task))
                self.heads[_key(task)] = family.head(encoder.width, dropouts.get(task, 0.0))
            if weighting == "uncertainty":
                self.log_variances[_key(task)] = LogVariance()
        self.stack = None if stacked is None else Stack(stacked, encoder.width, self.find)

    def find(self, task: str) -> tuple[Family, Head]:
        """Find family and head of a task."""
        return self.families[task], self.head(task)

    def head(self, task: str) -> Head:
        """Find the head of a task."""
        head = self.heads[_key(task)]
        assert isinstance(head, Head)
        return head

    def learn(self, depths: Collection[int], heads: Collection[str]) -> None:
        """Let these layers of the encoder (0: embeddings) and these heads learn, no others.

        What rests keeps its bits and is in eval mode. A head's marks in the encoder's input rest
        unless all of the encoder learns: they are part of what it is to read.
        """
        count = self.encoder.layers
        awake = {depth for depth in range(count + 1) if depth in depths}
        for name, task, parameter in self.named():
            learns = depth(name, count) in awake if task is None else task in heads
            marks = task is not None and name.startswith(tuple(self._marks(task)))
            if not learns or (marks and len(awake) <= count):
                parameter.requires_grad_(False)
        self._resting = [
            module
            for name, module in self.encoder.named_modules()
            if depth(f"{name}.", count) not in awake
        ]
        for task in self.families:
            self._resting += [] if task in heads else self.head(task).modules()
        self.train(self.training)

    def _marks(self, task: str) -> Iterator[str]:
        """Begin the names of a head's parameters that shape the encoder's input."""
        return (f"{task}.{part}." for part in self.head(task).marks)

    def train(self, mode: bool = True) -> MultiTaskModel:
        """Switch to training or evaluation; what rests stays in eval mode."""
        super().train(mode)
        for module in self._resting:
            module.training = False
        return self

    @property
    def sharing(self) -> frozenset[str]:
        """Tasks that may share what the encoder reads: their heads leave it as it is."""
        own = ((task, type(self.head(task))) for task in self.families)
        plain = (Head.inputs, Head.replaced)
        return frozenset(task for task, kind in own if (kind.inputs, kind.replaced) == plain)

    def forward(self, batch: Batch | Pull) -> dict[str, Any]:
        """Give every head's output on its rows, in fp32; one encoder pass over the whole batch."""
        if isinstance(batch, Pull):
            own = batch.gradients
            return {PULLED: sum((p * own[n]).sum() for n, _, p in self.named() if n in own)}
        device = batch.input_ids.device.type
        outputs = {}
        with torch.autocast(device, dtype=torch.bfloat16, enabled=self.bf16):
            hidden, every = self.states(batch)
            for task, rows in every.items():
                read = hidden
                if self.stack is not None and task == self.stack.stacked.target:
                    read, rows = self.stack(hidden, rows, self.find)
                outputs[task] = self.head(task)(read, rows)
        found = {task: _fp32(output) for task, output in outputs.items()}
        if self.log_variances:
            found[VARIANCES] = {t: self.log_variances[_key(t)]() for t in self.families}
        return found

    def states(self, batch: Batch) -> tuple[Tensor, dict[str, Rows]]:
        """Give the hidden states ``[tokens, width]``, and each task's rows as its head reads them.

        States of ``kept`` tasks come with their rows.
        """
        ids, every = batch.input_ids, dict(batch.rows)
        read = [task for task in every if task not in self.kept]
        for task in read:
            ids, every[task] = self.head(task).replaced(ids, every[task])
        additions = [self.head(task).inputs(every[task]) for task in read]
        added = [addition for addition in additions if addition is not None]
        if not self.kept:
            given = batch.signals or (ids, batch.type_ids)
            return self.encoder(*given, batch.offsets, added), every
        known = [every[task] for task in sorted(self.kept)]
        return partly(self.encoder, batch, ids, added, known, bool(read)), every

    def read(self, batch: Batch) -> Tensor:
        """Give the hidden states ``[tokens, width]`` without training anything, in eval mode."""
        was_training = self.training
        self.eval()
        device = batch.input_ids.device.type
        with torch.no_grad(), torch.autocast(device, dtype=torch.bfloat16, enabled=self.bf16):
            hidden, _ = self.states(batch)
        self.train(was_training)
        return hidden

    def reads(self, task: str) -> Literal["summary", "words", "tokens"] | None:
        """Say of which tokens a task needs the hidden states (see ``Head.reads``).

        A target needs what its helpers read as well. Those that tell of words take every token for
        one where it has no words.
        """
        own = self.head(task).reads
        if self.stack is None or task != self.stack.stacked.target or own is None:
            return own
        helpers = [self.find(helper) for helper in self.stack.stacked.features]
        per_word = any(isinstance(f, Helper) and f.gives == "word" for f, _ in helpers)
        every = {own, *(head.reads for _, head in helpers)}
        if (own == "summary" and per_word) or every - {"summary", "words"}:
            return "tokens"
        return "words" if "words" in every else own

    def variances(self, outputs: Mapping[str, Any]) -> dict[str, Tensor]:
        """Give each task's log variance among the outputs, where weights are learnt."""
        return dict(outputs.get(VARIANCES, {}))

    def pulled(self, outputs: Mapping[str, Any]) -> Tensor:
        """Give the answer to a ``Pull``."""
        total: Tensor = outputs[PULLED]
        return total

    def loss_sums(self, outputs: Mapping[str, Any], batch: Batch) -> dict[str, Tensor]:
        """Sum each task's loss over its rows of this batch, in units (see ``Family.loss``).

        Rows that were read twice cost what ``agreed`` says, as often as they stand in the plan.
        """
        found = {}
        for task, rows in batch.rows.items():
            family = self.families[task]
            found[task] = family.loss(outputs[task], rows)
            if task in batch.twice:
                assert isinstance(family, Comparable)
                both = family.log_chances(outputs[task], rows)
                found[task] = agreed(found[task], both, batch.twice[task])
        return found

    def named(self) -> Iterator[tuple[str, str | None, nn.Parameter]]:
        """Give every parameter with a name that depends on no other task, and its task if any.

        Names are ``encoder.<name>`` and ``<task>.<name>``.
        """
        for name, parameter in self.encoder.named_parameters():
            yield f"encoder.{name}", None, parameter
        for task in self.families:
            for name, parameter in self.head(task).named_parameters():
                yield f"{task}.{name}", task, parameter
            if self.stack is not None and task == self.stack.stacked.target:
                (joins,) = self.stack.parameters()
                yield f"{task}.{STACK}", task, joins
            if self.log_variances:
                (value,) = self.log_variances[_key(task)].parameters()
                yield f"{task}.{VARIANCE}", task, value


def _key(task: str) -> str:
    """Name the module of a head; a ModuleDict refuses plain names such as ``items``."""
    return f"task-{task}"


def _fp32(output: Any) -> Any:
    if isinstance(output, Tensor):
        return output.float() if output.is_floating_point() else output
    if isinstance(output, tuple):
        return tuple(_fp32(part) for part in output)
    if isinstance(output, dict):
        return {name: _fp32(part) for name, part in output.items()}
    raise TypeError(f"a head gave {type(output).__name__}; expected a tensor, tuple or dict.")
