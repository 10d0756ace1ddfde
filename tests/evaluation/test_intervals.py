import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from plum.evaluation.intervals import difference_intervals, mean_intervals, widened

SAMPLES = {27: 2000, 100: 2000, 1000: 500}  # users of a sample -> samples
PLACES = 1 / np.log2(1 + np.arange(1, 11))  # NDCG of a hit at each of ten places


def column(values):
    return np.asarray(values, dtype=float)[:, None]


def hits(n, k):
    return column([1.0] * k + [0.0] * (n - k))


def coverage(intervals, truth):
    return np.mean((intervals[:, 0] <= truth) & (truth <= intervals[:, 1]))


@pytest.mark.parametrize(("n", "k"), [(27, 0), (27, 1), (27, 27), (100, 2), (943, 300), (8, 4)])
def test_hit_rates_have_wilsons_interval_with_students_quantile(n, k):
    p, z = k / n, stats.t.ppf(0.975, n - 1)
    centre, half = p + z**2 / (2 * n), z * np.sqrt(p * (1 - p) / n + z**2 / (4 * n**2))
    expected = [(centre - half) / (1 + z**2 / n), (centre + half) / (1 + z**2 / n)]
    assert mean_intervals(hits(n, k))[0] == pytest.approx(expected, abs=1e-6)


def test_many_users_have_the_usual_interval():
    values = np.random.default_rng(0).choice([0, 0, *PLACES], 50_000)
    found = mean_intervals(column(values))[0]
    half = 1.96 * values.std() / np.sqrt(50_000)
    assert found == pytest.approx([values.mean() - half, values.mean() + half], abs=half / 50)


@pytest.mark.parametrize("n", SAMPLES)
@pytest.mark.parametrize("rate", [0.02, 0.1, 0.5])
def test_means_are_covered_as_often_as_stated(n, rate):
    rng, trials = np.random.default_rng(n), SAMPLES[n]
    found = rng.random((n, trials)) < rate
    gains = found * rng.choice(PLACES, (n, trials))
    # A rate of a few users takes few values, so its coverage jumps; .92 is Wilson's lowest here.
    assert coverage(mean_intervals(found), rate) >= 0.92
    assert coverage(mean_intervals(gains), rate * PLACES.mean()) >= 0.935


@pytest.mark.parametrize("n", SAMPLES)
@pytest.mark.parametrize("rate", [0.02, 0.1, 0.5])
def test_paired_differences_are_covered_as_often_as_stated(n, rate):
    rng, trials = np.random.default_rng(n + 1), SAMPLES[n]
    one, other = rng.random((n, trials)) < rate, rng.random((n, trials)) < 1.5 * rate
    other = np.where(rng.random((n, trials)) < 0.6, one, other)  # the systems agree on most users
    truth = rate - (0.6 * rate + 0.4 * 1.5 * rate)
    assert coverage(difference_intervals(one * 1.0 - other), truth) >= 0.935
    gains = one * rng.choice(PLACES, (n, trials)) - other * rng.choice(PLACES, (n, trials))
    assert coverage(difference_intervals(gains), truth * PLACES.mean()) >= 0.935


@pytest.mark.parametrize("value", [0.0, 0.25, 1.0])
def test_what_is_equal_for_all_users_may_differ_for_others(value):
    low, high = mean_intervals(np.full((30, 1), value))[0]
    assert low <= value <= high
    assert 0.05 < high - low < 0.2
    below, above = difference_intervals(np.full((30, 1), value))[0]
    assert below < value <= above


def test_equal_systems_have_an_interval_around_zero():
    assert difference_intervals(np.zeros((1000, 1)))[0] == pytest.approx([-0.0038, 0.0038], abs=1e-4)


def test_one_user_says_next_to_nothing():
    assert np.ptp(mean_intervals(np.ones((1, 1)))[0]) > 0.95
    assert np.ptp(difference_intervals(np.zeros((1, 1)))[0]) > 1.9


def test_swapped_systems_have_the_mirrored_interval():
    values = np.random.default_rng(1).uniform(-1, 1, (40, 3)) ** 3
    assert difference_intervals(-values) == pytest.approx(-difference_intervals(values)[:, ::-1])


def test_columns_do_not_matter_to_each_other():
    values = np.random.default_rng(1).random((40, 3)) ** 2
    alone = [mean_intervals(values[:, [j]])[0] for j in range(3)]
    assert mean_intervals(values) == pytest.approx(np.array(alone))


@settings(deadline=None, max_examples=100)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=30), st.sampled_from([0.5, 0.9, 0.95, 0.999]))
def test_an_interval_holds_the_mean_and_lies_within_the_range(numbers, level):
    values = column(numbers)
    low, high = mean_intervals(values, level)[0]
    assert 0 <= low <= values.mean() + 1e-9
    assert values.mean() - 1e-9 <= high <= 1
    assert low < high
    below, above = difference_intervals(values - 0.5, level)[0]
    assert -1 <= below <= values.mean() - 0.5 + 1e-9
    assert values.mean() - 0.5 - 1e-9 <= above <= 1


def test_a_higher_level_is_a_wider_interval():
    values = column(np.random.default_rng(1).random(40))
    ends = [mean_intervals(values, level)[0] for level in (0.5, 0.9, 0.99)]
    assert all(np.ptp(one) < np.ptp(other) for one, other in itertools.pairwise(ends))


def test_seeds_that_agree_add_nothing():
    mean, ends = np.array([0.3]), np.array([[0.2, 0.41]])
    assert widened(mean, ends, 50, []) == pytest.approx(ends)
    assert widened(mean, ends, 50, [(np.zeros(1), 3)]) == pytest.approx(ends)


def test_seeds_alone_have_students_interval():
    # Users who all agree leave the spread of three seeds, with its two degrees of freedom.
    found = widened(np.array([0.3]), np.array([[0.3, 0.3]]), 50, [(np.array([0.01]), 3)])
    assert found[0] == pytest.approx([0.3 - 4.303 * 0.1, 0.3 + 4.303 * 0.1], abs=1e-3)


@pytest.mark.parametrize("n_seeds", [2, 3, 5])
@pytest.mark.parametrize("ratio", [0.0, 1.0, 3.0, 8.0])
def test_users_and_few_seeds_are_covered_as_often_as_stated(n_seeds, ratio):
    rng, size = np.random.default_rng(4), 20_000  # users' standard error 0.01, seeds' deviation ``ratio`` times that
    seeds = rng.normal(0.0, 0.01 * ratio, (n_seeds, size))
    mean = rng.normal(0.0, 0.01, size) + seeds.mean(axis=0)
    ends = mean[:, None] + 0.01 * 1.962 * np.array([-1.0, 1.0])
    found = widened(mean, ends, 1000, [(seeds.var(axis=0, ddof=1) / n_seeds, n_seeds)])
    assert 0.92 < ((found[:, 0] <= 0) & (found[:, 1] >= 0)).mean() < 0.985


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: mean_intervals(np.zeros((0, 1))), "at least one user"),
        (lambda: mean_intervals(np.array([[np.nan]])), "NaN"),
        (lambda: mean_intervals(np.array([[1.5]])), "between 0 and 1"),
        (lambda: mean_intervals(np.array([[-0.5]])), "between 0 and 1"),
        (lambda: difference_intervals(np.array([[-1.5]])), "between -1 and 1"),
        (lambda: mean_intervals(np.ones((2, 1)), level=1.0), "level"),
    ],
)
def test_bad_arguments_are_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
