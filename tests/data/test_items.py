"""Extra columns of items: kept from every format, typed by their values, left out aloud where no rule could ask."""

from __future__ import annotations

import datetime
import gzip
import json
import logging
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from plum.data import jsonl
from plum.data.items import typed_column
from plum.data.logs import load_logs, read_fields, read_ids
from plum.errors import PlumError

NAMES = ("item_id", "title", "price", "in_stock", "published", "year", "maker")
VALUES: list[tuple[Any, ...]] = [
    ("a", "A", 9.5, True, "2015-06-01", 1999, "007"),
    ("b", None, None, None, None, None, None),
    ("c", "C", 20, False, "2015-06-02T10:00:00Z", 2001, "x y"),
]
ROWS: list[dict[str, Any]] = [dict(zip(NAMES, values, strict=True)) for values in VALUES]


def load_items(path: Path, **options: Any) -> pd.DataFrame:
    log = path.parent / "log.csv"
    log.write_text("user_id,item_id,timestamp\nu,a,1\n")
    return load_logs(log, path, **options).items


def write(path: Path) -> Path:
    """``ROWS`` in the format of the suffix."""
    frame = pd.DataFrame(ROWS).astype({"year": "Int64", "in_stock": "boolean"})
    if path.suffix == ".parquet":
        moments = pd.to_datetime(frame["published"], format="ISO8601", utc=True)
        frame.assign(published=moments, maker=frame["maker"].astype("category")).to_parquet(path, index=False)
    elif path.suffix == ".jsonl":
        path.write_text("".join(json.dumps({k: v for k, v in row.items() if v is not None}) + "\n" for row in ROWS))
    else:
        frame.to_csv(path, index=False, sep="\t" if path.suffix == ".tsv" else ",")
    return path


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".jsonl", ".parquet"])
def test_columns_that_no_one_mapped_are_kept_with_their_types(tmp_path: Path, suffix: str) -> None:
    items = load_items(write(tmp_path / f"items{suffix}"))
    assert list(items)[:5] == ["item_id", "title", "topics", "creator", "description"]
    assert list(items)[5:] == ["price", "in_stock", "published", "year", "maker"]
    assert items["title"].tolist() == ["A", None, "C"]
    assert items["price"].dtype == "float64"
    assert items["price"].fillna(-1).tolist() == [9.5, -1, 20]
    assert items["in_stock"].dtype == "boolean"
    assert items["in_stock"].isna().tolist() == [False, True, False]
    assert items["in_stock"].fillna(True).tolist() == [True, True, False]
    assert items["year"].dtype == "Int64"
    assert items["year"].fillna(0).tolist() == [1999, 0, 2001]
    assert items["published"].dtype == "datetime64[us]"
    assert items["published"].dt.strftime("%Y-%m-%d %H").fillna("").tolist() == ["2015-06-01 00", "", "2015-06-02 10"]
    assert items["maker"].tolist() == ["007", None, "x y"]
    items.to_parquet(tmp_path / "again.parquet")
    again = pd.read_parquet(tmp_path / "again.parquet")
    for name in ("price", "in_stock", "published", "year"):
        pd.testing.assert_series_equal(again[name], items[name])


def test_rows_that_can_not_be_used_take_their_extra_values_with_them(tmp_path: Path) -> None:
    (tmp_path / "items.csv").write_text("item_id,price\na,1\n,2\nb,3\na,4\n")
    items = load_items(tmp_path / "items.csv", max_bad_share=0.9)
    assert items[["item_id", "price"]].to_numpy().tolist() == [["a", 1], ["b", 3]]


