"""The peers: bare PyTorch loops, packed or padded, that import nothing of the project.

A plain ``AutoModel`` (BERT's shape), a dense layer and a linear one for each kind of label, cross
entropies, AdamW.
The packed loop is the fast one: attention block by block over sequences of equal length, cheap
dropout on CPU, fused AdamW, DDP for two ranks. The padded loop is the usual one: PyTorch's scaled
dot product attention under a mask, its own dropout, AdamW as it comes.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.parallel import DistributedDataParallel
from transformers import AttentionInterface, AttentionMaskInterface, AutoModel
from turns import Clock, Turns


@dataclass
class Batch:
    """One micro-batch, ready for the network; places are those in the flattened hidden states."""

    ids: Tensor
    types: Tensor
    marks: Tensor
    """Where the mark of a predicate is added to the embedding."""
    heads: dict[str, tuple[Tensor, Tensor, float]]
    """Places, labels and the factor of the summed cross entropy, of each head."""
    options: dict[str, Any]
    """What else the encoder is told."""


def arranged(raw: dict[str, Any], packed: bool) -> Batch:
    """Lay a raw batch out: sequences sorted by length in one row, or padded to the longest."""
    lengths = raw["lengths"]
    if packed:
        rank = lengths.argsort(stable=True)
        begin = (lengths.cumsum(0) - lengths)[rank]
        sizes = lengths[rank].tolist()
        order = torch.cat([torch.arange(n) + b for n, b in zip(sizes, begin.tolist(), strict=True)])
        place = torch.empty_like(order)
        place[order] = torch.arange(len(order))
        ids, types = (raw[name][order][None] for name in ("ids", "types"))
        positions = torch.cat([torch.arange(n) for n in sizes])[None]
        blocks = [(len(list(same)), n) for n, same in itertools.groupby(sizes)]
        options: dict[str, Any] = {"position_ids": positions, "blocks": blocks}
    else:
        mask = torch.arange(int(lengths.max())) < lengths[:, None]
        place = mask.flatten().nonzero()[:, 0]
        ids, types = torch.zeros_like(mask, dtype=torch.int64), torch.zeros_like(mask).long()
        ids[mask], types[mask] = raw["ids"], raw["types"]
        options = {"attention_mask": mask.long()}
    heads = {n: (place[at], labels, scale) for n, (at, labels, scale) in raw["heads"].items()}
    return Batch(ids, types, place[raw["marks"]], heads, options)


def read(file: Path, meta: dict[str, Any]) -> list[list[dict[str, Any]]]:
    """Read the raw micro-batches of every step."""
    tensors = load_file(file)
    steps = []
    for step, micros in enumerate(meta["micros"][file.stem]):
        steps.append([])
        for micro in range(micros):
            own = {n: tensors[f"{step}.{micro}.{n}"] for n in ("ids", "types", "lengths", "marks")}
            heads = {}
            for head in meta["heads"]:
                places, labels, scale = (
                    tensors[f"{step}.{micro}.{head}.{part}"]
                    for part in ("places", "labels", "scale")
                )
                heads[head] = places, labels, float(scale)
            steps[-1].append({**own, "heads": heads})
    return steps


class CheapDropout(nn.Dropout):
    """Dropout from 16 random bits an element; PyTorch's own takes three times as long on a CPU."""

    def forward(self, input: Tensor) -> Tensor:
        if not self.training or self.p == 0:
            return input
        return input * (kept(input.shape, self.p).to(input.dtype) * (1 / (1 - self.p)))


