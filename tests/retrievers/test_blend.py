"""Blends by hand, against dictionaries, and with parts that say little."""

from collections import defaultdict

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from plum.config.blends import SINGLE
from plum.evaluation.rankings import Recommendations
from plum.retrievers.blend import FLOOR, POWERS, SCALES, learn, mix, probabilities

NO = -np.inf


def lists(items, scores):
    return Recommendations(np.array(items, dtype=np.int64), np.array(scores, dtype=np.float32))


def plain(*weights):
    """Weights of parts at power 1 alone."""
    return np.array([[weight * (power == 1) for power in POWERS] for weight in weights])


def test_every_single_retriever_has_a_scale():
    assert set(SCALES) == set(SINGLE)


@pytest.mark.parametrize(
    ("scores", "scale", "power", "expected"),
    [
        ([3, 1, NO], "count", 1, [0.75, 0.25, 0]),
        ([3, 1, NO], "count", 2, [0.9, 0.1, 0]),
        ([4, 0, -2], "count", 0.5, [1, 0, 0]),
        ([-1, -1, -2], "count", 1, [0, 0, 0]),
        ([NO, NO, NO], "count", 1, [0, 0, 0]),
        ([NO, NO, NO], "log", 1, [0, 0, 0]),
        ([np.log(6), np.log(3), 0], "log", 1, [0.6, 0.3, 0.1]),
        ([3, 3, 2], "log2", 1, [0.4, 0.4, 0.2]),
        ([3e38, 3e38, 0], "log", 4, [0.5, 0.5, 0]),
        ([3e38, 3e38, 1], "count", 4, [0.5, 0.5, 0]),
        ([7, 7, 7], "count", 2, [1 / 3] * 3),
    ],
)
def test_scores_become_probabilities_by_hand(scores, scale, power, expected):
    items = [[-1 if score == NO else place for place, score in enumerate(scores)]]
    with np.errstate(all="raise", under="ignore"):
        found = probabilities(lists(items, [scores]), scale, power)
    np.testing.assert_allclose(found, [expected], atol=1e-7)


def test_what_has_no_probability_is_refused():
    with pytest.raises(ValueError, match="infinite"):
        probabilities(lists([[1, 2]], [[np.inf, 1]]), "log")
    with pytest.raises(ValueError, match="no scale 'cosine'"):
        probabilities(lists([[1, 2]], [[2, 1]]), "cosine")


def test_weighted_probabilities_add_up_over_the_union_by_hand():
    one = lists([[4, 2]], [[3, 1]])  # .75, .25
    other = lists([[2, 7, 9]], [[np.log(5), np.log(4), 0]])  # .5, .4, .1
    found = mix([one, other], ["count", "log"], plain(0.6, 0.4), 5)
    assert found.items.tolist() == [[4, 2, 7, 9, -1]]
    assert found.scores[0, :4] == pytest.approx([0.45, 0.35, 0.16, 0.04])


@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_it_is_a_sum_in_a_dictionary(seed):
    rng = np.random.default_rng(seed)
    n_users, n_items, k = int(rng.integers(1, 5)), int(rng.integers(1, 20)), int(rng.integers(1, 30))
    parts, scales = [], rng.choice(["count", "log", "log2"], int(rng.integers(1, 4))).tolist()
    for _ in scales:
        depth = int(rng.integers(1, n_items + 1))
        items = np.argsort(rng.random((n_users, n_items)), axis=1)[:, :depth]
        scores = -np.sort(-rng.normal(2, 2, (n_users, depth)), axis=1)
        empty = np.arange(depth) >= rng.integers(0, depth + 1, (n_users, 1))
        parts.append(lists(np.where(empty, -1, items), np.where(empty, NO, scores)))
    weights = rng.dirichlet(np.ones(len(parts) * len(POWERS))).reshape(len(parts), len(POWERS))
    found = mix(parts, scales, weights, k)
    for user in range(n_users):
        sums = defaultdict(float)
        for part, scale, of_powers in zip(parts, scales, weights, strict=True):
            for power, weight in zip(POWERS, of_powers, strict=True):
                for item, chance in zip(part.items[user], probabilities(part, scale, power)[user], strict=True):
                    if item >= 0:
                        sums[int(item)] += weight * chance
        values = sorted(sums.values(), reverse=True)[:k]
        assert found.scores[user, : len(values)] == pytest.approx(values)
        assert (found.items[user, len(values) :] == -1).all()
        assert [sums[item] for item in found.items[user, : len(values)].tolist()] == pytest.approx(values)


