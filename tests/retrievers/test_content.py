"""Retrieval by content against cosines computed in float64."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse

from plum.retrievers import sums
from plum.retrievers.content import TextKNN, choose_textknn
from plum.vectors.unit import joined

# East, north, north-east, west, nothing, south; lengths differ.
VECTORS = np.array([[2, 0], [0, 5], [3, 3], [-1, 0], [0, 0], [0, -4]], dtype=np.float32)


def rows(*lists):
    return [np.array(entries, dtype=np.int64) for entries in lists]


def test_one_item_ranks_by_cosine_whatever_the_lengths():
    found = TextKNN([VECTORS], 1.0).recommend(rows([0]), 6, None)
    assert found.items.tolist() == [[0, 2, 1, 5, 3, -1]]
    assert found.scores[0, :5] == pytest.approx([1, np.sqrt(0.5), 0, 0, -1], abs=1e-6)


def test_the_newest_item_weighs_most_and_repeats_count():
    # East twice, then north: 0.5 ** 2 + 0.5 = 0.75 east and 1 north.
    found = TextKNN([VECTORS], 0.5).recommend(rows([0, 0, 1]), 3, None)
    assert found.items.tolist() == [[2, 1, 0]]
    assert found.scores[0] == pytest.approx(np.array([1.75 / np.sqrt(2), 1, 0.75]) / 1.25)


def test_items_without_content_are_neither_recommended_nor_counted():
    knn = TextKNN([VECTORS], 0.5)
    found = knn.recommend(rows([0, 4, 1, 4], [0, 1], [4]), 6, rows([4, 0], [0], []))
    assert np.array_equal(found.items[0], found.items[1])
    assert np.array_equal(found.scores[0], found.scores[1])
    assert 4 not in found.items
    assert (found.items[2] == -1).all()


def test_a_history_without_content_or_direction_gives_an_empty_list():
    found = TextKNN([VECTORS], 1.0).recommend(rows([], [0, 3], [4, 4], [1]), 2, rows([1], [0, 3], [], [1]))
    assert found.items.tolist() == [[-1, -1], [-1, -1], [-1, -1], [2, 0]]


def test_a_catalogue_without_content_recommends_nothing():
    assert (TextKNN([np.zeros((3, 2))], 1.0).recommend(rows([0], []), 2, rows([1], [])).items == -1).all()
    assert TextKNN([VECTORS], 1.0).recommend([], 2, None).items.shape == (0, 2)


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), decay=st.sampled_from([1.0, 0.9, 0.3]), with_seen=st.booleans())
def test_it_is_brute_force(seed, decay, with_seen):
    rng = np.random.default_rng(seed)
    n, k = int(rng.integers(1, 30)), int(rng.integers(1, 12))
    vectors = rng.integers(-2, 3, (n, 3)) * rng.choice([1e-30, 1.0, 1e30], (n, 1))
    histories = [rng.integers(0, n, rng.integers(0, 6)) for _ in range(5)]
    seen = [rng.integers(0, n, rng.integers(0, n)) for _ in range(5)] if with_seen else None
    found = TextKNN([vectors], decay).recommend(histories, k, seen)
    signs = [vector / max(np.abs(vector).max(), 1e-300) for vector in vectors]
    units = np.array([sign / max(np.linalg.norm(sign), 1e-300) for sign in signs])
    for user, history in enumerate(histories):
        kept = [row for row in history if units[row].any()]
        query = sum((decay**age * units[row] for age, row in enumerate(kept[::-1])), np.zeros(3))
        length = np.linalg.norm(query)
        if 0 < length < 1e-3:
            continue  # opposites that cancel but for rounding
        banned = set(range(n)) if length == 0 else set() if seen is None else set(seen[user].tolist())
        scores = {row: units[row] @ query / length for row in range(n) if units[row].any() and row not in banned}
        expected = sorted(scores.values(), reverse=True)[:k]
        listed = found.items[user][found.items[user] >= 0].tolist()
        assert len(listed) == len(expected)
        assert found.scores[user, : len(listed)] == pytest.approx(expected, abs=1e-5)
        assert [scores[row] for row in listed] == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("decay", [0.0, -1.0, 1.1, np.nan])
def test_a_decay_out_of_range_is_refused(decay):
    with pytest.raises(ValueError, match="decay"):
        TextKNN([VECTORS], decay)


def test_bad_vectors_and_rows_are_refused():
    with pytest.raises(ValueError, match="finite"):
        TextKNN([np.array([[np.nan]])], 1.0)
    with pytest.raises(ValueError, match="finite"):
        TextKNN([sparse.csr_array(np.array([[np.nan]]))], 1.0)
    with pytest.raises(ValueError, match=r"\(N, D\)"):
        TextKNN([np.ones(3)], 1.0)
    for spaces, shares in [([], None), ([VECTORS, VECTORS[1:]], None), ([VECTORS], [1, 1]), ([VECTORS], [0.0])]:
        with pytest.raises(ValueError, match="share above 0"):
            TextKNN(spaces, 1.0, shares)
    for histories, seen in [(rows([6]), None), (rows([0]), rows([6])), (rows([0]), rows([-1]))]:
        with pytest.raises(ValueError, match=r"0\.\.5"):
            TextKNN([VECTORS], 1.0).recommend(histories, 1, seen)


def test_joined_modalities_have_the_same_say():
    found = joined([np.array([[3, 4], [0, 0]]), np.array([[-20.0], [1.0]])])
    assert found.dtype == np.float32
    assert found.tolist() == [[pytest.approx(0.6), pytest.approx(0.8), -1], [0, 0, 1]]
    with pytest.raises(ValueError, match="modalities"):
        joined([np.ones((2, 1)), np.ones((3, 1))])
    with pytest.raises(ValueError, match="modalities"):
        joined([])


def test_sparse_vectors_give_what_dense_ones_do_and_batches_do_not_matter(monkeypatch):
    rng = np.random.default_rng(3)
    vectors = rng.integers(0, 3, (40, 12)) * (rng.random((40, 12)) < 0.3)
    vectors[7] = 0
    histories = [rng.integers(0, 40, rng.integers(0, 6)) for _ in range(30)]
    dense = TextKNN([vectors], 0.7).recommend(histories, 40, histories)
    monkeypatch.setattr(sums, "_BATCH_ENTRIES", 80)
    found = TextKNN([sparse.csr_array(vectors)], 0.7).recommend(histories, 40, histories)
    shared = dense.scores > 1e-6  # items without a word in common are not recommended
    assert found.scores[shared] == pytest.approx(dense.scores[shared], abs=1e-6)
    assert (found.items[~shared] == -1).all()
    assert 7 not in found.items


def test_spaces_add_up_by_their_shares():
    one, other = np.eye(3), np.array([[1, 0], [1, 0], [0, 0]])
    found = TextKNN([sparse.csr_array(one), other], 1.0, shares=[1.0, 3.0]).recommend(rows([0], [2]), 3, None)
    assert found.items.tolist() == [[0, 1, 2], [2, 0, 1]]
    assert found.scores.tolist() == [[1.0, 0.75, 0.0], [0.25, 0.0, 0.0]]


def test_old_items_of_a_history_may_count_for_nothing():
    newest, last_two = (TextKNN([VECTORS], 1.0, last=n).recommend(rows([0, 1, 4]), 6, None) for n in (1, 2))
    assert newest.items[0, 0] == 1  # item 4 has no content
    assert last_two.items[0, 0] == 2


def test_mixture_and_decay_of_best_validation_recall_are_chosen_one_after_the_other():
    # Three items of one kind, then one of the other, which goes on: right where 0.5 + 0.25 + 0.125 < 1. The terms of
    # all items are alike.
    words, terms = np.repeat(np.eye(2), 15, axis=0), np.ones((30, 1))
    histories = rows([0, 1, 2, 15], [29, 28, 27, 3])
    best, trials = choose_textknn({"terms": terms, "title": words}, histories, rows([16], [4]), histories)
    assert best.decay == 0.5
    assert [(trial["settings"]["text"], trial["settings"]["decay"]) for trial in trials] == [
        *((text, 0.5) for text in ("title", "title + 0.1 terms", "title + terms", "terms")),
        *(("title", decay) for decay in (0.3, 0.7, 0.9, 1.0)),
    ]
    assert [trial["valid_recall@10"] for trial in trials] == [1.0, 1.0, 1.0, 0.5, 1.0, 0.0, 0.0, 0.0]
    with pytest.raises(ValueError, match="no content"):
        choose_textknn({}, histories, rows([16], [4]), histories)


def test_items_without_a_word_in_common_are_not_recommended():
    found = TextKNN([sparse.csr_array(np.array([[1, 0], [1, 1], [0, 1]]))], 1.0).recommend(rows([0]), 3, None)
    assert found.items.tolist() == [[0, 1, -1]]
