"""Sparse scores ranked as dense ones are."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse

from plum.evaluation.rankings import top_k
from plum.retrievers import sums
from plum.retrievers.sums import best_stored, newest_first


@settings(max_examples=100, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), with_seen=st.booleans(), sparse_share=st.sampled_from([0.0, 1.0]))
def test_sparse_scores_are_ranked_as_dense_ones_that_are_above_zero(seed, with_seen, sparse_share):
    rng = np.random.default_rng(seed)
    n, k = int(rng.integers(1, 40)), int(rng.integers(1, 45))
    scores = np.where(rng.random((6, n)) < rng.random(), rng.integers(-1, 4, (6, n)), 0).astype(np.float32)
    seen = [rng.integers(0, n, rng.integers(0, n)) for _ in range(6)] if with_seen else None
    expected = top_k(np.where(scores > 0, scores, -np.inf), k, seen)
    given_scores = sparse.csr_array(scores)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sums, "_SPARSE_SHARE", sparse_share)
        found = best_stored(given_scores, k, seen)
    assert np.array_equal(found.items, expected.items)
    assert np.array_equal(found.scores, expected.scores)
    assert np.array_equal(given_scores.toarray(), scores)


def test_seen_items_outside_the_catalogue_are_refused():
    with pytest.raises(ValueError, match=r"0\.\.2"):
        best_stored(sparse.csr_array(np.ones((1, 3))), 2, [np.array([3])])


def test_weights_fall_with_age_and_end():
    users = np.array([1, 1, 1, 4])
    assert newest_first(users, 0.5, None).tolist() == [0.25, 0.5, 1.0, 1.0]
    assert newest_first(users, 1.0, 1).tolist() == [0.0, 0.0, 1.0, 1.0]
    assert newest_first(np.zeros(0, int), 0.5, 2).tolist() == []
