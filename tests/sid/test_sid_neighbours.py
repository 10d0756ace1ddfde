"""The items that share a prefix, as a reader looks at them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from plum.sid.neighbours import at_each_prefix, with_prefixes

CODES = np.array([[1, 0, 0], [1, 0, 0], [1, 0, 1], [1, 2, 0], [1, 0, 0], [0, 0, 0]])
POPULARITY = np.array([5, 1, 7, 7, 1, 9])


def told(found):
    return [(shared.length, shared.total, shared.rows.tolist()) for shared in found]


def test_neighbours_of_an_item_by_hand():
    # Of the four others of code 1 the rows 2 and 3 are as popular: the first row leads.
    assert told(at_each_prefix(CODES, 0, POPULARITY, 2)) == [(1, 4, [2, 3]), (2, 3, [2, 1]), (3, 2, [1, 4])]
    assert told(at_each_prefix(CODES, 5, POPULARITY, 2)) == [(1, 0, []), (2, 0, []), (3, 0, [])]
    assert told(at_each_prefix(CODES, 3, POPULARITY, 0)) == [(1, 4, []), (2, 0, []), (3, 0, [])]


def test_items_of_a_prefix_by_hand():
    assert told(with_prefixes(CODES, [1, 0, 0], POPULARITY, 9)) == [
        (1, 5, [2, 3, 0, 1, 4]),
        (2, 4, [2, 0, 1, 4]),
        (3, 3, [0, 1, 4]),
    ]
    assert told(with_prefixes(CODES, [0], POPULARITY, 9)) == [(1, 1, [5])]
    # No item has such a SID; its first code is one.
    assert told(with_prefixes(CODES, [0, 9], POPULARITY, 9)) == [(1, 1, [5]), (2, 0, [])]


@given(st.lists(st.tuples(st.integers(0, 1), st.integers(0, 2)), min_size=1, max_size=15), st.integers(0, 99))
def test_an_item_has_the_neighbours_of_its_sid_but_itself(codes, seed):
    table = np.array(codes)
    popularity = np.random.default_rng(seed).integers(0, 3, len(table))
    for row in range(len(table)):
        by_item = told(at_each_prefix(table, row, popularity, 99))
        by_sid = told(with_prefixes(table, table[row].tolist(), popularity, 99))
        assert by_item == [(length, total - 1, [r for r in rows if r != row]) for length, total, rows in by_sid]
        for length, total, rows in by_sid:
            sharing = [r for r in range(len(table)) if codes[r][:length] == codes[row][:length]]
            assert total == len(sharing)
            assert rows == sorted(sharing, key=lambda r: (-popularity[r], r))


def test_what_is_no_item_and_no_prefix_is_refused():
    for row in (-1, len(CODES)):
        with pytest.raises(ValueError, match="rows lie in"):
            at_each_prefix(CODES, row, POPULARITY, 1)
    for sid in ([], [1, 0, 0, 0]):
        with pytest.raises(ValueError, match="1 to 3 codes"):
            with_prefixes(CODES, sid, POPULARITY, 1)
    with pytest.raises(ValueError, match="popularity"):
        with_prefixes(CODES, [1], POPULARITY[:2], 1)
    with pytest.raises(ValueError, match="n -1"):
        at_each_prefix(CODES, 0, POPULARITY, -1)
