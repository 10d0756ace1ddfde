import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from plum.retrieval.nearest import largest_products


def brute_force(items, queries, k, seen):
    """Sort everything by (score falling, row)."""
    lists = []
    for user, query in enumerate(queries):
        banned = set() if seen is None else set(seen[user].tolist())
        ranked = sorted((-float(query @ item), row) for row, item in enumerate(items) if row not in banned)
        lists.append([(row, -score) for score, row in ranked[:k]])
    return lists


@given(seed=st.integers(0, 2**32 - 1), with_seen=st.booleans())
def test_it_is_brute_force_with_seen_items_and_ties(seed, with_seen):
    rng = np.random.default_rng(seed)
    n, d, u, k = rng.integers(1, 40), rng.integers(1, 4), rng.integers(1, 6), int(rng.integers(1, 50))
    items = rng.integers(-1, 2, (n, d)).astype(np.float32)  # whole numbers: plenty of exact ties
    queries = rng.integers(-1, 2, (u, d)).astype(np.float32)
    seen = [rng.integers(0, n, rng.integers(0, n + 1)) for _ in range(u)] if with_seen else None
    found = largest_products(items, queries, k, seen)
    assert found.items.shape == (u, k)
    for user, expected in enumerate(brute_force(items, queries, k, seen)):
        rows = [row for row, _ in expected]
        assert found.items[user].tolist() == rows + [-1] * (k - len(rows))
        assert found.scores[user, : len(rows)].tolist() == [score for _, score in expected]
        assert (found.scores[user, len(rows) :] == -np.inf).all()


def test_ties_at_the_border_of_what_faiss_returns_go_to_the_lower_rows():
    items = np.ones((30, 2), np.float32)
    items[20] = 2.0
    found = largest_products(items, np.ones((1, 2), np.float32), 3, [np.array([0])])
    assert found.items.tolist() == [[20, 1, 2]]


def test_no_queries_give_no_lists():
    assert largest_products(np.ones((3, 2), np.float32), np.zeros((0, 2), np.float32), 5, None).items.shape == (0, 5)


def test_seen_rows_outside_the_catalogue_are_refused():
    with pytest.raises(ValueError, match=r"0\.\.2"):
        largest_products(np.ones((3, 2), np.float32), np.ones((1, 2), np.float32), 1, [np.array([3])])
