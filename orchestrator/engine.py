"""DeepSpeed behind a narrow protocol, and its plain PyTorch twin."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator, Mapping
from typing import Any, Protocol

import torch
import torch.distributed as dist
from torch import Tensor, nn

from orchestrator.batch import Batch
from orchestrator.fragments import Fragment, Stateful, Tensors
from orchestrator.model import MultiTaskModel, Pull
from orchestrator.optimizer import CompositeOptimizer


class Engine(Protocol):
    """Forward, backward and step of a model, and its state by parameter name."""

    model: MultiTaskModel
    optimizer: CompositeOptimizer

    def forward(self, batch: Batch | Pull) -> dict[str, Any]:
        """Give every head's output."""

    def backward(self, loss: Tensor, last: bool) -> None:
        """Add gradients; ``last`` marks the last micro-batch before ``step``."""

    def step(self, present: set[str]) -> None:
        """Average gradients over ranks, clip, and step the encoder and these tasks' heads."""

    def weights(self) -> Iterator[tuple[str, Tensor]]:
        """Give each whole fp32 parameter by name. Collective: all ranks must iterate."""

    def state(self) -> Iterator[tuple[str, Tensor]]:
        """Give each optimizer tensor, whole, as ``<parameter>/<key>``. Collective."""

    def restore(self, state: Tensors) -> None:
        """Take back what ``state`` gave, on any number of ranks and at any ZeRO stage."""

    def anchor(self, first: Tensors) -> None:
        """Take whole first weights by parameter name, for L2-SP to draw back to."""

    def average(self, weights: Tensors, keep: float) -> None:
        """Let averages follow the weights, beginning with these, and keep this share a step."""

    def averaged(self) -> Iterator[tuple[str, Tensor]]:
        """Give each whole average by name; the weights themselves without averages. Collective."""

    def close(self) -> None:
        """Let go of the model: nothing else may be asked of the engine."""


class PlainEngine(Stateful):
    """The twin: plain PyTorch, gradients averaged over ranks by one all-reduce each."""

    def __init__(
        self, model: MultiTaskModel, groups: list[dict[str, Any]], clip: float, ranks: int = 1
    ) -> None:
        self.model = model
        self.optimizer = CompositeOptimizer(groups)
        self._clip = clip
        self._ranks = ranks

    def forward(self, batch: Batch | Pull) -> dict[str, Any]:
        outputs: dict[str, Any] = self.model(batch)
        return outputs

    def backward(self, loss: Tensor, last: bool) -> None:
        loss.backward()  # type: ignore[no-untyped-call]

    def step(self, present: set[str]) -> None:
        parameters = [p for p in self.model.parameters() if p.grad is not None]
        if self._ranks > 1:
            for parameter in parameters:
                assert parameter.grad is not None
                dist.all_reduce(parameter.grad)
                parameter.grad /= self._ranks
        if self._clip:
            nn.utils.clip_grad_norm_(parameters, self._clip)
        self.optimizer.present = present
        self.optimizer.step()
        self.model.zero_grad(set_to_none=True)


class DeepSpeedEngine(Stateful):
    """DeepSpeed at ZeRO stage 0 to 3, without building any operator.

    Autocast happens inside the model, so DeepSpeed sees fp32 parameters and gradients only and
    reduces in fp32. Call ``join`` on every rank before.
    """

    def __init__(
        self,
        model: MultiTaskModel,
        groups: list[dict[str, Any]],
        clip: float,
        zero_stage: int,
        config: Mapping[str, Any] | None = None,
    ) -> None:
        deepspeed = _deepspeed()
        self.optimizer = CompositeOptimizer(groups)
        self.model = model
        self.stage = zero_stage
        own = dict(config or {})
        zero = {**own.pop("zero_optimization", {}), "stage": zero_stage}
        if all(p.device.type == "cpu" for p in model.parameters()):
            # One buffer for all gradients keeps a GPU's memory whole; here it only costs a copy.
            # Buckets of 20 MB are reduced while caches still hold some of them.
            zero = {"contiguous_gradients": False, "reduce_bucket_size": 5_000_000} | zero
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)
            self._engine, *_ = deepspeed.initialize(
                model=model,
                optimizer=self.optimizer,
                config={
                    **own,
                    "train_micro_batch_size_per_gpu": 1,
                    "gradient_accumulation_steps": 1,
                    "gradient_clipping": clip,
                    "zero_optimization": zero,
                    "zero_allow_untested_optimizer": True,
                    "steps_per_print": 10**9,
                },
            )

    def forward(self, batch: Batch | Pull) -> dict[str, Any]:
        outputs: dict[str, Any] = self._engine(batch)
        return outputs

    def backward(self, loss: Tensor, last: bool) -> None:
        self._engine.set_gradient_accumulation_boundary(last)
        self._engine.backward(loss, scale_wrt_gas=False)

    def step(self, present: set[str]) -> None:
        self.optimizer.present = present
        self._engine.step()

    def weights(self) -> Iterator[tuple[str, Tensor]]:
        if self.stage < 3:
            yield from super().weights()
            return
        from deepspeed.runtime.zero import GatheredParameters
        from deepspeed.utils import safe_get_full_fp32_param

        for name, _, parameter in self.model.named():
            if parameter.requires_grad:
                yield name, safe_get_full_fp32_param(parameter)
                continue
            with GatheredParameters(parameter):  # what rests has no master copy
                whole = parameter.detach().clone()
            yield name, whole

    def _fragment(self, parameter: nn.Parameter, group: int) -> Fragment:
        """Read DeepSpeed's own maps: ``_hp_mapping`` at stages 1 and 2, ``grad_position`` at 3."""
        zero: Any = self._engine.optimizer
        if self.stage == 0:
            return super()._fragment(parameter, group)
        if self.stage == 3:
            part, start, count = zero.grad_position[zero.get_param_id(parameter)]
            at = count * dist.get_rank()
            whole: Any = parameter.ds_numel  # type: ignore[attr-defined]
            inside = max(0, min(count, whole - at))
            return Fragment(zero.fp32_partitioned_groups_flat[part], start, at, inside)
        flat = zero.single_partition_of_fp32_groups[group]
        mapping: Any = getattr(parameter, "_hp_mapping", None)
        if mapping is None:
            return Fragment(flat, 0, 0, 0)
        high, low = mapping.hp_fragment_address, mapping.lp_fragment_address
        return Fragment(flat, high.start, low.start, high.numel)

    def close(self) -> None:
        """Take DeepSpeed's hooks off the model."""
        self._engine.destroy()


def join(device: torch.device) -> None:
    """Let DeepSpeed use the process group that exists, and keep it from compiling anything.

    Its CPU communication operator serves inference only; building it needs a compiler and can
    leave a lock that every later run waits on.
    """
    deepspeed = _deepspeed()
    deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
    backend = "nccl" if device.type == "cuda" else "gloo"
    deepspeed.init_distributed(dist_backend=backend, auto_mpi_discovery=False, verbose=False)


def _deepspeed() -> Any:
    if not torch.cuda.is_available():
        os.environ.setdefault("DS_ACCELERATOR", "cpu")
    import deepspeed

    return deepspeed
