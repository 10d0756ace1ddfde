"""The description of a data set, counted by hand."""

from __future__ import annotations

import io
import json

import numpy as np
import pandas as pd
import pytest
from rich.console import Console

from plum.data.describe import describe, iso, render
from plum.data.items import item_frame
from plum.data.tables import RawTables, RowProblem


def tables(**changes: object) -> RawTables:
    log = pd.DataFrame(
        {
            "user_id": ["u", "u", "u", "v", "v", "w"],
            "item_id": ["a", "b", "a", "a", "c", "a"],
            "timestamp": np.array([0, 0, 60, 60, 86400, 5], np.int64),
            "rating": np.array([5, 3, np.nan, 5, 4, 5], np.float32),
            "reward": np.ones(6, np.float32),
            "device": ["tv", None, "tv", "tv", "tv", "tv"],
        }
    )
    items = item_frame(
        {"item_id": ["a", "b", "c", "d"], "title": ["A", None, "C", ""], "topics": [["x"], None, [], ["x", "y"]]}
    )
    problem = RowProblem("log.csv", "timestamp is [red]not[/red] a number", 2, "line 7: 'abc'")
    given = {"interactions": log, "items": items, "problems": [problem], "n_rows": 8} | changes
    return RawTables(**given)  # type: ignore[arg-type]


def test_counts_by_hand() -> None:
    d = describe(tables())
    assert d["counts"] == {
        "users": 3, "items": 4, "items_with_interactions": 3, "interactions": 6, "rows_read": 8, "tags": 0,
    }  # fmt: skip
    assert d["density"] == 0.5
    assert d["time"] == {
        "first": "1970-01-01T00:00:00+00:00",
        "last": "1970-01-02T00:00:00+00:00",
        "ties": pytest.approx(2 / 6),  # u twice at 0; v and u share 60 but are different users
        "last_tied": 0,
    }
    assert d["repeats"] == 1
    assert d["nulls"] == {"user_id": 0, "item_id": 0, "timestamp": 0, "rating": 1, "reward": 0, "device": 1}
    assert d["sequence_length"]["p0"] == 1.0
    assert d["sequence_length"]["p50"] == 2.0
    assert d["sequence_length"]["p100"] == 3.0
    assert list(d["item_popularity"]) == ["p0", "p5", "p25", "p50", "p75", "p95", "p100"]
    assert d["item_popularity"]["p100"] == 4.0
    assert d["item_fields"] == {"title": 0.5, "topics": 0.5, "creator": 0.0, "description": 0.0}
    assert d["ratings"] == [[3.0, 3.0, 1], [4.0, 4.0, 1], [5.0, 5.0, 3]]
    assert d["problems"][0]["count"] == 2
    assert json.loads(json.dumps(d)) == d


def test_many_ratings_are_binned() -> None:
    log = tables().interactions.sample(500, replace=True, random_state=0).reset_index(drop=True)
    log["rating"] = np.linspace(0, 100, 500, dtype=np.float32)
    bars = describe(tables(interactions=log))["ratings"]
    assert len(bars) == 10
    assert sum(count for _, _, count in bars) == 500
    assert bars[0][0] == 0.0
    assert bars[-1][1] == 100.0


def test_positions_are_no_times() -> None:
    d = describe(tables(timestamps_are_positions=True))
    assert d["time"] == {"first": None, "last": None, "ties": None, "last_tied": None}
    assert "positions" in text_of(d)


def test_users_whose_last_two_interactions_tie_are_counted() -> None:
    """v has two alone, and so no test item; rows need not be in order."""
    log = tables().interactions.assign(timestamp=np.array([60, 0, 60, 7, 7, 5], np.int64))
    d = describe(tables(interactions=log))
    assert (d["time"]["ties"], d["time"]["last_tied"]) == (pytest.approx(4 / 6), 1)
    assert "users whose last two tie" in text_of(d)


def test_nothing_at_all() -> None:
    d = describe(tables(interactions=tables().interactions.iloc[:0], problems=[]))
    assert d["counts"]["users"] == 0
    assert d["density"] == 0.0
    assert d["sequence_length"] == {}
    assert "All rows are usable." in text_of(d)


def text_of(d: dict) -> str:
    out = io.StringIO()
    Console(file=out, width=120).print(render(d))
    return out.getvalue()


def test_render_shows_numbers_and_problems() -> None:
    text = text_of(describe(tables()))
    for part in ("50.0000%", "1970-01-02", "33.3%", "sequence length", "items: topics", "Rows left out", "log.csv"):
        assert part in text
    assert "[red]not[/red]" in text  # values are no markup


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(-62135596800, "0001-01-01T00:00:00+00:00"), (253402300799, "9999-12-31T23:59:59+00:00")],
)
def test_iso_covers_all_years(seconds: int, text: str) -> None:
    assert iso(seconds) == text


def test_a_split_by_time_shows_how_many_items_are_known():
    known = {"known": 7, "first_later": 2, "never": 1, "later_share": 0.3}
    d = describe(tables(), known)
    assert d["known_items"] == known
    text = text_of(d)
    assert "items known before validation begins" in text
    assert "30.0%" in text
    assert "known before" not in text_of(describe(tables()))
