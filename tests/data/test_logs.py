"""Users' own logs: four formats that agree, and a message for everything that can be wrong with them."""

from __future__ import annotations

import gzip
import json
import tempfile
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from plum.data.logs import load_logs
from plum.data.rows import repeats
from plum.errors import PlumError

HEADER = "user_id,item_id,timestamp,rating\n"
FORMATS = (".csv", ".tsv", ".jsonl", ".parquet", ".csv.gz", ".tsv.gz", ".jsonl.gz")


def write(path: Path, content: str | bytes) -> Path:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def write_frame(frame: pd.DataFrame, path: Path) -> Path:
    """Write a table in the format of the suffix, as pandas does."""
    if path.suffix == ".parquet":
        frame.to_parquet(path, index=False)
    elif ".jsonl" in path.suffixes:
        frame.to_json(path, orient="records", lines=True, double_precision=15)
    else:
        frame.to_csv(path, index=False, sep="\t" if ".tsv" in path.suffixes else ",")
    return path


def message(path: Path, *args: Any, **kwargs: Any) -> str:
    with pytest.raises(PlumError) as caught:
        load_logs(path, *args, **kwargs)
    return str(caught.value)


def test_mapping_extra_columns_items_and_users(tmp_path: Path) -> None:
    log = write(tmp_path / "log.csv", "who,what,when,stars,device,unused\n1,a,10,4.5,tv,x\n2,b,11,,phone,x\n")
    items = write(tmp_path / "items.csv", 'what,name,tags,maker,year\na,"A, the",x|y|x,,1999\nb,,,Bo,\n')
    users = write(tmp_path / "users.csv", "who,age,zip\n1,30,00501\n2,41,90210\n")
    tables = load_logs(
        log,
        items,
        users,
        {"user_id": "who", "item_id": "what", "timestamp": "when", "rating": "stars", "device": "device"},
        {"item_id": "what", "title": "name", "topics": "tags", "creator": "maker", "year": "year"},
    )
    assert tables.interactions.columns.tolist() == ["user_id", "item_id", "timestamp", "rating", "reward", "device"]
    assert tables.interactions["user_id"].tolist() == ["1", "2"]
    assert tables.interactions["rating"].tolist()[0] == 4.5
    assert np.isnan(tables.interactions["rating"].tolist()[1])
    assert tables.interactions["device"].tolist() == ["tv", "phone"]
    assert tables.items.drop(columns="year").to_dict("records") == [
        {"item_id": "a", "title": "A, the", "topics": ["x", "y"], "creator": None, "description": None},
        {"item_id": "b", "title": None, "topics": None, "creator": "Bo", "description": None},
    ]
    assert tables.items["year"].fillna(0).tolist() == [1999, 0]
    assert tables.users is not None
    assert tables.users.to_dict("list") == {"user_id": ["1", "2"], "age": [30, 41], "zip": ["00501", "90210"]}


def test_items_come_from_the_log_if_none_are_given(tmp_path: Path) -> None:
    tables = load_logs(write(tmp_path / "log.csv", HEADER + "u,b,1,\nu,a,2,\nv,b,3,\n"))
    assert tables.items["item_id"].tolist() == ["a", "b"]
    assert tables.items["title"].tolist() == [None, None]


IDS = st.text(st.characters(codec="utf-8", exclude_categories=["C", "Z"]), min_size=1, max_size=5).filter(
    lambda text: text not in {"nan", "NaN", "NAN", "null", "NULL", "None"}
)


@settings(max_examples=25, deadline=None)
@given(
    rows=st.lists(
        st.tuples(IDS, IDS, st.integers(-(10**9), 4 * 10**9), st.sampled_from([0.5, 1.0, 4.25, None])),
        min_size=1,
        max_size=12,
    )
)
def test_formats_agree(rows: list[tuple[str, str, int, float | None]]) -> None:
    frame = pd.DataFrame(rows, columns=["user_id", "item_id", "timestamp", "rating"])
    frame["rating"] = frame["rating"].astype("float64")
    frame["place"] = range(len(rows))
    with tempfile.TemporaryDirectory() as folder:
        read = [
            load_logs(write_frame(frame, Path(folder) / f"log{suffix}"), columns={"place": "place"}, timestamp_unit="s")
            for suffix in FORMATS
        ]
    for tables in read:
        assert tables.problems == []
        pd.testing.assert_frame_equal(tables.interactions, read[0].interactions)
        pd.testing.assert_frame_equal(tables.items, read[0].items)
    assert read[0].interactions["user_id"].tolist() == [row[0] for row in rows]
    assert read[0].interactions["timestamp"].tolist() == [row[2] for row in rows]


