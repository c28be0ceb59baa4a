"""Roles: who did what to whom; semantic role labelling in the manner of PropBank."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

import torch
from pydantic import Field
from torch import Tensor

from tasks import items, labels, words
from tasks.agreement import Chances, Comparable
from tasks.arguments import as_set, frame, predicates_of, read_arguments
from tasks.family import IGNORED, CrossEntropy, Data, Encoded, Family, Fault, Row, Rows, Text
from tasks.frames import RolesHead, layout, said
from tasks.helper import Helper, Kind
from tasks.shuffled import ByWord, Order, pieces

PREDICATES, FIRST = "all predicates", "first of sentence"
"""What ``gather`` adds: all predicates of the sentence, and whether this row is its first."""


class RolesData(Data):
    """Where the words, the predicate and its roles stand, and where the predicate is shown."""

    tokens: str = "tokens"
    predicate: str = "predicate"
    """The index of the predicate among the words."""
    tags: str = "tags"
    """B-/I-/O tags of this predicate's roles."""
    labels: list[str] | None = Field(None, min_length=1)
    """The label set, where it should not be read off the training rows."""
    mark: Literal["input", "head"] = "input"
    """``input`` adds a learnt vector to the predicate's embedding; ``head`` tells only the head."""


class Roles(Family[RolesData], Comparable, Helper, ByWord):
    """The roles of one predicate a row, and the predicates of each sentence.

    Predictions: ``{"arguments": [[label, [[start, end], ...]], ...], "predicates": [index, ...]}``
    in words, ends exclusive; predicates are null unless the sentence is read for them. With
    ``mark: input`` the first row of a sentence brings a second, unmarked sequence for that.
    """

    Data = RolesData
    losses = {"cross_entropy": CrossEntropy}  # noqa: RUF012 (a constant of the class)
    columns = {  # noqa: RUF012 (a constant of the class)
        "predicate": torch.int64,  # a sequence: the index of its predicate, or -1
        "roles": torch.int64,  # a word
        "predicates": torch.int64,  # a word: 1 for a predicate, else 0
    }
    gives = "word"
    asks = ("predicate",)
    main = "f1"

    def bind(self) -> None:
        """Number the labels."""
        self.labels: list[str] = list(self.fitted["labels"])
        self.places = {label: index for index, label in enumerate(self.labels)}
        self.marked = self.data.mark == "input"

    @classmethod
    def fit(cls, data: RolesData, rows: Iterable[Row]) -> dict[str, Any]:
        """Collect the label set of the training rows, unless it was given; both completed."""
        found = data.labels or labels.tags_in(rows, data.tags)
        scheme = [label for label in found if label == labels.OUTSIDE or labels.is_bio([label])]
        if data.labels and (wrong := set(data.labels) - set(scheme)):
            raise ValueError(f"labels holds {min(wrong)!r}; expected O, B-X or I-X.")
        if not labels.is_bio(scheme):
            raise ValueError(f"column {data.tags!r} holds no B-X tag; expected B-/I-/O tags.")
        return {"labels": labels.closed(scheme)}

    @classmethod
    def column_names(cls, data: RolesData) -> list[str]:
        """Name the columns in use."""
        return [data.tokens, data.predicate, data.tags]

    @classmethod
    def label_columns(cls, data: RolesData) -> list[str]:
        """Name the column of the answer."""
        return [data.tags]

    @classmethod
    def dealt(cls, data: RolesData, row: Row, order: Order) -> dict[str, Any]:
        """Give the tags, and which words are predicates, to other words of the sentence."""
        drawn = order(len(row[data.tokens]), "predicates")[: len(row[PREDICATES])]
        return {data.tags: pieces(row[data.tags], order), PREDICATES: sorted(drawn)}

    @classmethod
    def gather(
        cls, data: RolesData, rows: list[Row], whole: Iterable[Row] | None = None
    ) -> list[Row]:
        """Tell each row all predicates of the whole split with its words, and mark the first row.

        Where one of them cannot be read, no row is the first: the other words may be predicates.
        """
        sentences = [tuple(row[data.tokens]) for row in rows]
        known = predicates_of(set(sentences), whole or rows, data.tokens, data.predicate)
        found: list[Row] = []
        seen = set()
        for sentence, row in zip(sentences, rows, strict=True):
            at = words.index(row[data.predicate], len(sentence))
            places = sorted(place for place in known[sentence] if place is not None)
            first = sentence not in seen and None not in known[sentence]
            seen.add(sentence)
            found.append({**row, data.predicate: at, PREDICATES: places, FIRST: first})
        return found

    def fault(self, row: Row, training: bool) -> Fault | None:
        """Say what is wrong with a row. The predicate's own tag may be anything."""
        tokens, at = row.get(self.data.tokens), row.get(self.data.predicate)
        if fault := words.words_fault(self.data.tokens, tokens):
            return fault
        size = len(tokens or ())
        if words.index(at, size) is None:
            return Fault(self.data.predicate, at, f"the index of a word, from 0 to {size - 1}")
        known = self.places if training else None
        return labels.tag_fault(self.data.tags, row.get(self.data.tags), size, True, known)

    def texts(self, row: Row) -> list[Text]:
        """Give the words for the predicate's roles, and once a sentence for its predicates."""
        tokens = list(row[self.data.tokens])
        alone = row.get(self.data.predicate) is None
        return [tokens, tokens] if self.marked and row.get(FIRST) and not alone else [tokens]

    def encode(self, row: Row, encoded: Sequence[Encoded]) -> dict[str, list[int] | list[float]]:
        """Number the tags; a predicate that was cut off leaves its sequence without roles."""
        tags = row.get(self.data.tags)
        places: list[int] = []
        roles: list[int] = []
        predicates: list[int] = []
        for number, sequence in enumerate(encoded):
            size = len(sequence.words)
            at = words.index(row.get(self.data.predicate), size) if number == 0 else None
            places.append(-1 if at is None else at)
            known = tags if tags and at is not None else [None] * size
            roles += [labels.index(tag, self.places) for tag in known[:size]]
            if number == len(encoded) - 1 and row.get(FIRST):
                predicates += [int(word in row[PREDICATES]) for word in range(size)]
            else:
                predicates += [IGNORED] * size
        return {"predicate": places, "roles": roles, "predicates": predicates}

    def terms(self, row: Row, columns: Mapping[str, Sequence[Any]]) -> int:
        """Count the words with a known role, and those that may be predicates."""
        both = (*columns["roles"], *columns["predicates"])
        return sum(int(label != IGNORED) for label in both)

    def gold(self, row: Row) -> dict[str, Any]:
        """Give the true arguments, and the sentence's predicates with its first row."""
        tags = [labels.name(tag) or labels.OUTSIDE for tag in row[self.data.tags]]
        predicates = list(row[PREDICATES]) if row.get(FIRST) else None
        return {"arguments": read_arguments(tags), "predicates": predicates}

    def head(self, width: int, dropout: float) -> RolesHead:
        """Build the layers."""
        return RolesHead(width, len(self.labels), dropout, self.marked)

    def loss(self, output: tuple[Tensor, Tensor], rows: Rows) -> Tensor:
        """Sum both cross entropies, in units of log(labels) and log 2."""
        pairs = zip(output, self._true(rows), strict=True)
        roles, found = (labels.cross_entropy(*pair, self.label_smoothing) for pair in pairs)
        return roles + found

    def log_chances(self, output: tuple[Tensor, Tensor], rows: Rows) -> list[Chances]:
        """Give those of each word's roles, and whether it is a predicate."""
        return [labels.log_chances(*pair) for pair in zip(output, self._true(rows), strict=True)]

    def _true(self, rows: Rows) -> tuple[Tensor, Tensor]:
        """Give the labels that stand against each output."""
        plan = layout(rows, self.marked)
        return rows.columns["roles"][plan.roles], rows.columns["predicates"][plan.finding]

    @classmethod
    def silent(cls, data: RolesData, target: type) -> str | None:
        """Refuse targets without words, and a mark that a sentence read for another task lacks."""
        if getattr(target, "gives", None) != "word":
            return "tells words their roles, and the target has no words"
        if data.mark == "input":
            return (
                "marks predicates in its input, but reads the target's rows without its marks; "
                "expected data.mark=head, which tells its head alone"
            )
        return None

    def features(self, head: RolesHead, hidden: Tensor, rows: Rows, kind: Kind) -> Tensor:
        """Give each word's roles, of several predicates the greatest; zeros where there is none."""
        return said(head, hidden, rows, kind)

    def probabilities(self, logits: Tensor) -> Tensor:
        """Give those of each word's roles."""
        return logits.softmax(-1)

    def decode(self, output: tuple[Tensor, Tensor], rows: Rows) -> list[dict[str, Any]]:
        """Read arguments off the likeliest legal tags, and list the words taken for predicates."""
        asked = rows.columns["predicate"] >= 0
        counts = rows.word_counts
        finding = ~asked if self.marked else torch.ones_like(asked)
        best = labels.best_legal(output[0].float(), counts[asked], self.labels)
        read, look = iter(best.tolist()), iter(output[1].argmax(1).tolist())
        predictions = []
        sequences = zip(asked.tolist(), finding.tolist(), counts.tolist(), strict=True)
        for several in rows.sequences.tolist():
            prediction: dict[str, Any] = {"arguments": [], "predicates": None}
            for _ in range(several):
                with_roles, with_predicates, size = next(sequences)
                if with_roles:
                    names = [self.labels[next(read)] for _ in range(size)]
                    prediction["arguments"] = read_arguments(names)
                if with_predicates:
                    prediction["predicates"] = [w for w in range(size) if next(look)]
            predictions.append(prediction)
        return predictions

    def score(
        self, predictions: Sequence[dict[str, Any]], golds: Sequence[dict[str, Any]]
    ) -> dict[str, float]:
        """Give micro precision, recall and F1 of arguments, and F1 of predicates.

        An argument counts if its label and all its pieces are right.
        """
        pairs = list(zip(predictions, golds, strict=True))
        both = [(as_set(p["arguments"]), as_set(g["arguments"])) for p, g in pairs]
        precision, recall, f1 = labels.micro(both)
        looked = [(p, g) for p, g in pairs if g["predicates"] is not None]
        found = [(set(p["predicates"] or ()), set(g["predicates"])) for p, g in looked]
        of_predicates = labels.micro(found)[2]
        return {"precision": precision, "recall": recall, "f1": f1, "predicate_f1": of_predicates}

    def parts(
        self, predictions: Sequence[dict[str, Any]], golds: Sequence[dict[str, Any]]
    ) -> items.Array:
        """Give hits and answers of arguments."""
        both = zip(predictions, golds, strict=True)
        return items.f1((as_set(p["arguments"]), as_set(g["arguments"])) for p, g in both)

    def ask(self, record: Row) -> Row | None:
        """Split ``text`` into words; ``predicate``, if given, is asked for alone.

        It is the index of a word, its characters ``[start, end]``, or the word itself (its first
        occurrence). Raises ``ValueError`` for one that is not in the text.
        """
        row, at = words.row(record, self.data.tokens), record.get("predicate")
        if row is not None and at is not None:
            tokens, offsets = row[self.data.tokens], row[words.OFFSETS]
            row[self.data.predicate] = words.place("predicate", at, tokens, offsets)
        return row

    def ask_again(self, row: Row, prediction: dict[str, Any]) -> list[Row]:
        """Give a row for each predicate found, unless one was asked for."""
        if row.get(self.data.predicate) is not None:
            return []
        return [{**row, self.data.predicate: place} for place in prediction["predicates"] or ()]

    def answer(
        self, row: Row, prediction: dict[str, Any], again: Sequence[tuple[Row, Any]]
    ) -> list[dict[str, Any]]:
        """List the predicates with their arguments."""
        asked = row.get(self.data.predicate) is not None
        return [
            frame(one[words.TEXT], one[words.OFFSETS], one[self.data.predicate], found["arguments"])
            for one, found in ([(row, prediction)] if asked else again)
        ]
