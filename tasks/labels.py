"""Label sets: their order, the B-/I-/O scheme of spans, legal decoding, and their cross entropy."""

from __future__ import annotations

import difflib
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence, Set
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from tasks.family import IGNORED, Fault, Row

OUTSIDE = "O"
MOST = 0.95
"""Share of the tags that must be O, B-X or I-X for the others to be mistakes."""
SHOWN = 12
"""Labels that a message lists before it breaks off."""

Span = tuple[str, int, int]
"""Type, first word, and the word after the last."""


def name(value: Any) -> str | None:
    """Give a label as text, the same for every file format, or None for what can be no label."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    if isinstance(value, int) or (isinstance(value, str) and value.strip()):
        return str(value)
    return None


def ordered(labels: Iterable[str]) -> list[str]:
    """Sort a label set: whole numbers by value, then as they are written; all else by letter."""
    found = set(labels)
    try:
        return sorted(found, key=lambda label: (int(label), label))
    except ValueError:
        return sorted(found)


def fitted(
    given: Sequence[str] | None, found: Iterable[str], column: str, key: str = "labels"
) -> list[str]:
    """Give the label set of a task: the one given under ``key``, or what training rows hold.

    Raises ``ValueError`` for fewer than two labels and for a label given twice.
    """
    labels = list(given) if given is not None else ordered(found)
    where = key if given is not None else f"column {column!r} of the training rows"
    if len(labels) < 2:
        only = f"only {labels[0]!r}" if labels else "no label"
        raise ValueError(f"{where} holds {only}; expected at least two different labels.")
    if twice := sorted({label for label in labels if labels.count(label) > 1}):
        raise ValueError(f"{key} holds {twice[0]!r} twice; expected each label once.")
    return labels


def unknown(column: str, label: str, labels: Sequence[str]) -> Fault:
    """Say that a label is not in the set, with the nearest one that is."""
    shown = ", ".join(map(repr, labels[:SHOWN])) + (", ..." if len(labels) > SHOWN else "")
    close = difflib.get_close_matches(label, labels, n=1)
    hint = f"; did you mean {close[0]!r}?" if close else ""
    return Fault(column, label, f"one of the {len(labels)} labels {shown}{hint}")


def cross_entropy(logits: Tensor, labels: Tensor, smoothing: float = 0.0) -> Tensor:
    """Sum the cross entropy of ``logits [n, classes]`` in units of log(classes)."""
    total = functional.cross_entropy(
        logits, labels, ignore_index=IGNORED, reduction="sum", label_smoothing=smoothing
    )
    return total / math.log(logits.shape[1])


def log_chances(logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Give the chances that ``cross_entropy`` looks at (see ``agreement.Chances``)."""
    return logits.log_softmax(1), (labels != IGNORED) / math.log(logits.shape[1])


def index(value: Any, places: Mapping[str, int]) -> int:
    """Number a label by its place in the set; one outside it takes no part in the loss."""
    label = name(value)
    return IGNORED if label is None else places.get(label, IGNORED)


def tags_in(rows: Iterable[Row], column: str) -> Counter[str]:
    """Count the tags of a column of lists; rows that hold something else are passed over."""
    lists = (row.get(column) for row in rows)
    found = (name(tag) for tags in lists if isinstance(tags, (list, tuple)) for tag in tags)
    return Counter(tag for tag in found if tag is not None)


def meant(counts: Counter[str]) -> list[str]:
    """Leave out the few tags that are mistakes in what is clearly the B-/I-/O scheme.

    Clearly: ``MOST`` of all tags are in it, and a span begins with B-. Ends and single words
    marked apart (E-, L-, S-, U-) are no mistakes but another scheme.
    """
    scheme = [tag for tag in counts if tag == OUTSIDE or is_bio([tag])]
    others = counts.keys() - set(scheme)
    begun = any(tag.startswith("B-") for tag in scheme)
    another = any(tag[:2] in ("E-", "L-", "S-", "U-") for tag in others)
    few = sum(counts[tag] for tag in scheme) >= MOST * counts.total()
    return scheme if begun and few and not another else list(counts)


def is_bio(labels: Iterable[str]) -> bool:
    """Tell whether labels mark spans: every one is O, B-X or I-X, and some span can begin."""
    found = set(labels)
    scheme = all(label == OUTSIDE or (label[:2] in ("B-", "I-") and label[2:]) for label in found)
    return scheme and any(label != OUTSIDE for label in found)


def closed(labels: Iterable[str]) -> list[str]:
    """Complete a B-/I- label set: O, then B-X and I-X for every type X."""
    types = ordered({label[2:] for label in labels if label != OUTSIDE})
    return [OUTSIDE, *(prefix + kind for kind in types for prefix in ("B-", "I-"))]