def part_that_knows(targets, share, rng, n_items=100, depth=10):
    """Lists whose first item is the target for a share of the users, and never the target for the others."""
    right = rng.random(len(targets)) < share
    items = np.array([rng.permutation(np.setdiff1d(np.arange(n_items), target))[:depth] for target in targets])
    items[right, 0] = [target[0] for target in targets[right]]
    return lists(items, np.tile(np.arange(depth, 0, -1.0), (len(targets), 1)))


def test_weights_go_to_the_part_that_knows_more_and_the_loss_falls():
    rng = np.random.default_rng(0)
    targets = np.arange(400)[:, None] % 100
    parts = [part_that_knows(targets, share, rng) for share in (0.1, 0.5, 0.02)]
    found = learn(parts, ["count"] * 3, list(targets), seed=0)
    weight = found.weights.sum(axis=1)
    assert weight[1] > weight[0] > weight[2]
    assert found.weights.sum() == pytest.approx(1)
    assert found.weights.min() >= FLOOR / found.weights.size - 1e-12
    assert found.loss < found.loss_of_equal
    assert found.solution.converged
    hits = [(part.items[:, 0] == targets[:, 0]) for part in parts]
    assert found.listed.tolist() == pytest.approx([hit.mean() for hit in hits])
    assert found.unlisted == 400 - int(np.any(hits, axis=0).sum())
    assert found.targets == 400


def test_the_loss_is_the_cross_entropy_of_the_mixture_that_the_lists_have():
    rng = np.random.default_rng(1)
    targets = np.arange(200)[:, None] % 100
    parts = [part_that_knows(targets, share, rng) for share in (0.9, 0.6)]
    found = learn(parts, ["count", "log"], list(targets), seed=0)
    mixed = mix(parts, ["count", "log"], found.weights, 20)
    chance = np.where(mixed.items == targets, mixed.scores, 0).sum(axis=1)
    assert found.loss == pytest.approx(-np.log(chance[chance > 0]).mean(), rel=1e-4)


def test_several_targets_of_a_user_share_the_weight_of_one():
    # User 0 has three targets that the first part lists, users 1 and 2 one each that the second lists: by users, the
    # second part is right twice as often. Were targets counted, the first would be.
    one = lists([[1, 2, 3], [10, 11, 12], [10, 11, 12]], [[0, 0, 0]] * 3)
    other = lists([[7, 8, 9], [4, 7, 8], [5, 7, 8]], [[0, 0, 0]] * 3)
    found = learn([one, other], ["log", "log"], [np.array([1, 2, 3]), np.array([4]), np.array([5])], seed=0)
    assert found.weights.sum(axis=1) == pytest.approx([1 / 3, 2 / 3], abs=0.02)


def test_a_part_without_lists_gets_the_floor_alone():
    rng = np.random.default_rng(0)
    targets = np.arange(50)[:, None]
    empty = lists(np.full((50, 10), -1), np.full((50, 10), NO))
    found = learn([part_that_knows(targets, 0.8, rng), empty], ["count", "count"], list(targets), seed=0)
    assert found.weights[1].sum() == pytest.approx(FLOOR / 2)
    assert found.listed[1] == 0


@pytest.mark.parametrize("targets", [[np.array([50]), np.array([60])], []])
def test_without_a_listed_target_there_are_no_weights(targets):
    part = lists([[1, 2]] * len(targets) or np.zeros((0, 2)), [[2, 1]] * len(targets) or np.zeros((0, 2)))
    with pytest.raises(ValueError, match=f"none of the {len(targets)} validation targets"):
        learn([part, part], ["count", "count"], targets, seed=0)


def test_a_seed_repeats_exactly():
    rng = np.random.default_rng(0)
    targets = np.arange(90)[:, None]
    parts = [part_that_knows(targets, share, rng) for share in (0.3, 0.5)]
    one, same = (learn(parts, ["count", "log"], list(targets), seed=4) for _ in range(2))
    assert one.weights.tolist() == same.weights.tolist()
