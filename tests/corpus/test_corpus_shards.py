"""Documents on disk: a round trip, several files, and memory that does not grow with the number of items."""

import subprocess
import sys

import numpy as np
import pytest

from plum.corpus.documents import Document
from plum.corpus.shards import HELD_OUT, TRAIN, read_documents, write_documents
from plum.errors import PlumError


def some(n, rng):
    for number in range(n):
        length = int(rng.integers(1, 30))
        cuts = np.sort(rng.choice(30, int(rng.integers(0, 5)), replace=False)).astype(np.int32)
        tokens = rng.integers(0, 1 << 20, length).astype(np.int32)
        yield Document(tokens, cuts, int(rng.integers(0, 4)), number * 3, ("title", "")[number % 2])


def same(one, other):
    assert np.array_equal(one.tokens, other.tokens)
    assert np.array_equal(one.cuts, other.cuts)
    assert one[2:] == other[2:]


@pytest.mark.parametrize("n", [1, 7, 2500])
def test_documents_come_back_as_they_were(tmp_path, n):
    expected = list(some(n, np.random.default_rng(n)))
    assert write_documents(tmp_path / "x", TRAIN, iter(expected), 5000) == sum(len(one.tokens) for one in expected)
    assert len(list((tmp_path / "x").iterdir())) == -(-sum(len(one.tokens) for one in expected) // 5000)
    found = read_documents(tmp_path / "x", TRAIN)
    assert len(found) == n
    for number, one in enumerate(expected):
        same(found[number], one)
        assert np.array_equal(found.tokens(number), one.tokens)
    assert found.lengths.tolist() == [len(one.tokens) for one in expected]
    assert found.owners().tolist() == [one.owner for one in expected]
    assert found.facts().tolist() == [one.fact for one in expected]
    assert len(list(found)) == n
    with pytest.raises(IndexError):
        found[n]
    assert len(read_documents(tmp_path / "x", HELD_OUT)) == 0


def test_no_documents_are_no_file(tmp_path):
    assert write_documents(tmp_path / "x", TRAIN, iter(())) == 0
    assert list((tmp_path / "x").iterdir()) == []
    assert read_documents(tmp_path / "x", TRAIN).lengths.tolist() == []


def test_the_same_documents_are_the_same_bytes(tmp_path):
    for name in ("a", "b"):
        write_documents(tmp_path / name, TRAIN, some(1500, np.random.default_rng(0)))
    files = [(tmp_path / name / "train-00000.arrow").read_bytes() for name in ("a", "b")]
    assert files[0] == files[1]


def test_a_damaged_file_is_named(tmp_path):
    write_documents(tmp_path, TRAIN, some(50, np.random.default_rng(0)))
    path = tmp_path / "train-00000.arrow"
    path.write_bytes(path.read_bytes()[:300])
    with pytest.raises(PlumError, match=r"train-00000.arrow can't be read as documents"):
        read_documents(tmp_path, TRAIN)


def test_a_failed_write_leaves_no_file(tmp_path):
    def failing():
        yield from some(5, np.random.default_rng(0))
        raise PlumError("no more")

    with pytest.raises(PlumError, match="no more"):
        write_documents(tmp_path / "x", TRAIN, failing())
    assert list((tmp_path / "x").iterdir()) == []


PEAK = """
import itertools, sys
import numpy as np
from pathlib import Path
from plum.config.templates import parse_template
from plum.corpus import metadata
from plum.corpus.documents import Frame
from plum.corpus.encoder import Encoder
from plum.corpus.shards import TRAIN, write_documents
from plum.lm.vocab import train_tokenizer
from plum.runtime import peak_memory_mib

folder, n = Path(sys.argv[1]), int(sys.argv[2])
words = "alpha beta gamma delta epsilon zeta eta theta iota kappa".split()
tokenizer = train_tokenizer([" ".join(words)], 400)
forms = {"title": [parse_template("Item {sid} has title: {title}")]}
encoder, frame = Encoder(tokenizer), Frame(1, 2, 128)
sids = np.broadcast_to(np.arange(3, dtype=np.int32), (n, 3))

def drafts():
    for first in range(0, n, 1000):
        rows = list(range(first, min(n, first + 1000)))
        titles = [" ".join(words[(row * k) % 10] for k in range(1, 9)) + str(row) for row in rows]
        yield from metadata.drafts(list(metadata.facts(rows, {"title": titles}, forms, 0)), sids, encoder)

write_documents(folder, TRAIN, itertools.chain.from_iterable(map(frame.fit, drafts())), 1 << 20)
print(peak_memory_mib())
"""


@pytest.mark.slow
def test_memory_does_not_grow_with_the_number_of_items(tmp_path):
    def peak(n):
        command = [sys.executable, "-c", PEAK, str(tmp_path / str(n)), str(n)]
        return float(subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()[-1])

    few, many = peak(20_000), peak(200_000)
    size = sum(path.stat().st_size for path in (tmp_path / "200000").iterdir()) / 2**20
    assert many - few < 15
    assert size > 15  # what would be held if it were not streamed, and several times as much as Python objects
