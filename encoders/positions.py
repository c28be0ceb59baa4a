"""Position ids: where they start, and how many tokens they can tell apart."""

from __future__ import annotations

from transformers import PreTrainedConfig

AFTER_PADDING = frozenset(
    (
        "camembert",
        "data2vec-text",
        "esm",
        "ibert",
        "lilt",
        "longformer",
        "luke",
        "mpnet",
        "roberta",
        "roberta-prelayernorm",
        "xlm-roberta",
        "xlm-roberta-xl",
        "xmod",
    )
)
"""Model types whose first position id is the padding's plus one, as in fairseq."""


def first_position(config: PreTrainedConfig) -> int:
    """Give the position id of a sequence's first token."""
    return int(config.pad_token_id) + 1 if config.model_type in AFTER_PADDING else 0


def readable(config: PreTrainedConfig) -> int:
    """Give the number of tokens that the position embeddings of a network can tell apart."""
    positions = getattr(config, "max_position_embeddings", None)
    if not isinstance(positions, int) or positions < 1:
        return 1 << 20  # relative positions: the tokenizer's limit decides
    return positions - first_position(config)