def test_lists_of_topics_agree_with_text(tmp_path: Path) -> None:
    log = write(tmp_path / "log.csv", HEADER + "1,a,5,\n1,b,6,\n")
    want = [["x", "y"], None]
    items = write(tmp_path / "i.jsonl", '{"item_id": "a", "topics": ["x", "y"]}\n{"item_id": "b", "topics": []}\n')
    assert load_logs(log, items).items["topics"].tolist() == want
    items = write(tmp_path / "i.tsv", "item_id\ttopics\na\tx; y\nb\t\n")
    assert load_logs(log, items, topic_separator=";").items["topics"].tolist() == want
    pq.write_table(pa.table({"item_id": ["a", "b"], "topics": [["x", "y"], None]}), tmp_path / "i.parquet")
    assert load_logs(log, tmp_path / "i.parquet").items["topics"].tolist() == want


def test_parquet_types_of_pandas(tmp_path: Path) -> None:
    """Ids that became floats because one is missing, categories, dates and ints are read as what they mean."""
    frame = pd.DataFrame(
        {
            "user_id": [1.0, 2.0, None],
            "item_id": pd.Categorical(["a", "b", "a"]),
            "timestamp": [date(2020, 9, 13)] * 3,
            "rating": [1, 2, 3],
        }
    )
    tables = load_logs(write_frame(frame, tmp_path / "log.parquet"), max_bad_share=0.5)
    assert tables.interactions["user_id"].tolist() == ["1", "2"]
    assert tables.interactions["timestamp"].tolist() == [1_599_955_200] * 2
    assert [(p.reason, p.example[:5]) for p in tables.problems] == [("user_id is missing", "row 3")]


def test_missing_columns_name_the_nearest(tmp_path: Path) -> None:
    text = message(write(tmp_path / "log.csv", "userid,Item,time\n1,2,3\n"), columns={"item_id": "item"})
    assert "log.csv: no column 'user_id', 'item' (our item_id), 'timestamp'" in text
    assert "its columns: 'userid', 'Item', 'time'" in text
    assert "did you mean 'userid' for user_id?" in text
    assert "did you mean 'Item' for item_id?" in text
    assert "did you mean 'time' for timestamp?" in text
    assert "--set data.source.columns.OUR_NAME=YOUR_NAME" in text


@pytest.mark.parametrize("suffix", [".jsonl", ".parquet"])
def test_missing_columns_of_other_formats(tmp_path: Path, suffix: str) -> None:
    path = write_frame(pd.DataFrame({"user_id": ["1"], "item": ["2"], "timestamp": [3]}), tmp_path / f"log{suffix}")
    assert "no column 'item_id'" in message(path)
    assert "did you mean 'item'" in message(path)


def test_missing_item_column_is_told_for_the_items(tmp_path: Path) -> None:
    log = write(tmp_path / "log.csv", HEADER + "1,a,5,\n")
    items = write(tmp_path / "items.csv", "item_id,name\na,A\n")
    text = message(log, items, item_columns={"title": "nme"})
    assert "items.csv: no column 'nme' (our title)" in text
    assert "did you mean 'name' for title?" in text
    assert "data.source.item_columns" in text


def test_users_without_the_id_column(tmp_path: Path) -> None:
    log = write(tmp_path / "log.csv", HEADER + "1,a,5,\n")
    users = write(tmp_path / "users.csv", "uid,age\n1,3\n")
    text = message(log, None, users)
    assert "users.csv: no column 'user_id'" in text
    assert "'uid', 'age'" in text


def test_users_repeated_or_without_id_are_reported(tmp_path: Path) -> None:
    log = write(tmp_path / "log.csv", HEADER + "1,a,5,\n")
    users = write(tmp_path / "users.csv", "user_id,age\n1,3\n,4\n1,5\n")
    tables = load_logs(log, None, users, max_bad_share=0.7)
    assert [(p.file, p.reason, p.example) for p in tables.problems] == [
        ("users.csv", "user_id is missing", "line 3: ''"),
        ("users.csv", "user_id repeats an earlier row", "line 4: '1'"),
    ]
    assert "users.csv: 1 rows" in message(log, None, users)


