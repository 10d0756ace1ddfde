"""Times finer than a second: every order, tie and cut-off looks at both of their columns."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from plum.data import moments
from plum.data.describe import describe
from plum.data.moments import Moment
from plum.data.splits import leave_one_out, order_interactions, temporal, temporal_cutoffs
from plum.data.tables import RawTables


def log(times: list[tuple[int, int]], users: str = "") -> pd.DataFrame:
    """Interactions with items i0, i1, ... at (second, nanosecond), of one user or of the users named by letters."""
    table = pd.DataFrame(times, columns=["timestamp", "nanosecond"]).astype({"nanosecond": np.int32})
    table.insert(0, "item_id", [f"i{n}" for n in range(len(times))])
    table.insert(0, "user_id", list(users) or "u")
    return table


@pytest.mark.parametrize("ties", ["shuffle", "keep"])
def test_the_order_within_a_second_is_kept_and_no_tie(ties: str) -> None:
    shuffled = log([(5, 300), (5, 100), (4, 999_999_999), (5, 200), (-1, 7)])
    ordered, report = order_interactions(shuffled, ties)  # type: ignore[arg-type]
    assert ordered["item_id"].tolist() == ["i4", "i2", "i1", "i3", "i0"]
    assert report.tied == 0
    split = leave_one_out(ordered)
    assert split["item_id"][split["part"] == "test"].tolist() == ["i0"]


def test_only_the_same_nanosecond_is_a_tie() -> None:
    ordered, report = order_interactions(log([(5, 1), (5, 1), (5, 2)]))
    assert (report.tied, report.users_test_tied) == (2, 0)
    described = describe(RawTables(ordered.assign(rating=np.nan, reward=1.0), pd.DataFrame({"item_id": ["i0"]})))
    assert described["time"]["ties"] == pytest.approx(2 / 3)


def test_the_cut_offs_of_a_temporal_split_lie_between_nanoseconds() -> None:
    ordered, _ = order_interactions(log([(5, 10 * n) for n in range(10)], "abcdefghij"))
    valid_from, test_from = temporal_cutoffs(ordered, 0.2, 0.2)
    assert (valid_from, test_from) == (Moment(5, 60), Moment(5, 80))
    assert temporal(ordered, valid_from, test_from)["part"].tolist() == ["train"] * 6 + ["valid"] * 2 + ["test"] * 2


def test_whole_seconds_lie_before_a_moment_within_theirs() -> None:
    table = log([(4, 0), (5, 0), (6, 0)]).drop(columns="nanosecond")
    assert moments.before(table, Moment(5, 1)).tolist() == [True, True, False]
    assert moments.before(table, Moment(5)).tolist() == [True, False, False]


def test_the_column_is_added_only_where_it_says_something() -> None:
    table = log([(1, 0), (2, 0)]).drop(columns="nanosecond")
    assert moments.with_nanoseconds(table, np.zeros(2, np.int64)).columns.equals(table.columns)
    finer = moments.with_nanoseconds(table, np.array([0, 5]))
    assert finer["nanosecond"].dtype == np.int32
    assert moments.time_columns(finer) == ["timestamp", "nanosecond"]
    assert moments.codes(log([(1, 2), (2, 1), (1, 2)])).tolist() == [0, 1, 0]
