"""Items whose codes collide: a suffix keeps the codes, reassignment the places' capacity."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sid_catalogues import catalogues

from plum.errors import PlumError
from plum.sid.collisions import add_suffix, reassign
from plum.sid.kmeans import residual_kmeans


def test_the_docstring_example_of_add_suffix():
    table = add_suffix(np.array([[3, 1], [3, 1], [0, 2]]), [4, 3], np.array([5, 9, 1]))
    assert table.codes.tolist() == [[3, 1, 1], [3, 1, 0], [0, 2, 0]]
    assert table.sizes == (4, 3, 2)
    assert (table.n_items, table.n_levels) == (3, 3)


@given(catalogues())
def test_a_suffix_makes_every_sid_unique_and_keeps_the_codes(catalogue):
    codes, popularity = catalogue
    table = add_suffix(codes, [3, 2], popularity)
    assert len({tuple(c) for c in table.codes.tolist()}) == len(codes)
    assert np.array_equal(table.codes[:, :2], codes)
    assert table.sizes[-1] == table.codes[:, -1].max() + 1


def test_the_docstring_example_of_reassign():
    codes, vectors, book = np.array([[0], [0]]), np.array([[0.1], [0.2]]), np.array([[0.0], [1.0]])
    assert reassign(codes, vectors, [book], np.array([1, 5])).tolist() == [[1], [0]]


@given(st.integers(1, 12), st.integers(1, 3), st.integers(0, 99))
def test_reassigned_items_fill_no_sid_beyond_its_capacity(n, capacity, seed):
    rng = np.random.default_rng(seed)
    vectors = rng.normal(size=(n, 2)).astype(np.float32)
    books, codes = residual_kmeans(vectors, [3, 4], seed)
    popularity = rng.integers(0, 4, n)
    result = reassign(codes, vectors, books, popularity, capacity)
    count = Counter(map(tuple, result.tolist()))
    assert max(count.values()) <= capacity
    for sid in {tuple(c) for c in codes.tolist()}:  # the most popular of a SID keep it
        rows = sorted(np.flatnonzero((codes == sid).all(1)), key=lambda row: (-popularity[row], row))
        assert (result[rows[:capacity]] == sid).all()
    for row in np.flatnonzero((result != codes).any(1)):
        assert count[tuple(codes[row].tolist())] == capacity  # none moves from a SID with room


def test_a_full_prefix_sends_items_to_the_next_nearest_prefix():
    books = [np.array([[0.0], [10.0]]), np.array([[-1.0], [1.0]])]
    vectors = np.array([[0.9], [1.1], [-1.0], [2.0]])
    codes = np.array([[0, 1], [0, 1], [0, 0], [0, 1]])
    result = reassign(codes, vectors, books, np.array([9, 8, 7, 6]))
    # The second (1.1) finds [0, 0] taken by the third, so both it and the last go on to the prefix around 10; -1 is
    # the nearer of its two codewords.
    assert result.tolist() == [[0, 1], [1, 0], [0, 0], [1, 1]]


def test_it_is_the_first_free_place_of_a_greedy_descent_not_the_nearest_of_all():
    books = [np.array([[0.0], [10.0]]), np.array([[-5.5], [1.0]])]
    codes, vectors = np.array([[0, 1], [0, 1]]), np.array([[4.6], [4.5]])
    # [1, 0] has its codewords at 4.5, right on the second item. But 0 is the nearer first code, and has a place left.
    assert reassign(codes, vectors, books, np.array([9, 8])).tolist() == [[0, 1], [0, 0]]


def test_held_items_keep_their_places_and_those_that_share_take_one():
    book = [np.array([[0.0], [1.0], [2.0]])]
    result = reassign(np.array([[0], [1]]), np.array([[0.1], [1.1]]), book, np.array([3, 9]), 1, np.array([[0], [0]]))
    assert result.tolist() == [[2], [1]]


def test_more_items_than_places_are_refused():
    book = [np.array([[0.0], [1.0]])]
    with pytest.raises(PlumError, match=r"3 items, but only 2 places(.|\n)*codebook_sizes"):
        reassign(np.zeros((3, 1), dtype=int), np.zeros((3, 1)), book, np.zeros(3))
    with pytest.raises(PlumError, match="3 items, but only 2 places"):
        reassign(np.zeros((2, 1), dtype=int), np.zeros((2, 1)), book, np.zeros(2), 1, np.array([[1]]))
