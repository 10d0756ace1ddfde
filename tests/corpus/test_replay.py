"""General text from files, streamed."""

import json

import numpy as np
import pandas as pd
import pytest

from plum.corpus.encoder import Encoder
from plum.corpus.replay import drafts, limited, problem_of, texts
from plum.errors import PlumError
from plum.lm.vocab import train_tokenizer

TEXT = ("A sentence of some words. " * 20).strip()


def test_paragraphs_of_text_files(tmp_path):
    (tmp_path / "a.txt").write_text("One line\nand another.\n\n  \n\nA second paragraph.\n")
    (tmp_path / "b.md").write_text("More.")
    found = list(texts([tmp_path / "a.txt", tmp_path / "b.md"], "text"))
    assert found == ["One line\nand another.", "A second paragraph.", "More."]


def test_rows_of_tables(tmp_path):
    pd.DataFrame({"body": ["one", None, " ", "two"], "id": range(4)}).to_parquet(tmp_path / "a.parquet")
    (tmp_path / "b.jsonl").write_text("".join(json.dumps({"body": text}) + "\n" for text in ("three", "four")))
    assert list(texts([tmp_path / "a.parquet", tmp_path / "b.jsonl"], "body")) == ["one", "two", "three", "four"]


def test_a_missing_column_is_named_with_those_that_are_there(tmp_path):
    pd.DataFrame({"body": ["one"], "id": [1]}).to_parquet(tmp_path / "a.parquet")
    with pytest.raises(PlumError, match=r"a.parquet can't be read as .parquet(.|\n)*no column 'text'(.|\n)*body, id"):
        list(texts([tmp_path / "a.parquet"], "text"))


@pytest.mark.parametrize("name", ["a.parquet", "a.jsonl"])
def test_a_damaged_file_is_named(tmp_path, name):
    (tmp_path / name).write_bytes(b"\x00\xff{{{ not a table")
    with pytest.raises(PlumError, match=rf"{name} can't be read"):
        list(texts([tmp_path / name], "text"))


def test_a_line_that_is_no_json_is_named(tmp_path):
    (tmp_path / "a.jsonl").write_text('{"text": "one"}\n\n["two"]\n')
    with pytest.raises(PlumError, match=r"line 3: there is no column 'text'"):
        list(texts([tmp_path / "a.jsonl"], "text"))
    (tmp_path / "a.jsonl").write_text('{"text": "one"}\n{"text": \n')
    with pytest.raises(PlumError, match="line 2: "):
        list(texts([tmp_path / "a.jsonl"], "text"))


@pytest.mark.parametrize("name", ["br[1].txt", "st*r.txt", "a::b.txt", "p%20q.txt", "zip://x.txt"])
def test_names_of_files_are_no_patterns(tmp_path, name):
    path = tmp_path / "f::[x] {y}" / name
    path.parent.mkdir(parents=True)
    path.write_text("hello\n\nthere")
    assert list(texts([path], "text")) == ["hello", "there"]


def test_text_in_another_encoding_is_named(tmp_path):
    (tmp_path / "a.txt").write_bytes("Käse".encode("latin-1") * 10)
    with pytest.raises(PlumError, match=r"a.txt can't be read as .txt"):
        list(texts([tmp_path / "a.txt"], "text"))


def test_files_that_cannot_be_read_are_known_before(tmp_path):
    (tmp_path / "a.txt").write_text("x")
    assert problem_of(tmp_path / "a.txt") is None
    assert "no such file" in problem_of(tmp_path / "b.txt")
    assert "known: .txt" in problem_of(tmp_path / "a.doc")


def test_units_are_sentences_and_reading_stops_when_there_is_enough(tmp_path):
    encoder = Encoder(train_tokenizer(["some text"], 300))
    read = []

    def source():
        for number in range(10_000):
            read.append(number)
            yield TEXT

    first = next(drafts(source(), encoder))
    assert len(first.units) == 20
    whole = encoder.encode([TEXT])[0]
    assert len(np.concatenate(first.units)) == pytest.approx(len(whole), abs=2)
    read.clear()
    found = list(limited(drafts(source(), encoder), 10 * len(np.concatenate(first.units))))
    assert len(found) == 10
    assert len(read) < 1000
