"""The files of a run: JSON, tables and its configuration."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from plum.errors import PlumError
from plum.run import artifacts
from plum.run.artifacts import read_json, read_table, write_json, write_table


def test_json_is_strict_and_takes_numpy(tmp_path):
    value = {"a": float("nan"), "b": [np.float32("inf"), np.int64(3)], "c": np.array([1.5, np.nan]), 4: Path("x/y")}
    write_json(tmp_path / "deep/x.json", value)
    text = (tmp_path / "deep/x.json").read_text()
    assert json.loads(text) == {"a": None, "b": [None, 3], "c": [1.5, None], "4": "x/y"}
    assert "NaN" not in text
    assert [p.name for p in (tmp_path / "deep").iterdir()] == ["x.json"]


def test_unreadable_json_is_a_message(tmp_path):
    with pytest.raises(PlumError, match="is missing"):
        read_json(tmp_path / "x.json")
    (tmp_path / "x.json").write_text("{")
    with pytest.raises(PlumError, match=r"(?s)is not JSON.*--force"):
        read_json(tmp_path / "x.json")


def test_tables_go_there_and_back(tmp_path):
    table = pd.DataFrame({"item_id": ["a", "b"], "topics": [["x"], None], "n": [1, 2]}, index=[5, 6])
    write_table(tmp_path / "deep/t.parquet", table)
    found = read_table(tmp_path / "deep/t.parquet")
    assert found["item_id"].tolist() == ["a", "b"]
    assert found.index.tolist() == [0, 1]
    assert list(read_table(tmp_path / "deep/t.parquet", ["n"])) == ["n"]
    with pytest.raises(PlumError, match="can't be read"):
        read_table(tmp_path / "deep/t.parquet", ["missing"])
    with pytest.raises(PlumError, match="is missing"):
        read_table(tmp_path / "none.parquet")
    (tmp_path / "bad.parquet").write_text("no table")
    with pytest.raises(PlumError, match="can't be read"):
        read_table(tmp_path / "bad.parquet")


def test_a_configuration_that_plum_did_not_write_is_never_replaced(tmp_path):
    artifacts.write_config(tmp_path, {"seed": 0})
    artifacts.write_config(tmp_path, {"seed": 1})  # its own may be
    assert "seed: 1" in artifacts.config_path(tmp_path).read_text()
    artifacts.config_path(tmp_path).write_text("mine: 1  # by hand\n")
    with pytest.raises(PlumError, match="did not write"):
        artifacts.write_config(tmp_path, {"seed": 2})
    assert artifacts.config_path(tmp_path).read_text() == "mine: 1  # by hand\n"
