"""plum init finds the columns of a log and of its item table by name and content, and says what it cannot tell."""

from __future__ import annotations

import re
from pathlib import Path

import made_up_logs as made
import pandas as pd
import pytest

from plum.errors import PlumError
from plum.recipes.columns import TimeWay
from plum.recipes.fields import topic_separator
from plum.recipes.finding import find
from plum.recipes.make import read
from plum.recipes.values import look


def mapping(path: Path, **more: object) -> dict[str, str]:
    return find(path, **more).log_roles.mapping()  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "names",
    [
        ("user_id", "item_id", "timestamp"),
        ("userId", "movieId", "timestamp"),
        ("uid", "sku", "ts"),
        ("CustomerID", "StockCode", "InvoiceDate"),
        ("reviewerID", "asin", "unixReviewTime"),
        ("visitorid", "itemid", "timestamp"),
        ("user", "artist_id", "date"),
        ("Member No", "Product Code", "event_time"),
    ],
    ids=" ".join,
)
def test_headers_of_many_shops_are_understood(names: tuple[str, str, str], tmp_path: Path) -> None:
    table = made.log(names).assign(amount=1.5, row=range(made.USERS * 8))
    found = mapping(made.write(tmp_path / "log.csv", table))
    assert found == dict(zip(("user_id", "item_id", "timestamp"), names, strict=True))


@pytest.mark.parametrize("name", ["log.csv", "log.tsv", "log.csv.gz", "log.jsonl", "log.parquet"])
def test_every_format_is_read(name: str, tmp_path: Path) -> None:
    found = find(made.write(tmp_path / name, made.log(("client", "song", "time"))))
    assert found.log_roles.mapping() == {"user_id": "client", "item_id": "song", "timestamp": "time"}
    assert found.times.unit == "auto"


@pytest.mark.parametrize(
    ("unit", "written"),
    [
        ("ms", lambda seconds: seconds * 1000),
        ("s", lambda seconds: seconds.astype(float)),
        ("iso", lambda seconds: pd.to_datetime(seconds, unit="s").dt.strftime("%Y-%m-%dT%H:%M:%SZ")),
        ("iso", lambda seconds: pd.to_datetime(seconds, unit="s").dt.strftime("%m/%d/%Y %H:%M")),
        ("YYYYMMDD", lambda seconds: pd.to_datetime(seconds, unit="s").dt.strftime("%Y%m%d")),
        ("mixed", lambda seconds: seconds.where(seconds.index % 2 == 0, seconds * 1000)),
    ],
)
def test_the_time_unit_is_read_off_the_values(unit: str, written: object, tmp_path: Path) -> None:
    table = made.log()
    table["timestamp"] = written(table["timestamp"])  # type: ignore[operator]
    found = find(made.write(tmp_path / "log.csv", table))
    assert found.log_roles.chosen["timestamp"].look.unit == unit
    assert found.times.unit == "auto"  # rows that follow may have another
    assert any("several forms" in notice for notice in found.notices) == (unit == "mixed")


def test_float_ids_are_ids(tmp_path: Path) -> None:
    table = made.log().assign(user_id=lambda t: t["user_id"].str[1:].astype(float))
    assert mapping(made.write(tmp_path / "log.parquet", table))["user_id"] == "user_id"


@pytest.mark.parametrize("values", [["good", "bad"], ["0,5", "3,5"]])
def test_a_rating_that_holds_no_numbers_is_left_out_and_the_log_can_be_read(tmp_path: Path, values: list[str]) -> None:
    table = made.log().assign(rating=lambda t: [values[row % 2] for row in range(len(t))])
    found = find(made.write(tmp_path / "log.csv", table))
    assert "rating" not in found.log_roles.chosen
    assert found.source()["columns"]["rating"] == ""
    assert read(found).measured.sizes.interactions == len(table)


def test_a_rating_is_found_and_dislikes_and_events_are_told(tmp_path: Path) -> None:
    table = made.log().assign(rating=[1, -1] * (made.USERS * 4), action=["view", "buy"] * (made.USERS * 4))
    found = find(made.write(tmp_path / "log.csv", table))
    assert found.log_roles.mapping()["rating"] == "rating"
    told = " ".join(found.notices)
    assert "below 0" in told
    assert "'action'" in told
    assert "buy, view" in told


