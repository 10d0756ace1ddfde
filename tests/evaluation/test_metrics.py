import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import ndcg_score

from plum.evaluation.metrics import CUTOFFS, cold_start_recall, hit_rating, per_user_metrics, prefix_recall


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


def test_cold_recall_counts_cold_targets_of_users_that_have_one():
    counts = np.array([9, 4, 0, 5])
    items = np.array([[1, 0], [0, 3], [3, 2]])
    # Cold: items 1 and 2. User 0 has 1 of its cold targets 1, 2; user 1 has none cold; user 2 finds 2 at place 2.
    found = cold_start_recall(items, rows([1, 2, 0], [0], [2]), counts, cutoffs=[1, 2])
    assert found == {"cold_users": 2, "cold_recall@1": 0.25, "cold_recall@2": 0.75}


def test_without_cold_targets_there_is_no_cold_recall():
    assert cold_start_recall(np.array([[0]]), rows([0]), np.array([5])) == {"cold_users": 0}


def test_the_cutoffs_are_those_of_the_tables():
    found = per_user_metrics(np.array([[4]]), rows([4]))
    assert CUTOFFS == (1, 5, 10, 20, 50)
    assert sorted(name for name in found if name.startswith("recall")) == sorted(f"recall@{k}" for k in CUTOFFS)


def test_a_user_has_no_hits_from_the_list_of_another():
    # Were (user, item) pairs numbered too narrowly, item 9 of user 0 would look like item 0 of user 1.
    found = per_user_metrics(np.array([[9, -1], [1, -1]]), rows([1], [0]), cutoffs=[2])
    assert found["recall@2"].tolist() == [0, 0]


def test_hit_rating_by_hand():
    items = np.array([[1, 2, 3], [4, 5, -1], [7, 8, 9]])
    targets = rows([3, 1, 6], [5], [8])
    ratings = [np.array([2.0, 5.0, 1.0]), np.array([3.0]), np.array([np.nan])]
    # Within 2 places: item 1 (5.0), item 5 (3.0), item 8 (not rated). Within 3 also item 3 (2.0); item 6 never.
    assert hit_rating(items, targets, ratings, k=2) == (4.0, 2)
    assert hit_rating(items, targets, ratings, k=3) == (pytest.approx(10 / 3), 3)
    assert hit_rating(items, targets, ratings, k=1) == (5.0, 1)


def test_without_rated_hits_there_is_no_mean():
    assert hit_rating(np.array([[1]]), rows([2]), [np.array([5.0])], k=1) == (None, 0)
    assert hit_rating(np.array([[1]]), rows([1]), [np.array([np.nan])], k=1) == (None, 0)
    assert hit_rating(np.full((1, 2), -1), rows([]), [np.zeros(0)], k=2) == (None, 0)


def test_a_target_rated_twice_counts_with_both_ratings():
    assert hit_rating(np.array([[1]]), rows([1, 1]), [np.array([2.0, 5.0])], k=1) == (3.5, 2)


@pytest.mark.parametrize(
    ("ratings", "k", "message"),
    [([np.zeros(1)], 1, "one entry per target"), ([np.zeros(2), np.zeros(1)], 1, "one entry"), ([], 0, "at least 1")],
)
def test_ratings_that_do_not_fit_the_targets_are_refused(ratings, k, message):
    with pytest.raises(ValueError, match=message):
        hit_rating(np.array([[1], [2]]), rows([1], [2]), ratings, k)


@settings(deadline=None)
@given(evaluations(), st.integers(1, 12))
def test_ratings_rest_on_exactly_the_hits(evaluation, k):
    items, targets = evaluation
    mean, n_rated = hit_rating(items, targets, [row.astype(np.float64) for row in targets], k)
    found = [item for user, row in enumerate(targets) for item in row if item in items[user, :k]]
    assert n_rated == len(found)
    assert mean == (pytest.approx(sum(found) / len(found)) if found else None)


def test_prefix_recall_by_hand():
    codes = np.array([[0, 0, 0], [0, 0, 1], [0, 2, 0], [5, 0, 0], [0, 0, 0]])  # item 4 has the SID of item 0
    items = np.array([[1, 3], [2, -1], [4, 1]])
    found = prefix_recall(items, rows([0, 2], [3], [0]), codes, k=2)
    # User 0: target 0 shares two codes with item 1, target 2 one code. User 1: nothing. User 2: item 4 has all codes.
    assert {name: values.tolist() for name, values in found.items()} == {
        "prefix_recall_0@2": [1.0, 0.0, 1.0],
        "prefix_recall_1@2": [0.5, 0.0, 1.0],
        "prefix_recall_2@2": [0.0, 0.0, 1.0],
    }
    assert per_user_metrics(items, rows([0, 2], [3], [0]), cutoffs=[2])["recall@2"].tolist() == [0, 0, 0]


def test_targets_of_one_prefix_are_several_targets():
    # Targets 0 and 1 share their first code and are found there; target 2 is not: two of three.
    found = prefix_recall(np.array([[1]]), rows([0, 1, 2]), np.array([[0, 0], [0, 1], [3, 0]]), k=1)
    assert found["prefix_recall_0@1"][0] == pytest.approx(2 / 3)
    assert found["prefix_recall_1@1"][0] == pytest.approx(1 / 3)


def test_prefix_recall_looks_at_the_first_k_places():
    found = prefix_recall(np.array([[2, 0]]), rows([0]), np.array([[0], [0], [1]]), k=1)
    assert found == {"prefix_recall_0@1": np.array([0.0])}


@pytest.mark.parametrize(("items", "target"), [([[3]], 0), ([[0]], 3)])
def test_items_without_a_semantic_id_are_refused(items, target):
    with pytest.raises(ValueError, match="N above 3"):
        prefix_recall(np.array(items), rows([target]), np.zeros((3, 2), np.int64), k=1)


@settings(deadline=None)
@given(evaluations(), st.lists(st.tuples(*[st.integers(0, 2)] * 3), min_size=12, max_size=12), st.integers(1, 12))
def test_prefix_recall_is_the_recall_of_prefixes(evaluation, sids, k):
    items, targets = evaluation
    found = prefix_recall(items, targets, np.array(sids), k)
    recall = per_user_metrics(items, targets, [k])[f"recall@{k}"]
    for user, row in enumerate(targets):
        for level in range(3):
            offered = {sids[item][: level + 1] for item in items[user, :k] if item >= 0}
            share = sum(sids[item][: level + 1] in offered for item in row) / len(row)
            assert found[f"prefix_recall_{level}@{k}"][user] == pytest.approx(share)
    assert (found[f"prefix_recall_2@{k}"] >= recall - 1e-12).all()
    # With a code that tells all items apart, the last level is the recall of items.
    unique = prefix_recall(items, targets, np.column_stack([np.array(sids), np.arange(12)]), k)
    assert unique[f"prefix_recall_3@{k}"] == pytest.approx(recall)


def test_a_list_with_an_item_twice_is_refused():
    # Both places would count: a recall of 2.
    with pytest.raises(ValueError, match="list of user 1 holds item 7 twice"):
        per_user_metrics(np.array([[3, 4, -1, -1], [7, 2, 7, -1]]), [np.array([3]), np.array([7])])
