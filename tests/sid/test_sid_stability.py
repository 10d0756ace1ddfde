"""What is left of prefixes after a retrain: by hand, and against all renamings."""

from __future__ import annotations

import itertools
import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from plum.errors import PlumError
from plum.sid.stability import prefix_survival


def survival(old, new):
    ids = [f"item{row}" for row in range(len(old))]
    return prefix_survival(ids, np.array(old), ids, np.array(new))


def test_the_docstring_example():
    found = survival([[0], [0], [1], [1]], [[1], [1], [0], [1]])
    assert (found["items"], found["same"], found["matched"]) == (4, [0.25], [0.75])


def test_survival_by_hand():
    old = [[0, 0], [0, 0], [0, 1], [1, 0], [1, 1], [1, 1]]
    new = [[5, 2], [5, 2], [5, 2], [5, 7], [0, 1], [0, 1]]
    found = survival(old, new)
    assert found["same"] == [0, 0]
    # 0 -> 5 keeps three items, 1 -> 0 two. Within them 0 0 -> 5 2 keeps two and 1 1 -> 0 1 two: 0 1 has no code left.
    assert found["matched"] == pytest.approx([5 / 6, 4 / 6])
    # Pairs of items together: of 15, old 6 and new 7, both 4; the mean of chance is 6 * 7 / 15.
    chance = 6 * 7 / 15
    assert found["adjusted_rand"][0] == pytest.approx((4 - chance) / ((6 + 7) / 2 - chance))
    # Old pairs {ab}, {ef}, new ones {abc} (3) and {ef}: both 2.
    chance = 2 * 4 / 15
    assert found["adjusted_rand"][1] == pytest.approx((2 - chance) / ((2 + 4) / 2 - chance))
    assert json.loads(json.dumps(found)) == found


def test_the_best_match_is_not_the_greedy_one():
    # 0 -> 0 keeps 3, but then 1 finds nothing; 0 -> 1 and 1 -> 0 keep 2 + 2.
    found = survival([[0]] * 5 + [[1]] * 2, [[0]] * 3 + [[1]] * 2 + [[0]] * 2)
    assert found["matched"] == pytest.approx([4 / 7])
    assert found["same"] == pytest.approx([3 / 7])


def test_only_items_of_both_catalogues_count_whatever_their_order():
    old_ids, old = ["a", "b", "c"], np.array([[0, 1], [1, 1], [1, 0]])
    new_ids, new = ["x", "c", "a"], np.array([[2, 2], [1, 1], [0, 1]])
    found = prefix_survival(old_ids, old, new_ids, new)
    assert (found["items"], found["same"], found["matched"]) == (2, [1.0, 0.5], [1.0, 1.0])


CODES = st.lists(st.tuples(st.integers(0, 2), st.integers(0, 2)), min_size=1, max_size=12)


@given(CODES, st.permutations(range(3)), st.permutations(range(3)))
def test_renaming_codes_changes_nothing_but_the_labels(codes, first, second):
    old = np.array(codes)
    # Second codes are renamed within each first code, differently: a prefix has its own.
    new = np.column_stack([np.array(first)[old[:, 0]], (np.array(second)[old[:, 1]] + old[:, 0]) % 3])
    found = survival(old, new)
    assert found["matched"] == [1.0, 1.0]
    assert found["adjusted_rand"] == pytest.approx([1.0, 1.0])
    assert survival(old, old)["same"] == [1.0, 1.0]


@given(CODES, st.integers(0, 999))
def test_the_first_match_is_the_best_of_all_renamings(codes, seed):
    old = np.array(codes)
    new = np.random.default_rng(seed).integers(0, 3, old.shape)
    found = survival(old, new)
    renamings = [np.array(renaming) for renaming in itertools.permutations(range(3))]
    best = max((renaming[old[:, 0]] == new[:, 0]).mean() for renaming in renamings)
    assert found["matched"][0] == pytest.approx(best)
    assert found["matched"][0] >= found["same"][0]
    assert found["matched"][1] <= found["matched"][0]
    assert found["same"][1] == pytest.approx((old == new).all(axis=1).mean())


def test_what_can_not_be_compared_is_refused():
    codes = np.zeros((2, 2), dtype=int)
    with pytest.raises(PlumError, match="no item in common"):
        prefix_survival(["a", "b"], codes, ["c", "d"], codes)
    with pytest.raises(PlumError, match="no item in common"):
        prefix_survival(["a", "b"], codes, [], codes[:0])
    with pytest.raises(PlumError, match="different numbers of levels"):
        prefix_survival(["a", "b"], codes, ["a", "b"], codes[:, :1])
    for ids in (["a"], ["a", "a"]):
        with pytest.raises(ValueError, match="ids"):
            prefix_survival(["a", "b"], codes, ids, codes)
