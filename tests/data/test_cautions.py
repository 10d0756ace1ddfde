"""Users who are none, and ratings that tell likes from dislikes."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from plum.data.cautions import giants, ratings_that_differ


def users(sizes: dict[str, int]) -> pd.Series:
    return pd.Series([name for name, n in sizes.items() for _ in range(n)])


PLAIN = {f"u{n}": 10 + n for n in range(40)}  # up to 49 each


@pytest.mark.parametrize(
    ("others", "named"),
    [
        ({}, []),
        ({"x": 200}, []),  # four times as many, as in public data sets
        ({"x": 300}, ["x"]),
        ({"0": 120}, ["0"]),  # a stand-in needs less
        ({"(not set)": 900, "-1": 700}, ["(not set)", "-1"]),
    ],
)
def test_giants(others: dict[str, int], named: list[str]) -> None:
    found = giants(users(PLAIN | others))
    assert [giant.user for giant in found] == named
    if named:
        assert found[0].times == found[0].rows / 49


def test_small_logs_have_no_giants() -> None:
    assert giants(users({"a": 1000, "b": 1})) == []
    assert giants(users({"a": 45} | {f"u{n}": 1 for n in range(30)})) == []


def test_ratings() -> None:
    assert ratings_that_differ(np.array([np.nan, 1, 1])) is None
    assert ratings_that_differ(np.array([np.nan])) is None
    disliked = ratings_that_differ(np.array([-1.0, 1, 1, 1]))
    assert disliked is not None
    assert (disliked.negative, disliked.middle) == (0.25, 0)
    stars = ratings_that_differ(np.array([1.0, 2, 3, 4, 5, np.nan]))
    assert stars is not None
    assert (stars.below, stars.middle, stars.least) == (0.4, 3, 4)
