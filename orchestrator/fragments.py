"""Weights and optimizer tensors by parameter name, put together from what each rank holds."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor, nn

from orchestrator.model import MultiTaskModel
from orchestrator.optimizer import CompositeOptimizer

Tensors = Mapping[str, Tensor]


@dataclass(frozen=True)
class Fragment:
    """A rank's part of a parameter: ``flat[start:][:count]`` is ``whole[at:][:count]``."""

    flat: Tensor
    start: int
    at: int
    count: int

    def fill(self, buffer: Tensor, whole: Tensor) -> None:
        """Copy this rank's part of ``whole`` into ``buffer``, which has the shape of ``flat``."""
        part = whole.reshape(-1)[self.at : self.at + self.count]
        buffer.view(-1)[self.start : self.start + self.count].copy_(part)


class Stateful:
    """Reading and writing optimizer tensors by parameter name, over local fragments."""

    model: MultiTaskModel
    optimizer: CompositeOptimizer

    def _fragment(self, parameter: nn.Parameter, group: int) -> Fragment:
        return Fragment(parameter, 0, 0, parameter.numel())

    def weights(self) -> Iterator[tuple[str, Tensor]]:
        for name, _, parameter in self.model.named():
            yield name, parameter.detach()

    def state(self) -> Iterator[tuple[str, Tensor]]:
        for group, name, parameter in self._trained():
            fragment = self._fragment(parameter, group)
            own = self.optimizer.state.get(fragment.flat, {})
            for key, value in sorted(own.items()):
                if value is None:
                    continue
                whole = value if value.ndim == 0 else self._whole(parameter, fragment, value)
                yield f"{name}/{key}", whole.detach().float().clone()

    def restore(self, state: Tensors) -> None:
        by_name: dict[str, dict[str, Tensor]] = {}
        for label, value in state.items():
            name, _, key = label.rpartition("/")
            by_name.setdefault(name, {})[key] = value
        for group, name, parameter in self._trained():
            fragment = self._fragment(parameter, group)
            for key, value in by_name.get(name, {}).items():
                own = self.optimizer.state[fragment.flat]
                if value.ndim == 0 or fragment.flat is parameter:
                    own[key] = value.clone().to(fragment.flat.device)
                else:
                    fragment.fill(own.setdefault(key, torch.zeros_like(fragment.flat.data)), value)

    def anchor(self, first: Tensors) -> None:
        self.optimizer.anchors = self._placed(first)

    def average(self, weights: Tensors, keep: float) -> None:
        self.optimizer.averages, self.optimizer.keep = self._placed(weights), keep

    def averaged(self) -> Iterator[tuple[str, Tensor]]:
        averages = self.optimizer.averages
        learning = {name: (group, p) for group, name, p in self._trained()} if averages else {}
        for name, weight in self.weights():
            if name in learning:
                group, parameter = learning[name]
                fragment = self._fragment(parameter, group)
                weight = self._whole(parameter, fragment, averages[fragment.flat])
            yield name, weight

    def close(self) -> None:
        """Nothing is held."""

    def _placed(self, whole: Tensors) -> dict[Tensor, Tensor]:
        """Lay whole tensors, by parameter name, out as this rank's partitions."""
        found: dict[Tensor, Tensor] = {}
        for group, name, parameter in self._trained():
            if name in whole:
                fragment = self._fragment(parameter, group)
                if fragment.flat not in found:
                    found[fragment.flat] = torch.zeros_like(fragment.flat.data)
                fragment.fill(found[fragment.flat], whole[name])
        return found

    def _trained(self) -> Iterator[tuple[int, str, nn.Parameter]]:
        """Give group index, name and parameter of everything that learns."""
        index = {
            name: place
            for place, group in enumerate(self.optimizer.param_groups)
            for name in group["names"]
        }
        for name, _, parameter in self.model.named():
            if name in index:
                yield index[name], name, parameter

    def _whole(self, parameter: nn.Parameter, fragment: Fragment, value: Tensor) -> Tensor:
        """Put a state tensor together from all ranks' fragments, which do not overlap: exact."""
        if fragment.flat is parameter:
            return value  # of the parameter's shape, or smaller as Adafactor's
        shape = getattr(parameter, "ds_shape", parameter.shape)
        whole = torch.zeros(shape.numel(), dtype=torch.float32, device=value.device)
        part = value.view(-1)[fragment.start : fragment.start + fragment.count]
        whole[fragment.at : fragment.at + fragment.count] = part
        if dist.get_world_size() > 1:
            dist.all_reduce(whole)
        return whole.view(shape)
