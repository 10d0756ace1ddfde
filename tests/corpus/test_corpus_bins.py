import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from plum.corpus.bins import Bins, fit_edges

NUMBERS = st.lists(st.one_of(st.integers(-5, 5), st.floats(-1e6, 1e6), st.just(np.nan)), min_size=1, max_size=60)


def test_few_different_values_get_a_bin_each():
    assert fit_edges(np.array([1, 5, 5, 2, np.nan]), 8).tolist() == [1.5, 3.5]


def test_many_values_get_bins_of_about_equal_size():
    edges = fit_edges(np.array([0, 0, 0, 1, 2, 9]), 3)
    assert edges.tolist() == [0.5, 1.5]
    places = Bins({"x": fit_edges(np.arange(1000.0), 8)}).place("x", np.arange(1000.0))
    assert np.bincount(places).tolist() == pytest.approx([125] * 8, abs=1)


@pytest.mark.parametrize("values", [[], [np.nan], [3.0], [3, 3, np.nan, 3], [np.inf, 3]])
def test_what_is_the_same_everywhere_has_no_bins(values):
    assert fit_edges(np.array(values, dtype=float), 4) is None


def test_values_beyond_what_was_seen_are_in_the_outermost_bins():
    bins = Bins({"x": np.array([1.5, 3.5])})
    assert bins.place("x", np.array([-9.0, 1.5, 3.4, 1e9, np.nan, np.inf])).tolist() == [0, 1, 1, 2, -1, -1]
    assert bins.tokens() == ["<|x_0|>", "<|x_1|>", "<|x_2|>"]


@given(values=NUMBERS, n_bins=st.integers(2, 9))
def test_every_bin_holds_a_value_and_bins_keep_the_order(values, n_bins):
    edges = fit_edges(np.array(values, dtype=float), n_bins)
    if edges is None:
        return
    assert 1 <= len(edges) < n_bins
    assert (np.diff(edges) > 0).all()
    known = np.sort([value for value in values if np.isfinite(value)])
    places = Bins({"x": edges}).place("x", known)
    assert (np.diff(places) >= 0).all()
    assert set(places) == set(range(len(edges) + 1))


@given(values=NUMBERS)
def test_saved_bins_place_every_value_as_before(values):
    edges = fit_edges(np.array(values, dtype=float), 5)
    if edges is None:
        return
    bins = Bins({"x": edges})
    again = Bins.from_json(json.loads(json.dumps(bins.as_json())))
    assert again.place("x", np.array(values)).tolist() == bins.place("x", np.array(values)).tolist()
