"""The Reader: texts, pairs and words become token ids, the same in every process."""

from __future__ import annotations

import pickle
import subprocess
import sys
from pathlib import Path

import pytest
import transformers
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers

import encoders
from encoders import network, tiny
from encoders.tokenizer import Reader
from tasks.family import Windows

TEXTS = [
    "The red cat sat on a mat.",
    "No dog ran over the hill!",
    "What is it, then? A café, naïve and small.",
    "Unhappiness and happiness; reading and rereading.",
] * 3


@pytest.fixture(scope="module")
def reader() -> Reader:
    return encoders.reader("tiny", texts=lambda: TEXTS)


@pytest.fixture(scope="module")
def byte_level(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Write a GPT-2 and a RoBERTa folder: byte-level BPE without and with special tokens."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>", "<|endoftext|>"]
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=special,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(TEXTS, trainer)
    folders = {}
    small = {"vocab_size": 400, "max_position_embeddings": 40}
    for name, config in {
        "gpt2": transformers.GPT2Config(
            vocab_size=400, n_positions=40, bos_token_id=5, eos_token_id=5
        ),
        "roberta": transformers.RobertaConfig(**small, pad_token_id=1),
    }.items():
        folders[name] = folder = tmp_path_factory.mktemp(name)
        config.save_pretrained(folder)
        if name == "gpt2":
            tokenizer.post_processor = processors.ByteLevel(trim_offsets=True)
            Reader(tokenizer, {"tokenizer_class": "GPT2Tokenizer"}, 40).save(folder)
        else:
            tokenizer.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0))
            Reader(tokenizer, {"tokenizer_class": "RobertaTokenizer"}, 38).save(folder)
    return folders


def test_every_word_has_its_first_token(reader: Reader) -> None:
    words = ["Unhappiness", "sat", "on", "hills", "."]
    (row,) = reader([words])
    tokens = [reader.tokenizer.id_to_token(number) for number in row.input_ids]
    assert len(row.words) == len(words)
    assert tokens[0] == "[CLS]"
    assert tokens[-1] == "[SEP]"
    assert [tokens[index][0].lower() for index in row.words] == ["u", "s", "o", "h", "."]
    assert not any(tokens[index].startswith("##") for index in row.words)
    assert len(row.input_ids) > len(words) + 2
    assert row.second == len(row.input_ids)


def test_words_and_their_text_have_the_same_ids(reader: Reader) -> None:
    text, words = reader(["the red cat sat", ["the", "red", "cat", "sat"]])
    assert text.input_ids == words.input_ids


def test_texts_keep_their_characters(reader: Reader) -> None:
    text = "  A café,  naïve"
    (row,) = reader([text])
    assert row.offsets[0] == row.offsets[-1] == (0, 0)
    pieces = [text[start:end] for start, end in row.offsets[1:-1]]
    assert "".join(pieces) == "Acafé,naïve"


def test_the_second_text_of_a_pair_begins_where_it_says(reader: Reader) -> None:
    pair, empty, single = reader([("the red cat", "no dog"), ("the cat", ""), "the cat"])
    assert pair.input_ids[pair.second :] == reader(["no dog"])[0].input_ids[1:]
    assert pair.offsets[pair.second] == (0, 2)
    assert single.second == len(single.input_ids)
    assert empty.second == len(empty.input_ids)


def test_truncation_is_told_and_keeps_the_special_tokens(reader: Reader) -> None:
    long = "cat " * 50
    rows = reader([long, (long, "dog"), long.split(), "cat"], max_length=10)
    assert [row.truncated for row in rows] == [True, True, True, False]
    assert [len(row.input_ids) for row in rows] == [10, 10, 10, 3]
    assert {row.input_ids[-1] for row in rows} == {reader.tokenizer.token_to_id("[SEP]")}
    assert rows[1].input_ids[rows[1].second] == reader(["dog"])[0].input_ids[1]
    assert rows[2].words == list(range(1, 9))
    assert reader([long])[0].truncated is False
    assert len(reader(["cat " * 9999], max_length=9999)[0].input_ids) == reader.limit