def test_file_without_header(tmp_path: Path) -> None:
    text = message(write(tmp_path / "log.csv", "196,242,3,881250949\n186,302,3,891717742\n"))
    assert "log.csv has no header line" in text
    assert "'196', '242'" in text
    assert "user_id,item_id,timestamp" in text


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".jsonl", ".csv.gz"])
def test_empty_file(tmp_path: Path, suffix: str) -> None:
    content = gzip.compress(b"") if suffix.endswith("gz") else b""
    assert f"log{suffix} is empty" in message(write(tmp_path / f"log{suffix}", content))


def test_header_without_rows(tmp_path: Path) -> None:
    assert "log.csv has no usable row\n  found: a header and no rows" in message(write(tmp_path / "log.csv", HEADER))


@pytest.mark.parametrize("suffix", [".csv", ".jsonl"])
def test_other_encoding_names_byte_line_and_key(tmp_path: Path, suffix: str) -> None:
    if suffix == ".csv":
        content = (HEADER + "1,a,5,1\n1,caf\xe9,6,1\n").encode("latin-1")
    else:
        rows = [{"user_id": "1", "item_id": item, "timestamp": 5} for item in ("a", "caf\xe9")]
        content = "\n".join(json.dumps(row, ensure_ascii=False) for row in rows).encode("latin-1")
    path = write(tmp_path / f"log{suffix}", content)
    text = message(path)
    line = content[: content.index(b"\xe9")].count(b"\n") + 1
    assert f"log{suffix} is not utf-8" in text
    assert f"offset {content.index(bytes([0xE9]))} (line {line})" in text
    assert "data.source.encoding=cp1252" in text
    assert "caf\xe9" in load_logs(path, encoding="latin-1").interactions["item_id"].tolist()
    assert "unknown encoding 'latin-99'" in message(path, encoding="latin-99")


def test_bad_byte_in_a_late_block(tmp_path: Path) -> None:
    filler = "u,a,5,1\n" * 150_000
    path = write(tmp_path / "log.csv", (HEADER + filler).encode() + b"u,\xff,5,1\n")
    assert f"offset {len(HEADER) + len(filler) + 2:,} (line 150,002)" in message(path)


def test_byte_order_mark_and_windows_line_ends(tmp_path: Path) -> None:
    path = write(
        tmp_path / "log.csv", b"\xef\xbb\xbf" + HEADER.replace("\n", "\r\n").encode() + b"u,a,5,1\r\nu,b,x,1\r\n"
    )
    tables = load_logs(path, max_bad_share=0.5)
    assert tables.interactions["user_id"].tolist() == ["u"]
    assert tables.problems[0].example == "line 3: 'x'"


@pytest.mark.parametrize("suffix", [".csv.gz", ".jsonl.gz", ".parquet"])
@pytest.mark.parametrize("share", [0.3, 0.95])
def test_truncated_file(tmp_path: Path, suffix: str, share: float) -> None:
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(rng.integers(0, 10**6, (3000, 3)), columns=["user_id", "item_id", "timestamp"])
    path = write_frame(frame, tmp_path / f"log{suffix}")
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
    text = message(path)
    assert f"log{suffix} is" in text
    assert "truncated" in text or "not a complete Parquet file" in text
    assert "again" in text


def test_not_gzip_at_all(tmp_path: Path) -> None:
    assert "log.csv.gz is damaged" in message(write(tmp_path / "log.csv.gz", HEADER))


def test_absent_file_names_nearest(tmp_path: Path) -> None:
    write(tmp_path / "log.csv", HEADER)
    assert "did you mean log.csv?" in message(tmp_path / "logs.csv")
    assert "there is no folder" in message(tmp_path / "x" / "logs.csv")
    (tmp_path / "dir.csv").mkdir()
    assert "is a folder" in message(tmp_path / "dir.csv")


def test_unknown_format_and_unit(tmp_path: Path) -> None:
    assert "unknown format '.xlsx'" in message(write(tmp_path / "log.xlsx", "x"))
    assert "unknown timestamp_unit 'hours'" in message(write(tmp_path / "log.csv", HEADER), timestamp_unit="hours")


def test_json_array_and_no_objects(tmp_path: Path) -> None:
    assert "jq -c '.[]'" in message(write(tmp_path / "log.jsonl", '[{"user_id": 1}]\n'))
    assert "holds no JSON object" in message(write(tmp_path / "log.jsonl", "1\n2\n"))


