"""CoNLL and CoNLL-U: columns by position and by name, comments, words that look like comments."""

from pathlib import Path
from typing import Any

import pytest

from tasks import rows
from tasks.classify import Classify
from tasks.conll import sentences
from tasks.family import Fault
from tasks.tag import Tag

NER = """-DOCSTART- -X- O

EU NNP B-ORG
rejects VBZ O

# 1 O
German JJ B-MISC
"""

UNIVERSAL = """# sent_id = a-1
# text = Don't go
1-2\tDon't\t_\t_\t_\t_\t_\t_\t_\t_
1\tDo\tdo\tAUX\tVBP\t_\t3\taux\t_\t_
2\tn't\tnot\tPART\tRB\t_\t3\tadvmod\t_\t_
3\tgo\tgo\tVERB\tVB\t_\t0\troot\t_\t_
3.1\tgone\tgo\tVERB\tVBN\t_\t_\t_\t_\t_

# sent_id = a-2
# text = # is New York
1\t#\t#\tSYM\tNN\t_\t2\tnsubj\t_\t_
2\tis\tbe\tVERB\tVBZ\t_\t0\troot\t_\t_
3\tNew York\tNew York\tPROPN\tNNP\t_\t2\tobj\t_\t_
"""


def read(text: str, universal: bool = False) -> list[dict[str, Any] | Fault]:
    return [row for _, row in sentences(text.splitlines(keepends=True), universal)]


def test_columns_are_called_by_position_from_both_ends() -> None:
    first, second = read(NER)
    assert first["0"] == ["EU", "rejects"]
    assert first["1"] == first["-2"] == ["NNP", "VBZ"]
    assert first["-1"] == ["B-ORG", "O"]
    assert second["0"] == ["#", "German"]


def test_columns_are_called_by_names_where_the_file_gives_them() -> None:
    (row,) = read("# global.columns = FORM TAG\na b\nc d")
    assert row["FORM"] == ["a", "c"]
    assert row["TAG"] == ["b", "d"]


def test_a_line_end_of_another_system_and_a_missing_last_line_change_nothing() -> None:
    assert read(NER.replace("\n", "\r\n").rstrip()) == read(NER)


def test_a_line_with_other_columns_makes_its_sentence_bad() -> None:
    good, bad = read("a O\nb O\n\nc O\nd\n")
    assert isinstance(good, dict)
    assert bad == Fault("", "d", "2 columns in every line, not 1")


def test_a_comment_of_as_many_columns_as_words_is_no_word() -> None:
    rows = read("# newdoc\na O\n\n# newdoc\n# the end O no\nb O\n\n#part 2\n\nc B-X\n# I-X\n")
    assert [row["0"] for row in rows] == [["a"], ["b"], ["c", "#"]]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("# O\na O\n\n# O\n", [["#", "a"], ["#"]]),
        ("#topic B-X\n#more I-X\nit O\n", [["#topic", "#more", "it"]]),
        ("# newdoc\n# SYM\n#fun NOUN\nis VERB\n# SYM\n", [["#", "#fun", "is", "#"]]),
        ("#\tSYM\na\tDET\n\n# DET\n#\tSYM\n", [["#", "a"], ["#"]]),
        ("a\n\n# a comment\n#\n#b\n", [["a"], ["#", "#b"]]),
    ],
)
def test_the_word_hash_is_told_from_a_comment_by_its_tag(text: str, words: list[Any]) -> None:
    rows = read(text)
    assert [row["0"] for row in rows] == words


def test_universal_columns_are_lists_without_ranges_and_empty_nodes() -> None:
    first, second = read(UNIVERSAL, universal=True)
    assert first["FORM"] == ["Do", "n't", "go"]
    assert first["UPOS"] == ["AUX", "PART", "VERB"]
    assert first["text"] == "Don't go"
    assert second["FORM"] == ["#", "is", "New York"]
    assert second["sent_id"] == "a-2"


@pytest.mark.parametrize(
    ("name", "content", "tokens", "tags"),
    [("conll", NER, "0", "-1"), ("conllu", UNIVERSAL, "FORM", "XPOS")],
)
def test_a_task_reads_tokens_and_tags(
    tmp_path: Path, name: str, content: str, tokens: str, tags: str
) -> None:
    for split in ("train", "validation"):
        (tmp_path / f"{split}.{name}").write_text(content, encoding="utf-8")
    data = Tag.Data(path=str(tmp_path), tokens=tokens, tags=tags)
    _, found = rows.load("pos", Tag, data, [tmp_path], 0)
    assert found.rows["train"].num_rows == 2


def test_a_task_reads_texts_from_remarks(tmp_path: Path) -> None:
    content = UNIVERSAL.replace("# sent_id = a-", "# grade = ")
    for split in ("train", "validation"):
        (tmp_path / f"{split}.conllu").write_text(content, encoding="utf-8")
    data = Classify.Data(path=str(tmp_path), label="grade")
    _, found = rows.load("grade", Classify, data, [tmp_path], 0)
    assert list(found.each("train")) == [
        {"text": "Don't go", "grade": 1},
        {"text": "# is New York", "grade": 2},
    ]


def test_bad_bytes_name_the_sentence(tmp_path: Path) -> None:
    for split in ("train", "validation"):
        (tmp_path / f"{split}.conll").write_bytes(b"a O\n\ncaf\xe9 O\n\nb B-X\n")
    data = Tag.Data(path=str(tmp_path), tokens="0", tags="1")
    with pytest.raises(rows.RowError, match=r"row 2, column '0'.*UTF-8"):
        rows.load("ner", Tag, data, [tmp_path], 0)


def test_a_missing_column_names_those_there_are(tmp_path: Path) -> None:
    (tmp_path / "train.conll").write_text("a O\n")
    data = Tag.Data(path=str(tmp_path), tokens="0", tags="3")
    with pytest.raises(rows.RowError, match=r"no column '3'; its columns are '0', '1', '-2', '-1'"):
        rows.load("ner", Tag, data, [tmp_path], 0)
