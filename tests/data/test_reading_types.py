"""Every type that Arrow has, in every column: read, or refused by type; and ids that are one whatever wrote them."""

from __future__ import annotations

import datetime as dt
import decimal
import json
import logging
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from plum.data.arrow_types import plain
from plum.data.dialect import Dialect
from plum.data.ids import as_ids, nearest, one_id
from plum.data.logs import load_logs, read_fields, read_ids
from plum.data.sample import read_sample
from plum.errors import PlumError
from plum.features.given import fit_given

IDENTIFIER = uuid.UUID("12345678-1234-5678-1234-567812345678")
WHEN = dt.datetime(2020, 9, 13, 12, 26, 40)


def typed_values() -> Iterator[tuple[pa.DataType, list[Any]]]:
    """Types with values that are usual, extreme or missing."""
    yield pa.null(), [None]
    yield pa.bool_(), [True, None]
    for bits in (8, 16, 32, 64):
        yield getattr(pa, f"int{bits}")(), [1, -(1 << bits - 1), None]
        yield getattr(pa, f"uint{bits}")(), [1, (1 << bits) - 1, None]
    yield pa.float16(), [np.float16(1.0), np.float16(2.5), None]
    for kind in (pa.float32(), pa.float64()):
        yield kind, [1.0, 2.5, 2.0**63, 1e30, float("inf"), float("nan"), None]
    yield pa.float64(), [1e300, -1e300]
    for text in (pa.string(), pa.large_string(), pa.string_view()):
        yield text, ["a", "", "two\nlines", "\x00", "e\u0301", None]
    for held in (pa.binary(), pa.large_binary(), pa.binary_view()):
        yield held, [b"a", b"\xff", None]
        yield held, [b"a", b"b"]
    yield pa.binary(16), [IDENTIFIER.bytes, None]
    yield pa.binary(2), [b"ab", b"cd"]
    for decimals in (
        pa.decimal32(5, 2),
        pa.decimal64(9, 2),
        pa.decimal128(38, 2),
        pa.decimal256(60, 2),
        pa.decimal128(9, -2),
    ):
        yield decimals, [decimal.Decimal(100), decimal.Decimal(-200), None]
    yield pa.date32(), [dt.date(2020, 9, 13), dt.date(1, 1, 1), dt.date(9999, 12, 31), None]
    yield pa.date64(), [dt.date(2020, 9, 13), None]
    for unit in ("s", "ms", "us", "ns"):
        for zone in (None, "UTC", "Europe/Paris", "+05:30", "Nowhere/None"):
            yield pa.timestamp(unit, zone), [1_600_000_000, 1, -(1 << 62), (1 << 62) + 1, None]
        yield pa.duration(unit), [1, (1 << 62) + 1, None]
    yield pa.time32("s"), [dt.time(1, 2), None]
    yield pa.time64("ns"), [1, None]
    yield pa.month_day_nano_interval(), [(1, 2, 3), None]
    for lists in (pa.list_, pa.large_list, pa.list_view, pa.large_list_view, lambda kind: pa.list_(kind, 1)):
        for inner in (pa.string(), pa.large_string(), pa.int64(), pa.float32(), pa.binary(), pa.list_(pa.string())):
            value = {"string": "x", "large_string": "x", "int64": 1, "float": 0.5, "binary": b"\xff"}
            yield lists(inner), [[value.get(str(inner), ["x"])], None]
    yield pa.struct([("a", pa.int64())]), [{"a": 1}, None]
    yield pa.struct([]), [{}]
    yield pa.map_(pa.string(), pa.int64()), [[("a", 1)], None]
    yield pa.uuid(), [IDENTIFIER.bytes, None]
    yield pa.bool8(), [1, None]
    yield pa.json_(), ['{"a": 1}', None]
    yield pa.fixed_shape_tensor(pa.float32(), [2]), [[1.0, 2.0], None]
    yield pa.opaque(pa.string(), "point", "someone"), ["x", None]


