"""Blocks of whole documents: nothing is lost, little is left empty, and cuts are where documents allow them."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from plum.corpus.packing import Packer, Part

NOWHERE = (np.zeros(0, np.int64), 0)


def stream(lengths):
    return (Part(0, number, 0, length, length, True, number) for number, length in enumerate(lengths))


def packed(lengths, block_length, borders=lambda kind, number: NOWHERE):
    packer = Packer(stream(lengths), block_length, borders)
    return list(itertools.takewhile(bool, iter(packer.block, None))), packer


@given(lengths=st.lists(st.integers(1, 20), min_size=1, max_size=300))
def test_every_document_is_in_one_block_and_blocks_are_not_overfull(lengths):
    blocks, packer = packed(lengths, 20)
    assert all(sum(part.length for part in block) <= 20 for block in blocks)
    assert sorted(part.number for block in blocks for part in block) == list(range(len(lengths)))
    assert packer.blocks == len(blocks)
    assert packer.placed == sum(lengths)
    assert packer.efficiency == pytest.approx(sum(lengths) / (20 * len(blocks)))


def test_long_and_short_documents_fill_each_other_up():
    blocks, packer = packed([70, 30] * 50, 100)
    assert packer.efficiency == 1.0
    assert len(blocks) == 50


@given(
    items=st.lists(st.integers(2, 30), min_size=40, max_size=120),
    block_length=st.integers(64, 140),
)
def test_histories_are_cut_between_items_to_fill_blocks(items, block_length):
    head, size = 3, 2
    lengths = [head + size * n for n in items]

    def borders(kind, number):
        return head + size * np.arange(1, items[number]), head

    blocks, _ = packed(lengths, block_length, borders)
    covered = {number: [] for number in range(len(items))}
    for part in itertools.chain.from_iterable(blocks):
        assert part.length == part.stop - part.start + (head if part.start else 0)
        assert part.start == 0 or (part.start - head) % size == 0
        assert part.stop == lengths[part.number] or (part.stop - head) % size == 0
        covered[part.number].append((part.start, part.stop))
    for number, parts in covered.items():
        parts.sort()
        assert parts[0][0] == 0
        assert parts[-1][1] == lengths[number]
        assert all(before[1] == after[0] for before, after in itertools.pairwise(parts))


def test_equal_documents_that_do_not_fill_a_block_are_cut_as_far_as_needed():
    blocks, _ = packed([205] * 400, 256, lambda kind, number: (np.arange(9, 205, 4), 5))
    assert sum(part.length for part in blocks[-1]) < 256  # what is left at the end
    full = blocks[:-1]
    assert sum(part.length for block in full for part in block) / (256 * len(full)) > 0.95
    uncut, _ = packed([205] * 400, 256)
    assert len(uncut) == 400 > len(full)


def test_the_oldest_document_never_waits_long():
    blocks, _ = packed([9] + [10] * 1000, 10)
    assert blocks[0] == [Part(0, 0, 0, 9, 9, True, 0)]
