import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sklearn.metrics.pairwise import cosine_distances

from plum.evaluation import catalogue
from plum.evaluation.catalogue import (
    catalogue_metrics,
    coverage,
    effective_vocabulary,
    gini,
    intra_list_diversity,
    novelty,
)


def test_effective_vocabulary_by_hand():
    # 20 places: 16 times item 0, then 1, 2, 3, 4 once each. 95% are 19 places: items 0 to 3.
    items = np.array([0] * 16 + [1, 2, 3, 4]).reshape(10, 2)
    assert effective_vocabulary(items) == 4
    assert effective_vocabulary(items, share=0.8) == 1
    assert effective_vocabulary(items, share=1.0) == 5


def test_empty_places_are_no_item():
    items = np.array([[3, -1, -1], [3, 4, -1]])
    assert effective_vocabulary(items, share=1.0) == 2
    assert coverage(items, 8) == 0.25
    assert effective_vocabulary(np.full((2, 2), -1)) == 0
    assert novelty(np.full((2, 2), -1), np.ones(4)) is None
    assert gini(np.full((2, 2), -1), 4) is None


def test_novelty_by_hand():
    # (c + 1) / (total + N): 8/16 for item 0, 1/16 for item 1, which nobody took.
    counts = np.array([7, 0, 3, 2])
    assert novelty(np.array([[0, 1]]), counts) == pytest.approx((1 + 4) / 2)


@given(st.lists(st.integers(0, 30), min_size=1, max_size=60), st.floats(0.01, 1.0))
def test_effective_vocabulary_is_the_smallest_that_covers(listed, share):
    items = np.array([listed])
    size = effective_vocabulary(items, share)
    counts = sorted((listed.count(item) for item in set(listed)), reverse=True)
    assert sum(counts[:size]) >= share * len(listed) - 1e-5
    assert sum(counts[: size - 1]) < share * len(listed)


def test_gini_by_hand():
    # Counts 0, 1, 1, 2: (-3 * 0 - 1 * 1 + 1 * 1 + 3 * 2) / (4 * 4).
    assert gini(np.array([[3, 1], [0, 3]]), n_items=4) == pytest.approx(6 / 16)
    assert gini(np.array([[0, 1], [2, 3]]), n_items=4) == 0
    assert gini(np.array([[2], [2]]), n_items=4) == 1 - 1 / 4
    assert gini(np.array([[0]]), n_items=1) == 0


@given(st.lists(st.integers(0, 19), min_size=1, max_size=60), st.integers(0, 10))
def test_gini_is_the_mean_difference_over_twice_the_mean(listed, never):
    counts = np.bincount(listed, minlength=20 + never)
    expected = np.abs(counts[:, None] - counts[None, :]).mean() / (2 * counts.mean())
    assert gini(np.array([listed]), len(counts)) == pytest.approx(expected, abs=1e-12)


def test_an_item_outside_the_catalogue_is_refused():
    with pytest.raises(ValueError, match=r"0\.\.3, found 4"):
        gini(np.array([[4]]), n_items=4)


def test_diversity_by_hand():
    vectors = np.array([[2.0, 0.0], [0.0, 3.0], [-1.0, 0.0], [5.0, 0.0]])
    # List 0: pairs 1, 2 and 1; list 1: one pair of the same direction.
    assert intra_list_diversity(np.array([[0, 1, 2], [0, 3, -1]]), vectors) == pytest.approx((4 / 3 + 0) / 2)


def test_items_of_which_nothing_is_known_are_in_no_pair():
    vectors = np.array([[1.0, 0.0], [0.0, 1.0], [0.0, 0.0]])
    assert intra_list_diversity(np.array([[0, 2, 1]]), vectors) == pytest.approx(1.0)
    # Lists without a pair do not count, neither as 0 nor as 1.
    assert intra_list_diversity(np.array([[0, 1], [0, 2], [0, -1], [-1, -1]]), vectors) == pytest.approx(1.0)
    assert intra_list_diversity(np.array([[0, 2], [1, -1]]), vectors) is None


@pytest.mark.parametrize(
    ("vectors", "message"),
    [
        (np.ones((2, 3)), "N above 2"),
        (np.ones(3), r"\(N, D\)"),
        (np.array([[1.0], [np.nan], [1.0]]), "NaN or infinite"),
    ],
)
def test_vectors_that_do_not_fit_are_refused(vectors, message):
    with pytest.raises(ValueError, match=message):
        intra_list_diversity(np.array([[0, 2]]), vectors)


@st.composite
def described_lists(draw):
    """Lists of distinct items with empty ends, and vectors of a 9-item catalogue, some of them zero."""
    n_users, width = draw(st.integers(1, 6)), draw(st.integers(1, 9))
    items = np.full((n_users, width), -1, dtype=np.int64)
    for user in range(n_users):
        order = draw(st.permutations(range(9)))
        length = draw(st.integers(0, width))
        items[user, :length] = order[:length]
    vectors = draw(arrays(np.float32, (9, 3), elements=st.integers(-3, 3).map(float)))
    return items, vectors


@settings(deadline=None)
@given(described_lists())
def test_diversity_agrees_with_scikit_learn(described):
    items, vectors = described
    of_lists = []
    for row in items:
        known = [item for item in row if item >= 0 and vectors[item].any()]
        if len(known) >= 2:
            distances = cosine_distances(vectors[known].astype(np.float64))
            of_lists.append(distances[np.triu_indices(len(known), 1)].mean())
    found = intra_list_diversity(items, vectors)
    assert found == (pytest.approx(np.mean(of_lists), abs=1e-12) if of_lists else None)


def test_diversity_is_the_same_in_blocks_of_users(monkeypatch):
    rng = np.random.default_rng(0)
    items = rng.permuted(np.tile(np.arange(40), (30, 1)), axis=1)[:, :7]
    vectors = rng.normal(size=(40, 5)).astype(np.float32)
    whole = intra_list_diversity(items, vectors)
    for entries in (1, 4 * 7 * 5):
        monkeypatch.setattr(catalogue, "_BLOCK_ENTRIES", entries)
        assert intra_list_diversity(items, vectors) == pytest.approx(whole, abs=1e-13)


def test_catalogue_metrics_look_at_the_first_k_places():
    items = np.array([[0, 1], [0, 2]])
    vectors = np.array([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0], [1.0, 1.0]])
    found = catalogue_metrics(items, np.array([7, 0, 3, 2]), cutoffs=[1, 2], vectors=vectors)
    assert found["effective_vocabulary@1"] == 1
    assert found["effective_vocabulary@2"] == 3
    assert found["coverage@1"] == 0.25
    assert found["coverage@2"] == 0.75
    assert found["gini@1"] == pytest.approx(3 / 4)
    assert found["gini@2"] == pytest.approx(6 / 16)
    assert found["novelty@1"] == pytest.approx(1.0)
    assert found["diversity@2"] == pytest.approx(0.5)
    assert "diversity@1" not in found


def test_what_cannot_be_told_is_left_out():
    nothing = catalogue_metrics(np.full((1, 2), -1), np.ones(3), vectors=np.ones((3, 1)))
    assert nothing == {"effective_vocabulary@10": 0, "coverage@10": 0.0}
    assert "diversity@10" not in catalogue_metrics(np.array([[0, 1]]), np.ones(3))