def first_illegal(tags: Sequence[str]) -> int | None:
    """Find the first I-X that follows neither B-X nor I-X."""
    before = OUTSIDE
    for place, tag in enumerate(tags):
        if tag.startswith("I-") and (before == OUTSIDE or before[2:] != tag[2:]):
            return place
        before = tag
    return None


def tag_fault(
    column: str,
    tags: Any,
    words: int,
    bio: bool,
    known: Mapping[str, int] | None,
) -> Fault | None:
    """Say what is wrong with the tags of a sentence; ``known`` only where others are an error."""
    if not isinstance(tags, (list, tuple)):
        return Fault(column, tags, "a list with one tag a word")
    if len(tags) != words:
        return Fault(column, f"{len(tags)} tags", f"{words} tags, one for each of the words")
    names = [name(tag) for tag in tags]
    for place, tag in enumerate(names):
        if tag is None:
            return Fault(column, tags[place], f"a tag for word {place}")
        if bio and tag != OUTSIDE and not is_bio([tag]):
            return Fault(column, tag, f"O, B-X or I-X for word {place}")
        if known is not None and tag not in known:
            return unknown(column, tag, list(known))
    legal = [tag for tag in names if tag is not None]
    if bio and (stray := first_illegal(legal)) is not None:
        kind, before = legal[stray][2:], repr(legal[stray - 1]) if stray else "nothing"
        found = f"{legal[stray]!r} at word {stray} after {before}"
        return Fault(column, found, f"B-{kind} or I-{kind} before it (the IOB2 scheme)")
    return None


def spans(tags: Sequence[str]) -> list[Span]:
    """Read the spans off B-/I-/O tags, in order. A stray I-X begins a span."""
    found: list[Span] = []
    for place, tag in enumerate(tags):
        if tag == OUTSIDE:
            continue
        kind = tag[2:]
        if tag.startswith("I-") and found and found[-1][0] == kind and found[-1][2] == place:
            found[-1] = (kind, found[-1][1], place + 1)
        else:
            found.append((kind, place, place + 1))
    return found


def best_legal(logits: Tensor, counts: Tensor, labels: Sequence[str]) -> Tensor:
    """Find each sequence's likeliest tags among those where I-X follows B-X or I-X (Viterbi 1967).

    ``logits [words, labels]``, flat over sequences of ``counts [sequences]`` words; gives
    ``[words]``. Only I-X restricts what stands before it, so that a step costs one maximum over
    the labels and not one over all pairs.
    """
    counts = counts[counts > 0]
    if not len(counts):
        return torch.empty(0, dtype=torch.int64, device=logits.device)
    places = {label: index for index, label in enumerate(labels)}
    inside = [index for index, label in enumerate(labels) if label.startswith("I-")]
    begin = [places["B-" + labels[index][2:]] for index in inside]
    real = torch.arange(int(counts.max()), device=counts.device) < counts[:, None]
    padded = logits.new_zeros(*real.shape, len(labels))  # [sequences, longest, labels]
    padded[real] = logits.log_softmax(1)
    score = padded[:, 0].clone()
    score[:, inside] = -torch.inf
    back = torch.empty(padded.shape, dtype=torch.int64, device=logits.device)
    for step in range(1, padded.shape[1]):
        came, back_step = score.max(1, keepdim=True)
        came, back_step = came.expand_as(score).clone(), back_step.expand_as(score).clone()
        same_span = torch.stack((score[:, inside], score[:, begin]))  # [2, sequences, inside]
        came[:, inside], choice = same_span.max(0)
        sources = torch.tensor([inside, begin], device=logits.device)
        back_step[:, inside] = sources.gather(0, choice)
        # A sequence that is over keeps its scores and points every label back to itself.
        going = real[:, step, None]
        stay = torch.arange(len(labels), device=logits.device).expand_as(back_step)
        back[:, step] = torch.where(going, back_step, stay)
        score = torch.where(going, came + padded[:, step], score)
    best = score.argmax(1)
    path = torch.empty(real.shape, dtype=torch.int64, device=logits.device)
    for step in range(padded.shape[1] - 1, -1, -1):
        path[:, step] = best
        best = back[:, step].gather(1, best[:, None])[:, 0] if step else best
    return path[real]


def micro(pairs: Sequence[tuple[Set[Any], Set[Any]]]) -> tuple[float, float, float]:
    """Give precision, recall and F1 over all pairs of predicted and true things; undefined is 0."""
    hits = sum(len(predicted & true) for predicted, true in pairs)
    predicted, true = (sum(len(pair[side]) for pair in pairs) for side in (0, 1))
    return (
        hits / predicted if predicted else 0.0,
        hits / true if true else 0.0,
        2 * hits / (predicted + true) if predicted + true else 0.0,
    )
