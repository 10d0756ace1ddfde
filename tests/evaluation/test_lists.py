"""Ranked lists from elsewhere: what is odd in them is counted, told, and scored in the place where it was shown."""

from __future__ import annotations

import gzip
import itertools
import json
import math
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from plum.errors import PlumError
from plum.evaluation.lists import Audit, by_retriever, count_seen, read_lists, read_recommendations
from plum.evaluation.metrics import per_user_metrics

USERS = ["ann", "bob", "cy"]
ITEMS = ["a", "b", "c", "d", "e"]


def table(*rows: tuple[Any, ...]) -> pd.DataFrame:
    names = ["user_id", "rank", "item_id", "score"]
    return pd.DataFrame([dict(zip(names, row, strict=False)) for row in rows], columns=names[: len(rows[0])])


def read(*rows: tuple[Any, ...], k: int = 4) -> tuple[list[list[int]], dict[str, int], list[str]]:
    items, audit = read_lists(table(*rows), USERS, ITEMS, k)
    odd = {kind: count for kind, count in audit.counts.items() if count}
    return items.tolist(), odd, audit.explain()


def ann(*rows: tuple[Any, ...], k: int = 4) -> tuple[list[int], dict[str, int]]:
    """Ann's list, where the others have whole ones, and what was odd."""
    whole = [(user, rank, item, 0.0) for user in ("bob", "cy") for rank, item in enumerate("abcd"[:k], 1)]
    items, odd, _ = read(*[("ann", *row) for row in rows], *whole, k=k)
    assert items[1:] == [[0, 1, 2, 3][:k]] * 2
    return items[0], odd


def test_whole_lists_come_back_as_catalogue_rows_with_nothing_to_say():
    rows = [(user, rank, item, -rank) for user in USERS for rank, item in enumerate("ecab", 1)]
    items, odd, told = read(*rows)
    assert items == [[4, 2, 0, 1]] * 3
    assert (odd, told) == ({}, [])


@pytest.mark.parametrize(
    ("rows", "expected", "odd"),
    [
        # Order in the file does not matter, the rank does.
        ([(2, "b", 1), (1, "a", 0), (3, "c", 9), (4, "d", 5)], [0, 1, 2, 3], {"unsorted": 1}),
        # An item shown twice: its first place counts, its second is a miss, and nothing moves up.
        ([(1, "a", 4), (2, "a", 3), (3, "b", 2), (4, "c", 1)], [0, -1, 1, 2], {"repeated_items": 1}),
        ([(1, "a", 4), (2, "?", 3), (3, "?", 2), (4, "c", 1)], [0, -1, -1, 2], {"unknown_items": 2}),
        ([(1, "a", 4), (2, None, 3), (3, "b", 2), (4, "c", 1)], [0, -1, 1, 2], {"missing_items": 1}),
        # A hole stays a hole; places 2 and 3 are empty.
        ([(1, "a", 4), (4, "d", 1)], [0, -1, -1, 3], {"gaps": 2}),
        ([(1, "a", 4), (2, "b", 1)], [0, 1, -1, -1], {"short": 1}),
        ([(2, "a", 4), (3, "b", 1)], [-1, 0, 1, -1], {"gaps": 1, "short": 1}),
        # Equal ranks: the higher score first, then the lower item id; what comes after moves down.
        ([(1, "a", 9), (2, "b", 1), (2, "c", 2), (3, "d", 0)], [0, 2, 1, 3], {"duplicated_ranks": 1}),
        ([(1, "d", 1), (1, "b", 1), (1, "c", 1), (4, "a", 0)], [1, 2, 3, 0], {"duplicated_ranks": 2}),
        ([(1, "a", 9), (1, "b", math.nan), (1, "c", -5), (4, "d", 0)], [0, 2, 1, 3], {"duplicated_ranks": 2}),
        # Moved down no further than they must: rank 4 keeps its place.
        ([(1, "a", 9), (1, "b", 8), (4, "c", 7)], [0, 1, -1, 2], {"duplicated_ranks": 1, "gaps": 1}),
        ([(1, "a", 9), (4, "b", 8), (4, "c", 7)], [0, -1, -1, 1], {"duplicated_ranks": 1, "gaps": 2, "cut": 1}),
        ([(1, "a", 9), (2, "b", 8), (3, "c", 7), (4, "d", 6), (5, "e", 5)], [0, 1, 2, 3], {"cut": 1}),
        # A file that counts from 0 comes out right, and is told of.
        ([(0, "a", 9), (1, "b", 8), (2, "c", 7), (3, "d", 6)], [0, 1, 2, 3], {"low_ranks": 1}),
        ([(1, "a", 9), (None, "b", 8), (3, "c", 7), (4, "d", 6)], [0, -1, 2, 3], {"missing_ranks": 1, "gaps": 1}),
        ([(1, "a", 9), (2.5, "b", 8), (3, "c", 7), (4, "d", 6)], [0, -1, 2, 3], {"missing_ranks": 1, "gaps": 1}),
        ([(1, "a", 9), (math.inf, "b", 8)], [0, -1, -1, -1], {"missing_ranks": 1, "short": 1}),
        ([(99, "a", 9)], [-1, -1, -1, -1], {"cut": 1, "short": 1}),
        ([(None, "a", 9)], [-1, -1, -1, -1], {"missing_ranks": 1, "no_list": 1}),
    ],
)
def test_what_is_odd_is_counted_and_stays_in_its_place(rows, expected, odd):
    assert ann(*rows) == (expected, odd)


