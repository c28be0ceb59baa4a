"""A small transformer that writes a text from an encoder's hidden states, and its beam search."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from tasks.family import Head, Rows

SPREAD = 0.02
"""Standard deviation of the first embeddings: an untrained decoder has hardly a favourite token."""
HEAD_WIDTH = 64
"""Width of one attention head, about."""

Read = tuple[Tensor, Tensor]
"""Keys and values, each ``[rows, heads, length, width of a head]``."""


@dataclass(frozen=True)
class Source:
    """What the decoder reads: each layer's keys and values of the hidden states."""

    reads: list[Read]
    seen: Tensor
    """``[rows, 1, 1, length]``: false on padding."""

    def __len__(self) -> int:
        return len(self.seen)

    def repeated(self, times: int) -> Source:
        """Give every row several times, one after the other."""
        reads = [
            (keys.repeat_interleave(times, 0), values.repeat_interleave(times, 0))
            for keys, values in self.reads
        ]
        return Source(reads, self.seen.repeat_interleave(times, 0))


class Attention(nn.Module):
    """Scaled dot-product attention of several heads (Vaswani et al. 2017)."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.query = nn.Linear(width, width)
        self.source = nn.Linear(width, 2 * width)
        self.out = nn.Linear(width, width)
        self.dropout = nn.Dropout(dropout)

    def read(self, source: Tensor) -> Read:
        """Give keys and values of ``source [rows, length, width]``."""
        keys, values = self.source(source).chunk(2, dim=-1)
        return self._split(keys), self._split(values)

    def forward(self, vectors: Tensor, read: Read, seen: Tensor) -> Tensor:
        """Give ``[rows, n, width]`` for as many ``vectors``.

        ``seen``, which broadcasts to ``[rows, heads, n, length]``, tells what each may look at.
        """
        keys, values = read
        fit = self._split(self.query(vectors)) @ keys.mT / math.sqrt(keys.shape[-1])
        fit = fit.masked_fill(~seen, torch.finfo(fit.dtype).min)
        found = self.dropout(fit.softmax(-1)) @ values
        result: Tensor = self.out(found.transpose(1, 2).flatten(2))
        return result

    def _split(self, vectors: Tensor) -> Tensor:
        return vectors.unflatten(-1, (self.heads, -1)).transpose(1, 2)


class Layer(nn.Module):
    """Looks at what was written, then at the source, then thinks; norms first (Xiong et al. 2020).

    Xiong et al. is "On Layer Normalization in the Transformer Architecture".
    """

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.own = Attention(width, heads, dropout)
        self.cross = Attention(width, heads, dropout)
        self.dense = nn.Sequential(
            nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width)
        )
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(3))
        self.dropout = nn.Dropout(dropout)

    def forward(
        self, vectors: Tensor, source: Read, seen: Tensor, past: Read | None
    ) -> tuple[Tensor, Read]:
        """Give ``[rows, n, width]`` for n new tokens, and keys and values of all until now."""
        normed = self.norms[0](vectors)
        keys, values = self.own.read(normed)
        if past is not None:
            keys, values = torch.cat([past[0], keys], 2), torch.cat([past[1], values], 2)
        new, every = vectors.shape[1], keys.shape[2]
        earlier = torch.ones(new, every, dtype=torch.bool, device=vectors.device)
        earlier = earlier.tril(every - new)
        vectors = vectors + self.dropout(self.own(normed, (keys, values), earlier))
        vectors = vectors + self.dropout(self.cross(self.norms[1](vectors), source, seen))
        vectors = vectors + self.dropout(self.dense(self.norms[2](vectors)))
        return vectors, (keys, values)


class Decoder(Head):
    """Reads a row's hidden states and writes tokens; input and output embeddings are one matrix.

    Tokens are numbered from 0; ``end``, the last, stands before and after a text.
    """

    def __init__(
        self, width: int, vocabulary: int, layers: int, longest: int, beam: int, dropout: float
    ) -> None:
        """``vocabulary`` counts ``end`` too; texts have at most ``longest`` tokens."""
        super().__init__()
        heads = next(n for n in range(max(1, width // HEAD_WIDTH), 0, -1) if width % n == 0)
        self.end, self.longest, self.beam = vocabulary - 1, longest, beam
        self.tokens = nn.Parameter(torch.randn(vocabulary, width) * SPREAD)
        self.places = nn.Parameter(torch.randn(longest, width) * SPREAD)
        self.layers = nn.ModuleList(Layer(width, heads, dropout) for _ in range(layers))
        self.norm = nn.LayerNorm(width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, hidden: Tensor, rows: Rows) -> dict[str, Tensor]:
        """Give ``logits [target tokens, vocabulary]``, each token with those before it known.

        In eval mode also ``found [rows, longest]``: tokens of the best text, then ``end``.
        """
        source = self._source(hidden, rows)
        target, real = padded(rows.columns["target"], rows.counts["target"])
        before = functional.pad(target[:, :-1], (1, 0), value=self.end)
        logits = self._logits(self._run(before, source, None)[0][real])
        if self.training:
            return {"logits": logits}
        return {"logits": logits, "found": self.search(source)}

    @torch.no_grad()
    def search(self, source: Source) -> Tensor:
        """Find each row's best text by beam search; ``[rows, longest]``, filled up with ``end``.

        Best is the highest mean log-probability of its tokens, the ending among them (length
        normalisation as in Wu et al. 2016 with alpha 1, without the constant). A beam of 1 takes
        the likeliest token at every step.
        """
        rows, beam, device = len(source), self.beam, source.seen.device
        source = source.repeated(beam)
        written = torch.full((rows, beam, self.longest), self.end, device=device)
        sums = torch.full((rows, beam), -torch.inf, device=device)
        sums[:, 0] = 0.0  # all beams begin alike: one is enough
        lengths = torch.zeros(rows, beam, device=device)
        over = torch.zeros(rows, beam, dtype=torch.bool, device=device)
        first = torch.arange(rows, device=device)[:, None] * beam
        last, past = torch.full((rows * beam, 1), self.end, device=device), None
        # At ZeRO stage 3 all ranks gather every layer together: none may stop before the others.
        together = hasattr(self.tokens, "ds_id")
        for step in range(self.longest):
            if over.all() and not together:
                break
            vectors, past = self._run(last, source, past)
            chances = self._logits(vectors[:, -1]).float().log_softmax(1)
            chances = chances.unflatten(0, (rows, beam))
            # A text that is over goes on with ends at no cost.
            chances = chances.masked_fill(over[..., None], -torch.inf)
            chances[..., self.end] = chances[..., self.end].masked_fill(over, 0.0)
            lengths = lengths + ~over
            totals = sums[..., None] + chances
            best = (totals / lengths[..., None]).flatten(1).topk(beam).indices
            parent, token = best // totals.shape[2], best % totals.shape[2]
            sums = totals.flatten(1).gather(1, best)
            written = written.gather(1, parent[..., None].expand_as(written))
            written[..., step] = token
            lengths, over = lengths.gather(1, parent), token == self.end
            last = token.view(-1, 1)
            if beam > 1:
                order = (first + parent).flatten()
                past = [(keys[order], values[order]) for keys, values in past]
        return written[:, 0]

    def _source(self, hidden: Tensor, rows: Rows) -> Source:
        """Let every layer read each row's own hidden states."""
        places, real = padded(None, rows.lengths)
        own = hidden[(rows.starts[:, None] + places) * real]
        reads = [layer.cross.read(own) for layer in self._each()]
        return Source(reads, real[:, None, None])

    def _run(
        self, tokens: Tensor, source: Source, past: list[Read] | None
    ) -> tuple[Tensor, list[Read]]:
        """Give vectors ``[rows, n, width]`` of n more tokens, and the layers' keys and values."""
        before = past[0][0].shape[2] if past else 0
        places = self.places[before : before + tokens.shape[1]]
        vectors = self.dropout(functional.embedding(tokens, self.tokens) + places)
        reads = []
        for place, layer in enumerate(self._each()):
            known = past[place] if past else None
            vectors, read = layer(vectors, source.reads[place], source.seen, known)
            reads.append(read)
        return self.norm(vectors), reads

    def _logits(self, vectors: Tensor) -> Tensor:
        return functional.linear(vectors, self.tokens)

    def _each(self) -> list[Layer]:
        return [layer for layer in self.layers if isinstance(layer, Layer)]


def padded(flat: Tensor | None, counts: Tensor) -> tuple[Tensor, Tensor]:
    """Lay out rows of ``counts [rows]`` entries as ``[rows, longest]``, and tell which are real.

    ``flat`` holds the entries; None stands for 0, 1, 2, ... in every row. The longest is at least
    1, also without rows.
    """
    longest = max(1, int(counts.max())) if len(counts) else 1
    places = torch.arange(longest, device=counts.device).expand(len(counts), longest)
    real = places < counts[:, None]
    if flat is None:
        return places, real
    whole = flat.new_zeros(real.shape)
    whole[real] = flat
    return whole, real
