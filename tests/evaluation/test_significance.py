import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from plum.evaluation import significance
from plum.evaluation.significance import (
    holm,
    paired_difference,
    sign_flip_p_values,
)


@pytest.fixture
def values():
    return np.random.default_rng(5).random(200) ** 2


def test_p_value_agrees_with_all_sign_patterns():
    differences = np.array([0.5, 1.0, -0.25, 0.75, 2.0, 0.0, 1.5, -0.5])
    observed = abs(differences.sum())
    sums = [abs(np.dot(signs, differences)) for signs in itertools.product((-1, 1), repeat=8)]
    exact = np.mean([total >= observed - 1e-12 for total in sums])
    assert sign_flip_p_values(differences[:, None], 20000, seed=0)[0] == pytest.approx(exact, abs=0.01)


def test_p_value_agrees_with_scipy(values):
    other = values + np.random.default_rng(6).normal(0.02, 0.2, 200)
    theirs = stats.permutation_test(
        (values, other),
        lambda x, y, axis: np.mean(x - y, axis=axis),
        permutation_type="samples",
        n_resamples=4000,
        rng=0,
    ).pvalue
    assert paired_difference(values, other, 4000)["p_value"] == pytest.approx(theirs, abs=0.03)


def test_small_blocks_give_a_fair_p_value_too(values, monkeypatch):
    differences = (values - 0.3)[:, None]
    whole = sign_flip_p_values(differences, 3000, seed=0)[0]
    monkeypatch.setattr(significance, "_BLOCK_ENTRIES", 1000)  # five resamples at a time
    assert sign_flip_p_values(differences, 3000, seed=0)[0] == pytest.approx(whole, abs=0.03)


def test_p_value_is_uniform_where_there_is_no_difference():
    draws = np.random.default_rng(0).normal(size=(60, 400))
    below = np.mean(sign_flip_p_values(draws, 500, seed=1) <= 0.1)
    assert 0.05 <= below <= 0.16


def test_p_value_is_never_zero_and_one_where_nothing_differs():
    clear = paired_difference(np.ones(100), np.zeros(100), 99, seed=0)
    assert clear["p_value"] == pytest.approx(1 / 100)
    assert clear["difference"] == 1.0
    assert clear["ci95"][0] > 0.9
    same = paired_difference(np.ones(10), np.ones(10), 99, seed=0)
    assert (same["difference"], same["p_value"]) == (0.0, 1.0)
    assert same["ci95"][0] == -same["ci95"][1] < 0


def test_rounding_does_not_break_ties():
    # All sign patterns of one user are ties with the observed one; 0.1 + 0.2 style rounding must not undo that.
    differences = np.array([[0.1 + 0.2 - 0.3 + 0.7]])
    assert sign_flip_p_values(differences, 500, seed=0)[0] == 1.0


def test_swapping_sides_mirrors_the_difference():
    a, b = np.random.default_rng(1).random((2, 50))
    there, back = paired_difference(a, b, 400, seed=7), paired_difference(b, a, 400, seed=7)
    assert there["difference"] == pytest.approx(-back["difference"])
    assert there["ci95"] == pytest.approx([-back["ci95"][1], -back["ci95"][0]])
    assert there["p_value"] == back["p_value"]


def test_pairing_sees_what_separate_intervals_hide():
    users = np.random.default_rng(2).random(300) * 0.9
    result = paired_difference(users + 0.02, users, 500)
    assert result["ci95"][0] > 0
    assert result["p_value"] < 0.01


def test_holm_by_hand():
    # .005 x 4, .01 x 3, .02 x 2; .03 x 1 may not fall below the .04 before it.
    assert holm(np.array([0.01, 0.02, 0.03, 0.005])) == pytest.approx([0.03, 0.04, 0.04, 0.02])
    assert holm(np.array([0.4, 0.9, 0.6])) == pytest.approx([1.0, 1.0, 1.0])
    assert holm(np.array([0.2])) == pytest.approx([0.2])
    assert holm(np.zeros(0)).tolist() == []


@given(st.lists(st.floats(0, 1), min_size=1, max_size=6))
def test_holm_is_the_closed_test_of_bonferroni(p_values):
    # A hypothesis falls when every set of hypotheses that holds it falls, each by the Bonferroni test of that set.
    numbers = range(len(p_values))
    sets = [chosen for size in numbers for chosen in itertools.combinations(numbers, size + 1)]
    expected = [
        max(min(1.0, len(chosen) * min(p_values[j] for j in chosen)) for chosen in sets if number in chosen)
        for number in numbers
    ]
    assert holm(np.array(p_values)) == pytest.approx(expected, abs=1e-12)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=30), st.randoms(use_true_random=False))
def test_holm_keeps_the_order_and_never_helps(p_values, random):
    adjusted = holm(np.array(p_values))
    assert (adjusted >= np.array(p_values)).all()
    assert (adjusted <= 1).all()
    order = np.argsort(p_values, kind="stable")
    assert (np.diff(adjusted[order]) >= 0).all()
    shuffled = random.sample(range(len(p_values)), len(p_values))
    assert holm(np.array(p_values)[shuffled]) == pytest.approx(adjusted[shuffled])


def test_holm_keeps_the_error_of_a_whole_family():
    # 400 families of 10 tests without any difference: at most 5% (here up to 8% by chance) may claim one.
    rng = np.random.default_rng(0)
    wrong = [holm(rng.random(10)).min() < 0.05 for _ in range(400)]
    assert 0.02 <= np.mean(wrong) <= 0.08


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: holm(np.array([[0.1]])), "shape"),
        (lambda: holm(np.array([0.1, np.nan])), "NaN"),
        (lambda: holm(np.array([1.1])), "between 0 and 1"),
        (lambda: sign_flip_p_values(np.zeros((0, 1)), 10), "at least one user"),
        (lambda: sign_flip_p_values(np.array([[np.nan]]), 10), "NaN"),
        (lambda: sign_flip_p_values(np.ones((2, 1)), 0), "n_resamples"),
        (lambda: paired_difference(np.ones(2), np.ones(3)), "same users"),
    ],
)
def test_bad_arguments_are_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