def test_users_who_are_not_asked_for_and_users_without_a_list():
    items, odd, told = read(("zoe", 1, "a"), (None, 1, "b"), ("bob", 1, "c"), k=1)
    assert items == [[-1], [2], [-1]]
    assert odd == {"missing_users": 1, "unknown_users": 1, "no_list": 2}
    assert told == [
        "Rows without a user are left out: 1 (first: user missing, rank 1, item 'b').",
        "Rows of users who are not evaluated are left out: 1 (first: user 'zoe', rank 1, item 'a').",
        "Users without a list miss in all 1 places: 2 (first: user 'ann').",
    ]


def test_every_oddity_has_a_sentence_with_its_number_and_an_example():
    *_, told = read(
        ("ann", 1, "a", 1), ("ann", 3, "x", 1), ("ann", 2, "a", 1), ("ann", 2, "b", 2), ("ann", 9, "c", 0), k=5
    )
    assert told == [
        "Lists not sorted by rank are sorted: 1 (first: user 'ann').",
        "Rows with the same rank in a list are ordered by score, then by item id, and later rows move down if "
        "needed: 1 (first: user 'ann', rank 2, item 'a').",
        "Rows after place 5 are not scored: 1 (first: user 'ann', rank 9, item 'c').",
        "Places with an item outside the catalogue count as misses: 1 (first: user 'ann', rank 3, item 'x').",
        "Places that repeat an item of the same list count as misses; only its first place can be a hit: 1 (first: "
        "user 'ann', rank 2, item 'a').",
        "In lists that end before place 5, the remaining places count as misses: 1 (first: user 'ann').",
        "Users without a list miss in all 5 places: 2 (first: user 'bob').",
    ]


def test_a_miss_in_the_middle_is_scored_as_one():
    # The item shown in place 3 keeps place 3, whatever stood in place 2.
    items, _ = read_lists(table(("ann", 1, "a"), ("ann", 2, "unknown"), ("ann", 3, "b")), ["ann"], ITEMS, 3)
    assert items.tolist() == [[0, -1, 1]]
    found = per_user_metrics(items, [np.array([1])], cutoffs=[2, 3])
    assert found["recall@2"] == 0
    assert found["mrr@3"] == pytest.approx(1 / 3)
    assert found["ndcg@3"] == pytest.approx(1 / math.log2(4))


@given(st.data())
@settings(deadline=None, max_examples=60)
def test_an_empty_place_can_hit_nothing(data):
    # Row -1 read as an index would be the last item, or the last one of the user before.
    items = np.array(data.draw(st.lists(st.lists(st.integers(-1, 3), min_size=3, max_size=3), min_size=1, max_size=4)))
    for row in items:
        row[[at for at in range(3) if row[at] in row[:at]]] = -1
    targets = [np.array(sorted(data.draw(st.sets(st.integers(0, 3), min_size=1, max_size=3)))) for _ in items]
    found = per_user_metrics(items, targets, cutoffs=[1, 3])
    for row, (shown, wanted) in enumerate(zip(items.tolist(), targets, strict=True)):
        hits = [place for place, item in enumerate(shown, 1) if item in wanted.tolist()]
        assert found["recall@3"][row] == pytest.approx(len(hits) / len(wanted))
        assert found["mrr@3"][row] == pytest.approx(1 / hits[0] if hits else 0)
        assert found["hit@1"][row] == (1 in hits)


