"""A picture or a sound where other rows have a text."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

if TYPE_CHECKING:  # readers of rows need no torch, which families do
    from tasks.family import Data

KINDS = {"image": "a picture", "audio": "a sound"}
"""What may stand for a text: keys of ``data``, and what they hold."""
CELL = pa.struct([("sha256", pa.string()), ("path", pa.string()), ("bytes", pa.large_binary())])
"""A cell of such a column once it was looked at: its content's name, and where that lies."""


class Media(str):
    """A picture or a sound where others have a text: the name of its content.

    Readers take the bytes of its file, or find them under its path.
    """

    sha256: str
    path: str | None
    bytes: bytes | None

    def __new__(cls, cell: Mapping[str, Any]) -> Media:
        """``cell`` is as in ``CELL``."""
        made = super().__new__(cls, cell["sha256"])
        made.sha256, made.path, made.bytes = cell["sha256"], cell["path"], cell["bytes"]
        return made

    def ids(self, tokens: int) -> NDArray[np.int32]:
        """Give ``[tokens]`` numbers of its own to stand where a text has token ids."""
        return np.resize(np.frombuffer(bytes.fromhex(self.sha256), "<i4"), tokens)


def reads(data: Data) -> str:
    """Say what the encoder reads for a task: ``text``, ``image`` or ``audio``."""
    return next((kind for kind in KINDS if getattr(data, kind, None)), "text")