def kept(shape: torch.Size, rate: float) -> Tensor:
    size = shape.numel()
    bits = torch.empty(-(-size // 4), dtype=torch.int64).random_(-(1 << 63), None)
    return bits.view(torch.int16)[:size].view(shape) >= round(rate * 65536) - 32768


def attend(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask: Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    blocks: list[tuple[int, int]] | None = None,
    **_: Any,
) -> tuple[Tensor, None]:
    """Attend inside each sequence, in fp32; sequences of one length are one batched product."""
    assert blocks is not None
    sizes = [count * length for count, length in blocks]
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    mixed = []
    with torch.autocast("cpu", enabled=False):
        parts = (x[0].transpose(0, 1).float().split(sizes) for x in (query, key, value))
        for block, q, k, v in zip(blocks, *parts, strict=True):
            q, k, v = (x.unflatten(0, block).transpose(1, 2) for x in (q, k, v))
            weights = (q * scale @ k.transpose(-1, -2)).softmax(-1)
            if dropout:
                weights = weights * kept(weights.shape, dropout) * (1 / (1 - dropout))
            mixed.append((weights @ v).transpose(1, 2).flatten(0, 1))
        return torch.cat(mixed).to(query.dtype)[None], None


AttentionInterface.register("bare_packed", attend)
AttentionMaskInterface.register("bare_packed", lambda *_, **__: None)


def head(width: int, classes: int, deep: bool, dropout: float) -> nn.Sequential:
    """Build what stands between hidden states and logits."""
    dense = [nn.Linear(width, width), nn.GELU()] if deep else []
    return nn.Sequential(*dense, nn.Dropout(dropout), nn.Linear(width, classes))


class Network(nn.Module):
    """The encoder with a head for each kind of label; ``forward`` gives the loss."""

    def __init__(self, folder: Path, meta: dict[str, Any], packed: bool) -> None:
        super().__init__()
        self.encoder = AutoModel.from_pretrained(
            folder / "encoder",
            add_pooling_layer=False,
            attn_implementation="bare_packed" if packed else "sdpa",
            dtype=torch.float32,
        )
        if self.encoder.config.model_type != "bert":
            kind = self.encoder.config.model_type
            raise ValueError(f"the bare loops know networks of BERT's shape; this is {kind!r}")
        width = self.encoder.config.hidden_size
        self.packed = packed
        self.mark = nn.Parameter(torch.randn(width) * 0.02)
        drop = meta["head_dropout"]
        self.heads = nn.ModuleDict(
            {f"head-{n}": head(width, *kind, drop) for n, kind in meta["heads"].items()}
        )
        if packed:
            for module in list(self.modules()):
                for name, child in list(module.named_children()):
                    if type(child) is nn.Dropout:
                        setattr(module, name, CheapDropout(child.p))

    def hidden(self, batch: Batch) -> Tensor:
        """Give the hidden states ``[places, width]``."""
        embedded = self.encoder.get_input_embeddings()(batch.ids)
        if self.packed or len(batch.marks):
            added = self.mark.expand(len(batch.marks), -1)
            embedded = embedded.flatten(0, 1).index_add(0, batch.marks, added).view_as(embedded)
        found = self.encoder(inputs_embeds=embedded, token_type_ids=batch.types, **batch.options)
        return found.last_hidden_state.flatten(0, 1)

    def forward(self, batch: Batch) -> Tensor:
        hidden, loss = self.hidden(batch), torch.zeros(())
        for name, (places, labels, scale) in batch.heads.items():
            if not self.packed and not len(places):
                continue  # the padded loop trains one task a step
            logits = self.heads[f"head-{name}"](hidden[places]).float()
            loss = loss + scale * functional.cross_entropy(logits, labels, reduction="sum")
        return loss

    @torch.no_grad()
    def check(self, raw: dict[str, Any]) -> None:
        """Compare packed with padded hidden states. Raises ``RuntimeError`` if they differ."""
        self.eval()
        packed, padded = arranged(raw, True), arranged(raw, False)
        one = self.hidden(packed)[next(iter(packed.heads.values()))[0]]
        self.encoder.set_attn_implementation("sdpa")
        two = self.hidden(padded)[next(iter(padded.heads.values()))[0]]
        self.encoder.set_attn_implementation("bare_packed")
        self.train()
        if not torch.allclose(one, two, rtol=1e-3, atol=1e-4):
            raise RuntimeError("the bare loop's packed attention is wrong; its speed means nothing")


class Loop:
    """The training loop, step by step."""

    def __init__(self, folder: Path, options: argparse.Namespace) -> None:
        meta = json.loads((folder / "meta.json").read_text())
        torch.manual_seed(0)
        file = folder / f"{options.batches}.safetensors"
        raw = read(file, meta)
        packed = not options.padded
        network = Network(folder, meta, packed)
        if packed:
            network.check(raw[0][0])
        network.train()
        self.batches = [[arranged(one, packed) for one in micros] for micros in raw]
        self.tokens: list[int] = meta["tokens"][file.stem]
        self.clip: float = meta["clip"]
        self.bf16 = options.precision == "bf16"
        self.ranks = options.ranks
        self.taken = 0
        groups: dict[tuple[float, float], list[Tensor]] = {}
        for name, parameter in network.named_parameters():
            lr = meta["lr"] if name.startswith("encoder.") else meta["head_lr"]
            decay = meta["weight_decay"] if parameter.ndim > 1 else 0.0
            groups.setdefault((lr, decay), []).append(parameter)
        self.optimizer = torch.optim.AdamW(
            [{"params": p, "lr": lr, "weight_decay": d} for (lr, d), p in groups.items()],
            fused=True if packed else None,
        )
        self.parameters = list(network.parameters())
        self.model: nn.Module = network
        if self.ranks > 1:
            self.model = DistributedDataParallel(network, gradient_as_bucket_view=True)

    def step(self) -> int:
        """Take one optimizer step; give the real tokens of its global batch."""
        micros = self.batches[self.taken]
        total = torch.zeros(())
        for place, batch in enumerate(micros):
            last = place == len(micros) - 1
            with self.model.no_sync() if self.ranks > 1 and not last else contextlib.nullcontext():
                with torch.autocast("cpu", torch.bfloat16, enabled=self.bf16):
                    loss = self.model(batch)
                (loss * self.ranks).backward()
            total += loss.detach()
        if self.clip:
            nn.utils.clip_grad_norm_(self.parameters, self.clip)
        self.optimizer.step()
        self.optimizer.zero_grad()
        if not torch.isfinite(total):
            raise FloatingPointError(f"step {self.taken}: the loss is {float(total)}")
        self.taken += 1
        return self.tokens[self.taken - 1]


def main() -> None:
    """Load everything, then take steps when the driver asks."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--batches", required=True, help="name of a file of batches in the folder")
    parser.add_argument("--padded", action="store_true")
    parser.add_argument("--precision", choices=("fp32", "bf16"), default="fp32")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rank", type=int, default=0)
    parser.add_argument("--ranks", type=int, default=1)
    parser.add_argument("--port", type=int, required=True, help="where the driver listens")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    if options.ranks > 1:
        meeting = f"file://{options.folder.resolve()}/meeting-{options.port}"
        dist.init_process_group(
            "gloo", init_method=meeting, rank=options.rank, world_size=options.ranks
        )
    loop = Loop(options.folder, options)
    turns = Turns(options.port, options.rank)
    for count in turns.requests():
        steps = []
        for _ in range(count):
            with Clock() as clock:
                tokens = loop.step()
            steps.append(clock.step(tokens))
        turns.answer(steps)
    if options.ranks > 1:
        dist.destroy_process_group()


if __name__ == "__main__":
    main()
