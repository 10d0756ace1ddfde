"""Co-occurring pairs against two nested loops."""

from __future__ import annotations

from collections import Counter

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from plum.sid.cooccurrence import cooccurrence_pairs


@given(st.lists(st.lists(st.integers(0, 4), max_size=7), max_size=5), st.integers(1, 9))
def test_pairs_by_brute_force(histories, window):
    expected = Counter(
        (history[i], history[j])
        for history in histories
        for i in range(len(history))
        for j in range(i + 1, min(len(history), i + window + 1))
        if history[i] != history[j]
    )
    found = cooccurrence_pairs([np.array(h, dtype=np.int64) for h in histories], window)
    assert found.dtype == np.int64
    assert found.shape == (sum(expected.values()), 2)
    assert Counter(map(tuple, found.tolist())) == expected


def test_the_docstring_example():
    assert cooccurrence_pairs([np.array([4, 7, 9])], 1).tolist() == [[4, 7], [7, 9]]
