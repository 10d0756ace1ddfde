"""Agreement of prefixes with content and with co-occurrence, by hand and against all permutations."""

from __future__ import annotations

import itertools
import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.neighbors import NearestNeighbors

from plum.data.histories import Histories
from plum.sid.agreement import cooccurrence_agreement, heldout_pairs, neighbour_overlap

# On a circle, in degrees: 0 and 1 are neighbours, so are 2 and 3; 4 lies between, nearer to the latter.
ANGLES = np.deg2rad([0, 10, 90, 95, 60])
CIRCLE = np.stack([np.cos(ANGLES), np.sin(ANGLES)], axis=1)


def test_overlap_by_hand():
    # Nearest two of each: 0: {1, 4}; 1: {0, 4}; 2: {3, 4}; 3: {2, 4}; 4: {2, 3}.
    codes = np.array([[0, 0], [0, 1], [1, 0], [1, 0], [1, 1]])
    found = neighbour_overlap(codes, CIRCLE, k=2)
    # Buckets {0, 1} and {2, 3, 4}, then {2, 3} alone of more than one item.
    recall, jaccard = [(0.5 + 0.5 + 1 + 1 + 1) / 5, (0.5 + 0.5) / 5], [(0.5 + 0.5 + 1 + 1 + 1) / 5, (0.5 + 0.5) / 5]
    assert (found["k"], found["items"]) == (2, 5)
    assert found["recall"] == pytest.approx(recall)
    assert found["jaccard"] == pytest.approx(jaccard)
    # Of four others, two items have one mate and three have two; then two have one and the others none.
    assert found["recall_random"] == pytest.approx([(2 * 1 + 3 * 2) / (5 * 4), 2 * 1 / (5 * 4)])
    assert json.loads(json.dumps(found)) == found


def test_jaccard_counts_what_either_holds_and_recall_what_the_neighbours_do():
    codes = np.zeros((5, 1), dtype=int)
    found = neighbour_overlap(codes, CIRCLE, k=1)
    assert (found["recall"], found["recall_random"]) == ([1.0], [1.0])
    assert (found["jaccard"], found["jaccard_random"]) == ([pytest.approx(1 / 4)], [pytest.approx(1 / 4)])


@pytest.mark.parametrize("k", [1, 2, 4])
@pytest.mark.parametrize("codes", [[0, 0, 1, 1, 1], [0, 0, 0, 0, 1], [0, 1, 1, 2, 2], [2, 2, 2, 2, 2]])
def test_the_random_overlap_is_the_mean_over_all_permutations(codes, k):
    dealt = [
        neighbour_overlap(np.array(order)[:, None], CIRCLE, k=k)
        for order in sorted(set(itertools.permutations(codes)))  # each stands for as many permutations as the others
    ]
    for name in ("recall", "jaccard"):
        mean = np.mean([found[name][0] for found in dealt])
        assert {round(found[f"{name}_random"][0], 12) for found in dealt} == {round(mean, 12)}


@settings(max_examples=25, deadline=None)
@given(st.integers(3, 40), st.integers(1, 12), st.integers(0, 999))
def test_overlap_is_that_of_an_independent_search(n, k, seed):
    rng = np.random.default_rng(seed)
    vectors, codes = rng.normal(size=(n, 3)), rng.integers(0, 3, (n, 2))
    found = neighbour_overlap(codes, vectors, k=k, n_sample=n)
    k = min(k, n - 1)
    nearest = NearestNeighbors(n_neighbors=k, metric="cosine").fit(vectors).kneighbors(return_distance=False)
    for length in (1, 2):
        sets = [
            (set(near.tolist()), {j for j in range(n) if j != i and (codes[i, :length] == codes[j, :length]).all()})
            for i, near in enumerate(nearest)
        ]
        assert found["recall"][length - 1] == pytest.approx(np.mean([len(a & b) / k for a, b in sets]))
        assert found["jaccard"][length - 1] == pytest.approx(np.mean([len(a & b) / len(a | b) for a, b in sets]))


def test_items_without_content_are_left_out():
    codes = np.array([[0, 0], [0, 1], [1, 0], [1, 0], [1, 1]])
    alone = neighbour_overlap(codes, CIRCLE, k=2)
    more_codes = np.concatenate([codes, [[0, 0], [1, 0]]])
    zero_row, absent = np.zeros((1, 2)), np.array([[0.9, 0.1]])
    vectors = np.concatenate([CIRCLE, zero_row, absent])
    present = np.array([True] * 6 + [False])
    assert neighbour_overlap(more_codes, vectors, present, k=2) == alone
    assert neighbour_overlap(codes, np.zeros((5, 2))) is None
    assert neighbour_overlap(codes, CIRCLE, np.eye(5, dtype=bool)[0]) is None