BAD = [
    ("u,a,5,1,9", "the row does not have 4 fields like the header", "line 4: 5 fields"),
    ("u,a,5", "the row does not have 4 fields like the header", "line 4: 3 fields"),
    (",a,5,1", "user_id is missing", "line 4: ''"),
    ("NaN,a,5,1", "user_id is missing", "line 4: 'NaN'"),
    ("u,  ,5,1", "item_id is missing", "line 4: '  '"),
    ("u,a,,1", "timestamp is missing", "line 4: ''"),
    ("u,a,nan,1", "timestamp is missing", "line 4: 'nan'"),
    ("u,a,inf,1", "timestamp can't be read", "line 4: 'inf'"),
    ("u,a,yesterday,1", "timestamp can't be read", "line 4: 'yesterday'"),
    ("u,a,1e300,1", "timestamp can't be read", "line 4: '1e300'"),
    ("u,a,5,five", "rating is not a number", "line 4: 'five'"),
    ("u,a,5,-inf", "rating is not a number", "line 4: '-inf'"),
    ("u,a,5,0x1F", "rating is not a number", "line 4: '0x1F'"),
    ("u,a,1,1", "exact repetition of an earlier row", "line 4: 'u', 'a', '1', '1'"),
]


@pytest.mark.parametrize(("row", "reason", "example"), BAD)
def test_unusable_rows(tmp_path: Path, row: str, reason: str, example: str) -> None:
    path = write(tmp_path / "log.csv", f"{HEADER}u,a,1,1\n\n{row}\nu,b,2,\n")
    tables = load_logs(path, max_bad_share=0.5)
    (problem,) = tables.problems
    assert (problem.file, problem.reason, problem.count, problem.example) == ("log.csv", reason, 1, example)
    assert tables.interactions["item_id"].tolist() == ["a", "b"]
    assert tables.n_rows == 3
    if "repetition" not in reason:  # repetitions lose nothing: they don't count towards the share
        text = message(path, max_bad_share=0.1)
        assert "1 of 3 rows are unusable" in text
        assert example in text


