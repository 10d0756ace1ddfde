"""A split as histories of item rows, by hand and as properties."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from plum.data.histories import PARTS, Histories
from plum.errors import PlumError

ITEMS = pd.Series(["a", "b", "c", "d"])


def split(rows):
    return pd.DataFrame(rows, columns=["user_id", "item_id", "position", "part"]).astype(
        {"user_id": str, "item_id": str, "position": "int64", "part": str}
    )


HAND = split(
    [
        ("u2", "c", 1, "valid"),
        ("u10", "a", 0, "train"),
        ("u2", "d", 0, "train"),
        ("u2", "a", 2, "test"),
        ("u10", "b", 1, "train"),
        ("u3", "b", 0, "test"),
    ]
)


def lists(arrays):
    return [array.tolist() for array in arrays]


def test_histories_by_hand():
    found = Histories.from_split(HAND, ITEMS)
    assert found.user_ids.tolist() == ["u10", "u2", "u3"]
    assert lists(found.train) == [[0, 1], [3], []]
    assert lists(found.valid) == [[], [2], []]
    assert lists(found.test) == [[], [0], [1]]
    assert found.popularity(4).tolist() == [1, 1, 0, 1]


def test_questions_need_a_history_and_a_target():
    found = Histories.from_split(HAND, ITEMS)
    users, histories, targets = found.questions("test")
    assert (users.tolist(), lists(histories), lists(targets)) == ([1], [[3, 2]], [[0]])
    users, histories, targets = found.questions("valid")
    assert (users.tolist(), lists(histories), lists(targets)) == ([1], [[3]], [[2]])


def test_an_empty_split_has_no_users():
    found = Histories.from_split(split([]), ITEMS)
    assert (len(found.user_ids), found.train, found.valid, found.test) == (0, [], [], [])
    assert found.popularity(4).tolist() == [0, 0, 0, 0]
    assert len(found.questions("test")[0]) == 0


def test_numbers_as_user_ids_are_not_mixed_up():
    # as text "10" stands before "9", as numbers after it
    numbered = HAND.assign(user_id=HAND["user_id"].map({"u2": 9, "u10": 10, "u3": 100}))
    found = Histories.from_split(numbered, ITEMS)
    train = dict(zip(found.user_ids.tolist(), lists(found.train), strict=True))
    assert train == {"9": [3], "10": [0, 1], "100": []}


def test_an_item_that_the_catalogue_lacks_is_a_message():
    with pytest.raises(PlumError, match=r"(?s)items\.parquet lacks.*'d'; 1 such rows.*plum data prepare"):
        Histories.from_split(HAND, ITEMS[:3])


users = st.sampled_from(["u1", "u10", "u2", "é", "U"])
sequences = st.dictionaries(
    users, st.lists(st.tuples(st.sampled_from("abcd"), st.sampled_from(PARTS)), min_size=1, max_size=6), max_size=5
)


@given(sequences, st.randoms(use_true_random=False))
def test_every_interaction_stands_in_its_users_part_in_order(logs, random):
    rows = [(user, item, place, part) for user, log in logs.items() for place, (item, part) in enumerate(log)]
    random.shuffle(rows)
    found = Histories.from_split(split(rows), ITEMS)
    assert found.user_ids.tolist() == sorted(logs)
    for number, user in enumerate(found.user_ids.tolist()):
        for part in PARTS:
            expected = ["abcd".index(item) for item, where in logs[user] if where == part]
            assert getattr(found, part)[number].tolist() == expected
            assert getattr(found, part)[number].dtype == np.int64
    trained = [item for log in logs.values() for item, part in log if part == "train"]
    assert found.popularity(4).tolist() == [trained.count(item) for item in "abcd"]


@given(sequences)
def test_questions_ask_exactly_those_with_both(logs):
    rows = [(user, item, place, part) for user, log in logs.items() for place, (item, part) in enumerate(log)]
    found = Histories.from_split(split(rows), ITEMS)
    for part, before in (("valid", {"train"}), ("test", {"train", "valid"})):
        asked = [
            user
            for user, log in sorted(logs.items())
            if any(p == part for _, p in log) and any(p in before for _, p in log)
        ]
        numbers, histories, targets = found.questions(part)
        assert found.user_ids[numbers].tolist() == asked
        assert all(len(h) and len(t) for h, t in zip(histories, targets, strict=True))


def test_a_catalogue_of_some_items_alone_renumbers_them_and_drops_the_others():
    item_ids = pd.Series(list("abcd"))
    split = pd.DataFrame(
        {
            "user_id": ["u", "u", "u", "u", "v"],
            "item_id": ["b", "d", "a", "b", "c"],
            "position": [0, 1, 2, 3, 0],
            "part": ["train", "train", "valid", "test", "valid"],
        }
    )
    found = Histories.from_split(split, item_ids).only(np.array([False, True, False, True]))
    assert [rows.tolist() for rows in found.train] == [[0, 1], []]
    assert [rows.tolist() for rows in found.valid] == [[], []]
    assert [rows.tolist() for rows in found.test] == [[0], []]
    assert found.user_ids.tolist() == ["u", "v"]