def test_the_item_tables_columns_and_separator_are_found(tmp_path: Path) -> None:
    log = made.write(tmp_path / "log.csv", made.log(("uid", "sku", "ts")))
    found = find(log, made.write(tmp_path / "items.csv", made.items("code")))
    assert found.item_roles is not None
    assert found.item_roles.mapping() == {"item_id": "code", "title": "name", "topics": "categories"}
    assert found.topic_separator == ";"


def test_item_ids_of_the_table_decide_between_two_item_columns(tmp_path: Path) -> None:
    table = made.log(("customer", "product_id", "ts")).assign(sku=lambda t: "s" + t["product_id"].astype(str))
    log = made.write(tmp_path / "log.csv", table)
    found = find(log, made.write(tmp_path / "items.csv", made.items("id")))
    assert found.log_roles.mapping()["item_id"] == "product_id"
    with pytest.raises(PlumError, match="can't identify these columns: item_id") as refused:
        find(log)
    assert "--column item_id=product_id or --column item_id=sku" in str(refused.value)
    assert mapping(log, columns={"item_id": "sku"})["item_id"] == "sku"


def test_names_that_say_nothing_are_told_with_their_candidates(tmp_path: Path) -> None:
    log = made.write(tmp_path / "log.csv", made.log(("a", "b", "c")))
    with pytest.raises(PlumError, match="--column user_id=a --column item_id=b, or the other way round") as refused:
        find(log)
    assert "a: 40 different values, such as u0" in str(refused.value)
    assert mapping(log, columns={"user_id": "a"}) == {"user_id": "a", "item_id": "b", "timestamp": "c"}


def test_all_open_questions_are_told_at_once(tmp_path: Path) -> None:
    table = made.log(("x", "product", "day")).assign(sku=lambda t: t["product"], day="yesterday")
    with pytest.raises(PlumError, match="these columns: item_id, timestamp") as refused:
        find(made.write(tmp_path / "log.csv", table))
    assert "no column looks like a time" in str(refused.value)


@pytest.mark.parametrize(
    ("written", "told"),
    [
        (lambda n: "0" + (1 + n % 8).astype(str) + "/05/2020 12:26", "day from the month"),
        (lambda n: 44_087 + n / 10, "spreadsheets"),
        (lambda n: 202_001 + n % 8, "dates written as numbers"),
        (lambda n: "05|0" + (1 + n % 8).astype(str) + "|2020", "not all dates"),
    ],
)
def test_times_that_plum_cannot_read_are_refused_and_the_advice_works(
    written: object, told: str, tmp_path: Path
) -> None:
    table = made.log()
    table["timestamp"] = written(table.groupby("user_id").cumcount())  # type: ignore[operator]
    log = made.write(tmp_path / "log.csv", table)
    with pytest.raises(PlumError, match=told) as refused:
        find(log)
    layouts = re.findall(r"--timestamp-format '([^']+)'", str(refused.value))
    ways = [TimeWay(layout=layout) for layout in layouts] or [TimeWay("s")]
    if told == "not all dates":
        ways = [TimeWay(layout="%d|%m|%Y"), TimeWay("position")]
    for way in ways:
        assert read(find(log, times=way)).measured.sizes.interactions == len(table)


def test_a_column_given_as_the_time_is_read_like_others(tmp_path: Path) -> None:
    log = made.write(tmp_path / "log.csv", made.log().assign(timestamp=lambda t: 44_087 + t.index / 10))
    with pytest.raises(PlumError, match=r"spreadsheets(.|\n)*--timestamp-unit s takes"):
        read(find(log, columns={"timestamp": "timestamp"}))


def test_rows_in_order_need_no_time(tmp_path: Path) -> None:
    log = made.write(tmp_path / "log.csv", made.log().drop(columns="timestamp"))
    with pytest.raises(PlumError, match="no column looks like a time") as refused:
        find(log)
    assert "--timestamp-unit position" in str(refused.value)
    found = read(find(log, times=TimeWay("position")))
    assert found.found.source()["timestamp_unit"] == "position"
    assert found.measured.sizes.temporal_users == 0


