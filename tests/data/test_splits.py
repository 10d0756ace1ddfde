"""Ordering, k-core and the two split protocols."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from plum.data.moments import Moment
from plum.data.splits import (
    SPLIT_COLUMNS,
    KnownReport,
    k_core,
    known_items,
    leave_one_out,
    order_interactions,
    report_known,
    report_split,
    temporal,
    temporal_cutoffs,
)
from plum.errors import PlumError


def frame(rows: list[tuple[str, str, int]]) -> pd.DataFrame:
    table = pd.DataFrame(rows, columns=["user_id", "item_id", "timestamp"])
    return table.assign(timestamp=table["timestamp"].astype(np.int64))


# Few users, items and times, so that ties, repeats and short histories are common.
logs = st.lists(
    st.tuples(st.sampled_from(["u1", "u10", "u2", "é"]), st.sampled_from("abcdef"), st.integers(0, 8)),
    min_size=1,
    max_size=40,
).map(frame)

# u1: a at 10, b and c tie at 20 (the last two), u2: d e f tie at 5 then g, u3: nothing ties.
TIED = frame(
    [
        ("u2", "g", 9),
        ("u1", "c", 20),
        ("u3", "a", 1),
        ("u2", "f", 5),
        ("u1", "a", 10),
        ("u2", "d", 5),
        ("u1", "b", 20),
        ("u3", "b", 2),
        ("u2", "e", 5),
        ("u3", "c", 3),
    ]
)


class TestOrder:
    def test_ties_are_counted_as_by_hand(self) -> None:
        _, report = order_interactions(TIED, "shuffle", seed=0)
        assert (report.interactions, report.tied, report.users, report.users_test_tied) == (10, 5, 2, 1)
        assert report.share == 0.5
        assert report.broken_by == "shuffle"

    def test_a_user_too_short_for_a_test_item_has_none_that_a_tie_could_pick(self) -> None:
        short = frame([("u0", "a", 4), ("u0", "b", 4), ("u5", "a", 4)])
        _, report = order_interactions(pd.concat([TIED, short]), "shuffle", seed=0)
        assert (report.tied, report.users, report.users_test_tied) == (7, 3, 1)
        _, report = order_interactions(short, "shuffle", seed=0)
        assert (report.tied, report.users, report.users_test_tied) == (2, 1, 0)
        _, report = order_interactions(short.iloc[2:], "shuffle", seed=0)
        assert (report.interactions, report.tied, report.users_test_tied) == (1, 0, 0)

    def test_keep_leaves_ties_in_input_order(self) -> None:
        ordered, report = order_interactions(TIED, "keep", seed=0)
        assert "".join(ordered["item_id"]) == "acb" + "fdeg" + "abc"
        assert list(ordered["user_id"].unique()) == ["u1", "u2", "u3"]
        assert report.tied == 5

    def test_shuffle_uses_the_seed_and_every_order_of_a_tie_comes_up(self) -> None:
        seen = {"".join(order_interactions(TIED, "shuffle", seed)[0]["item_id"][3:6]) for seed in range(60)}
        assert seen == {"def", "dfe", "edf", "efd", "fde", "fed"}
        once, again = (order_interactions(TIED, "shuffle", 7)[0] for _ in range(2))
        pd.testing.assert_frame_equal(once, again)

    def test_users_are_ordered_as_strings_and_other_columns_travel_along(self) -> None:
        table = frame([("10", "a", 3), ("9", "b", 1), ("10", "c", 2)]).assign(rating=[1.0, 2.0, 3.0])
        ordered, report = order_interactions(table, "shuffle", 0)
        assert ordered["user_id"].tolist() == ["10", "10", "9"]
        assert ordered["rating"].tolist() == [3.0, 1.0, 2.0]
        assert report.tied == report.users == report.users_test_tied == 0

    @given(logs, st.integers(0, 5), st.randoms(use_true_random=False))
    @settings(deadline=None)
    def test_shuffle_does_not_depend_on_the_input_order(self, table: pd.DataFrame, seed: int, random) -> None:
        table = table.assign(rating=np.arange(len(table), dtype=np.float32))
        rows = list(range(len(table)))
        random.shuffle(rows)
        one, report_one = order_interactions(table, "shuffle", seed)
        two, report_two = order_interactions(table.iloc[rows], "shuffle", seed)
        pd.testing.assert_frame_equal(one, two)
        assert report_one == report_two

    @given(logs, st.sampled_from(["shuffle", "keep"]))
    @settings(deadline=None)
    def test_rows_are_sorted_and_none_is_lost(self, table: pd.DataFrame, ties) -> None:
        ordered, report = order_interactions(table, ties, 0)
        keys = list(zip(ordered["user_id"], ordered["timestamp"], strict=True))
        assert keys == sorted(keys)
        assert sorted(ordered.itertuples(index=False)) == sorted(table.itertuples(index=False))
        counts = table.groupby(["user_id", "timestamp"]).size()
        assert report.tied == counts[counts > 1].sum()
        times = [list(rows["timestamp"]) for _, rows in ordered.groupby("user_id")]
        assert report.users_test_tied == sum(len(t) >= 3 and t[-1] == t[-2] for t in times)

    def test_the_input_is_left_alone(self) -> None:
        before = TIED.copy()
        order_interactions(TIED, "shuffle", 0)
        pd.testing.assert_frame_equal(TIED, before)

    def test_mistakes_are_named(self) -> None:
        with pytest.raises(PlumError, match="have no rows"):
            order_interactions(TIED.iloc[:0], "shuffle", 0)
        with pytest.raises(PlumError, match="lack the column timestamp"):
            order_interactions(TIED.drop(columns="timestamp"), "shuffle", 0)
        with pytest.raises(PlumError, match=r'found: .*random.*\n.*"shuffle" or "keep"'):
            order_interactions(TIED, "random", 0)  # type: ignore[arg-type]
        with pytest.raises(PlumError, match="1 in user_id"):
            order_interactions(TIED.assign(user_id=[None, *TIED["user_id"][1:]]), "shuffle", 0)


class TestKCore:
    def test_by_hand_one_removal_sets_off_the_next(self) -> None:
        # d goes (1 interaction), then u3 is left with 1 and goes, then c is left with 1 and goes.
        table = frame(
            [
                ("u1", "a", 0),
                ("u1", "b", 1),
                ("u2", "a", 2),
                ("u2", "b", 3),
                ("u2", "c", 4),
                ("u3", "c", 5),
                ("u3", "d", 6),
            ]
        )
        core = k_core(table, 2, 2)
        assert list(zip(core["user_id"], core["item_id"], strict=True)) == [
            ("u1", "a"),
            ("u1", "b"),
            ("u2", "a"),
            ("u2", "b"),
        ]

    @given(logs, st.integers(0, 4), st.integers(0, 4))
    @settings(deadline=None)
    def test_fixed_point_idempotent_and_as_large_as_can_be(self, table: pd.DataFrame, k_users: int, k_items) -> None:
        try:
            core = k_core(table, k_users, k_items)
        except PlumError:
            core = table.iloc[:0]
        else:
            assert core.groupby("user_id").size().min() >= k_users
            assert core.groupby("item_id").size().min() >= k_items
            pd.testing.assert_frame_equal(k_core(core, k_users, k_items), core)
        # Removing one offender at a time, in any order, ends in the same core.
        rest = table
        while True:
            users, items = rest["user_id"].value_counts(), rest["item_id"].value_counts()
            bad_users, bad_items = users[users < k_users].index, items[items < k_items].index
            if len(bad_items):
                rest = rest[rest["item_id"] != bad_items[0]]
            elif len(bad_users):
                rest = rest[rest["user_id"] != bad_users[0]]
            else:
                break
        pd.testing.assert_frame_equal(core, rest.reset_index(drop=True))

    def test_zero_is_off(self) -> None:
        pd.testing.assert_frame_equal(k_core(TIED, 0, 0), TIED)
        assert set(k_core(TIED, 4, 0)["user_id"]) == {"u2"}
        assert set(k_core(TIED, 0, 2)["item_id"]) == {"a", "b", "c"}

    def test_mistakes_are_named(self) -> None:
        with pytest.raises(
            PlumError, match=r"(?s)k_users=9 and k_items=1 leaves no.*10 interactions of 3 users.*lower"
        ):
            k_core(TIED, 9, 1)
        with pytest.raises(PlumError, match="negative"):
            k_core(TIED, -1, 0)
        with pytest.raises(PlumError, match="have no rows"):
            k_core(TIED.iloc[:0], 2, 2)


class TestLeaveOneOut:
    def test_by_hand_with_a_short_user(self) -> None:
        ordered, _ = order_interactions(
            frame([("u1", item, time) for time, item in enumerate("abcd")] + [("u2", "a", 0), ("u2", "z", 1)])
        )
        split = leave_one_out(ordered)
        assert tuple(split.columns) == SPLIT_COLUMNS
        assert split["position"].dtype == np.int32
        assert split["part"].tolist() == ["train", "train", "valid", "test", "train", "train"]
        assert split["position"].tolist() == [0, 1, 2, 3, 0, 1]
        report = report_split(split)
        assert (report.users, report.interactions) == (2, 6)
        assert (report.train, report.valid, report.test) == (4, 1, 1)
        assert (report.users_with_test, report.users_without_test) == (1, 1)
        assert report.test_users_without_train == 0
        assert report.test_cold == 1  # d

    @given(logs)
    @settings(deadline=None)
    def test_properties(self, table: pd.DataFrame) -> None:
        ordered, _ = order_interactions(table)
        lengths = table["user_id"].value_counts()
        if lengths.max() < 3:
            with pytest.raises(PlumError, match="longest history"):
                leave_one_out(ordered)
            return
        split = leave_one_out(ordered)
        check_parts_and_positions(ordered, split)
        for user, history in split.groupby("user_id"):
            parts = history["part"].tolist()
            n = lengths[user]
            assert parts == (["train"] * n if n < 3 else ["train"] * (n - 2) + ["valid", "test"])
        assert report_split(split).users_with_test == (lengths >= 3).sum()

    def test_rows_out_of_order_are_refused(self) -> None:
        ordered, _ = order_interactions(TIED)
        with pytest.raises(PlumError, match="order_interactions first"):
            leave_one_out(ordered.iloc[::-1])
        with pytest.raises(PlumError, match="order_interactions first"):
            leave_one_out(frame([("u1", "a", 0), ("u2", "a", 0), ("u1", "b", 1)]))
        with pytest.raises(PlumError, match="have no rows"):
            leave_one_out(ordered.iloc[:0])


class TestTemporal:
    def test_by_hand(self) -> None:
        ordered, _ = order_interactions(
            frame([("u1", "a", 1), ("u1", "b", 5), ("u1", "c", 7), ("u2", "a", 4), ("u2", "d", 9), ("u3", "b", 8)])
        )
        split = temporal(ordered, valid_from=Moment(5), test_from=Moment(8))
        assert split["part"].tolist() == ["train", "valid", "valid", "train", "test", "test"]
        assert split["position"].tolist() == [0, 1, 2, 0, 1, 0]
        report = report_split(split)
        assert (report.train, report.valid, report.test) == (2, 2, 2)
        assert (report.users_with_test, report.users_without_test) == (2, 1)
        assert report.test_users_without_train == 1  # u3
        assert report.test_cold == 2  # d, and b, which only validation holds

    @given(logs, st.integers(0, 9), st.integers(0, 9))
    @settings(deadline=None)
    def test_never_leaks(self, table: pd.DataFrame, valid_from: int, test_from: int) -> None:
        ordered, _ = order_interactions(table)
        try:
            split = temporal(ordered, Moment(valid_from), Moment(test_from))
        except PlumError:
            return
        check_parts_and_positions(ordered, split)
        time = {name: ordered["timestamp"][split["part"] == name] for name in ("train", "valid", "test")}
        assert time["train"].max() < valid_from <= time["valid"].min()
        assert time["valid"].max() < test_from <= time["test"].min()

    @given(
        st.lists(st.integers(0, 1_000), min_size=1, max_size=60),
        st.floats(0.05, 0.5),
        st.floats(0.05, 0.4),
    )
    @settings(deadline=None)
    def test_cutoffs_always_give_three_parts_or_an_error(self, times, valid_share, test_share) -> None:
        try:
            valid_from, test_from = temporal_cutoffs(at(times), valid_share, test_share)
        except PlumError:
            return
        ordered, _ = order_interactions(frame([("u", f"i{n}", time) for n, time in enumerate(times)]))
        split = temporal(ordered, valid_from, test_from)
        if len(set(times)) == len(times):
            assert abs(report_split(split).test - test_share * len(times)) <= 1
            assert abs(report_split(split).valid - valid_share * len(times)) <= 1

    def test_cutoffs_by_hand(self) -> None:
        times = at(np.arange(100, 200)[::-1])
        assert temporal_cutoffs(times, valid_share=0.1, test_share=0.2) == (Moment(170), Moment(180))

    def test_mistakes_are_named(self) -> None:
        ordered, _ = order_interactions(TIED)
        with pytest.raises(PlumError, match=r"(?s)valid_from=9, test_from=9.*apart"):
            temporal(ordered, Moment(9), Moment(9))
        with pytest.raises(PlumError, match=r"(?s)for train\n.*1970-01-01 00:00.*within that range"):
            temporal(ordered, Moment(0), Moment(9))
        with pytest.raises(PlumError, match="for valid and test"):
            temporal(ordered, Moment(10**12), Moment(2 * 10**13))  # milliseconds
        with pytest.raises(PlumError, match="sum to less than 1"):
            temporal_cutoffs(at(range(10)), 0.5, 0.5)
        with pytest.raises(PlumError, match="2 distinct times"):
            temporal_cutoffs(at([1, 1, 2, 2]), 0.25, 0.25)
        with pytest.raises(PlumError, match="0 interactions"):
            temporal_cutoffs(at([]), 0.1, 0.1)
        with pytest.raises(PlumError, match="order_interactions first"):
            temporal(ordered.iloc[::-1], Moment(5), Moment(9))


def at(seconds: Sequence[int] | np.ndarray) -> pd.DataFrame:
    """Interactions at these times, as far as cut-offs ask."""
    return pd.DataFrame({"timestamp": np.array(seconds, dtype=np.int64)})


def check_parts_and_positions(ordered: pd.DataFrame, split: pd.DataFrame) -> None:
    """Every interaction stands once, in one part, at positions 0..n-1 that follow time."""
    assert split[["user_id", "item_id"]].equals(ordered[["user_id", "item_id"]])
    assert split["part"].isin(["train", "valid", "test"]).all()
    for _, rows in split.groupby("user_id"):
        assert rows["position"].tolist() == list(range(len(rows)))
        times = ordered["timestamp"][rows.index]
        assert times.is_monotonic_increasing
    report = report_split(split)
    assert report.train + report.valid + report.test == report.interactions == len(ordered)
    assert report.users_with_test + report.users_without_test == report.users


def test_an_item_is_known_if_it_occurs_before_validation_begins():
    ordered, _ = order_interactions(frame([("u", "a", 1), ("u", "b", 5), ("u", "a", 9), ("v", "c", 9), ("v", "b", 2)]))
    split = temporal(ordered, Moment(5), Moment(9))
    catalogue = pd.Series(["d", "c", "b", "a"])  # b is known by v's interaction at 2
    assert known_items(split, catalogue).tolist() == [False, False, True, True]
    assert report_known(split, catalogue) == KnownReport(known=2, first_later=1, never=1, later_share=0.5)


@given(st.lists(st.tuples(st.sampled_from("uvw"), st.sampled_from("abcde"), st.integers(0, 9)), min_size=1), st.data())
def test_what_comes_after_the_cut_decides_nothing_about_who_is_known(rows, data):
    rows += [("u", "a", 0), ("u", "b", 4), ("u", "c", 8)]  # no part is empty
    later = data.draw(st.lists(st.tuples(st.sampled_from("uvw"), st.sampled_from("abcdef"), st.integers(4, 9))))
    catalogue = pd.Series(list("abcdef"))
    parts = [temporal(order_interactions(frame(log))[0], Moment(4), Moment(8)) for log in (rows, rows + later)]
    known = [known_items(split, catalogue).tolist() for split in parts]
    assert known[0] == known[1] == [any(i == item and t < 4 for _, i, t in rows) for item in catalogue]
