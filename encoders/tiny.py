"""The built-in encoder: a small BERT with seeded weights and a vocabulary of the training texts."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from tokenizers import (
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)

from encoders.tokenizer import Reader

if TYPE_CHECKING:
    from transformers import PreTrainedModel

SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
VOCABULARY = 4000
LAYERS, WIDTH, HEADS, LIMIT = 2, 128, 2, 512


def reader(texts: Callable[[], Iterable[str]]) -> Reader:
    """Train a lower-case WordPiece vocabulary of at most ``VOCABULARY`` pieces on ``texts()``.

    The same texts give the same vocabulary, in any order and in any process.
    """
    blank = _tokenizer({})
    pieces = sorted({character for text in texts() for character in _normal(blank, text)})
    # The trainer numbers pieces inside words in the order of a hash table, and breaks ties by these
    # numbers. Handing it all of them beforehand makes the result a function of the texts alone.
    trainer = trainers.WordPieceTrainer(
        vocab_size=VOCABULARY,
        special_tokens=[*SPECIAL, *pieces, *(f"##{piece}" for piece in pieces)],
        show_progress=False,
    )
    blank.train_from_iterator(texts(), trainer)
    config = {
        "tokenizer_class": "BertTokenizer",
        "do_lower_case": True,
        **{f"{token[1:-1].lower()}_token": token for token in SPECIAL},
    }
    return Reader(_tokenizer(blank.get_vocab(with_added_tokens=True)), config, LIMIT)


def _normal(tokenizer: Tokenizer, text: str) -> str:
    return "".join(str(tokenizer.normalizer.normalize_str(text)).split())


def _tokenizer(vocabulary: dict[str, int]) -> Tokenizer:
    """Build BERT's uncased tokenizer over ``vocabulary``; without one, for training."""
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece(prefix="##")
    if vocabulary:
        tokenizer.add_special_tokens(list(SPECIAL))
        tokenizer.post_processor = processors.TemplateProcessing(
            single="[CLS]:0 $A:0 [SEP]:0",
            pair="[CLS]:0 $A:0 [SEP]:0 $B:1 [SEP]:1",
            special_tokens=[(token, vocabulary[token]) for token in ("[CLS]", "[SEP]")],
        )
    return tokenizer


def model(vocabulary: int, dropout: float, attention_dropout: float, seed: int) -> PreTrainedModel:
    """Build the network; every weight is drawn from the seed and the weight's own name."""
    import torch
    from transformers import BertConfig, BertModel
    from transformers.initialization import no_init_weights

    from encoders.seeded import stream

    config = BertConfig(
        vocab_size=vocabulary,
        hidden_size=WIDTH,
        num_hidden_layers=LAYERS,
        num_attention_heads=HEADS,
        intermediate_size=4 * WIDTH,
        max_position_embeddings=LIMIT,
        hidden_dropout_prob=dropout,
        attention_probs_dropout_prob=attention_dropout,
        architectures=["BertModel"],
    )
    with no_init_weights():  # to draw what is drawn anew takes longer than all the rest
        network = BertModel(config, add_pooling_layer=False)
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if parameter.ndim < 2:  # of biases, and of the scales of LayerNorm
                parameter.fill_(name.endswith("LayerNorm.weight"))
                continue
            draw = stream(seed, "encoder", name)
            parameter.normal_(0.0, config.initializer_range, generator=draw)
        network.embeddings.word_embeddings.weight[config.pad_token_id].zero_()
    return network