def test_windows_follow_each_other_and_hold_all_of_the_second_text(reader: Reader) -> None:
    pair = Windows("red cat", "the red cat sat on a mat, no dog", 2)
    before, *rows, after = reader(["dog", pair, "cat"], max_length=10)
    plain = reader([tuple(pair)])[0]
    question, context = plain.input_ids[: plain.second], plain.input_ids[plain.second : -1]
    assert [row.before for row in rows] == [0, 3, 6]
    for row in rows:
        shown = context[row.before : row.before + 5]
        assert row.input_ids == [*question, *shown, plain.input_ids[-1]]
        assert row.offsets[row.second] == plain.offsets[plain.second + row.before]
        assert (row.second, row.truncated) == (4, False)
    assert [before, after] == reader(["dog", "cat"], max_length=10)


def test_windows_over_what_fits_are_the_pair(reader: Reader) -> None:
    for first, second in (("red cat", "no dog"), ("red cat", ""), ("", "dog")):
        assert reader([Windows(first, second, 2)]) == reader([(first, second)])
    (cut,) = reader([Windows("cat " * 50, "", 2)], max_length=8)
    assert (len(cut.input_ids), cut.second, cut.truncated) == (8, 8, True)


@pytest.mark.parametrize("overlap", [0, 2, 9, 400])
@pytest.mark.parametrize("length", [5, 8, 20])
@pytest.mark.parametrize("sizes", [(1, 50), (50, 50), (50, 1), (7, 9)])
def test_windows_never_lose_or_stall(
    reader: Reader, sizes: tuple[int, int], length: int, overlap: int
) -> None:
    first, second = ("cat " * size for size in sizes)
    rows = reader([Windows(first, second, overlap)], max_length=length)
    assert all(len(row.input_ids) <= length for row in rows)
    ends = [row.before + len(row.input_ids) - row.second - 1 for row in rows]
    assert ends[-1] == sizes[1]
    assert all(0 < rows[k + 1].before <= ends[k] < ends[k + 1] for k in range(len(rows) - 1))
    assert {row.truncated for row in rows} == {rows[0].second - 2 < sizes[0]}


def test_a_word_without_tokens_still_has_a_place(reader: Reader) -> None:
    (row,) = reader([["the", "\u200d\x07", "cat", "\x07"]])
    assert len(row.words) == 4
    assert row.input_ids[row.words[1]] == reader.tokenizer.token_to_id("[UNK]")
    (cut,) = reader([["the", "\x07", "cat", "sat", "\x07", "red", "mat", "dog"]], max_length=6)
    assert cut.truncated
    assert cut.words == [1, 2, 3, 4]


def test_a_length_that_holds_no_text_is_refused(reader: Reader) -> None:
    with pytest.raises(ValueError, match="at least 5"):
        reader(["cat"], max_length=4)


def test_no_texts_give_no_rows(reader: Reader) -> None:
    assert reader([]) == []


def test_a_saved_reader_reads_the_same_as_it_and_as_transformers(
    reader: Reader, tmp_path: Path
) -> None:
    reader.save(tmp_path)
    again = Reader.load(tmp_path)
    assert again.digest() == reader.digest()
    assert again.limit == reader.limit
    assert again(TEXTS) == reader(TEXTS)
    assert pickle.loads(pickle.dumps(reader))(TEXTS) == reader(TEXTS)
    plain = transformers.AutoTokenizer.from_pretrained(tmp_path)
    assert plain.model_max_length == reader.limit
    assert plain(TEXTS).input_ids == [row.input_ids for row in reader(TEXTS)]
    both = plain([TEXTS[0]], [TEXTS[1]])
    (pair,) = reader([(TEXTS[0], TEXTS[1])])
    assert both.input_ids == [pair.input_ids]
    types = [int(index >= pair.second) for index in range(len(pair.input_ids))]
    assert both.token_type_ids == [types]


def test_using_a_reader_leaves_its_digest_alone(reader: Reader) -> None:
    before = reader.digest()
    reader(["cat"], max_length=8)
    assert reader.digest() == before