def test_a_sample_is_of_so_many_items_and_the_same_for_a_seed():
    rng = np.random.default_rng(3)
    vectors, codes = rng.normal(size=(200, 4)), rng.integers(0, 4, (200, 2))
    first, again, other = (neighbour_overlap(codes, vectors, n_sample=20, seed=seed) for seed in (0, 0, 1))
    assert first["items"] == 20
    assert first == again
    assert first["recall"] != other["recall"]
    assert first["recall_random"] == other["recall_random"]


def test_what_can_not_be_compared_is_refused():
    codes = np.zeros((5, 1), dtype=int)
    for k, n_sample, vectors, present in (
        (0, 1, CIRCLE, None),
        (1, 0, CIRCLE, None),
        (1, 1, CIRCLE[:4], None),
        (1, 1, CIRCLE, np.ones(4, dtype=bool)),
        (1, 1, np.full((5, 2), np.nan), None),
    ):
        with pytest.raises(ValueError, match="vectors"):
            neighbour_overlap(codes, vectors, present, k, n_sample)


def test_the_docstring_example_of_agreement():
    found = cooccurrence_agreement(np.array([[0], [0], [1], [1]]), np.array([[0, 1], [2, 3]]))
    assert found == {"pairs": 2, "share": [1.0], "random": [0.5], "lift": [2.0]}


def test_agreement_by_hand():
    codes = np.array([[0, 0], [0, 1], [0, 1], [1, 1]])
    # The last is an item with itself, which agrees in any codes: three pairs are left.
    found = cooccurrence_agreement(codes, np.array([[0, 1], [1, 2], [3, 1], [2, 2]]))
    # First items 0, 1, 3 with second items 1, 2, 1 in any combination, but for 1 with 1: 0-1, 0-2, 0-1, 1-2, 3-1, 3-2,
    # 3-1. The first four share the first code, 1-2 the second as well.
    assert found["pairs"] == 3
    assert found["share"] == pytest.approx([2 / 3, 1 / 3])
    assert found["random"] == pytest.approx([4 / 7, 1 / 7])
    assert found["lift"] == pytest.approx([7 / 6, 7 / 3])


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), min_size=1, max_size=6), st.integers(0, 999))
def test_random_agreement_is_that_of_all_combinations(pairs, seed):
    codes = np.random.default_rng(seed).integers(0, 2, (6, 3))
    found = cooccurrence_agreement(codes, np.array(pairs))
    different = [(i, j) for i, j in pairs if i != j]
    if not different:
        assert found is None
        return
    combined = [(i, j) for i, _ in different for _, j in different if i != j]
    assert found["pairs"] == len(different)
    for length in (1, 2, 3):
        agree = [(codes[i, :length] == codes[j, :length]).all() for i, j in combined]
        share = [(codes[i, :length] == codes[j, :length]).all() for i, j in different]
        assert found["share"][length - 1] == pytest.approx(np.mean(share))
        assert found["random"][length - 1] == pytest.approx(np.mean(agree))
        assert (found["lift"][length - 1] is None) == (not any(agree))
    assert json.loads(json.dumps(found)) == found


def test_pairs_outside_the_catalogue_are_refused():
    for pairs in ([[0, 3]], [[-1, 0]], [[0, 1, 2]]):
        with pytest.raises(ValueError, match="3 items"):
            cooccurrence_agreement(np.zeros((3, 1), dtype=int), np.array(pairs))
    assert cooccurrence_agreement(np.zeros((3, 1), dtype=int), np.zeros((0, 2), dtype=int)) is None


def test_held_out_pairs_are_what_came_next_and_never_of_the_test():
    rows = [np.array(row, dtype=np.int64) for row in ([4, 7], [], [5], [6])]
    valid = [np.array(row, dtype=np.int64) for row in ([9, 8], [1], [], [2])]
    test = [np.array([99])] * 4
    histories = Histories(np.array(list("abcd")), rows, valid, test)
    assert heldout_pairs(histories, 1).tolist() == [[7, 9], [6, 2]]
    assert heldout_pairs(histories, 3).tolist() == [[4, 9], [7, 9], [6, 2]]
    empty = heldout_pairs(Histories(np.array([]), [], [], []), 3)
    assert empty.shape == (0, 2)
    assert empty.dtype == np.int64
