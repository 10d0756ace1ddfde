"""Stage data: which rows of a source count, and what is said of them."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import tiny_run

from plum.config.file import validate
from plum.errors import PlumError
from plum.report.conditions import data_facts
from plum.run import artifacts
from plum.stages import prepare
from plum.stages.checks import check_named


def likes(n_users: int = 12, n_items: int = 9) -> pd.DataFrame:
    """A log in which each user dislikes every third item."""
    rows = [
        (f"u{user}", f"i{(user + place) % n_items}", 1_600_000_000 + place, -1 if place % 3 == 2 else 1)
        for user in range(n_users)
        for place in range(n_items)
    ]
    return pd.DataFrame(rows, columns=["user_id", "item_id", "timestamp", "rating"])


def made(folder: Path, log: pd.DataFrame, items: pd.DataFrame | None = None, **source: Any) -> pd.DataFrame:
    """The interactions that stage data writes."""
    log.to_csv(folder / "log.csv", index=False)
    settings = {"kind": "logs", "interactions": str(folder / "log.csv")} | source
    if items is not None:
        items.to_csv(folder / "items.csv", index=False)
        settings["items"] = str(folder / "items.csv")
    config = validate(tiny_run.pipeline(folder / "run", settings), "the test")
    check_named(config, [artifacts.DATA])
    prepare.run(config)
    return artifacts.read_table(folder / "run" / artifacts.INTERACTIONS)


def test_dislikes_are_told_and_the_advice_leaves_them_out(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        assert len(made(tmp_path, likes())) == 108
    assert "33% of the ratings are negative" in caplog.text
    assert "--set 'data.source.where=rating > 0'" in caplog.text
    caplog.clear()
    with caplog.at_level(logging.INFO):
        assert (made(tmp_path, likes(), where="rating > 0")["rating"] == 1).all()
    assert "36 rows left out by where: rating > 0" in caplog.text
    assert "negative" not in caplog.text
    summary = artifacts.read_json(tmp_path / "run" / "data" / "summary.json")
    assert [rows["count"] for rows in summary["filtered_rows"]] == [36]
    assert summary["unusable_rows"] == []


def test_low_ratings_are_told_in_a_line(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    stars = likes().assign(rating=lambda log: log["rating"] + 3)
    with caplog.at_level(logging.INFO):
        made(tmp_path, stars)
    assert "ratings run from 2 to 4, and all count alike; 33% are below 3" in caplog.text
    caplog.clear()
    with caplog.at_level(logging.INFO):
        assert len(made(tmp_path, stars, min_rating=4)) == 72
    assert "ratings run" not in caplog.text


def test_a_user_who_is_none_is_told_and_the_advice_leaves_it_out(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    some = pd.DataFrame({"item_id": ["i1", "i2", "i3"] * 40, "timestamp": range(1_600_000_000, 1_600_000_120)})
    log = pd.concat([likes().drop(columns="rating"), some.assign(user_id="(not set)")])
    with caplog.at_level(logging.WARNING):
        made(tmp_path, log)
    assert "user '(not set)' has 53% of the interactions (120), 13 times as many" in caplog.text
    assert """--set 'data.source.where=user_id != "(not set)"'""" in caplog.text
    assert len(made(tmp_path, log, where='user_id != "(not set)"')) == 108


@pytest.mark.parametrize(("deduplicate", "n"), [("exact", 10), ("none", 12), ("consecutive", 7)])
def test_repetitions(tmp_path: Path, deduplicate: str, n: int) -> None:
    places = [("a", 1), ("a", 1), ("a", 2), ("b", 3), ("a", 4), ("a", 5)]  # u ends with a again, v with c
    rows = [(user, item, 1_600_000_000 + time) for user in ("u", "v") for item, time in places]
    log = pd.DataFrame([*rows[:-1], ("v", "c", 1_600_000_009)], columns=["user_id", "item_id", "timestamp"])
    assert len(made(tmp_path, log, deduplicate=deduplicate)) == n


def test_items_that_only_the_log_has(tmp_path: Path) -> None:
    items = pd.DataFrame({"item_id": [f"i{n}" for n in range(1, 9)], "title": "A film", "year": 1990})
    with pytest.raises(PlumError, match=r"item_id is not in items.csv"):
        made(tmp_path, likes(), items)
    assert len(made(tmp_path, likes(), items, unlisted_items="keep")) == 108
    catalogue = artifacts.read_table(tmp_path / "run" / artifacts.ITEMS)
    assert catalogue["item_id"].tolist()[-1] == "i0"
    assert catalogue["title"].isna().tolist()[-2:] == [False, True]
    assert catalogue["year"].dtype == "Int64"


def test_a_folder_of_parts_is_made_again_when_a_part_comes(tmp_path: Path) -> None:
    parts = tmp_path / "parts"
    parts.mkdir()
    log = likes()
    log[:54].to_csv(parts / "part-0.csv", index=False)
    assert len(made(tmp_path, log, interactions=str(parts))) == 54
    log[54:].to_csv(parts / "part-1.csv", index=False)
    assert len(made(tmp_path, log, interactions=str(parts))) == 108
    assert len(made(tmp_path, log, interactions=str(parts / "part-[0]*"))) == 54
    with pytest.raises(PlumError, match="fits no file"):
        made(tmp_path, log, interactions=str(parts / "part-9*"))


def test_a_rule_leaves_movies_as_they_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    release = tmp_path / "ml-latest"
    release.mkdir()
    rated = [(user, movie, 5 if movie % 2 else 2, 1_600_000_000 + movie) for user in (1, 2) for movie in range(1, 9)]
    lines = "".join(",".join(map(str, row)) + "\n" for row in rated)
    (release / "ratings.csv").write_text("userId,movieId,rating,timestamp\n" + lines)
    (release / "movies.csv").write_text(
        "movieId,title,genres\n" + "".join(f"{m},M {m} (1999),Drama\n" for m in range(1, 9))
    )
    monkeypatch.setenv("PLUM_DATA_HOME", str(tmp_path))
    source = {"kind": "movielens", "release": "ml-latest", "where": "rating >= 4 and timestamp >= 2020-09-13"}
    prepare.run(validate(tiny_run.pipeline(tmp_path / "run", source), "the test"))
    found = artifacts.read_table(tmp_path / "run" / artifacts.INTERACTIONS)
    assert len(found) == 8
    assert len(artifacts.read_table(tmp_path / "run" / artifacts.ITEMS)) == 8


def test_the_report_counts_what_the_rule_leaves_out() -> None:
    assert ("rows of the source that the configured rule leaves out", "36") in [
        (name, str(value)) for name, value in data_facts({"filtered_rows": 36})
    ]