def test_a_folder_without_tokenizer_is_named(tmp_path: Path) -> None:
    with pytest.raises(LookupError, match=r"no tokenizer\.json"):
        Reader.load(tmp_path)


def test_tiny_vocabularies_are_equal_in_other_processes_and_orders(reader: Reader) -> None:
    assert encoders.reader("tiny", texts=lambda: TEXTS[::-1]).digest() == reader.digest()
    code = (
        "import sys, encoders; from encoders import tiny\n"
        f"print(tiny.reader(lambda: {TEXTS!r}).digest())\n"
        "assert not {'torch', 'transformers'} & set(sys.modules), 'heavy'"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(__file__).parent.parent,
    )
    assert done.stdout.strip() == reader.digest()


def test_tiny_without_texts_says_what_it_needs() -> None:
    with pytest.raises(ValueError, match="needs texts"):
        encoders.reader("tiny")


def test_tiny_reads_characters_it_has_not_seen(reader: Reader) -> None:
    (row,) = reader(["the 猫 cat"])
    assert row.input_ids[2] == reader.tokenizer.token_to_id("[UNK]")


@pytest.mark.parametrize("name", ["gpt2", "roberta"])
def test_byte_level_words_and_texts_are_treated_alike(
    byte_level: dict[str, Path], name: str, tmp_path: Path
) -> None:
    with network.quiet():
        reader = encoders.reader(str(byte_level[name]))
    words = ["The", "red", "cat", "sat"]
    text, listed, again = reader(["The red cat sat", words, ["cat", "cat"]])
    assert text.input_ids == listed.input_ids
    assert len(listed.words) == 4
    first, second = again.words
    assert again.input_ids[first] == again.input_ids[second]
    assert reader.limit == (40 if name == "gpt2" else 38)
    reader.save(tmp_path)
    with network.quiet():
        plain = transformers.AutoTokenizer.from_pretrained(tmp_path)
    assert plain("The red cat sat").input_ids == text.input_ids
    assert plain("The red", "cat sat").input_ids == reader([("The red", "cat sat")])[0].input_ids
    (tmp_path / "config.json").write_bytes((byte_level[name] / "config.json").read_bytes())
    assert encoders.reader(str(tmp_path)).digest() == reader.digest()


@pytest.mark.parametrize("name", ["gpt2", "roberta"])
def test_byte_level_windows_keep_their_characters(byte_level: dict[str, Path], name: str) -> None:
    with network.quiet():
        reader = encoders.reader(str(byte_level[name]))
    context = "The red cat sat on a mat. A caf\u00e9 " * 3
    rows = reader([Windows("red cat", context, 3)], max_length=20)
    assert len(rows) > 1
    (plain,) = reader([("red cat", context[:20])])
    for row in rows:
        assert row.input_ids[: row.second] == plain.input_ids[: plain.second]
        assert row.input_ids[-1] == plain.input_ids[-1]
        for token, (start, end) in list(zip(row.input_ids, row.offsets, strict=True))[
            row.second : -1
        ]:
            if context[start:end].isascii():
                assert context[start:end] == reader.tokenizer.decode([token]).strip()


def test_gpt2_texts_end_with_the_token_that_stands_for_them(byte_level: dict[str, Path]) -> None:
    reader = encoders.reader(str(byte_level["gpt2"]))
    end = reader.tokenizer.token_to_id("<|endoftext|>")
    single, pair, long = reader(["red cat", ("red", "cat"), "cat " * 99], max_length=12)
    assert single.input_ids.count(end) == 1
    assert single.input_ids[-1] == end
    assert pair.input_ids[pair.second - 1] == pair.input_ids[-1] == end
    assert (len(long.input_ids), long.input_ids[-1], long.truncated) == (12, end, True)


def test_tiny_knows_its_special_tokens_by_their_usual_numbers() -> None:
    vocabulary = tiny.reader(lambda: TEXTS).tokenizer.get_vocab()
    assert [vocabulary[token] for token in tiny.SPECIAL] == [0, 1, 2, 3, 4]
