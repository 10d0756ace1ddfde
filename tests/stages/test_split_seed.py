"""The split has a seed of its own: runs with other seeds are asked for the same items."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import tiny_run

from plum.config.file import validate
from plum.stages import prepare


def prepared(folder: Path, run_seed: int = 0, split: Mapping[str, Any] | None = None) -> Path:
    """The data folder that is made of a log in which each user does four things at each of three times."""
    folder.mkdir()
    lines = [
        f"u{user},i{(user * 5 + 4 * place + time) % 17},{time}"
        for user in range(12)
        for time in (10, 20, 30)
        for place in range(4)
    ]
    (folder / "log.csv").write_text("user_id,item_id,timestamp\n" + "\n".join(lines) + "\n")
    source = {"kind": "logs", "interactions": str(folder / "log.csv")}
    values = tiny_run.pipeline(folder / "run", source) | {"seed": run_seed}
    values["data"]["split"] = dict(split or {})
    prepare.run(validate(values, "the test"))
    return folder / "run/data"


def tables(data: Path) -> dict[str, bytes]:
    return {name: (data / f"{name}.parquet").read_bytes() for name in ("interactions", "items", "split")}


def test_another_seed_of_the_run_keeps_the_split(tmp_path: Path) -> None:
    usual = tables(prepared(tmp_path / "usual"))
    assert tables(prepared(tmp_path / "other", run_seed=7)) == usual
    assert tables(prepared(tmp_path / "said", run_seed=7, split={"seed": 0})) == usual  # 0 is the default


def test_another_seed_of_the_split_orders_ties_anew_and_nothing_else(tmp_path: Path) -> None:
    one = pd.read_parquet(prepared(tmp_path / "one") / "interactions.parquet")
    two = pd.read_parquet(prepared(tmp_path / "two", split={"seed": 1}) / "interactions.parquet")
    assert one[["user_id", "timestamp"]].equals(two[["user_id", "timestamp"]])
    last = [frame.groupby("user_id")["item_id"].last() for frame in (one, two)]
    assert (last[0] != last[1]).mean() > 0.3  # of four that tie; three quarters are expected
    for frame in (one, two):
        frame.sort_values(["user_id", "timestamp", "item_id"], inplace=True, ignore_index=True)
    assert one.equals(two)
    again = prepared(tmp_path / "again", run_seed=3, split={"seed": 1})
    assert tables(again) == tables(tmp_path / "two/run/data")


def test_ties_that_are_kept_know_no_seed(tmp_path: Path) -> None:
    one = prepared(tmp_path / "one", split={"ties": "keep", "seed": 0})
    two = prepared(tmp_path / "two", split={"ties": "keep", "seed": 1})
    assert tables(one) == tables(two)
    assert tables(one) != tables(prepared(tmp_path / "shuffled"))
