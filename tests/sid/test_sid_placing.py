"""New items beside old ones: nobody old moves, and what new ones get is free."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from plum.errors import PlumError
from plum.sid.collisions import add_suffix, reassign
from plum.sid.frozen import Frozen, Rules
from plum.sid.placing import place_new
from plum.sid.random_codes import random_codebooks

SIZES = (3, 2)


def frozen_of(collision, table_sizes=SIZES, capacity=1, sizes=SIZES):
    books = random_codebooks(sizes, 4, 0)
    return Frozen("rqkmeans", (), books, Rules(0, collision, capacity, tuple(table_sizes)))


def codes_of(draw, least=0):
    n = draw(st.integers(least, 15))
    rows = draw(st.lists(st.tuples(*[st.integers(0, size - 1) for size in SIZES]), min_size=n, max_size=n))
    return np.array(rows, dtype=np.int64).reshape(n, 2)


@st.composite
def catalogues(draw):
    return codes_of(draw, 1), codes_of(draw)


def test_new_items_share_where_old_ones_do():
    old, new = np.array([[0, 1], [2, 0]]), np.array([[2, 0], [1, 1], [1, 1], [0, 0]])
    found = place_new(frozen_of("share"), old, new)
    assert np.array_equal(found.codes, new)
    assert found.collided.tolist() == [True, True, True, False]


def test_suffixes_go_on_after_the_largest_of_old_items():
    old = np.array([[0, 1, 0], [0, 1, 2], [2, 0, 0]])  # the item of suffix 1 has left
    new = np.array([[0, 1], [2, 0], [1, 1], [0, 1], [1, 1]])
    found = place_new(frozen_of("suffix", (3, 2, 5)), old, new)
    assert found.codes.tolist() == [[0, 1, 3], [2, 0, 1], [1, 1, 0], [0, 1, 4], [1, 1, 1]]
    assert found.collided.tolist() == [True, True, True, True, True]
    assert place_new(frozen_of("suffix", (3, 2, 5)), old, np.array([[1, 0]])).collided.tolist() == [False]


def test_in_a_full_codebook_of_suffixes_no_place_is_found():
    old = np.array([[0, 1, 0], [0, 1, 1]])
    found = place_new(frozen_of("suffix", (3, 2, 2)), old, np.array([[2, 1], [0, 1], [2, 1], [2, 1]]))
    assert found.found.tolist() == [True, False, True, False]
    assert found.codes.tolist() == [[2, 1, 0], [2, 1, 1]]
    assert found.collided.tolist() == [True, True]
    alone = place_new(frozen_of("suffix", (3, 2, 1)), old[:1], np.array([[0, 1], [1, 1], [1, 1]]))
    assert (alone.found.tolist(), alone.codes.tolist()) == ([False, True, False], [[1, 1, 0]])
    assert alone.collided.tolist() == [False]  # the other one of these codes has no place
    none = place_new(frozen_of("suffix", (3, 2, 1)), old[:1], np.array([[0, 1]]))
    assert (none.found.tolist(), none.codes.shape) == ([False], (0, 3))


@given(catalogues())
def test_with_a_suffix_no_two_items_have_one_sid(catalogue):
    old, new = catalogue
    table = add_suffix(old, SIZES, np.zeros(len(old)))
    frozen = frozen_of("suffix", (*SIZES, 40))
    found = place_new(frozen, table.codes, new)
    assert found.found.all()
    assert np.array_equal(found.codes[:, :2], new)
    everyone = np.concatenate([table.codes, found.codes])
    assert len(np.unique(everyone, axis=0)) == len(everyone)


def test_reassigned_new_items_take_free_places():
    books = [np.array([[0.0], [1.0], [2.0]], dtype=np.float32)]
    frozen = Frozen("rqkmeans", (), books, Rules(0, "reassign", 1, (3,)))
    found = place_new(frozen, np.array([[1]]), np.array([[1], [0]]), np.array([[1.4], [0.2]]))
    assert found.codes.tolist() == [[2], [0]]
    assert found.collided.tolist() == [True, False]
    with pytest.raises(PlumError, match="4 items, but only 3 places"):
        place_new(frozen, np.array([[1]]), np.array([[0], [0], [0]]))


@given(catalogues(), st.integers(1, 3))
def test_reassigned_items_exceed_no_capacity_and_stay_where_there_is_room(catalogue, capacity):
    old, new = catalogue
    books = random_codebooks((5, 4), 4, 0)
    frozen = Frozen("rqkmeans", (), books, Rules(0, "reassign", capacity, (5, 4)))
    held = reassign(old, np.zeros((len(old), 4)), books, np.zeros(len(old)), capacity)
    if len(old) + len(new) > capacity * 20:
        return
    found = place_new(frozen, held, new)
    everyone, counts = np.unique(np.concatenate([held, found.codes]), axis=0, return_counts=True)
    assert counts.max() <= capacity
    full = {tuple(code) for code, count in zip(everyone.tolist(), counts, strict=True) if count == capacity}
    for before, after in zip(new.tolist(), found.codes.tolist(), strict=True):
        assert before == after or tuple(before) in full


def test_codes_of_another_number_of_levels_are_a_mistake():
    with pytest.raises(ValueError, match="sizes"):
        place_new(frozen_of("suffix", (3, 2, 5)), np.array([[0, 1]]), np.array([[0, 1]]))
    with pytest.raises(ValueError, match="sizes"):
        place_new(frozen_of("share"), np.array([[0, 1]]), np.array([[0, 1, 2]]))
