import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from plum.evaluation.rankings import Recommendations, flatten, top_k

INF = np.inf


def lists(items, scores):
    return Recommendations(np.array(items, dtype=np.int64), np.array(scores, dtype=np.float32))


def test_a_full_and_a_short_list_are_accepted():
    given_lists = lists([[4, 2], [7, -1], [-1, -1]], [[3.0, 3.0], [0.5, -INF], [-INF, -INF]])
    assert given_lists.items.shape == (3, 2)


@pytest.mark.parametrize(
    ("items", "scores", "message"),
    [
        ([[1, 2]], [[1.0]], r"\(U, K\)"),
        ([[1, 1]], [[2.0, 1.0]], "twice"),
        ([[-1, 1]], [[-INF, 1.0]], "end of a list"),
        ([[1, 2]], [[1.0, 2.0]], "not increase"),
        ([[1, -1]], [[1.0, 0.5]], "exactly where"),
        ([[1, 2]], [[1.0, -INF]], "exactly where"),
        ([[1, 2]], [[1.0, np.nan]], "NaN"),
        ([[1, -2]], [[1.0, -INF]], ">= 0"),
    ],
)
def test_lists_that_break_the_contract_are_refused(items, scores, message):
    with pytest.raises(ValueError, match=message):
        lists(items, scores)


def test_types_are_fixed():
    with pytest.raises(ValueError, match="int64 and scores float32"):
        Recommendations(np.zeros((1, 1), np.int32), np.zeros((1, 1), np.float32))


def test_ties_go_to_the_lower_catalogue_row_also_at_the_border_of_the_list():
    scores = np.array([[0.0, 5.0, 1.0, 5.0, 1.0, 1.0]])
    found = top_k(scores, 4, None)
    assert found.items.tolist() == [[1, 3, 2, 4]]
    assert found.scores.tolist() == [[5.0, 5.0, 1.0, 1.0]]


def test_seen_and_impossible_items_make_a_list_shorter_instead_of_filling_it():
    scores = np.array([[3.0, -INF, 1.0], [3.0, -INF, 1.0]])
    found = top_k(scores, 3, [np.array([0, 0]), np.array([], dtype=np.int64)])
    assert found.items.tolist() == [[2, -1, -1], [0, 2, -1]]
    assert scores[0, 0] == 3.0, "the caller's array is left alone"


def test_a_list_may_be_longer_than_the_catalogue():
    found = top_k(np.array([[1.0, 2.0]]), 5, None)
    assert found.items.tolist() == [[1, 0, -1, -1, -1]]


def test_scores_that_are_equal_as_float32_are_ties():
    assert top_k(np.array([[1.0, 1.0 + 1e-12]]), 2, None).items.tolist() == [[0, 1]]


def test_no_users_give_no_lists():
    assert top_k(np.zeros((0, 4)), 3, []).items.shape == (0, 3)


@pytest.mark.parametrize(
    ("scores", "k", "seen", "message"),
    [
        (np.zeros(3), 1, None, r"\(U, N\)"),
        (np.zeros((1, 3)), 0, None, "at least 1"),
        (np.full((1, 3), np.nan), 1, None, "NaN"),
        (np.zeros((2, 3)), 1, [np.array([0])], "1 entries for 2 users"),
        (np.zeros((1, 3)), 1, [np.array([3])], r"0\.\.2"),
    ],
)
def test_bad_arguments_are_refused(scores, k, seen, message):
    with pytest.raises(ValueError, match=message):
        top_k(scores, k, seen)


def test_flatten_names_the_list_of_each_entry():
    users, items = flatten([np.array([4, 1]), np.array([], dtype=np.int64), np.array([2])], 5)
    assert users.tolist() == [0, 0, 2]
    assert items.tolist() == [4, 1, 2]


few_values = st.sampled_from([-INF, -1.0, 0.0, 0.5, 2.0])


@given(st.data(), hnp.arrays(np.float64, st.tuples(st.integers(1, 4), st.integers(1, 12)), elements=few_values))
def test_top_k_is_the_head_of_a_full_sort(data, scores):
    k = data.draw(st.integers(1, 14))
    n_users, n_items = scores.shape
    seen = [np.array(data.draw(st.lists(st.integers(0, n_items - 1)))).astype(np.int64) for _ in range(n_users)]
    found = top_k(scores, k, seen)
    for user in range(n_users):
        allowed = [i for i in range(n_items) if scores[user, i] > -INF and i not in seen[user]]
        expected = sorted(allowed, key=lambda i: (-scores[user, i], i))[:k]
        assert found.items[user].tolist() == expected + [-1] * (k - len(expected))
