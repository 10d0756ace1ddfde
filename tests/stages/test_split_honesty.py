"""What the split must not leak, and what it must say."""

from __future__ import annotations

import logging
from pathlib import Path

import pandas as pd

from plum.config.file import validate
from plum.config.run import RunConfig
from plum.stages import prepare


def config_of(folder: Path, rows: list[tuple[str, str, int]], **split: object) -> RunConfig:
    folder.mkdir(parents=True, exist_ok=True)
    lines = [f"{user},{item},{time}" for user, item, time in rows]
    (folder / "events.csv").write_text("user_id,item_id,timestamp\n" + "\n".join(lines) + "\n")
    source = {"kind": "logs", "interactions": str(folder / "events.csv")}
    return validate({"workdir": str(folder / "run"), "data": {"source": source, "split": split}}, where="the test")


def test_under_the_temporal_protocol_later_interactions_do_not_decide_who_is_in_the_core(tmp_path):
    users = [f"u{number}" for number in range(10)]
    early = [(user, item, 1000 + step) for user in users for step, item in enumerate(["a", "b", "c", "d"])]
    rare = [("u0", "rare", 1100)]
    later = [(user, item, 9000 + step) for user in users for step, item in enumerate(["a", "rare", "b", "c"])]
    split = {"protocol": "temporal", "valid_share": 0.25, "test_share": 0.25, "k_core_items": 3}
    config = config_of(tmp_path, early + rare + later, **split)
    prepare.run(config)
    items = pd.read_parquet(config.workdir / "data" / "items.parquet")["item_id"]
    assert sorted(items) == ["a", "b", "c", "d"]  # "rare" has one training interaction and ten later ones


def test_targets_that_stand_in_the_history_are_counted_and_told(tmp_path, caplog, monkeypatch):
    monkeypatch.setattr(logging.getLogger("plum"), "propagate", True)
    again = [(f"u{number}", item, step) for number in range(4) for step, item in enumerate(["a", "b", "a", "b"])]
    once = [("once", "a", 5)]
    config = config_of(tmp_path, again + once)
    with caplog.at_level(logging.WARNING, logger="plum"):
        prepare.run(config)
    said = " ".join(record.getMessage() for record in caplog.records)
    assert "all test items of 4 users are in their histories" in said
    assert "eval.filter_seen=false" in said
    assert "1 users without a test item" in said