def slowly(rows: list[tuple[Any, ...]], k: int) -> tuple[list[list[int]], Counter[str]]:
    """The documented rules, one row after the other."""
    odd: Counter[str] = Counter()
    lists = []
    for user, *_ in rows:
        odd["missing_users"] += user is None
        odd["unknown_users"] += user is not None and user not in USERS
    for user in USERS:
        mine = [row[1:] for row in rows if row[0] == user]
        usable = [row for row in mine if row[0] is not None and row[0] == math.floor(row[0])]
        odd["missing_ranks"] += len(mine) - len(usable)
        odd["low_ranks"] += sum(rank < 1 for rank, *_ in usable)
        odd["unsorted"] += any(b[0] < a[0] for a, b in itertools.pairwise(usable))
        odd["no_list"] += not usable
        scores = [-math.inf if score is None else score for *_, score in usable]
        keyed = [(r, -score, i is None, i or "") for (r, i, _), score in zip(usable, scores, strict=True)]
        shown: dict[int, str | None] = {}
        place = 0
        for number, (rank, _, _, item) in enumerate(sorted(keyed)):
            odd["duplicated_ranks"] += number > 0 and sorted(keyed)[number - 1][0] == rank
            place = max(int(rank), place + 1)
            odd["cut"] += place > k
            if place <= k:
                shown[place] = item or None
        last = max(shown, default=0)
        odd["gaps"] += last - len(shown)
        odd["short"] += bool(usable) and last < k
        row = []
        for at in range(1, k + 1):
            item = shown.get(at)
            odd["missing_items"] += at in shown and item is None
            odd["unknown_items"] += item is not None and item not in ITEMS
            repeated = item in ITEMS and ITEMS.index(item) in row
            odd["repeated_items"] += repeated
            row.append(ITEMS.index(item) if item in ITEMS and not repeated else -1)
        lists.append(row)
    return lists, +odd


@settings(deadline=None, max_examples=150)
@given(
    st.lists(
        st.tuples(
            st.sampled_from([*USERS, *USERS, "zoe", None]),
            st.sampled_from([1, 2, 3, 4, 5, 0, -2, 7, 2.5, None]),
            st.sampled_from([*ITEMS, "x", None]),
            st.sampled_from([0.5, 0.25, -1.0, None]),
        ),
        min_size=1,
        max_size=14,
    ),
    st.integers(1, 6),
)
def test_any_table_is_read_by_the_stated_rules(rows, k):
    items, audit = read_lists(table(*rows), USERS, ITEMS, k)
    expected, odd = slowly(rows, k)
    assert items.tolist() == expected
    assert +Counter(audit.counts) == odd
    assert audit.examples.keys() == odd.keys()
    assert len(audit.explain()) == len(odd)
    per_user_metrics(items, [np.array([0])] * 3, [k])  # which takes no item twice


def test_ids_may_be_numbers_in_any_dtype():
    numbers = pd.DataFrame({"user_id": [7, 7], "rank": np.array([1, 2], np.int32), "item_id": [20, 3]})
    assert read_lists(numbers, ["7"], ["3", "20"], 2)[0].tolist() == [[1, 0]]
    as_categories = numbers.astype({"user_id": str, "item_id": str}).astype("category")
    assert read_lists(as_categories, ["7"], ["3", "20"], 2)[0].tolist() == [[1, 0]]


def test_programming_mistakes_are_refused():
    rows = table(("ann", 1, "a"))
    with pytest.raises(ValueError, match="at least 1"):
        read_lists(rows, USERS, ITEMS, 0)
    with pytest.raises(ValueError, match="repeated"):
        read_lists(rows, ["ann", "ann"], ITEMS, 1)
    with pytest.raises(ValueError, match="several retrievers"):
        read_lists(pd.concat([rows.assign(retriever="x"), rows.assign(retriever="y")]), USERS, ITEMS, 1)


def test_a_clean_audit_says_nothing():
    assert Audit(10).explain() == []


def test_items_of_the_history_are_counted():
    items = np.array([[0, 1, -1], [2, -1, 0]])
    assert count_seen(items, [np.array([1, 4]), np.array([2, 0, 2])]) == 3
    assert count_seen(items, [np.zeros(0, dtype=np.int64)] * 2) == 0


def test_a_table_is_taken_apart_by_retriever():
    rows = table(("ann", 1, "a"), ("ann", 1, "b"), ("bob", 1, "c")).assign(retriever=["x", "y", "x"])
    parts = by_retriever(rows, "here")
    assert {name: part["item_id"].tolist() for name, part in parts.items()} == {"x": ["a", "c"], "y": ["b"]}
    with pytest.raises(PlumError, match=r"here: 1 rows name no retriever\n  found: the first is row 2"):
        by_retriever(rows.assign(retriever=["x", None, "x"]), "here")
    with pytest.raises(PlumError, match="no column 'retriever'"):
        by_retriever(rows.drop(columns="retriever"), "here")


ROWS = [("u1", 1, "10", 0.5), ("u1", 2, "NA", None), (" u2 ", 1, None, 0.25)]