def test_a_file_without_names_gets_a_command_that_adds_them(tmp_path: Path) -> None:
    path = tmp_path / "u.data"
    path.write_text("196\t242\t3\t881250949\n186\t302\t3\t891717742\n", encoding="utf-8")
    with pytest.raises(PlumError, match="no line of column names") as refused:
        find(path)
    assert f"(printf 'user_id\\titem_id\\trating\\ttimestamp\\n'; cat {path}) > u.tsv" in str(refused.value)


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("empty.csv", b"", "is empty"),
        ("binary.csv", b"\x7fELF\x00\x01,\x00", "no text file"),
        ("binary.parquet", b"\x7fELF\x00\x01\x00", "not a whole Parquet file"),
        ("single.csv", b"a\n1\n2\n", "a single column"),
        ("header.csv", b"user,item,time\n", "has no row"),
        ("semicolons.csv", b"user;item;time\n1;2;3\n", "separated by semicolons"),
        ("nested.jsonl", b'{"user": {"id": 1}, "item": {"id": 2}, "ts": 1600000000}\n' * 30, "'user' holds objects"),
        ("array.json", b'[{"user": 1}]', "jq -c"),
    ],
)
def test_odd_files_are_refused_in_one_message(name: str, content: bytes, told: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(PlumError, match=told):
        find(tmp_path / name)


def test_a_folder_and_an_item_table_are_no_log(tmp_path: Path) -> None:
    items = made.write(tmp_path / "items.csv", made.items())
    made.write(tmp_path / "log.csv", made.log())
    with pytest.raises(PlumError, match=r"different columns\n.*items\.csv, log\.csv"):
        find(tmp_path)
    with pytest.raises(PlumError, match="looks like a table of items"):
        find(items)


def test_a_log_in_parts_is_read_as_a_whole(tmp_path: Path) -> None:
    parts = tmp_path / "parts"
    parts.mkdir()
    log = made.log()
    for number, rows in enumerate((log[:0], log[:99], log[99:])):
        made.write(parts / f"part-{number}.csv", rows)
    (parts / "_SUCCESS").write_text("")
    for named in (parts, parts / "part-*.csv"):
        found = find(named)
        assert found.source()["interactions"] == str(named)
        assert read(found).measured.sizes.interactions == len(log)


def test_rows_without_a_user_are_left_out_by_a_rule(tmp_path: Path) -> None:
    log = made.log().astype({"user_id": "str"})
    log.loc[log.index % 4 == 0, "user_id"] = "NA"
    found = read(find(made.write(tmp_path / "log.csv", log))).found
    assert found.source()["where"] == "user_id is not null"


def test_another_encoding_is_found(tmp_path: Path) -> None:
    log = made.write(tmp_path / "log.csv", made.log())
    made.items().assign(name="Größe").to_csv(tmp_path / "items.csv", index=False, encoding="cp1252")
    assert find(log, tmp_path / "items.csv").encoding == "cp1252"


def test_topics_written_as_lists_in_text_are_taken(tmp_path: Path) -> None:
    log = made.write(tmp_path / "log.csv", made.log())
    items = made.items().assign(categories="['shoes', 'boots']")
    found = find(log, made.write(tmp_path / "items.csv", items))
    assert found.item_roles is not None
    assert found.item_roles.mapping()["topics"] == "categories"
    assert found.topic_separator == "|"


@pytest.mark.parametrize(
    ("values", "separator"),
    [
        (["Drama|War", "War|Comedy"] * 20, "|"),
        (["a, b", "b, c"] * 20, ","),
        ([["a"], ["b"]], "|"),
        (["Home > Garden", "Home > Tools"] * 20, " > "),
        (["Drama", "War"] * 20, "|"),
    ],
)
def test_what_separates_topics(values: list[object], separator: str) -> None:
    assert topic_separator(values) == separator


def test_missing_values_do_not_hide_what_a_column_is() -> None:
    seen = look("user", ["1", "NaN", "", None, "2", "1"])
    assert (seen.kind, seen.n_present, seen.n_distinct) == ("integer", 3, 2)


@pytest.mark.parametrize("separator", [" ", "\t"])
def test_a_log_with_a_line_per_user_is_told_how_it_is_read(tmp_path: Path, separator: str) -> None:
    log = tmp_path / "games.txt"
    log.write_text("".join(separator.join(map(str, [user, *range(user, 2 * user + 1)])) + "\n" for user in range(9)))
    with pytest.raises(PlumError, match=r"games\.txt has a line per user(.|\n)*layout: sequences, interactions: .*txt"):
        find(log)
