import itertools
import json

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from plum.evaluation.intervals import mean_intervals
from plum.evaluation.metrics import per_user_metrics
from plum.evaluation.slices import (
    UNSEEN,
    Slice,
    by_history_length,
    by_popularity,
    by_tie,
    by_user_feature,
    score_slices,
)


def rows(*lists):
    return [np.array(entries, dtype=np.int64) for entries in lists]


def users_of(slices):
    return {found.name: found.users.tolist() for found in slices}


def one_target_each(n_users):
    return rows(*([0] for _ in range(n_users)))


def items_by_slice(counts, cold_below=5):
    """Which items each slice of popularity holds, the unseen apart: user u has item u as the only target."""
    found = users_of(by_popularity(rows(*([item] for item in range(len(counts)))), np.array(counts), cold_below))
    assert found.pop(UNSEEN) == [item for item in found["cold"] if not counts[item]]
    return found


def test_popularity_by_hand():
    # 100 interactions of known items: the head has 50 of them, the torso 30 more.
    counts = [50, 2, 20, 10, 10, 7, 0, 3]
    assert items_by_slice(counts) == {"head": [0], "torso": [2, 3, 4], "tail": [5], "cold": [1, 6, 7]}


def test_the_item_that_reaches_a_bound_is_within_it():
    # Of 100: 40 do not reach half, 40 + 30 do; 70 do not reach 80%, 70 + 24 do.
    assert items_by_slice([40, 30, 24, 6]) == {"head": [0, 1], "torso": [2], "tail": [3], "cold": []}
    # Exactly half, and exactly 80%, are reached.
    assert items_by_slice([50, 30, 20]) == {"head": [0], "torso": [1], "tail": [2], "cold": []}


def test_items_of_equal_popularity_are_not_parted():
    assert items_by_slice([10] * 6) == {"head": [0, 1, 2, 3, 4, 5], "torso": [], "tail": [], "cold": []}
    # 20 of 80 are above the items with 10, so that each of those is in the head, though two would do.
    assert items_by_slice([10, 10, 20, 10, 10, 10, 10])["head"] == [0, 1, 2, 3, 4, 5, 6]


def test_popularity_counts_training_interactions_of_items_that_are_not_cold():
    # Item 0 has half of what items 0 and 1 have; the interactions of cold items do not count.
    assert items_by_slice([30, 30, 4, 4, 4], cold_below=5)["head"] == [0, 1]
    assert items_by_slice([60, 30, 4, 4, 4], cold_below=5)["head"] == [0]
    assert items_by_slice([4, 4, 0], cold_below=5) == {"head": [], "torso": [], "tail": [], "cold": [0, 1, 2]}
    assert items_by_slice([4, 4, 0], cold_below=0)["cold"] == []


def test_a_user_stands_in_every_slice_of_its_targets():
    slices = by_popularity(rows([0, 6, 1], [2], [6, 7]), np.array([50, 2, 20, 10, 10, 7, 0, 3]))
    assert users_of(slices) == {"head": [0], "torso": [1], "tail": [], "cold": [0, 2], UNSEEN: [0, 2]}
    assert {found.name: [row.tolist() for row in found.targets] for found in slices} == {
        "head": [[0]],
        "torso": [[2]],
        "tail": [],
        "cold": [[6, 1], [6, 7]],
        UNSEEN: [[6], [6]],
    }
    assert {found.group for found in slices} == {"popularity of the target"}


@pytest.mark.parametrize("target", [-1, 3])
def test_a_target_outside_the_catalogue_is_refused(target):
    with pytest.raises(ValueError, match=r"0\.\.2"):
        by_popularity(rows([target]), np.array([1, 1, 1]))


@given(st.lists(st.integers(0, 30), min_size=1, max_size=30), st.integers(0, 8), st.randoms(use_true_random=False))
def test_popularity_is_ordered_complete_and_free_of_the_catalogues_order(counts, cold_below, random):
    found = items_by_slice(counts, cold_below)
    assert sorted(item for items in found.values() for item in items) == list(range(len(counts)))
    popular = [[counts[item] for item in found[name]] for name in ("head", "torso", "tail", "cold")]
    for more, less in itertools.pairwise(part for part in popular if part):
        assert min(more) > max(less)
    known = sum(sum(part) for part in popular[:3])
    for n_parts, tenths in ((1, 5), (2, 8)):
        within = [count for part in popular[:n_parts] for count in part]
        assert 10 * sum(within) >= tenths * known
        # Without its least popular items it has less than its share: they are the fewest that have it.
        assert known == 0 or 10 * sum(count for count in within if count > min(within)) < tenths * known
    order = list(range(len(counts)))
    random.shuffle(order)
    moved = items_by_slice([counts[item] for item in order], cold_below)
    assert {name: sorted(order[place] for place in places) for name, places in moved.items()} == found