def test_a_mapped_column_does_not_come_twice(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "items.csv").write_text("sku,name,title,,x,x,cost\na,A,other,1,2,3,4\n")
    with caplog.at_level(logging.WARNING):
        items = load_items(tmp_path / "items.csv", item_columns={"item_id": "sku", "title": "name", "price": "cost"})
    assert list(items)[5:] == ["price"]
    assert items["title"].tolist() == ["A"]
    assert "left out columns whose names are blank, repeated or reserved: 'title', '', 'x'" in caplog.text
    with pytest.raises(PlumError, match="no column 'costs' \\(our price\\)"):
        load_items(tmp_path / "items.csv", item_columns={"item_id": "sku", "price": "costs"})


def test_json_keys_may_come_late_and_hold_lists(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jsonl, "_CHUNK", 2)
    rows: list[dict[str, Any]] = [
        {"item_id": "a", "topics": ["x"], "size": {"w": 1}},
        {"item_id": "b", "tags": "one", "vector": [0.5, 1.0]},
        {"item_id": "c", "tags": ["two", None, 3], "price": 1},
        {"item_id": "d", "size": 4},
        {"item_id": "e", "price": 2.5, "tags": []},
    ]
    path = tmp_path / "items.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)))
    with caplog.at_level(logging.WARNING):
        items = load_items(path)
    assert "left out keys with nested values or vectors: size, vector" in caplog.text
    assert list(items)[5:] == ["tags", "price"]
    assert items["tags"].tolist() == [None, ["one"], ["two", "3"], None, None]
    assert items["price"].fillna(0).tolist() == [0, 0, 1, 0, 2.5]
    assert items["topics"].tolist() == [["x"], None, None, None, None]


def test_a_json_key_may_be_mapped_and_hold_lists(tmp_path: Path) -> None:
    path = tmp_path / "items.jsonl"
    path.write_text('{"item_id": "a", "labels": ["x", "y"]}\n{"item_id": "b", "name": "B"}\n')
    items = load_items(path, item_columns={"title": "name", "tags": "labels", "brand": "name"})
    assert list(items)[5:] == ["tags", "brand"]
    assert items["tags"].tolist() == [["x", "y"], None]
    assert items["brand"].tolist() == items["title"].tolist() == [None, "B"]