def columns_of_types() -> list[pa.ChunkedArray]:
    """A column of two or more values for each type, also encoded as dictionary and in runs."""
    found = []
    for kind, values in typed_values():
        if isinstance(kind, pa.BaseExtensionType):
            held: pa.Array = pa.ExtensionArray.from_storage(kind, pa.array(values, kind.storage_type))
        elif pa.types.is_float16(kind) or pa.types.is_decimal(kind) or not pa.types.is_timestamp(kind):
            held = pa.array(values, kind)
        else:
            held = pa.array(values, pa.int64()).cast(kind)
        while len(held) < 6:
            held = pa.concat_arrays([held, held])
        found.append(held)
        for encode in (
            lambda held: held.dictionary_encode(),
            lambda held: pa.RunEndEncodedArray.from_arrays(np.arange(1, len(held) + 1, dtype=np.int32), held),
        ):
            try:
                found.append(encode(held))
            except (pa.ArrowException, TypeError):
                continue
    union = pa.UnionArray.from_sparse(pa.array([0, 1] * 3, pa.int8()), [pa.array([1] * 6), pa.array(["a"] * 6)])
    return [pa.chunked_array([held[:3], held[3:6]]) for held in [*found, union]]


TYPES = columns_of_types()


def read_or_refuse(call: Any) -> bool:
    try:
        call()
    except PlumError:
        return False
    return True


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A log and items beside which one column is of an odd type."""
    made = tmp_path_factory.mktemp("types")
    log = {"user_id": list("uvwuvw"), "item_id": list("abcdef"), "timestamp": [1_600_000_000 + n for n in range(6)]}
    pq.write_table(pa.table(log), made / "log.parquet")
    return made


LOG_COLUMNS = ("user_id", "item_id", "timestamp", "rating", "reward", "other")
ITEM_COLUMNS = ("item_id", "title", "topics", "creator", "description", "other")


def is_writable(held: pa.ChunkedArray) -> bool:
    try:
        pq.write_table(pa.table({"x": held}), pa.BufferOutputStream())
    except (pa.ArrowException, ValueError, OverflowError, OSError):
        return False
    return True


FAST = (
    "extension<arrow.uuid",
    "fixed_size_binary[16]",
    "duration[s]",
    "timestamp[ns, tz=Nowhere",
    "struct",
    "decimal64",
    "null",
)
OF_PARQUET = [
    pytest.param(held, id=str(held.type)[:40], marks=() if str(held.type).startswith(FAST) else pytest.mark.slow)
    for held in TYPES
    if is_writable(held)
]


@pytest.mark.parametrize("held", OF_PARQUET)
def test_every_type_in_every_column(folder: Path, held: pa.ChunkedArray, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.ERROR)
    log = pq.read_table(folder / "log.parquet")
    odd = folder / "odd.parquet"
    for name in LOG_COLUMNS:
        pq.write_table(pa.table({**{key: log[key] for key in log.column_names}, name: held}), odd)
        mapping = {"other": "other"} if name == "other" else {}
        read_or_refuse(lambda: load_logs(odd, columns=mapping, max_bad_share=1.0))  # noqa: B023
    for name in ITEM_COLUMNS:
        pq.write_table(pa.table({"item_id": log["item_id"], name: held}), odd)
        for mapping in ({}, {name: name}):
            read_or_refuse(lambda: load_logs(folder / "log.parquet", odd, item_columns=mapping, max_bad_share=1.0))  # noqa: B023
    for name in ("user_id", "other"):
        pq.write_table(pa.table({"user_id": log["user_id"].slice(0, 3).combine_chunks(), name: held[:3]}), odd)
        read_or_refuse(lambda: load_logs(folder / "log.parquet", None, odd, max_bad_share=1.0))
    for name in ("item_id", "vector"):
        pq.write_table(pa.table({"item_id": log["item_id"], name: held}), odd)
        read_or_refuse(lambda: read_fields(odd))
        read_or_refuse(lambda: fit_given(odd, list("abcdef"), "x"))
    assert read_sample(odd, 10).n_rows == 6


def test_every_type_as_ids() -> None:
    for held in TYPES:
        try:
            found = as_ids(held, "x")
        except PlumError:
            assert str(held.type) not in ("string", "int64", "large_string", "string_view", "extension<arrow.uuid>")
        else:
            assert found.type == pa.string()
            assert len(found) == len(held)
            found.validate(full=True)


def test_what_types_are_read_as() -> None:
    stored = pa.array([IDENTIFIER.bytes, None, IDENTIFIER.bytes], pa.binary(16))
    uuids = pa.chunked_array([pa.ExtensionArray.from_storage(pa.uuid(), stored)])
    assert as_ids(uuids, "x").to_pylist() == [str(IDENTIFIER), None, str(IDENTIFIER)]
    for held in (stored, pa.array([b"\xff" * 16], pa.binary(16))):
        with pytest.raises(PlumError, match=r"x: values of type fixed_size_binary\[16\] can't be ids"):
            as_ids(pa.chunked_array([held]), "x")
    floats = [1.0, 2.5, None, float("inf"), float("nan"), 2.0**63, -0.0]
    found = as_ids(pa.chunked_array([pa.array(floats)]), "x").to_pylist()
    assert found == ["1", "2.5", None, None, None, "9223372036854775808", "0"]
    assert as_ids(pa.chunked_array([pa.array([decimal.Decimal("3.00")])]), "x").to_pylist() == ["3"]
    broken = pa.Array.from_buffers(pa.string(), 2, pa.array([b"a\xff", b"b"]).buffers())
    text, rows = plain(pa.chunked_array([broken]))
    assert (text.to_pylist(), rows) == (["a\ufffd", "b"], {0})


TABLE = pd.DataFrame(
    {"user_id": [1.0, 2.0, np.nan, 2.0], "item_id": [10, 11, 10, 12], "timestamp": [1, 2, 3, 4]},
)


@pytest.mark.parametrize("ids", ["float", "text"])
def test_the_same_table_in_each_format_gives_the_same_users(tmp_path: Path, ids: str) -> None:
    """pandas stores ids with a gap as floats."""
    table = TABLE if ids == "float" else TABLE.assign(user_id=["e\u0301", "\u00e9", None, " 01 "], item_id=list("abAB"))
    table.to_csv(tmp_path / "log.csv", index=False)
    table.to_csv(tmp_path / "log.tsv", index=False, sep="\t")
    table.to_json(tmp_path / "log.jsonl", orient="records", lines=True)
    table.to_parquet(tmp_path / "log.parquet")
    want = ["1", "2", "2"] if ids == "float" else ["\u00e9", "\u00e9", "01"]
    for suffix in ("csv", "tsv", "jsonl", "parquet"):
        tables = load_logs(tmp_path / f"log.{suffix}", max_bad_share=0.5)
        assert tables.interactions["user_id"].tolist() == want
        assert tables.items["item_id"].tolist() == (["10", "11", "12"] if ids == "float" else ["B", "a", "b"])
        users = tmp_path / f"users.{suffix}"
        users.write_bytes((tmp_path / f"log.{suffix}").read_bytes())
        assert load_logs(tmp_path / "log.csv", None, users, max_bad_share=0.8).users["user_id"].tolist() == want[::2]


def test_two_forms_in_one_column_are_one_id_and_told(caplog: pytest.LogCaptureFixture) -> None:
    def ids(*values: str) -> list[str]:
        return list(as_ids(pa.chunked_array([pa.array(values)]), "log.csv, column 'u'").to_pylist())

    assert ids("12.0", "12", "7") == ["12", "12", "7"]
    assert "1 ids are written in two forms and are read as one (first: '12' and '12.0')" in caplog.text
    assert ids("1.0", "1.1") == ["1.0", "1.1"]  # versions
    assert ids("01", "1", "001") == ["01", "1", "001"]
    assert ids("1e+16", "2.0") == ["10000000000000000", "2"]
    assert ids("1e5", "2e4") == ["1e5", "2e4"]
    assert ids("\ufeffa", "a\u200b", "\u00a0a ") == ["a", "a", "a"]
    assert one_id("e\u0301 ") == "\u00e9"


def test_ids_that_do_not_meet_show_both_sides_and_the_nearest(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    log, items = tmp_path / "log.csv", tmp_path / "items.csv"
    log.write_text("user_id,item_id,timestamp\nu,Ab1,1\nu,b2,2\n")
    items.write_text("item_id,title\nab1,A\nb2,B\n")
    with pytest.raises(PlumError) as error:
        load_logs(log, items)
    assert "1 of 2 rows are unusable" in str(error.value)
    assert "not in items.csv: 'Ab1'; ids there: 'ab1', 'b2'" in str(error.value)
    assert "the nearest to 'Ab1' is 'ab1' (they differ in: upper and lower case)" in str(error.value)
    assert len(load_logs(log, items, max_bad_share=0.6).interactions) == 1
    assert "the nearest to 'Ab1' is 'ab1'" in caplog.text


@pytest.mark.parametrize(
    ("wanted", "there", "how"),
    [
        ("12", "012", "zeros in front"),
        ("12.0", "12", "a fraction of zeros"),
        ("12", "item_12", "one has more in front"),
        ("B-001", "b001", "signs, blanks or case"),
        ("tt0000123", "tt0000124", "spelling"),
    ],
)
def test_the_nearest_id(wanted: str, there: str, how: str) -> None:
    assert nearest(wanted, ["zz", there]) == (there, how)
    assert nearest(wanted, ["zz"]) is None


HALF = "\\ud83d"


def test_half_characters_are_replaced_in_text_and_counted_in_ids(tmp_path: Path) -> None:
    log = tmp_path / "log.jsonl"
    row = '{"user_id": "%s", "item_id": "%s", "timestamp": %d, "note": "x%s"}\n'
    log.write_text(row % ("u", "a", 1, HALF) + row % (HALF, "a", 2, "") + row % ("u", "\\udc00b", 3, ""))
    tables = load_logs(log, columns={"note": "note"}, max_bad_share=0.9)
    assert tables.interactions["note"].tolist() == ["x\ufffd"]
    assert [(p.reason.split(",")[0], p.count, p.example[:6]) for p in tables.problems] == [
        ("user_id holds half a character", 1, "line 2"),
        ("item_id holds half a character", 1, "line 3"),
    ]
    items = tmp_path / "items.jsonl"
    items.write_text(
        '{"item_id": "a", "title": "A?", "topics": ["?", "y"], "?": {"k": "?"}, "tags": ["?"], "more": "?"}\n'
        '{"item_id": "?"}\n'.replace("?", HALF)
    )
    tables = load_logs(log, items, max_bad_share=0.9)
    assert tables.items.iloc[0][["title", "topics"]].tolist() == ["A\ufffd", ["\ufffd", "y"]]
    assert tables.items["more"].tolist() == ["\ufffd"]
    whole = tmp_path / "whole.jsonl"
    whole.write_text('{"user_id": "\\ud83d\\ude00", "item_id": "a", "timestamp": 1}\n')  # both halves
    assert load_logs(whole).interactions["user_id"].tolist() == ["\U0001f600"]
    assert read_sample(log, 5).columns["note"][0] == "x\ufffd"


def test_ids_with_a_line_end_are_bad_rows_where_no_quote_can_explain_them(tmp_path: Path) -> None:
    rows = [{"user_id": user, "item_id": "a", "timestamp": n} for n, user in enumerate(("u", "u\nv", "w\n"))]
    (tmp_path / "log.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    pd.DataFrame(rows).to_parquet(tmp_path / "log.parquet")
    for name in ("log.jsonl", "log.parquet"):
        tables = load_logs(tmp_path / name, max_bad_share=0.5)
        assert tables.interactions["user_id"].tolist() == ["u", "w"]
        assert [p.reason for p in tables.problems] == ["user_id holds a line end"]
    pd.DataFrame(rows).to_csv(tmp_path / "log.csv", index=False)
    with pytest.raises(PlumError, match="user_id on line 3 spans several lines"):
        load_logs(tmp_path / "log.csv", max_bad_share=0.9)


@pytest.mark.parametrize("name", ["rating", "reward"])
def test_numbers_beyond_single_precision_are_bad_rows(tmp_path: Path, name: str) -> None:
    values = [1.0, 1e39, -1e39, 3.4e38]
    table = pd.DataFrame({"user_id": "u", "item_id": list("abcd"), "timestamp": range(4), name: values})
    table.to_csv(tmp_path / "log.csv", index=False)
    table.to_json(tmp_path / "log.jsonl", orient="records", lines=True)
    table.to_parquet(tmp_path / "log.parquet")
    for suffix in ("csv", "jsonl", "parquet"):
        tables = load_logs(tmp_path / f"log.{suffix}", max_bad_share=0.5)
        assert np.isfinite(tables.interactions[name]).all()
        assert [(p.reason, p.count) for p in tables.problems] == [(f"{name} is too large", 2)]


def test_ids_that_are_typed_have_the_form_of_those_that_are_read(tmp_path: Path) -> None:
    (tmp_path / "ids").write_text("e\u0301\n\n 12 \n")
    assert read_ids(tmp_path / "ids") == ["\u00e9", "12"]


def test_further_columns_are_alike_in_all_formats(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Booleans, words and numbers, some of them missing; and ratings that are true or false."""
    rows = [
        {"user_id": f"u{n}", "item_id": "a", "timestamp": n, "rating": n != 1, "is": n > 1, "may": [None, True][n % 2],
         "word": ["x", None, "y"][n], "count": [1, None, 3][n]}
        for n in range(3)
    ]  # fmt: skip
    frame = pd.DataFrame(rows, dtype=object)
    frame.map(lambda value: str(value).lower() if isinstance(value, bool) else value).to_csv(
        tmp_path / "log.csv", index=False
    )
    (tmp_path / "log.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "log.parquet")
    extras = {name: name for name in ("is", "may", "word", "count")}
    tables = [load_logs(tmp_path / f"log.{kind}", columns=extras).interactions for kind in ("csv", "jsonl", "parquet")]
    assert tables[0]["rating"].tolist() == [1.0, 0.0, 1.0]
    assert tables[0]["is"].tolist() == [False, False, True]
    assert tables[0]["may"].tolist() == [None, True, None]
    for other in tables[1:]:
        pd.testing.assert_frame_equal(tables[0], other)


def test_quotes_that_are_part_of_ids_are_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "log.csv").write_text("user_id,item_id,timestamp\n" + "".join(f"'u{n}','a',{n}\n" for n in range(3)))
    assert load_logs(tmp_path / "log.csv").interactions["user_id"][0] == "'u0'"
    assert "data.source.quoting=single" in caplog.text
    caplog.clear()
    quoted = load_logs(tmp_path / "log.csv", dialect=Dialect(quoting="single"))
    assert quoted.interactions["user_id"][0] == "u0"
    assert "quoting" not in caplog.text
    (tmp_path / "log.tsv").write_text('user_id\titem_id\ttimestamp\nu\ta\t"1600000000"\n')
    with pytest.raises(PlumError, match=r"quoting=double"):
        load_logs(tmp_path / "log.tsv")
