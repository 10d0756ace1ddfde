"""Times finer than a second, and logs without times, through the data stage and what reads its files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import tiny_run

from plum.config.file import validate
from plum.config.run import RunConfig
from plum.errors import PlumError
from plum.run import artifacts
from plum.stages import inputs, prepare
from plum.stages.eval import scoring

START = 1_600_000_000_000
USERS, EACH = 12, 6


def config_of(folder: Path, log: pd.DataFrame, source: dict[str, Any] | None = None, **split: Any) -> RunConfig:
    """A run on a log; rows are shuffled, so that only times tell their order."""
    folder.mkdir(exist_ok=True)
    log.to_csv(folder / "log.csv", index=False)
    logs = {"kind": "logs", "interactions": str(folder / "log.csv")} | (source or {})
    return validate(tiny_run.pipeline(folder / "run", logs, **split), "the test")


def clicks() -> pd.DataFrame:
    """Each user's items i0, i1, ... 250 ms apart, users one after the other, in random order of the rows."""
    rows = [(f"u{user:02}", f"i{n}", START + 1500 * user + 250 * n) for user in range(USERS) for n in range(EACH)]
    log = pd.DataFrame(rows, columns=["user_id", "item_id", "timestamp"])
    return log.sample(frac=1, random_state=0)


def test_clicks_within_a_second_are_in_their_order_and_no_ties(tmp_path: Path) -> None:
    config = config_of(tmp_path, clicks())
    prepare.run(config)
    log = artifacts.read_table(config.workdir / artifacts.INTERACTIONS)
    assert log["item_id"].tolist() == [f"i{n}" for n in range(EACH)] * USERS
    assert log["nanosecond"].dtype == np.int32
    exact = log["timestamp"] * 1000 + log["nanosecond"] // 1_000_000
    assert exact.tolist() == sorted(clicks()["timestamp"])
    assert artifacts.read_json(config.workdir / artifacts.DATA_SUMMARY)["ties"]["tied"] == 0
    asked = scoring.read_asked(config, inputs.read_prepared(config.workdir))
    assert asked.tied is not None
    assert not asked.tied.any()


def test_the_last_two_within_a_second_tie_only_at_the_same_moment(tmp_path: Path) -> None:
    log = clicks()
    last = log["item_id"] == f"i{EACH - 1}"
    log.loc[last & (log["user_id"] < "u06"), "timestamp"] -= 250
    config = config_of(tmp_path, log)
    prepare.run(config)
    asked = scoring.read_asked(config, inputs.read_prepared(config.workdir))
    assert asked.tied is not None
    assert asked.tied.tolist() == [True] * 6 + [False] * 6


def test_a_temporal_split_cuts_within_a_second(tmp_path: Path) -> None:
    log = clicks()
    log["timestamp"] = START + log["timestamp"] % 1500 // 250 * 100 + log["user_id"].str[1:].astype(int)
    config = config_of(tmp_path, log, protocol="temporal", valid_share=0.2, test_share=0.2)
    prepare.run(config)
    written = artifacts.read_table(config.workdir / artifacts.INTERACTIONS)
    part = artifacts.read_table(config.workdir / artifacts.SPLIT)["part"]
    spans = written["nanosecond"].groupby(part).agg(["min", "max"])
    assert written["timestamp"].nunique() == 1
    assert spans["max"]["train"] < spans["min"]["valid"] <= spans["max"]["valid"] < spans["min"]["test"]


def test_the_order_of_the_rows_stands_in_for_times(tmp_path: Path) -> None:
    log = clicks().drop(columns="timestamp")
    source = {"timestamp_unit": "position"}
    with pytest.raises(PlumError, match=r"data\.split\.protocol=leave-one-out"):
        prepare.run(config_of(tmp_path, log, source, protocol="temporal"))
    config = config_of(tmp_path, log, source)
    prepare.run(config)
    written = artifacts.read_table(config.workdir / artifacts.INTERACTIONS)
    assert written["timestamp"].tolist() == list(range(EACH)) * USERS
    in_rows = log.sort_values("user_id", kind="stable")["item_id"]
    assert written["item_id"].tolist() == in_rows.tolist()
    assert inputs.train_times(config.workdir) is None


def test_whole_seconds_in_any_unit_write_the_same_bytes(tmp_path: Path) -> None:
    log = clicks().assign(timestamp=lambda t: t["timestamp"] // 1000 * 1000)
    files = []
    for name, factor in (("s", 1000), ("ms", 1)):
        config = config_of(tmp_path / name, log.assign(timestamp=log["timestamp"] // factor))
        prepare.run(config)
        files.append((config.workdir / artifacts.INTERACTIONS).read_bytes())
    assert files[0] == files[1]