@settings(max_examples=25, deadline=None)
@given(st.lists(st.sampled_from([row for row, _, _ in BAD[:-1]] + ["v,b,2,", "w,b,3,"]), max_size=12))
def test_every_row_is_kept_or_counted(rows: list[str]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = write(Path(folder) / "log.csv", HEADER + "\n".join(["u,a,1,1", *rows]) + "\n")
        tables = load_logs(path, max_bad_share=1.0, timestamp_unit="s")
    assert len(tables.interactions) + sum(p.count for p in tables.problems) == tables.n_rows == len(rows) + 1


def test_lines_after_quoted_line_ends(tmp_path: Path) -> None:
    path = write(tmp_path / "log.csv", 'user_id,item_id,timestamp,note\nu,a,1,"two\nlines"\nu,b,x,y\n')
    tables = load_logs(path, columns={"note": "note"}, max_bad_share=0.5)
    assert tables.interactions["note"].tolist() == ["two\nlines"]
    assert tables.problems[0].example == "line 4: 'x'"


@pytest.mark.parametrize("row", ['"u,a,1,1', 'u,"a,1,1', 'u,a,1,"1'])
def test_unclosed_quote_does_not_swallow_rows(tmp_path: Path, row: str) -> None:
    path = write(tmp_path / "log.csv", HEADER + "u,z,0,1\n" + row + "\n" + "u,b,2,1\n" * 5)
    text = message(path, max_bad_share=0.9)
    assert "line 3" in text
    assert "close the quote" in text


def test_unclosed_quote_in_a_large_file(tmp_path: Path) -> None:
    path = write(tmp_path / "log.csv", HEADER + '"u,a,1,1\n' + "u,b,2,1\n" * 1_200_000)
    assert "the double quote opened on line 2 is not closed on that line" in message(path)


def test_semicolons_are_told(tmp_path: Path) -> None:
    text = message(write(tmp_path / "log.csv", "user_id;item_id;timestamp\n1;2;3\n"))
    assert "log.csv: its fields seem to be separated by ';'" in text
    assert "commas in .csv files" in text


def test_no_readable_timestamp_suggests_the_unit(tmp_path: Path) -> None:
    path = write(tmp_path / "log.csv", HEADER + "u,a,1997-12-04,1\nu,b,1997-12-05,1\n")
    text = message(path, timestamp_unit="s")
    assert "log.csv, column 'timestamp': no timestamp can be read as seconds" in text
    assert "'1997-12-04'" in text
    assert "data.source.timestamp_unit" in text
    path = write(tmp_path / "ms.csv", HEADER + "u,a,1588687728923,1\n")
    assert "no timestamp" in message(path, timestamp_unit="s")
    path = write(tmp_path / "s.csv", HEADER + "u,a,881250949,1\n")
    assert "ISO 8601" in message(path, timestamp_unit="iso")


def test_unparsable_dates_among_good_ones(tmp_path: Path) -> None:
    path = write(tmp_path / "log.csv", HEADER + "u,a,2020-01-02,1\nu,b,2020-13-45,1\nu,c,soon,1\n")
    tables = load_logs(path, max_bad_share=0.9)
    assert [(p.reason, p.count, p.example) for p in tables.problems] == [
        ("timestamp can't be read", 2, "line 3: '2020-13-45'")
    ]


def test_wrong_parquet_type_names_column(tmp_path: Path) -> None:
    pq.write_table(pa.table({"user_id": ["u"], "item_id": [["a"]], "timestamp": [1]}), tmp_path / "log.parquet")
    assert "log.parquet, column 'item_id': values of type list" in message(tmp_path / "log.parquet")
    pq.write_table(pa.table({"user_id": ["u"], "item_id": ["a"], "timestamp": [[1]]}), tmp_path / "log.parquet")
    assert "log.parquet, column 'timestamp'" in message(tmp_path / "log.parquet")


def test_wrong_json_types(tmp_path: Path) -> None:
    rows = [
        {"user_id": 1, "item_id": "a", "timestamp": 5},
        {"user_id": [1], "item_id": "a", "timestamp": 5},
        {"user_id": None, "item_id": "b", "timestamp": 6},
        {"user_id": 2.0, "item_id": "b", "timestamp": "7", "rating": float("nan")},
    ]
    path = write(tmp_path / "log.jsonl", "".join(json.dumps(row) + "\n" for row in rows) + '{"user_id": 3')
    tables = load_logs(path, max_bad_share=0.9)
    assert tables.interactions["user_id"].tolist() == ["1", "2"]
    assert [(p.reason, p.count, p.example.split(":")[0]) for p in tables.problems] == [
        ("a list instead of a single value", 1, "line 2"),
        ("the line is not a complete JSON object", 1, "line 5"),
        ("user_id is missing", 1, "line 3"),
    ]


def test_items_unknown_to_the_catalogue(tmp_path: Path) -> None:
    log = write(tmp_path / "log.csv", HEADER + "u,a,1,1\nu,zz,2,1\nu,zz,3,1\n")
    items = write(tmp_path / "items.csv", "item_id,title\na,A\n")
    tables = load_logs(log, items, max_bad_share=0.9)
    assert [(p.file, p.reason, p.count, p.example) for p in tables.problems] == [
        ("log.csv", "item_id is not in items.csv", 2, "line 3: 'zz'")
    ]
    assert "2 of 3 rows are unusable" in message(log, items)


def test_items_repeated_or_without_id(tmp_path: Path) -> None:
    log = write(tmp_path / "log.csv", HEADER + "u,a,1,1\n")
    items = write(tmp_path / "items.csv", "item_id,title\na,A\na,B\n,C\n")
    tables = load_logs(log, items, max_bad_share=0.9)
    assert tables.items["title"].tolist() == ["A"]
    assert [(p.reason, p.example) for p in tables.problems] == [
        ("item_id is missing", "line 4: ''"),
        ("item_id repeats an earlier row", "line 3: 'a'"),
    ]


def test_column_twice_in_the_header(tmp_path: Path) -> None:
    path = write(tmp_path / "log.csv", "user_id,user_id,item_id,timestamp\n1,2,3,4\n")
    assert "column 'user_id' is twice" in message(path)


@given(st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from(["x", None, "y"]), st.booleans()), max_size=20))
def test_repeats_are_what_pandas_finds(rows: list[tuple[str, str | None, bool]]) -> None:
    keep = np.array([row[2] for row in rows], bool)
    columns = [pa.chunked_array([pa.array([row[at] for row in rows], pa.string())]) for at in (0, 1)]
    want = np.zeros(len(rows), bool)
    want[keep] = pd.DataFrame([row[:2] for row in rows if row[2]]).duplicated().to_numpy() if keep.any() else False
    assert repeats(columns, keep).tolist() == want.tolist()
