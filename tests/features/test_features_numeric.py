"""Numbers of items as vectors: standardised by hand, missing ones flagged, what is no number refused."""

from __future__ import annotations

import datetime
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.preprocessing import StandardScaler

from plum.errors import PlumError
from plum.features.numeric import fit_numeric


def catalogue(**columns: Any) -> pd.DataFrame:
    n_items = len(next(iter(columns.values())))
    return pd.DataFrame({"item_id": [f"i{row}" for row in range(n_items)], **columns})


def test_by_hand():
    items = catalogue(price=[1.0, 3.0, None, None], year=pd.array([2000, None, 2004, None], dtype="Int64"))
    found, present = fit_numeric(items, ["price", "year"]).transform(items)
    # price: mean 2, deviation 1; year: mean 2002, deviation 2; then a flag for each, as some item lacks it
    np.testing.assert_array_equal(
        found, np.array([[-1, -1, 0, 0], [1, 0, 0, 1], [0, 1, 1, 0], [0, 0, 0, 0]], dtype=np.float32)
    )
    assert found.dtype == np.float32
    assert present.tolist() == [True, True, True, False]


def test_a_lone_field_needs_no_flag_and_neither_does_a_whole_one():
    alone = catalogue(price=[1.0, 2.0, None])
    assert fit_numeric(alone, ["price"]).transform(alone).vectors.shape == (3, 1)
    both = catalogue(price=[1.0, 2.0, None], year=[1, 2, 3])
    assert fit_numeric(both, ["price", "year"]).transform(both).vectors.shape == (3, 3)


@given(st.lists(st.tuples(st.floats(-1e6, 1e6), st.integers(-1000, 1000)), min_size=3, max_size=20))
@settings(max_examples=40, deadline=None)
def test_whole_fields_are_standardised_as_scikit_learn_does(rows):
    values = np.array(rows, dtype=np.float64)
    if (np.ptp(values, axis=0) < 1e-3).any():
        return
    items = catalogue(a=values[:, 0], b=values[:, 1])
    found = fit_numeric(items, ["a", "b"]).transform(items).vectors
    np.testing.assert_allclose(found, StandardScaler().fit_transform(values), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    "column",
    [
        [True, False, True],
        pd.array([True, False, True], dtype="boolean"),
        pd.Series([True, False, True], dtype=object),
        pd.Series([2, 1, 2], dtype=object),
        np.array([2, 1, 2], dtype=np.uint8),
    ],
)
def test_true_and_false_and_all_sorts_of_numbers_are_numbers(column):
    items = catalogue(x=column)
    np.testing.assert_allclose(
        fit_numeric(items, ["x"]).transform(items).vectors[:, 0], [0.5**0.5, -(2**0.5), 0.5**0.5], rtol=1e-6
    )


def test_later_items_are_measured_by_the_catalogue():
    encoder = fit_numeric(catalogue(price=[1.0, 3.0], year=[2000, 2004]), ["price", "year"])
    later = encoder.transform(catalogue(price=[7.0, None, None], year=[None, 2006, None]))
    np.testing.assert_array_equal(later.vectors, np.array([[5, 0], [0, 2], [0, 0]], dtype=np.float32))
    assert later.present.tolist() == [True, True, False]
    without = encoder.transform(pd.DataFrame({"item_id": ["x"], "year": pd.Series([None], dtype=object)}))
    assert not without.present.any()
    assert not without.vectors.any()


@pytest.mark.parametrize(
    ("columns", "complaint"),
    [
        ({"price": ["cheap", "dear"]}, "(?s)price is not a column of numbers.*'cheap'"),
        ({"price": ["1", "2"]}, "price is not a column of numbers"),
        ({"price": [datetime.datetime(2000, 1, 1), datetime.datetime(2001, 1, 1)]}, "price is not a column of numbers"),
        ({"price": [[1.0], [2.0]]}, "price is not a column of numbers"),
        ({"pirce": [1.0, 2.0]}, "(?s)no column 'price'.*did you mean pirce"),
        ({"weight": [1.0, 2.0], "note": ["a", "b"]}, r"(?s)no column 'price'.*numeric columns of the items: weight\s"),
        ({"price": [None, None]}, "no item has a price"),
        ({"price": [2.0, 2.0]}, "(?s)price is the same for all items.*2 in all 2 items"),
        ({"price": [1.0, np.inf]}, r"(?s)price holds NaN, infinity.*1 row: row 1 \(item 'i1'\)"),
        ({"price": [-np.inf, None]}, r"(?s)price holds NaN, infinity.*row 0 \(item 'i0'\)"),
    ],
)
def test_what_gives_no_vectors_is_refused(columns, complaint):
    with pytest.raises(PlumError, match=complaint):
        fit_numeric(catalogue(**columns), ["price"])


@pytest.mark.parametrize("column", [["dear"], [np.inf]])
def test_later_items_are_checked_too(column):
    encoder = fit_numeric(catalogue(price=[1.0, 3.0]), ["price"])
    with pytest.raises(PlumError, match="price"):
        encoder.transform(catalogue(price=column))
