"""Co-occurring pairs and sessions against loops, and how often pairs are drawn."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from plum.sid.cooccurrence import Pairs, by_pmi, cooccurrence_pairs, sessions


@given(st.lists(st.lists(st.integers(0, 4), max_size=7), max_size=5), st.integers(1, 9))
def test_pairs_by_brute_force(histories, window):
    expected = Counter(
        (history[i], history[j])
        for history in histories
        for i in range(len(history))
        for j in range(i + 1, min(len(history), i + window + 1))
        if history[i] != history[j]
    )
    found = cooccurrence_pairs([np.array(h, dtype=np.int64) for h in histories], window)
    assert found.dtype == np.int64
    assert found.shape == (sum(expected.values()), 2)
    assert Counter(map(tuple, found.tolist())) == expected


def test_the_docstring_example():
    assert cooccurrence_pairs([np.array([4, 7, 9])], 1).tolist() == [[4, 7], [7, 9]]


def histories_of(lists):
    return [np.array(one, dtype=np.int64) for one in lists]


def test_the_docstring_example_of_sessions():
    found = sessions(histories_of([[4, 7, 9]]), np.array([0, 60, 3600]), 30)
    assert [one.tolist() for one in found] == [[4, 7], [9]]


@given(st.lists(st.lists(st.integers(0, 90), max_size=6), max_size=4))
def test_sessions_by_a_loop(pauses):
    """Pauses in minutes; the first of each history is from the user before, who ends no session of another."""
    histories = histories_of([range(10 * user, 10 * user + len(one)) for user, one in enumerate(pauses)])
    times = np.concatenate([np.zeros(0, dtype=np.int64), *[60 * np.cumsum(one, dtype=np.int64) for one in pauses]])
    expected = []
    for history, pause in zip(histories, pauses, strict=True):
        for place, item in enumerate(history.tolist()):
            if place and pause[place] <= 30:
                expected[-1].append(item)
            else:
                expected.append([item])
    assert [one.tolist() for one in sessions(histories, times, 30)] == expected


def test_a_pause_of_exactly_the_limit_stays_in_the_session():
    found = sessions(histories_of([[1, 2, 3]]), np.array([0, 90, 181]), 1.5)
    assert [one.tolist() for one in found] == [[1, 2], [3]]


def test_times_must_be_those_of_the_histories():
    with pytest.raises(ValueError, match="2 times for 3 interactions"):
        sessions(histories_of([[1, 2], [3]]), np.array([0, 1]), 30)


def test_pairs_of_sessions_span_no_pause():
    found = sessions(histories_of([[4, 7, 9, 2]]), np.array([0, 60, 3600, 3660]), 30)
    assert cooccurrence_pairs(found, 3).tolist() == [[4, 7], [9, 2]]


def test_pmi_by_hand():
    # six ends: item 0 three, 1 two, 2 one. PMI(0, 1) = log(6 * 2 / (3 * 2)), PMI(0, 2) = log(6 * 1 / (3 * 1))
    found = by_pmi(np.array([[0, 1], [1, 0], [0, 2]]))
    assert found.rows.tolist() == [[0, 1], [0, 2]]
    np.testing.assert_allclose(np.diff(found.cumulative, prepend=0), [np.log(2), np.log(2)])


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)).filter(lambda p: p[0] != p[1]), min_size=1))
def test_pmi_against_its_definition(pairs):
    both = Counter([*pairs, *[(j, i) for i, j in pairs]])
    total = sum(both.values())
    share = {i: sum(n for (a, _), n in both.items() if a == i) / total for i in range(6)}
    expected = {
        (i, j): np.log(n / total / (share[i] * share[j]))
        for (i, j), n in both.items()
        if i < j and np.log(n / total / (share[i] * share[j])) > 1e-12
    }
    found = by_pmi(np.array(pairs))
    assert len(found) > 0
    weights = np.diff(found.cumulative, prepend=0)
    by_pair = {tuple(pair): weight for pair, weight in zip(found.rows.tolist(), weights, strict=True) if weight > 1e-12}
    assert by_pair == pytest.approx(expected)


def test_pairs_that_come_together_less_than_chance_has_it_are_not_drawn():
    # 41 pairs; items 0 and 2 have 21 each and one in common: PMI = log(2 * 41 * 1 / (21 * 21)) < 0
    pairs = np.array([[0, 1]] * 20 + [[2, 3]] * 20 + [[0, 2]])
    assert by_pmi(pairs).rows.tolist() == [[0, 1], [2, 3]]


def test_no_pairs_have_no_pmi():
    assert len(by_pmi(np.zeros((0, 2), dtype=np.int64))) == 0


def test_pairs_are_drawn_as_they_weigh():
    rng = np.random.default_rng(0)
    counted = Pairs(np.array([[0, 1], [0, 1], [0, 1], [2, 3]])).draw(4000, rng)
    assert (counted[:, 0] == 0).mean() == pytest.approx(0.75, abs=0.03)
    weighed = Pairs(np.array([[0, 1], [2, 3], [4, 5]]), np.array([0.1, 0.1, 1.0])).draw(4000, rng)
    assert set(map(tuple, weighed.tolist())) == {(0, 1), (4, 5)}  # the second weighs nothing
    assert (weighed[:, 0] == 0).mean() == pytest.approx(0.1, abs=0.02)


def test_pairs_among_some_items_keep_their_weights():
    pairs = Pairs(np.array([[0, 1], [1, 2], [0, 3]]), np.cumsum([0.5, 2.0, 1.0]))
    kept = pairs.among(np.array([0, 1, 3]), 4)
    assert kept.rows.tolist() == [[0, 1], [0, 3]]
    assert kept.cumulative.tolist() == [0.5, 1.5]
    assert pairs.among(np.arange(4), 4) is pairs
    assert len(Pairs(pairs.rows).among(np.array([3]), 4)) == 0
