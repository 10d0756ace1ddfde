"""Text files: what is no text is refused, an end is held out, and blocks cover the stream."""

from __future__ import annotations

import os
from collections.abc import Callable
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from plum.errors import PlumError
from plum.lm import texts


def file(folder: Path, content: bytes | str) -> Path:
    path = folder / "a.txt"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def test_lines_of_their_own_divide_documents(tmp_path):
    path = file(tmp_path, "\ufeffOne\r\ntwo <|document|> in a line\n<|document|>\n\n  <|document|>  \nthree\n")
    assert texts.read_documents(path) == ["One\ntwo <|document|> in a line", "three"]
    assert texts.read_documents(file(tmp_path, " a \n\n b\n")) == ["a \n\n b"]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "holds no text"),
        (b" \n<|document|>\n\t", "holds no text"),
        (b"PK\x03\x04\x00\x00", "is no text(.|\n)*a zero byte at byte 4"),
        ("naïve\ncafé".encode("latin-1"), r"is not UTF-8(.|\n)*byte 0xef in line 1(.|\n)*iconv"),
        (b"fine\n\xff\xfe", "byte 0xff in line 2"),
    ],
)
def test_what_is_no_text_is_refused(tmp_path, content, reason):
    with pytest.raises(PlumError, match=reason):
        texts.read_documents(file(tmp_path, content))


@pytest.mark.parametrize("make", [lambda path: None, os.mkdir, os.mkfifo])
def test_what_is_no_file_is_refused(tmp_path, make: Callable[[Path], object]):
    make(tmp_path / "b.txt")
    with pytest.raises(PlumError, match=r"b.txt can't be read"):
        texts.read_documents(tmp_path / "b.txt")


@given(st.lists(st.text(alphabet="ab\n", min_size=1, max_size=30), max_size=8), st.floats(0, 1))
def test_an_end_in_one_piece_is_held_out(documents, share):
    kept, held = texts.hold_out(documents, share)
    whole = "".join(documents)
    assert "".join(kept) + "".join(held) == whole
    n_held = sum(map(len, held))
    assert n_held >= round(share * len(whole))
    assert not any(document == "" for document in kept)
    if held and documents[len(kept) - 1 : len(kept)] != kept[-1:] and kept:  # it begins within a document
        assert kept[-1].endswith("\n")


def test_no_more_is_held_out_than_a_line_takes():
    lines = [f"line {number}\n" for number in range(10, 60)]
    kept, held = texts.hold_out(["".join(lines)], 0.1)
    assert (kept, held) == (["".join(lines[:45])], ["".join(lines[45:])])


def test_the_end_of_one_long_line_begins_with_a_word():
    words = " ".join(["word"] * 5000)
    kept, held = texts.hold_out(["Title\n" + words], 0.1)
    assert kept[0].endswith(" ")
    assert held[0].startswith("word")
    assert 0.1 <= len(held[0]) / len(words) < 0.101


def test_a_tokenizer_has_the_size_asked_for_or_is_refused():
    assert len(texts.text_tokenizer(["the cat sat on the mat " * 9], 265)) == 265
    with pytest.raises(PlumError, match=r"too little text(.|\n)*207 characters give \d+ tokens(.|\n)*--vocabulary 2"):
        texts.text_tokenizer(["the cat sat on the mat " * 9], 400)


def test_a_stream_joins_documents_by_the_end_token():
    tokenizer = texts.text_tokenizer(["the cat sat"], 261)
    end = tokenizer.eos_token_id
    stream = texts.token_stream(tokenizer, ["the cat", "<|eos|> sat"])
    assert (stream == end).nonzero()[0].tolist() == [0, 1 + len(tokenizer("the cat")["input_ids"]), len(stream) - 1]
    assert tokenizer.decode(stream[stream != end]) == "the cat<|eos|> sat"


@given(n=st.integers(9, 60), length=st.integers(2, 8), batch_size=st.integers(1, 5), seed=st.integers(0, 3))
def test_a_pass_has_each_block_once_and_the_next_one_is_cut_elsewhere(n, length, batch_size, seed):
    stream = np.arange(n, dtype=np.int32)
    batches = list(islice(texts.random_blocks(stream, length, batch_size, seed), 20))
    assert all(batch.shape == (batch_size, length) and batch.dtype == np.int64 for batch in batches)
    blocks = np.concatenate(batches)
    assert (np.diff(blocks, axis=1) == 1).all()
    starts = blocks[:, 0]
    per_pass = (n - starts.min() % length) // length  # at least as many as in any pass
    first = starts[: (n - int(starts[0]) % length) // length]
    assert len(set(first % length)) == 1
    assert len(set(first)) == len(first)
    assert 1 <= len(first) <= per_pass + 1
    again = np.concatenate(list(islice(texts.random_blocks(stream, length, batch_size, seed), 20)))
    assert (again == blocks).all()


def test_other_seeds_give_other_orders():
    stream = np.arange(1000)
    one, other = (next(texts.random_blocks(stream, 10, 8, seed)) for seed in (0, 1))
    assert (one != other).any()