def test_history_lengths_by_hand():
    lengths = [1, 5, 6, 10, 11, 20, 21, 50, 51, 0]
    slices = by_history_length([np.zeros(n, np.int64) for n in lengths], one_target_each(10))
    assert users_of(slices) == {
        "0": [9],
        "1-5": [0, 1],
        "6-10": [2, 3],
        "11-20": [4, 5],
        "21-50": [6, 7],
        "over 50": [8],
    }
    assert [found.name for found in slices][:2] == ["0", "1-5"]


def test_ties_by_hand():
    slices = by_tie(np.array([True, False, True]), rows([1], [2, 3], [4]))
    assert users_of(slices) == {"certain": [1], "decided by a tie": [0, 2]}
    assert slices[0].targets[0].tolist() == [2, 3]
    assert {found.group for found in slices} == {"order of the test item"}


def test_text_gives_its_common_values_and_other():
    values = pd.Series([*"aaabbbccde", None, " ", "a "], index=range(13, 0, -1))
    slices = by_user_feature("occupation", values, one_target_each(13), max_groups=3)
    assert [(found.group, found.name, found.users.tolist()) for found in slices] == [
        ("occupation", "a", [0, 1, 2, 12]),
        ("occupation", "b", [3, 4, 5]),
        ("occupation", "other", [6, 7, 8, 9]),
        ("occupation", "unknown", [10, 11]),
    ]
    # As many values as groups: nothing is merged.
    assert [found.name for found in by_user_feature("x", values, one_target_each(13), max_groups=5)] == [
        *"abcde",
        "unknown",
    ]


def test_values_named_other_and_unknown_do_not_make_second_slices():
    values = pd.Series(["other"] * 5 + ["a"] * 4 + ["b"] * 3 + ["c"] * 2 + ["unknown", None])
    found = users_of(by_user_feature("x", values, one_target_each(16), max_groups=3))
    assert found == {"a": [5, 6, 7, 8], "b": [9, 10, 11], "other": [0, 1, 2, 3, 4, 12, 13], "unknown": [14, 15]}


@pytest.mark.parametrize("dtype", [bool, "boolean", object])
def test_yes_and_no(dtype):
    slices = by_user_feature("member", pd.Series([True, False, False], dtype=dtype), one_target_each(3))
    assert users_of(slices) == {"no": [1, 2], "yes": [0]}


@pytest.mark.parametrize("dtype", ["category", "string", object])
def test_text_of_every_kind_of_column(dtype):
    values = pd.Series(["M", "F", "M", None, "F", "M"], dtype=dtype)
    found = users_of(by_user_feature("gender", values, one_target_each(6)))
    assert list(found.items()) == [("M", [0, 2, 5]), ("F", [1, 4]), ("unknown", [3])]  # the most common first


def test_few_numbers_are_values_in_their_order():
    values = pd.Series([25.0, 1.0, 1.0, 18.5, np.nan, np.inf])
    assert list(users_of(by_user_feature("age", values, one_target_each(6))).items()) == [
        ("1", [1, 2]),
        ("18.5", [3]),
        ("25", [0]),
        ("unknown", [4, 5]),
    ]


def test_many_numbers_are_quartiles_named_by_their_range():
    values = pd.Series([*range(20, 40), None], dtype="Int64")
    slices = by_user_feature("age", values, one_target_each(21))
    assert [(found.name, found.users.tolist()) for found in slices] == [
        ("20 to 24", [0, 1, 2, 3, 4]),
        ("25 to 29", [5, 6, 7, 8, 9]),
        ("30 to 34", [10, 11, 12, 13, 14]),
        ("35 to 39", [15, 16, 17, 18, 19]),
        ("unknown", [20]),
    ]


def test_quartiles_of_heavily_tied_numbers_keep_equal_numbers_together():
    # The lower three quartile borders are all 0: one slice has the zeros, one the rest.
    values = pd.Series([0] * 80 + list(range(1, 21)))
    assert {
        name: len(users) for name, users in users_of(by_user_feature("x", values, one_target_each(100))).items()
    } == {
        "0": 80,
        "1 to 20": 20,
    }


def test_ranges_have_as_many_digits_as_tell_them_apart():
    values = pd.Series(1.5 + np.arange(16) * 1e-6)
    slices = by_user_feature("x", values, one_target_each(16))
    assert len({found.name for found in slices}) == len(slices) == 4
    assert slices[0].name == "1.5 to 1.500003"


@pytest.mark.parametrize(
    "values",
    [
        pd.Series([f"{zip_code:05d}" for zip_code in range(8)]),
        pd.Series(["a", "a", "b", "c", "d", None, None]),
        pd.Series(["same"] * 5),
        pd.Series([3, 3, 3]),
        pd.Series([None, None], dtype=object),
        pd.Series([], dtype=object),
    ],
    ids=["all differ", "most differ", "one text", "one number", "nothing known", "no users"],
)
def test_columns_that_tell_nothing_of_groups_give_no_slices(values):
    assert by_user_feature("x", values, one_target_each(len(values))) == []