def write(path: Path, rows: list[tuple[Any, ...]] = ROWS) -> Path:
    frame = table(*rows).assign(retriever="mine", other=1)
    if path.suffix == ".parquet":
        frame.to_parquet(path, index=False)
    elif path.suffix == ".csv":
        frame.to_csv(path, index=False)
    else:
        lines = [json.dumps({key: value for key, value in record.items() if value == value}) for record in
                 frame.to_dict("records")]  # fmt: skip
        text = "\n".join(lines).encode()
        path.write_bytes(gzip.compress(text) if path.suffix == ".gz" else text)
    return path


@pytest.mark.parametrize("name", ["lists.parquet", "lists.csv", "lists.jsonl", "lists.jsonl.gz"])
def test_a_file_of_any_format_gives_the_same_table(tmp_path, name):
    found, unreadable = read_recommendations(write(tmp_path / name))
    assert not unreadable
    assert list(found.columns) == ["retriever", "user_id", "item_id", "rank", "score"]
    assert found["user_id"].tolist() == ["u1", "u1", "u2"]
    assert found["item_id"].isna().tolist() == [False, False, True]
    assert found["item_id"].tolist()[:2] == ["10", "NA"]
    assert found["rank"].tolist() == [1, 2, 1]
    assert found["score"].fillna(-1).tolist() == [0.5, -1, 0.25]


def test_numbers_as_ids_are_read_as_text_also_where_gaps_made_floats_of_them(tmp_path):
    frame = pd.DataFrame({"user_id": [1.0, 2.0, None], "rank": [1, 1, 1], "item_id": [5, 6, 7]})
    frame.to_parquet(tmp_path / "lists.parquet")
    found, _ = read_recommendations(tmp_path / "lists.parquet")
    assert found["user_id"].tolist()[:2] == ["1", "2"]
    assert found["user_id"].isna().tolist() == [False, False, True]
    assert found["item_id"].tolist() == ["5", "6", "7"]


def test_a_rank_that_is_no_number_is_missing(tmp_path):
    (tmp_path / "lists.csv").write_text("user_id,rank,item_id\nann,first,a\nann,2,b\n")
    found, _ = read_recommendations(tmp_path / "lists.csv")
    assert found["rank"].isna().tolist() == [True, False]
    assert read_lists(found, USERS, ITEMS, 2)[0][0].tolist() == [-1, 1]


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("lists.csv", "user,rank,item_id\nann,1,a\n", ["no column 'user_id'", "'user', 'rank', 'item_id'"]),
        ("lists.csv", "user_id,rank,item_id\n", ["no row"]),
        ("lists.csv", "", ["is empty"]),
        ("lists.jsonl", '{"user_id": "ann"}\n', ["no column 'rank', 'item_id'"]),
        ("lists.parquet", "not one", ["not a complete Parquet file"]),
        ("lists.xlsx", "", ["unknown format '.xlsx'", "parquet"]),
    ],
)
def test_a_file_that_can_not_be_used_is_told(tmp_path, name, content, told):
    (tmp_path / name).write_text(content)
    with pytest.raises(PlumError) as error:
        read_recommendations(tmp_path / name)
    for text in told:
        assert text in str(error.value)


def test_rows_that_can_not_be_read_are_given_back_and_refused_where_they_are_many(tmp_path):
    path = tmp_path / "lists.csv"
    good = "".join(f"u{number},1,a\n" for number in range(99))
    path.write_text("user_id,rank,item_id\nann,1,a,b,c\n" + good)
    found, (unreadable,) = read_recommendations(path)
    assert (len(found), unreadable.count) == (99, 1)
    assert "5 fields" in unreadable.example
    path.write_text("user_id,rank,item_id\nann,1,a,b,c\nbob,1,a,b,c\n" + good)
    with pytest.raises(PlumError, match=r"2 of 101 rows are unusable, more than the allowed share of 1.0%"):
        read_recommendations(path)


@pytest.mark.parametrize(
    ("column", "value", "told"),
    [
        ("item_id", ["a", "b"], "column 'item_id': values of type list"),
        ("user_id", {"id": "ann"}, "column 'user_id': values of type struct"),
        ("rank", True, "column 'rank' must hold numbers"),
        ("rank", [1], "column 'rank' must hold numbers\n  found: type list"),
    ],
)
def test_a_column_of_another_type_is_told(tmp_path, column, value, told):
    row = {"user_id": "ann", "rank": 1, "item_id": "a"} | {column: value}
    pd.DataFrame([row, row]).to_parquet(tmp_path / "lists.parquet")
    with pytest.raises(PlumError) as error:
        read_recommendations(tmp_path / "lists.parquet")
    assert told in str(error.value)


def test_a_folder_is_no_file_of_lists(tmp_path):
    with pytest.raises(PlumError, match="is a folder"):
        read_recommendations(tmp_path)


def test_a_file_that_is_not_there_is_told(tmp_path):
    with pytest.raises(PlumError, match=r"lists.csv does not exist"):
        read_recommendations(tmp_path / "lists.csv")
