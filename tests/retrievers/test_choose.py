"""Choices by validation Recall@10."""

import numpy as np
import pytest

from plum.evaluation.rankings import Recommendations
from plum.retrievers.choose import best_of, choose, choose_in_steps, validation_recall


class Fixed:
    """Always the same lists; notes what it was asked."""

    name = "fixed"

    def __init__(self, *lists):
        self.lists, self.asked = np.array(lists, dtype=np.int64), []

    def recommend(self, histories, k, seen):
        self.asked.append((histories, k, seen))
        return Recommendations(self.lists, np.where(self.lists < 0, -np.inf, 0).astype(np.float32))


HISTORIES = [np.array([0]), np.array([1])]
TARGETS = [np.array([5]), np.array([6, 7, 8])]


def test_recall_is_the_mean_over_users_within_ten_places():
    assert validation_recall(Fixed([5, 1], [2, 7]).recommend([], 2, None), TARGETS) == pytest.approx((1 + 1 / 3) / 2)
    late = [*range(10, 20), 5]
    assert validation_recall(Fixed(late, late).recommend([], 11, None), TARGETS) == 0


def test_the_best_candidate_wins_and_of_equals_the_earlier():
    candidates = [Fixed([9, 1], [2, 3]), Fixed([9, 5], [2, 3]), Fixed([5, 9], [3, 2]), Fixed([1, 2], [2, 8])]
    made = [({"place": place}, lambda it=it: it) for place, it in enumerate(candidates)]
    best, trials = choose(iter(made), HISTORIES, TARGETS, HISTORIES)
    assert best is candidates[1]
    recalls = [0.0, 0.5, 0.5, pytest.approx(1 / 6)]
    assert trials == [{"settings": {"place": place}, "valid_recall@10": recall} for place, recall in enumerate(recalls)]
    assert all(it.asked == [(HISTORIES, 10, HISTORIES)] for it in candidates)


def test_nothing_to_choose_from_or_by_is_refused():
    with pytest.raises(ValueError, match="no candidates"):
        choose([], HISTORIES, TARGETS, None)
    empty = Fixed()
    empty.lists = np.zeros((0, 10), dtype=np.int64)
    with pytest.raises(ValueError, match="no validation users"):
        choose([({}, lambda: empty)], [], [], None)


def test_settings_are_chosen_one_after_another_and_move_only_to_something_better():
    def make(settings):
        made.append(settings)
        hit = settings["a"] == 2 and settings["b"] in (1, 3)  # b is no better at 3 than where it starts
        return Fixed([5 if settings["a"] == 2 else 0], [6 if hit else 0])

    made = []
    start = {"a": 1, "b": 1}
    best, trials = choose_in_steps(make, start, {"a": (1, 2, 3), "b": (1, 2, 3)}, HISTORIES, TARGETS, None)
    assert made == [{"a": 1, "b": 1}, {"a": 2, "b": 1}, {"a": 3, "b": 1}, {"a": 2, "b": 2}, {"a": 2, "b": 3}]
    assert [entry["settings"] for entry in trials] == made
    assert best.lists.tolist() == [[5], [6]]
    assert best_of(trials) == {"a": 2, "b": 1}
    assert start == {"a": 1, "b": 1}