@settings(deadline=None, max_examples=60)
@given(
    st.one_of(
        st.lists(st.one_of(st.none(), st.integers(-50, 50)), max_size=40),
        st.lists(st.one_of(st.none(), st.floats(allow_nan=True)), max_size=40),
        st.lists(st.one_of(st.none(), st.sampled_from(["a", "b", "c", "other", "unknown", "", "d", "e"])), max_size=40),
        st.lists(st.booleans(), max_size=40),
    ),
    st.integers(2, 9),
)
def test_a_feature_puts_every_user_into_one_slice(values, max_groups):
    slices = by_user_feature("x", pd.Series(values), one_target_each(len(values)), max_groups)
    names = [found.name for found in slices]
    assert len(set(names)) == len(names)
    assert len([name for name in names if name != "unknown"]) <= max(4, max_groups)
    if slices:
        assert sorted(user for found in slices for user in found.users.tolist()) == list(range(len(values)))


def test_scores_are_those_of_the_slices_users_and_targets():
    rng = np.random.default_rng(0)
    lists = {name: rng.permuted(np.tile(np.arange(12), (30, 1)), axis=1)[:, :10] for name in ("plum", "dense")}
    targets = [rng.choice(12, size=3, replace=False) for _ in range(30)]
    slices = by_popularity(targets, rng.integers(0, 40, size=12))
    scored = score_slices(slices, lists, ("recall@5", "mrr@10"))
    assert [group["group"] for group in scored] == ["popularity of the target"]
    assert [entry["name"] for entry in scored[0]["slices"]] == [found.name for found in slices if len(found.users)]
    for entry, part in zip(scored[0]["slices"], [found for found in slices if len(found.users)], strict=True):
        assert entry["users"] == len(part.users)
        assert entry["targets"] == sum(len(row) for row in part.targets)
        for name, items in lists.items():
            expected = per_user_metrics(items[part.users], part.targets, [5, 10])
            values = entry["retrievers"][name]
            assert list(values) == ["recall@5", "mrr@10", "ci95"]
            assert values["recall@5"] == pytest.approx(expected["recall@5"].mean())
            assert values["mrr@10"] == pytest.approx(expected["mrr@10"].mean())
            assert values["ci95"] == pytest.approx(mean_intervals(expected["recall@5"][:, None])[0])
    assert json.loads(json.dumps(scored)) == scored


def test_groups_keep_their_order_and_empty_slices_are_left_out():
    some, none = np.array([0]), np.zeros(0, np.int64)
    slices = [
        Slice("b", "one", some, rows([1])),
        Slice("a", "none", none, []),
        Slice("c", "two", some, rows([1, 1, 2])),
        Slice("b", "three", some, rows([2])),
    ]
    scored = score_slices(slices, {"plum": np.array([[1]])})
    assert [(group["group"], [entry["name"] for entry in group["slices"]]) for group in scored] == [
        ("b", ["one", "three"]),
        ("c", ["two"]),
    ]
    # A repeated target is one target: half of two are found.
    assert scored[1]["slices"][0]["targets"] == 2
    assert scored[1]["slices"][0]["retrievers"]["plum"]["recall@10"] == 0.5


@pytest.mark.parametrize(
    ("slices", "lists", "metrics", "message"),
    [
        ([Slice("g", "s", np.array([0]), rows([0]))], {}, ("recall@10",), "need retrievers"),
        ([], {"a": np.zeros((1, 1)), "b": np.zeros((2, 1))}, ("recall@10",), "same users"),
        ([], {"a": np.zeros((1, 1))}, (), "a metric"),
        ([Slice("g", "s", np.array([1]), rows([0]))], {"a": np.array([[0]])}, ("recall@10",), r"outside 0\.\.0"),
        ([Slice("g", "s", np.array([0]), rows([0]))], {"a": np.array([[0]])}, ("recall@10", "coverage@10"), "coverage"),
        ([Slice("g", "s", np.array([0]), rows([0]))], {"a": np.array([[0]])}, ("recall",), "no such metric"),
        ([Slice("g", "s", np.array([0]), rows([]))], {"a": np.array([[0]])}, ("recall@10",), "no target"),
    ],
)
def test_what_cannot_be_scored_is_refused(slices, lists, metrics, message):
    with pytest.raises(ValueError, match=message):
        score_slices(slices, lists, metrics)


def test_other_numbers_of_users_are_refused():
    with pytest.raises(ValueError, match="1 users and targets of 2"):
        Slice("g", "s", np.array([0]), rows([0], [1]))
    with pytest.raises(ValueError, match="2 users, but targets of 1"):
        by_history_length(rows([0], [1]), rows([0]))
    with pytest.raises(ValueError, match="2 users, but targets of 1"):
        by_tie(np.array([True, False]), rows([0]))
    with pytest.raises(ValueError, match="4 users, but targets of 1"):
        by_user_feature("x", pd.Series(["a", "a", "b", "b"]), rows([0]))
    with pytest.raises(ValueError, match="max_groups"):
        by_user_feature("x", pd.Series(["a"]), rows([0]), max_groups=1)
