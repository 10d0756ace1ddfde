import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import ndcg_score

from plum.evaluation.metrics import (
    catalogue_metrics,
    cold_start_recall,
    coverage,
    effective_vocabulary,
    novelty,
    per_user_metrics,
)


def rows(*lists):
    return [np.array(entries, dtype=np.int64) for entries in lists]


def test_one_target_by_hand():
    items = np.array([[5, 3, 9, 1], [2, 7, -1, -1], [8, 6, 4, 0]])
    found = per_user_metrics(items, rows([9], [3], [8]), cutoffs=[1, 2, 3])
    third = 1 / math.log2(4)
    table = {
        "recall@1": [0, 0, 1],
        "recall@2": [0, 0, 1],
        "recall@3": [1, 0, 1],
        "ndcg@2": [0, 0, 1],
        "ndcg@3": [third, 0, 1],
        "mrr@1": [0, 0, 1],
        "mrr@3": [1 / 3, 0, 1],
        "hit@3": [1, 0, 1],
    }
    for name, values in table.items():
        assert found[name].tolist() == pytest.approx(values), name


def test_several_targets_by_hand():
    # Targets 1, 2, 3 stand at places 2 and 4; the third is not found.
    found = per_user_metrics(np.array([[9, 2, 8, 1]]), rows([1, 2, 3]), cutoffs=[2, 4])
    gain_2, gain_4 = 1 / math.log2(3), 1 / math.log2(5)
    assert found["recall@2"][0] == pytest.approx(1 / 3)
    assert found["recall@4"][0] == pytest.approx(2 / 3)
    assert found["ndcg@2"][0] == pytest.approx(gain_2 / (1 + 1 / math.log2(3)))
    assert found["ndcg@4"][0] == pytest.approx((gain_2 + gain_4) / (1 + 1 / math.log2(3) + 1 / 2))
    assert found["mrr@4"][0] == pytest.approx(1 / 2)
    assert found["hit@2"][0] == 1


def test_recall_is_over_all_targets_even_if_they_cannot_all_fit():
    found = per_user_metrics(np.array([[1]]), rows([1, 2, 3, 4]), cutoffs=[1])
    assert found["recall@1"][0] == 0.25
    assert found["ndcg@1"][0] == 1.0


def test_places_beyond_a_short_list_are_misses():
    short = per_user_metrics(np.array([[4, 2]]), rows([2]), cutoffs=[50])
    padded = per_user_metrics(np.array([[4, 2, -1, -1]]), rows([2]), cutoffs=[50])
    assert {name: values.tolist() for name, values in short.items()} == {
        name: values.tolist() for name, values in padded.items()
    }
    assert short["mrr@50"][0] == 0.5


def test_repeated_targets_count_once():
    assert per_user_metrics(np.array([[4]]), rows([4, 4]), cutoffs=[1])["recall@1"][0] == 1.0


def test_no_users_give_empty_arrays():
    assert per_user_metrics(np.zeros((0, 3), np.int64), [], cutoffs=[5])["ndcg@5"].shape == (0,)


@pytest.mark.parametrize(
    ("items", "targets", "cutoffs", "message"),
    [
        (np.array([[1]]), rows([]), [1], "user 0 has no target"),
        (np.array([[1]]), rows([1], [2]), [1], "2 targets"),
        (np.array([[1]]), rows([-1]), [1], ">= 0"),
        (np.array([[1]]), rows([1]), [0], "at least 1"),
    ],
)
def test_bad_arguments_are_refused(items, targets, cutoffs, message):
    with pytest.raises(ValueError, match=message):
        per_user_metrics(items, targets, cutoffs)


@st.composite
def evaluations(draw):
    """Lists of distinct items with empty ends, and targets, for a few users of a 12-item catalogue."""
    n_users, width = draw(st.integers(1, 5)), draw(st.integers(1, 12))
    items = np.full((n_users, width), -1, dtype=np.int64)
    targets = []
    for user in range(n_users):
        order = draw(st.permutations(range(12)))
        length = draw(st.integers(0, width))
        items[user, :length] = order[:length]
        targets.append(np.array(sorted(draw(st.sets(st.integers(0, 11), min_size=1)))))
    return items, targets


@settings(deadline=None)
@given(evaluations())
def test_bounds_growth_with_k_and_hit_as_sign_of_recall(evaluation):
    found = per_user_metrics(*evaluation, cutoffs=[1, 2, 5, 20])
    for name, values in found.items():
        assert ((values >= 0) & (values <= 1 + 1e-12)).all(), name
    for family in ("recall", "mrr", "hit"):
        for shorter, longer in ((1, 2), (2, 5), (5, 20)):
            assert (found[f"{family}@{shorter}"] <= found[f"{family}@{longer}"]).all()
    for k in (1, 2, 5, 20):
        assert np.array_equal(found[f"hit@{k}"], (found[f"recall@{k}"] > 0).astype(float))
        assert (found[f"mrr@{k}"] <= found[f"hit@{k}"]).all()


@settings(deadline=None)
@given(evaluations(), st.randoms(use_true_random=False))
def test_users_are_scored_on_their_own(evaluation, random):
    items, targets = evaluation
    order = list(range(len(items)))
    random.shuffle(order)
    found = per_user_metrics(items, targets)
    moved = per_user_metrics(items[order], [targets[user] for user in order])
    for name in found:
        assert np.array_equal(found[name][order], moved[name]), name


@settings(deadline=None, max_examples=60)
@given(st.permutations(range(12)), st.sets(st.integers(0, 11), min_size=1), st.integers(1, 12))
def test_ndcg_agrees_with_scikit_learn(order, relevant, k):
    truth = np.zeros((1, 12))
    truth[0, list(relevant)] = 1
    scores = np.zeros((1, 12))
    scores[0, order] = np.arange(12, 0, -1)
    found = per_user_metrics(np.array([order]), [np.array(sorted(relevant))], cutoffs=[k])
    assert found[f"ndcg@{k}"][0] == pytest.approx(ndcg_score(truth, scores, k=k))


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


def test_catalogue_metrics_look_at_the_first_k_places():
    items = np.array([[0, 1], [0, 2]])
    found = catalogue_metrics(items, np.array([7, 0, 3, 2]), cutoffs=[1, 2])
    assert found["effective_vocabulary@1"] == 1
    assert found["effective_vocabulary@2"] == 3
    assert found["coverage@1"] == 0.25
    assert found["coverage@2"] == 0.75
    assert found["novelty@1"] == pytest.approx(1.0)
    assert "novelty@1" not in catalogue_metrics(np.full((1, 1), -1), np.ones(3), cutoffs=[1])


def test_cold_recall_counts_cold_targets_of_users_that_have_one():
    counts = np.array([9, 4, 0, 5])
    items = np.array([[1, 0], [0, 3], [3, 2]])
    # Cold: items 1 and 2. User 0 has 1 of its cold targets 1, 2; user 1 has none cold; user 2 finds 2 at place 2.
    found = cold_start_recall(items, rows([1, 2, 0], [0], [2]), counts, cutoffs=[1, 2])
    assert found == {"cold_users": 2, "cold_recall@1": 0.25, "cold_recall@2": 0.75}


def test_without_cold_targets_there_is_no_cold_recall():
    assert cold_start_recall(np.array([[0]]), rows([0]), np.array([5])) == {"cold_users": 0}