def test_vectors_and_structures_of_parquet_are_not_read(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    columns = {
        "item_id": ["a"],
        "vector": [[0.5, 1.0]],
        "image": [b"png"],
        "size": [{"w": 1}],
        "tags": [["x", "y"]],
        "codes": [[1, 2]],
    }
    pq.write_table(pa.table(columns), tmp_path / "items.parquet")
    with caplog.at_level(logging.WARNING):
        items = load_items(tmp_path / "items.parquet")
    assert "left out columns whose types can't be fields: 'vector' (list" in caplog.text
    assert list(items)[5:] == ["tags", "codes"]
    assert items[["tags", "codes"]].to_numpy().tolist() == [[["x", "y"], ["1", "2"]]]


@pytest.mark.parametrize(
    ("values", "dtype", "wanted"),
    [
        (["1", "-2", "", "null"], "Int64", [1, -2, None, None]),
        (["1", "2.5", " 3e2 ", "NaN"], "float64", [1, 2.5, 300, None]),
        (["TRUE", "false", None], "boolean", [True, False, None]),
        ([".5", "-0", "-.25", "1E-3"], "float64", [0.5, 0, -0.25, 0.001]),
        (["1", "-"], "object", ["1", "-"]),
        (["1", "."], "object", ["1", "."]),
        (["1.5", "e5"], "object", ["1.5", "e5"]),
        (["1.5", "1e999"], "object", ["1.5", "1e999"]),
        (["007", "12"], "object", ["007", "12"]),
        (["+1", "2"], "object", ["+1", "2"]),
        (["9" * 19, "1"], "object", ["9" * 19, "1"]),
        (["0", "1"], "Int64", [0, 1]),
        (["1", "n/a", "\\N"], "Int64", [1, None, None]),
        (["", " ", None], "object", [None, None, None]),
        (["2015-06-01", "2015-06-01T12:00+02:00"], "datetime64[us]", ["2015-06-01T00", "2015-06-01T10"]),
        (["2015-06-01", "2015-06-31"], "object", ["2015-06-01", "2015-06-31"]),
        (["2015-06-01", "soon"], "object", ["2015-06-01", "soon"]),
        ([], "object", []),
        (pa.array([None, None]), "object", [None, None]),
        (pa.array([1, None], pa.int32()), "Int64", [1, None]),
        (pa.array([1, 2**64 - 1], pa.uint64()), "float64", [1, 2.0**64]),
        (pa.array([1.5, None], pa.float32()), "float32", [1.5, None]),
        (pa.array([np.float16(1.5)], pa.float16()), "float32", [1.5]),
        (pa.array([Decimal("1.25"), None]), "float64", [1.25, None]),
        (pa.array([datetime.date(2015, 6, 1), None]), "datetime64[us]", ["2015-06-01T00", None]),
        (pa.array([1_433_152_800], pa.timestamp("s", "Europe/Paris")), "datetime64[us]", ["2015-06-01T10"]),
        (pa.array([["a ", "", None], [], None], pa.list_(pa.string())), "object", [["a"], None, None]),
        (pa.array(["x", None, "x"]).dictionary_encode(), "object", ["x", None, "x"]),
    ],
    ids=str,
)
def test_types_of_columns(values: Any, dtype: str, wanted: list[Any]) -> None:
    chunks = values if isinstance(values, pa.Array) else pa.array(values, pa.string())
    column = typed_column(pa.chunked_array([chunks]))
    assert column.dtype == dtype
    if dtype.startswith("datetime"):
        column = pd.Series(column.dt.strftime("%Y-%m-%dT%H"), dtype=object)
    assert [None if value is None or value is pd.NA or value != value else value for value in column] == wanted


def test_fields_of_items_come_from_a_table(tmp_path: Path) -> None:
    (tmp_path / "stock.csv.gz").write_bytes(gzip.compress(b"price,item_id,in_stock\n1.5,12.0,true\n,7,\n"))
    table = read_fields(tmp_path / "stock.csv.gz")
    assert table["item_id"].tolist() == ["12.0", "7"]
    assert table["price"].fillna(0).tolist() == [1.5, 0]
    assert table["in_stock"].dtype == "boolean"
    (tmp_path / "stock.jsonl").write_text('{"sku": 12, "tags": ["a"]}\n')
    assert read_fields(tmp_path / "stock.jsonl", "sku")["tags"].tolist() == [["a"]]
    pd.DataFrame({"item_id": [12], "price": [3]}).to_parquet(tmp_path / "stock.parquet")
    assert read_fields(tmp_path / "stock.parquet", "sku").to_numpy().tolist() == [["12", 3]]


def test_tables_of_fields_that_can_not_be_read(tmp_path: Path) -> None:
    def message(name: str, content: str) -> str:
        (tmp_path / name).write_text(content)
        with pytest.raises(PlumError) as caught:
            read_fields(tmp_path / name)
        return str(caught.value)

    assert "no column 'item_id'" in message("a.csv", "id,price\n1,2\n")
    assert "a.csv holds no fields of items" in message("a.csv", "item_id\n1\n")
    assert "the row does not have 2 fields" in message("a.csv", "item_id,price\n1,2,3\n")
    assert "unknown format '.xlsx'" in message("a.xlsx", "")


def test_ids_one_a_line(tmp_path: Path) -> None:
    path = tmp_path / "ids.txt"
    path.write_bytes("\ufeff12\r\n\r\n a b \n12\n".encode())
    assert read_ids(path) == ["12", "a b", "12"]
    path.write_bytes(b"caf\xe9\n")
    with pytest.raises(PlumError, match=r"ids.txt is not utf-8(.|\n)*offset 3 \(line 1\)(.|\n)*save the file as UTF-8"):
        read_ids(path)
    with pytest.raises(PlumError, match="does not exist"):
        read_ids(tmp_path / "id.txt")
