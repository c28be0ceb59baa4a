"""Texts in, token ids out: a tokenizer that needs no model library once it has been saved."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# Work is spread over processes, not over threads inside one; and a process that has used the
# library's threads warns at every later fork.
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

from tokenizers import Encoding, Tokenizer

Text = str | tuple[str, str] | list[str]
"""One sequence: a text, a pair of texts, or words. A pair with an attribute ``overlap`` is several
sequences: windows over its second text that share so many tokens."""

CONFIG = "tokenizer_config.json"
TOKENIZER = "tokenizer.json"


@dataclass(slots=True)
class Encoded:
    """One tokenised sequence, special tokens included."""

    input_ids: list[int]
    second: int
    """Index of the first token of the second text of a pair; ``len(input_ids)`` without one."""
    words: list[int]
    """For words: the index of each word's first token. Words cut off by truncation are missing."""
    offsets: list[tuple[int, int]]
    """For texts: the characters of each token in its text; ``(0, 0)`` for special tokens."""
    truncated: bool
    before: int = 0
    """For a window: tokens of the second text that come before it, 0 in the first window."""

    def __len__(self) -> int:
        return len(self.input_ids)


class Reader:
    """A tokenizer with the number of tokens that its encoder can read.

    It pickles, and loads from a folder in milliseconds: made for worker processes.
    """

    kind = "text"
    fixed = False
    """Whether every sequence has as many tokens as any other."""

    def __init__(self, tokenizer: Tokenizer, config: dict[str, Any], limit: int) -> None:
        """``config`` is for ``tokenizer_config.json``; ``limit`` counts special tokens too."""
        tokenizer.no_truncation()
        tokenizer.no_padding()
        self.tokenizer = tokenizer
        self.config = config
        self.limit = limit

    @property
    def vocabulary(self) -> int:
        """Give the number of different token ids."""
        return int(self.tokenizer.get_vocab_size(with_added_tokens=True))

    @property
    def mask(self) -> int | None:
        """Give the id of the token that hides others, or None if there is none."""
        token = self.config.get("mask_token")
        return None if token is None else self.tokenizer.token_to_id(token)

    @property
    def special(self) -> list[int]:
        """List the ids of tokens that are no text, such as separators."""
        added = self.tokenizer.get_added_tokens_decoder()
        return sorted(number for number, token in added.items() if token.special)

    def pieces(self) -> list[str]:
        """Give every token as it reads alone, in the order of ids; ids not in use are empty."""
        last = max(self.tokenizer.get_vocab(with_added_tokens=True).values())
        alone = [[number] for number in range(last + 1)]
        return self.tokenizer.decode_batch(alone, skip_special_tokens=False)

    def __call__(self, texts: Sequence[Text], max_length: int | None = None) -> list[Encoded]:
        """Tokenise ``texts``, each cut to ``max_length`` tokens or to ``limit``, if that is less.

        A pair is cut at its longer text, or read in windows that follow each other in the list. A
        word the tokenizer knows nothing about (a lone control character, say) still gets a token,
        so that every word has a place.
        """
        length = min(max_length or self.limit, self.limit)
        least = self.tokenizer.num_special_tokens_to_add(True) + 2
        if length < least:
            raise ValueError(f"max_length is {length}; this tokenizer needs at least {least}.")
        windows = iter(
            self._windows([text for text in texts if _overlap(text) is not None], length)
        )
        self.tokenizer.enable_truncation(length)
        try:
            cut = iter(self._encode([text for text in texts if _overlap(text) is None]))
        finally:
            self.tokenizer.no_truncation()
        found: list[Encoded] = []
        for text in texts:
            found += [next(cut)] if _overlap(text) is None else next(windows)
        return found

    def _windows(self, pairs: Sequence[Text], length: int) -> list[list[Encoded]]:
        special = self.tokenizer.num_special_tokens_to_add(True)
        encodings = self.tokenizer.encode_batch([tuple(pair) for pair in pairs])
        return [
            _parts(encoding, length, special, _overlap(pair) or 0)
            for encoding, pair in zip(encodings, pairs, strict=True)
        ]

    def _encode(self, texts: Sequence[Text]) -> list[Encoded]:
        split = [index for index, text in enumerate(texts) if isinstance(text, list)]
        whole = [index for index, text in enumerate(texts) if not isinstance(text, list)]
        done: list[Encoded | None] = [None] * len(texts)
        encodings = self.tokenizer.encode_batch([texts[index] for index in whole])
        for index, encoding in zip(whole, encodings, strict=True):
            done[index] = _text(encoding, pair=isinstance(texts[index], tuple))
        encodings = self.tokenizer.encode_batch([texts[i] for i in split], is_pretokenized=True)
        for index, encoding in zip(split, encodings, strict=True):
            done[index] = self._words(texts[index], encoding)
        return [encoded for encoded in done if encoded is not None]

    def _words(self, words: Sequence[str], encoding: Encoding) -> Encoded:
        first = _first_tokens(encoding)
        truncated = bool(encoding.overflowing)
        expected = max(first, default=-1) + 1 if truncated else len(words)
        if len(first) < expected:
            shown = [word if index in first else self._unknown for index, word in enumerate(words)]
            encoding = self.tokenizer.encode(shown, is_pretokenized=True)
            first = _first_tokens(encoding)
            truncated = bool(encoding.overflowing)
        ids = encoding.ids
        return Encoded(ids, len(ids), [first[index] for index in sorted(first)], [], truncated)

    @property
    def _unknown(self) -> str:
        """Give what stands for a word that has no tokens."""
        return str(getattr(self.tokenizer.model, "unk_token", None) or "?")

    def digest(self) -> str:
        """Give the sha256 of all that decides token ids."""
        content = f"{self.limit}\n{self.tokenizer.to_str()}"
        return hashlib.sha256(content.encode()).hexdigest()

    def save(self, folder: Path | str) -> None:
        """Write a tokenizer folder that ``AutoTokenizer`` and ``Reader.load`` read."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        self.tokenizer.save(str(folder / TOKENIZER))
        config = {**self.config, "model_max_length": self.limit}
        text = json.dumps(config, indent=2, sort_keys=True, ensure_ascii=False)
        (folder / CONFIG).write_text(text + "\n", encoding="utf-8")

    @classmethod
    def load(cls, folder: Path | str) -> Reader:
        """Read what ``save`` wrote."""
        folder = Path(folder)
        for name in (TOKENIZER, CONFIG):
            if not (folder / name).is_file():
                raise LookupError(
                    f"{folder} has no {name}; expected a folder that Reader.save wrote."
                )
        config = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
        return cls(Tokenizer.from_file(str(folder / TOKENIZER)), config, config["model_max_length"])


def _text(encoding: Encoding, pair: bool) -> Encoded:
    ids = encoding.ids
    second = len(ids)
    if pair and 1 in (texts := encoding.sequence_ids):
        second = texts.index(1)
    return Encoded(ids, second, [], encoding.offsets, bool(encoding.overflowing))


def _overlap(text: Text) -> int | None:
    """Give the tokens that windows over a pair share, or None for what is one sequence."""
    found: int | None = getattr(text, "overlap", None)
    return found


def _parts(encoding: Encoding, length: int, special: int, overlap: int) -> list[Encoded]:
    """Cut a whole pair into sequences that each have the first text and a window of the second.

    The first text may fill half of the room, or what the second leaves, and is cut there;
    neighbouring windows share at most half a window.
    """
    ids, offsets = encoding.ids, encoding.offsets
    if len(ids) <= length:
        return [_text(encoding, pair=True)]
    owner = encoding.sequence_ids
    start = owner.index(1) if 1 in owner else len(ids)
    end = start + owner.count(1)
    room = length - special
    first = [token for token in range(start) if owner[token] == 0]
    beyond = set(first[max(room // 2, room - (end - start)) :])
    head = [token for token in range(start) if token not in beyond]
    tail = range(end, len(ids))
    window = max(1, length - len(head) - len(tail))
    step = window - min(overlap, window // 2)
    found = []
    for begin in range(start, max(start + 1, end - window + step), step):
        kept = [*head, *range(begin, min(begin + window, end)), *tail]
        own = [ids[token] for token in kept], [offsets[token] for token in kept]
        found.append(Encoded(own[0], len(head), [], own[1], bool(beyond), begin - start))
    return found


def _first_tokens(encoding: Encoding) -> dict[int, int]:
    """Map each word that has tokens to its first one."""
    first: dict[int, int] = {}
    for token, word in enumerate(encoding.word_ids):
        if word is not None:
            first.setdefault(word, token)
    return first
