"""Reciprocal-rank fusion against sums in a dictionary."""

from collections import defaultdict

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from plum.evaluation.rankings import Recommendations
from plum.retrievers import union
from plum.retrievers.hybrid import Hybrid, choose_weights, fuse


def lists(users):
    """Lists of one retriever, with scores of a scale of its own."""
    items = np.array(users, dtype=np.int64)
    places = np.arange(items.shape[1], dtype=np.float32)
    return Recommendations(items, np.where(items < 0, -np.inf, -100 * places).astype(np.float32))


class Part:
    """A retriever that ranks rows upwards from the last of a history; notes what it was asked."""

    def __init__(self, name, step):
        self.name, self._step, self.asked = name, step, []

    def recommend(self, histories, k, seen):
        self.asked.append((histories, k, seen))
        return lists([[(history[-1] + self._step * (place + 1)) % 50 for place in range(k)] for history in histories])


def test_ranks_add_up_by_hand():
    found = fuse([lists([[4, 2, 9]]), lists([[2, 7, -1]])], [0.75, 0.25], 1.0, 10, 6)
    # 4: .75/2; 2: .75/3 + .25/2; 9: .75/4; 7: .25/3. The first two are equal.
    assert found.items.tolist() == [[2, 4, 9, 7, -1, -1]]
    assert found.scores[0, :4] == pytest.approx([0.375, 0.375, 0.1875, 0.25 / 3])


@settings(max_examples=80, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), constant=st.sampled_from([0.0, 1.0, 60.0]))
def test_it_is_a_sum_in_a_dictionary_and_batches_do_not_matter(seed, constant):
    rng = np.random.default_rng(seed)
    n_users, n_items, k = int(rng.integers(0, 6)), int(rng.integers(1, 20)), int(rng.integers(1, 30))
    parts, weights = [], rng.choice([0.1, 0.5, 1.0], int(rng.integers(1, 4))).tolist()
    for _ in weights:
        depth = int(rng.integers(0, n_items + 1))
        items = np.argsort(rng.random((n_users, n_items)), axis=1)[:, :depth]
        items[np.arange(depth) >= rng.integers(0, depth + 1, (n_users, 1))] = -1
        parts.append(lists(items))
    found = fuse(parts, weights, constant, n_items, k)
    assert found.items.shape == (n_users, k)
    for user in range(n_users):
        sums = defaultdict(float)
        for part, weight in zip(parts, weights, strict=True):
            for rank, item in enumerate(part.items[user], start=1):
                if item >= 0:
                    sums[int(item)] += weight / (constant + rank)
        ranked = sorted(sums, key=lambda item: (-np.float32(sums[item]), item))[:k]
        assert found.items[user].tolist() == ranked + [-1] * (k - len(ranked))
        assert found.scores[user, : len(ranked)] == pytest.approx([sums[item] for item in ranked])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(union, "_BATCH_ENTRIES", 1)  # one user at a time
        alone = fuse(parts, weights, constant, n_items, k)
    assert np.array_equal(alone.items, found.items)


def test_a_list_of_weight_0_brings_in_nothing():
    found = fuse([lists([[4, 2]]), lists([[7, 2]])], [0, 1], 60, 10, 4)
    assert found.items.tolist() == [[7, 2, -1, -1]]


def test_it_is_the_fusion_of_its_parts_lists():
    one, other, idle = Part("one", 1), Part("other", 3), Part("idle", 7)
    histories, seen = [np.array([3]), np.array([40, 10])], [np.array([5]), np.array([6])]
    found = Hybrid([one, idle, other], [0.3, 0, 0.7], depth=6, constant=10).recommend(histories, 4, seen)
    parts = [part.recommend(histories, 6, seen) for part in (one, other)]
    expected = fuse(parts, [0.3, 0.7], 10, 50, 4)
    assert np.array_equal(found.items, expected.items)
    assert np.array_equal(found.scores, expected.scores)
    assert one.asked[0] == other.asked[0] == (histories, 6, seen)
    assert idle.asked == []


def test_more_than_is_listed_gives_shorter_lists():
    found = Hybrid([Part("one", 1), Part("other", 3)], [1, 1], depth=3, constant=60).recommend([np.array([0])], 9, None)
    assert found.items.tolist() == [[3, 1, 2, 6, 9, -1, -1, -1, -1]]


def test_the_weights_of_best_validation_recall_are_chosen():
    # User 0's target is 12th of the first list and 1st of the second, user 1's the other way round; what stands
    # before it is listed by one retriever alone. Half and half alone finds both.
    first = [[*range(20, 31), 1], [2, *range(30, 41)]]
    second = [[1, *range(40, 51)], [*range(50, 61), 2]]
    targets = [np.array([1]), np.array([2])]
    (weight, constant), trials = choose_weights([lists(first), lists(second)], targets, weights=(0.0, 0.5, 1.0))
    assert (weight, constant) == (0.5, 10.0)
    expected = [(0.0, 0.5), (0.5, 1.0), (1.0, 0.5)]
    assert trials == [
        {"settings": {"weight": weight, "constant": constant}, "valid_recall@10": recall}
        for constant in (10.0, 60.0)
        for weight, recall in expected
    ]


def test_every_trial_is_what_fusing_with_it_finds_and_ties_go_to_the_earlier():
    rng = np.random.default_rng(3)
    parts = [lists(np.argsort(rng.random((40, 60)), axis=1)[:, :15]) for _ in range(2)]
    targets = [rng.integers(0, 60, 1) for _ in range(40)]
    best, trials = choose_weights(parts, targets)
    assert len(trials) == 22
    for row in trials:
        weight, constant = row["settings"]["weight"], row["settings"]["constant"]
        found = fuse(parts, [weight, 1 - weight], constant, 60, 10).items
        hits = [target[0] in found[user] for user, target in enumerate(targets)]
        assert row["valid_recall@10"] == pytest.approx(np.mean(hits))
    recalls = [row["valid_recall@10"] for row in trials]
    assert best == tuple(trials[recalls.index(max(recalls))]["settings"].values())
    same = choose_weights([parts[0], parts[0]], targets)
    assert same[0] == (0.0, 10.0)


@pytest.mark.parametrize(
    ("weights", "constant", "message"),
    [
        ([1.0], 60, "as many weights"),
        ([0.0, 0.0], 60, "not all 0"),
        ([1.0, -0.5], 60, ">= 0"),
        ([1.0, np.nan], 60, ">= 0"),
        ([1.0, 1.0], -1, "constant"),
        ([1.0, 1.0], np.inf, "constant"),
    ],
)
def test_bad_settings_are_refused(weights, constant, message):
    with pytest.raises(ValueError, match=message):
        fuse([lists([[1]]), lists([[2]])], weights, constant, 5, 1)
    with pytest.raises(ValueError, match=message):
        Hybrid([Part("one", 1), Part("other", 3)], weights, 5, constant)


def test_bad_lists_are_refused():
    with pytest.raises(ValueError, match="numbers of users"):
        fuse([lists([[1]]), lists([[2], [3]])], [1, 1], 60, 5, 1)
    with pytest.raises(ValueError, match=r"0\.\.4"):
        fuse([lists([[1]]), lists([[5]])], [1, 1], 60, 5, 1)
    with pytest.raises(ValueError, match="depth"):
        Hybrid([Part("one", 1)], [1], 0, 60)
    with pytest.raises(ValueError, match="two lists"):
        choose_weights([lists([[1]])], [np.array([1])])
    with pytest.raises(ValueError, match="no weights"):
        choose_weights([lists([[1]]), lists([[1]])], [np.array([1])], weights=())
