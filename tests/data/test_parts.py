"""Logs in a folder of parts, or named by a pattern."""

from __future__ import annotations

import gzip
from pathlib import Path

import pandas as pd
import pytest

from plum.data.dialect import Dialect
from plum.data.logs import load_logs
from plum.errors import PlumError

HEADER = "user_id,item_id,timestamp,rating\n"


def message(path: Path) -> str:
    with pytest.raises(PlumError) as caught:
        load_logs(path)
    return str(caught.value)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Parts 2 and 10 of a log, and what else stands in such folders."""
    log = tmp_path / "log"
    (log / "day=1").mkdir(parents=True)
    (log / "part-2.csv").write_text(HEADER + "u1,a,1,5\nu1,b,2,5\n")
    (log / "part-10.csv.gz").write_bytes(gzip.compress((HEADER + "u2,a,3,4\n,a,4,4\n").encode()))
    (log / "day=1" / "part-1.csv").write_text(HEADER + "u3,a,9,1\n")
    (log / "part-11.csv").write_text("")
    (log / "part-12.csv").write_text(HEADER)
    for name in ("_SUCCESS", ".part-2.csv.crc", ".hidden.csv", "_metadata.csv", "README.md"):
        (log / name).write_text("x")
    return log


def test_all_parts_are_read_in_the_order_of_their_numbers(folder: Path) -> None:
    tables = load_logs(folder, max_bad_share=0.5)
    assert tables.interactions["user_id"].tolist() == ["u3", "u1", "u1", "u2"]
    assert tables.n_rows == 5
    assert tables.problems[0].example == "part-10.csv.gz, line 3: ''"


def test_a_pattern_names_some(folder: Path) -> None:
    assert len(load_logs(folder / "part-?.csv").interactions) == 2
    assert len(load_logs(folder / "**" / "part-[12].csv").interactions) == 3
    assert "fits no file" in message(folder / "parts-*.csv")
    assert "there is no folder" in message(folder / "nowhere" / "*.csv")


def test_parts_that_do_not_fit_are_refused(folder: Path) -> None:
    (folder / "part-3.csv").write_text("user_id,item_id,timestamp\nu9,a,1\n")
    assert "part-3.csv has other columns than part-1.csv" in message(folder)
    assert "only part-1.csv has 'rating'" in message(folder)
    (folder / "part-3.csv").write_text("who,item_id,timestamp\nu9,a,1\n")
    assert "part-3.csv: no column 'user_id'" in message(folder)
    (folder / "part-3.csv").unlink()
    (folder / "part-3.jsonl").write_text("{}")
    assert "tables of several formats" in message(folder)


def test_a_folder_without_tables_is_refused(tmp_path: Path) -> None:
    (tmp_path / "part-00000").write_text("user_id;item_id;timestamp\nu1;a;1\n")
    assert "data.source.delimiter" in message(tmp_path)
    assert len(load_logs(tmp_path, dialect=Dialect(delimiter=";")).interactions) == 1
    (tmp_path / "part-00000").unlink()
    assert "is a folder without a table" in message(tmp_path)
    (tmp_path / "a.csv").write_text("")
    assert "all parts are empty" in message(tmp_path)


def test_types_of_parquet_parts(tmp_path: Path) -> None:
    rows = pd.DataFrame({"user_id": [1, 2], "item_id": ["a", "b"], "timestamp": [1, 2]})
    rows.to_parquet(tmp_path / "part-0.parquet")
    rows.astype({"user_id": "int32", "timestamp": "float64"}).to_parquet(tmp_path / "part-1.parquet")
    assert load_logs(tmp_path).interactions["user_id"].tolist() == ["1", "2"]  # the second part repeats the first
    rows.astype({"user_id": "str"}).to_parquet(tmp_path / "part-2.parquet")
    assert "one column in several types" in message(tmp_path)
