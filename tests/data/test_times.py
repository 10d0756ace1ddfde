"""Times of logs: every unit, layout and mixture is read as what it is, or refused with advice that works."""

from __future__ import annotations

import logging
import re
import time
from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from plum.data import time_texts
from plum.data.logs import load_logs
from plum.data.sample import read_sample
from plum.data.splits import order_interactions
from plum.data.tables import RawTables
from plum.data.times import Times, read_times
from plum.errors import PlumError

SECOND = 1_600_000_000  # 2020-09-13 12:26:40 UTC
DAY = 86_400


def times_of(values: Any, kind: pa.DataType | None = None, **how: Any) -> Times:
    column = pa.chunked_array([pa.array(values, kind)])
    return read_times(column, np.zeros(len(column), bool), "log.csv, column 'when'", **how)


def exact(times: Times) -> list[int | None]:
    """Nanoseconds since 1970 of each row, None where there is no time."""
    together = zip(times.second.tolist(), times.nanosecond.tolist(), times.usable.tolist(), strict=True)
    return [second * 10**9 + rest if usable else None for second, rest, usable in together]


def load(folder: Path, values: list[object], **how: Any) -> RawTables:
    """A log of one user, one row for each time."""
    lines = "".join(f'u,i{n},"{value}"\n' for n, value in enumerate(values))
    (folder / "log.csv").write_text(f"user_id,item_id,timestamp\n{lines}", encoding="utf-8")
    return load_logs(folder / "log.csv", **how)


def seconds(tables: RawTables) -> list[int]:
    return tables.interactions["timestamp"].tolist()


def settings_in(fix: str | None) -> list[dict[str, str]]:
    """The settings of the source that advice names, one at a time."""
    assert fix is not None
    return [
        {key: value or word} for key, value, word in re.findall(r"--set data\.source\.(\w+)=(?:'([^']+)'|(\w+))", fix)
    ]


@pytest.mark.parametrize(
    "text",
    [
        *("1600000000", "1600000000.0", "+1600000000", "1.6e9", "1600000000000", "1.6E+12", "1600000000000000"),
        *("1600000000000000000", "20200913122640", "2020-09-13 12:26:40", "2020-09-13T12:26:40Z"),
        *("2020-09-13T12:26:40.000000000Z", "2020-09-13 12:26:40 UTC", "2020-09-13 12:26:40 GMT"),
        *("2020-09-13 12:26:40 +0000", "2020-09-13T14:26:40+02:00", "2020-09-13 07:26:40 -0500"),
        *("2020-09-13 12:26:40+00", "2020-09-13 12:26:40,000", "2020/09/13 12:26:40", "2020/9/13 12:26:40"),
        *("Sun, 13 Sep 2020 12:26:40 GMT", "Sun, 13 Sep 2020 14:26:40 +0200", "Sun, 13 Sep 2020 08:26:40 EDT"),
        *("13/Sep/2020:12:26:40 +0000", "[13/Sep/2020:14:26:40 +0200]", "Sun Sep 13 12:26:40 2020"),
        *("Sun Sep 13 12:26:40 +0000 2020", "Sun Sep 13 12:26:40 UTC 2020", "Sunday, 13-Sep-20 12:26:40 GMT"),
        *("Sep 13, 2020 12:26:40 PM", "Sep 13, 2020, 12:26:40\u202fPM", "September 13, 2020 12:26:40"),
        *(
            "13-SEP-20 12.26.40.000000 PM",
            "13. Sep 2020 12:26:40",
            "13th September 2020 12:26:40",
            "2020-Sep-13 12:26:40",
        ),
        *("20200913T122640Z", "2020-09-13T14:26:40+02:00[Europe/Berlin]", "2020年9月13日 12:26:40"),
        "Sun Sep 13 2020 14:26:40 GMT+0200 (Central European Summer Time)",
    ],
)
def test_one_second_in_every_layout(text: str) -> None:
    assert exact(times_of([text])) == [SECOND * 10**9]
    assert exact(times_of([text, "2021-01-01"]))[0] == SECOND * 10**9  # and among others


@pytest.mark.parametrize(
    ("text", "nanoseconds"),
    [
        ("1600000000.1", 100_000_000),
        ("1600000000.123456", 123_456_000),
        ("1600000000.1234567891", 123_456_789),
        ("1600000000001", 1_000_000),
        ("1600000000123.456", 123_456_000),
        ("1600000000000001", 1_000),
        ("1600000000000000001", 1),
        ("1.600000000000000001e18", 1),
        ("1.60000000012e9", 120_000_000),
        ("2020-09-13T12:26:40.1Z", 100_000_000),
        ("2020-09-13 12:26:40,25 +0000", 250_000_000),
        ("2020-09-13 12:26:40.123456789", 123_456_789),
        ("20200913122640123", 123_000_000),
    ],
)
def test_no_digit_gets_lost(text: str, nanoseconds: int) -> None:
    assert exact(times_of([text])) == [SECOND * 10**9 + nanoseconds]


@pytest.mark.parametrize(
    ("value", "kind", "nanoseconds"),
    [
        (1_600_000_000_000_000_001, pa.int64(), 1),
        (1_600_000_000_000_000_001, pa.uint64(), 1),
        (1_600_000_000.1, pa.float64(), 100_000_000),  # and not 99,999,904
        (1_600_000_000_000.25, pa.float64(), 250_000),
        (Decimal("1600000000.123456789"), pa.decimal128(30, 9), 123_456_789),
        (SECOND * 10**9 + 1, pa.timestamp("ns"), 1),
        (SECOND * 10**6 + 1, pa.timestamp("us", "Europe/Paris"), 1_000),
        (SECOND, pa.timestamp("s", "Mars/Olympus"), 0),
        (20200913, pa.int32(), -44_800_000_000_000),
        (20200913.0, pa.float64(), -44_800_000_000_000),
    ],
)
def test_typed_values_keep_all_they_hold(value: Any, kind: pa.DataType, nanoseconds: int) -> None:
    assert exact(times_of([value, None], kind)) == [SECOND * 10**9 + nanoseconds, None]


def test_floats_that_hold_no_seconds_are_told(caplog: pytest.LogCaptureFixture) -> None:
    times_of([1.6e9, 1.6e9 + 1], pa.float32())
    assert "floats of 32 bits hold times rounded" in caplog.text


def test_below_zero_is_rounded_down() -> None:
    assert exact(times_of(["-1.5", "-1", "0.25", "-0.5"], unit="s")) == [
        -1_500_000_000,
        -(10**9),
        250_000_000,
        -500_000_000,
    ]
    assert exact(times_of([-1], unit="ms")) == [-1_000_000]


@given(st.integers(-62_135_596_800 * 10**9, 253_402_300_799 * 10**9), st.sampled_from([0, 3, 6, 9]))
@settings(deadline=None, max_examples=60)
def test_numbers_as_exact_arithmetic_reads_them(nanoseconds: int, digits: int) -> None:
    unit = {0: "s", 3: "ms", 6: "us", 9: "ns"}[digits]
    text = f"{Decimal(nanoseconds).scaleb(digits - 9):f}"
    fits = abs(nanoseconds) // 10 ** (9 - digits) < 1 << 63
    assert exact(times_of([text, "1"], unit=unit))[0] == (nanoseconds if fits else None)


@given(
    st.datetimes(datetime(1, 1, 1), datetime(9999, 12, 31, 23, 59, 59)),
    st.sampled_from(
        ["%Y-%m-%d %H:%M:%S.%f UTC", "%d %b %Y %H:%M:%S.%f", "%B %d, %Y, %I:%M:%S.%f %p", "%d/%b/%Y:%H:%M:%S.%f +0000"]
    ),
)
@settings(deadline=None, max_examples=60)
def test_layouts_as_the_standard_library_writes_them(moment: datetime, layout: str) -> None:
    text = moment.strftime(layout.replace("%Y", f"{moment.year:04d}"))
    want = (moment - datetime(1970, 1, 1)) // timedelta(seconds=1)
    times = times_of([text], unit="iso")
    assert (times.second.tolist(), times.nanosecond.tolist()) == ([want], [moment.microsecond * 1000])


@pytest.mark.parametrize(
    "text",
    [
        *(
            "0000-01-01",
            "-0001-01-01",
            "0000-00-00 00:00:00",
            "2020-02-30",
            "2020-13-01",
            "12020-01-01",
            "2020-09-13 25:00",
        ),
        *(
            "2020-09-13 12:60",
            "2020-09-13 12:26:40 XYZT",
            "2020-09-13 12:26:40 Mars/Olympus",
            "13 Foo 2020",
            "yesterday",
        ),
        *(
            "1e300",
            "1e99999",
            "9" * 30,
            "0x5F5E1000 ",
            "inf",
            "1600000000s",
            "2020-09-13T12:26:40+99:00",
            "2021-02-29 UTC",
        ),
    ],
)
def test_what_is_no_time_is_bad(text: str) -> None:
    assert exact(times_of([text, "2021-01-01", "1600000000"])) == [None, 1_609_459_200 * 10**9, SECOND * 10**9]


def test_years_beyond_9999_are_bad_in_every_type() -> None:
    beyond = 253_402_300_800
    for kind in (pa.timestamp("s"), pa.timestamp("ms", "UTC"), pa.date64()):
        value = beyond * (1 if kind == pa.timestamp("s") else 1000)
        column = pa.array([value, value - 1_000_000_000_000], pa.int64()).cast(kind)
        assert times_of(column).bad.tolist()[0]
    assert times_of([beyond, SECOND], unit="s").bad.tolist() == [True, False]


@pytest.mark.parametrize(
    ("values", "forms"),
    [
        ([SECOND * 1000, (SECOND + DAY) * 1000, (SECOND + 2 * DAY) * 1000, SECOND + 3 * DAY], {"s": 1, "ms": 3}),
        ([SECOND, SECOND + DAY, (SECOND + 2 * DAY) * 10**6, (SECOND + 3 * DAY) * 10**9], {"s": 2, "us": 1, "ns": 1}),
        (
            [SECOND, "2020-09-14 12:26:40", "20200915122640", "16 Sep 2020 12:26:40"],
            {"s": 1, "YYYYMMDDHHMMSS": 1, "text dates": 2},
        ),
    ],
)
def test_each_row_has_its_own_unit_and_a_mixture_is_told(
    values: list[object], forms: dict[str, int], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    tables = load(tmp_path, values)
    assert seconds(tables) == [SECOND + n * DAY for n in range(4)]
    assert times_of([str(value) for value in values]).forms == forms
    [told] = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert "times in several forms" in told
    assert all(f"{count} as {form}" in told for form, count in forms.items())


def test_dates_with_and_without_a_zone_are_told_apart(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert seconds(load(tmp_path, ["2020-09-13 12:26:40", "2020-09-13T14:26:41+02:00"])) == [SECOND, SECOND + 1]
    assert "1 as text dates, 1 as text dates with a zone" in caplog.text


@pytest.mark.parametrize(
    ("values", "want"),
    [
        (["20200913", "20200914", "20211231"], [1_599_955_200, 1_600_041_600, 1_640_908_800]),
        (["202009131226", "202009131227"], [SECOND - 40, SECOND + 20]),
        (["13/09/2020 12:26:40", "09/10/2020"], [SECOND, 1_602_201_600]),  # the first tells where the day is
        (["09/13/2020 12:26 PM", "10/09/2020"], [SECOND - 40, 1_602_201_600]),
        (["13.09.2020", "1.10.2020"], [1_599_955_200, 1_601_510_400]),
        (["9/13/20 12:26", "9/5/20 0:00"], [SECOND - 40, 1_599_264_000]),  # as spreadsheets write it
        (["09 13, 2020", "10 1, 2020"], [1_599_955_200, 1_601_510_400]),
    ],
)
def test_dates_that_their_values_explain(values: list[object], want: list[int], tmp_path: Path) -> None:
    assert seconds(load(tmp_path, values)) == want


@pytest.mark.parametrize(
    ("values", "told"),
    [
        (["09/05/2020 12:26", "10/05/2020 1:00"], "day from the month"),
        (["09/05/20", "10/05/20"], "day from the month"),
        (["5.9.2020 12:26:40,5", "6.9.2020 1:00:00,25"], "day from the month"),
        (["05-09-2020T12:26:40Z", "06-09-2020T12:26:40Z"], "day from the month"),
        (["202009", "202010", "202011"], "dates written as numbers"),
        (["200913", "200914", "200928"], "dates written as numbers"),
        (["13092020", "1102020", "28092020"], "dates written as numbers"),
        (["2020091312", "2020091313", "2020091314"], "dates written as numbers"),
        (["2018", "2019", "2020"], "dates written as numbers"),
        (["2020"] * 12, "dates written as numbers"),
        (["13/09/20 12:26", "14/09/20 12:26"], "day from the month"),  # or September 2013 and 2014
        (["44087.5", "44088.25", "44089"], "spreadsheets"),
        (["44087", "44088", "44089"], "spreadsheets"),
        (["1.60E+12", "1.59E+12", "1.61E+12"], "rounded"),
        (["1.6e+09", "1.600086e+09", "1.59991e+09"], "rounded"),
        (["0.5", "1.25", "7.75"], "no dates from 1990 to 2100"),
        (["500000000", "500086400", "500172800"], "no dates from 1990 to 2100"),
        (["1950-01-01", "1950-01-02", "1950-01-03"], "3 of 3 times are before 1990 or in the future"),
        (["9000-01-01", "9000-01-02", "9000-01-03"], "3 of 3 times are before 1990 or in the future"),
        (["4000000000", "4000000001", "4000000002"], "3 of 3 times are before 1990 or in the future"),
    ],
)
def test_what_is_not_sure_is_refused_and_the_advice_works(values: list[object], told: str, tmp_path: Path) -> None:
    with pytest.raises(PlumError, match=told) as refused:
        load(tmp_path, values)
    assert str(values[0]) in (refused.value.found or "")
    advised = settings_in(refused.value.fix)
    assert advised
    for how in advised:
        assert len(seconds(load(tmp_path, values, **how))) == len(values)


def test_one_of_the_advised_layouts_is_right(tmp_path: Path) -> None:
    with pytest.raises(PlumError) as refused:
        load(tmp_path, ["1092020", "11122020", "10112020"])  # 1 September: a program took away the first zero
    read = [seconds(load(tmp_path, ["1092020", "11122020"], **how)) for how in settings_in(refused.value.fix)]
    assert [1_598_918_400, 1_607_644_800] in read


@pytest.mark.parametrize("ticks", [637_355_968_000_000_000, 132_444_736_000_000_000])
def test_ticks_of_100_nanoseconds_are_named(ticks: int, tmp_path: Path) -> None:
    with pytest.raises(PlumError, match="100 nanoseconds"):
        load(tmp_path, [ticks + n * 864_000_000_000 for n in range(4)])


def test_text_that_is_no_date_is_refused_with_all_ways_out(tmp_path: Path) -> None:
    values = ["13|09|2020 12h26", "14|09|2020 12h27"]
    with pytest.raises(PlumError, match=r"no timestamp can be read as a date(.|\n)*13\|09\|2020 12h26") as refused:
        load(tmp_path, values)
    assert "timestamp_unit=position" in (refused.value.fix or "")
    assert seconds(load(tmp_path, values, timestamp_format="%d|%m|%Y %Hh%M")) == [SECOND - 40, SECOND - 40 + DAY + 60]
    assert seconds(load(tmp_path, values, timestamp_unit="position")) == [0, 1]


@pytest.mark.parametrize(
    ("how", "values"),
    [
        ({"timestamp_unit": "s"}, ["2020-09-13", "2020-09-14"]),
        ({"timestamp_unit": "s"}, [SECOND * 1000, SECOND * 1000 + 1]),
        ({"timestamp_unit": "iso"}, [SECOND, SECOND + 1]),
        ({"timestamp_format": "%d/%m/%Y"}, ["2020-09-13", "2020-09-14"]),
    ],
)
def test_a_wrong_setting_is_told_and_auto_advised_where_it_helps(
    how: dict[str, str], values: list[object], tmp_path: Path
) -> None:
    with pytest.raises(PlumError, match="no timestamp can be read") as refused:
        load(tmp_path, values, **how)
    assert settings_in(refused.value.fix) == [{"timestamp_unit": "auto"}]
    assert len(seconds(load(tmp_path, values))) == 2


def test_numbers_of_rows_give_an_order_and_that_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert seconds(load(tmp_path, [0, 1, 2, 17])) == [0, 1, 2, 17]
    assert "are no dates" in caplog.text
    with pytest.raises(PlumError, match="unusable"):
        load(tmp_path, [*range(98), "2020-09-13", "2020-09-14"])  # dates among them have no place in the order


@pytest.mark.parametrize("value", ["0", "-1", "1970-01-01 00:00:00", "0001-01-01", "9999-12-31", "0.0"])
def test_placeholders_among_dates_are_no_times(value: str, tmp_path: Path) -> None:
    tables = load(tmp_path, [value, SECOND, "2021-01-01"], max_bad_share=0.5)
    assert seconds(tables) == [SECOND, 1_609_459_200]
    assert [(p.reason, p.count, p.example) for p in tables.problems] == [
        ("timestamp stands for no time", 1, f"line 2: {value!r}")
    ]
    with pytest.raises(PlumError, match="stands for no time"):
        load(tmp_path, [value, SECOND, SECOND + 1])


def test_odd_times_among_others_and_under_a_given_unit_are_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    tomorrow = int(time.time()) + 40 * DAY
    assert seconds(load(tmp_path, [SECOND, SECOND + 1, tomorrow])) == [SECOND, SECOND + 1, tomorrow]
    assert "1 of 3 times are before 1990 or in the future (first: line 4" in caplog.text
    caplog.clear()
    assert seconds(load(tmp_path, [5, 6], timestamp_unit="s")) == [5, 6]
    assert (
        "2 of 2 times are before 1990 or in the future (first: line 2: '5', read as 1970-01-01 00:00:05)" in caplog.text
    )


def test_rows_that_differ_within_a_second_repeat_nothing(tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    path.write_text(
        "user_id,item_id,timestamp\nu,i,1600000000.2\nu,i,1600000000.1\nu,i,1600000000.20\nu,i,1600000000200\n"
    )
    tables = load_logs(path)
    assert tables.interactions["nanosecond"].tolist() == [200_000_000, 100_000_000]
    assert [(p.reason, p.count) for p in tables.problems] == [("exact repetition of an earlier row", 2)]


@pytest.mark.parametrize("form", ["ms", "seconds.csv", "iso", "seconds.parquet", "parquet", "jsonl"])
def test_the_order_within_a_second_is_that_of_the_log(form: str, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    place = np.concatenate([rng.permutation(8) for _ in range(20)])
    milliseconds = SECOND * 1000 + 300 * place
    frame = pd.DataFrame({"user_id": np.repeat(np.arange(20), 8), "item_id": place, "timestamp": milliseconds})
    if form.startswith("seconds"):
        frame["timestamp"] = milliseconds / 1000
    elif form in ("iso", "parquet"):
        frame["timestamp"] = pd.to_datetime(milliseconds, unit="ms", utc=True)
    path = tmp_path / f"log.{form.split('.')[-1] if '.' in form or form in ('parquet', 'jsonl') else 'csv'}"
    if path.suffix == ".parquet":
        frame.to_parquet(path)
    elif path.suffix == ".jsonl":
        frame.to_json(path, orient="records", lines=True)
    else:
        frame.to_csv(path, index=False)
    ordered, ties = order_interactions(load_logs(path).interactions)
    assert ordered["item_id"].tolist() == [str(n) for n in range(8)] * 20
    assert ties.tied == 0


def test_whole_seconds_write_no_further_column(tmp_path: Path) -> None:
    assert "nanosecond" not in load(tmp_path, [SECOND * 1000, f"{SECOND}.000"]).interactions


def test_position_takes_the_order_of_the_rows(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "log.csv"
    path.write_text("user_id,item_id\na,x\nb,y\na,y\na,x\n,z\nb,x\na,x\n")
    tables = load_logs(path, timestamp_unit="position", max_bad_share=0.5)
    log = tables.interactions
    assert log[["user_id", "item_id", "timestamp"]].values.tolist() == [
        ["a", "x", 0], ["b", "y", 0], ["a", "y", 1], ["a", "x", 2], ["b", "x", 1], ["a", "x", 3]
    ]  # fmt: skip
    assert tables.timestamps_are_positions
    assert [problem.reason for problem in tables.problems] == ["user_id is missing"]
    load_logs(path, columns={"timestamp": "when"}, timestamp_unit="position", max_bad_share=0.5)
    assert "is not read" in caplog.text


def test_nanosecond_is_no_name_for_an_extra_column(tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    path.write_text("user_id,item_id,timestamp,nanosecond\nu,i,1600000000,7\nu,j,1600000001,5\n")
    assert "nanosecond" not in load_logs(path).interactions  # a column of the log that no one asked for
    with pytest.raises(PlumError, match=r"columns\.nanosecond(.|\n)*columns\.nanoseconds"):
        load_logs(path, columns={"nanosecond": "nanosecond"})
    assert load_logs(path, columns={"nanoseconds": "nanosecond"}).interactions["nanoseconds"].tolist() == [7, 5]


@pytest.mark.parametrize(
    ("how", "told"),
    [
        ({"timestamp_unit": "hours"}, "unknown timestamp_unit 'hours'"),
        ({"timestamp_unit": "s", "timestamp_format": "%Y"}, "both set"),
        ({"timestamp_format": "%H:%M"}, "has no year"),
        ({"timestamp_format": "%Y %Q"}, "no layout"),
        ({"timestamp_format": "%Y %Y"}, "no layout"),
        ({"timestamp_format": "mixed"}, "has no year"),
        ({"timestamp_format": "%Y %"}, "no layout"),
    ],
)
def test_settings_that_fit_nothing_are_refused(how: dict[str, str], told: str, tmp_path: Path) -> None:
    with pytest.raises(PlumError, match=told):
        load(tmp_path, [SECOND], **how)


@pytest.mark.parametrize("kind", [pa.time32("s"), pa.duration("s"), pa.bool_(), pa.list_(pa.int64())])
def test_types_that_are_no_times_are_refused(kind: pa.DataType, tmp_path: Path) -> None:
    table = pa.table({"user_id": ["u"], "item_id": ["i"], "timestamp": pa.nulls(1, kind)})
    pq.write_table(table, tmp_path / "log.parquet")
    with pytest.raises(PlumError, match="must hold times"):
        load_logs(tmp_path / "log.parquet")


@pytest.mark.parametrize(
    "example", ["09/05/2020 12:26:40.5 +0200", "9-5-20 1:26 PM", "09.05.2020, 12:26 UTC", "09/05/2020"]
)
def test_layouts_that_are_advised_read_their_example(example: str) -> None:
    column = pa.chunked_array([[example]])
    for layout in time_texts.layouts_of(example):
        assert time_texts.by_layout(column, layout).ok.all(), layout


@pytest.mark.parametrize("role", ["timestamp", "user_id", "when", "items", "users"])
@pytest.mark.parametrize("beyond", [SECOND, 253_402_300_800, -62_135_596_801, 9_000_000_000_000])
def test_unknown_zones_and_years_beyond_9999_are_no_traceback_in_any_column(
    role: str, beyond: int, tmp_path: Path
) -> None:
    column = pa.array([1_000_000 * (SECOND + n) for n in range(3)] + [1_000_000 * beyond], pa.int64())
    column = column.cast(pa.timestamp("us", "Mars/Olympus"))
    log = {"user_id": pa.array(["0", "0", "0", "1"]), "item_id": pa.array(["a", "b", "c", "d"])}
    log["timestamp"] = pa.array([SECOND + n for n in range(4)])
    more: dict[str, Any] = {"columns": {"when": "when"}} if role == "when" else {}
    if role in ("items", "users"):
        other = {"item_id": log["item_id"]} if role == "items" else {"user_id": pa.array(["0", "1", "2", "3"])}
        pq.write_table(pa.table(other | {"since": column}), tmp_path / "other.parquet")
        more[role] = tmp_path / "other.parquet"
    else:
        log[role] = column
    pq.write_table(pa.table(log), tmp_path / "log.parquet")
    tables = load_logs(tmp_path / "log.parquet", max_bad_share=0.5, **more)
    assert len(tables.interactions) == (3 if role == "timestamp" and beyond != SECOND else 4)
    assert read_sample(tmp_path / "log.parquet", 10).n_rows == 4


_PIECES = st.sampled_from(
    [
        *("2020", "09", "13", "T", "Z", "UTC", "Sep", "PM", "e", "1600000000", "000", "0" * 20, "GMT+25", "年", "é"),
        *("0123456789-/:. +,[]\u202f\n\x00"),
    ]
)


@pytest.mark.slow
@given(
    st.lists(st.none() | st.text(max_size=30) | st.lists(_PIECES, max_size=14).map("".join), min_size=1, max_size=6),
    st.sampled_from(["auto", "s", "ms", "us", "ns", "iso"]),
    st.sampled_from([None, None, "%Y-%m-%d", "%Y%m%d", "%d %b %y"]),
)
@settings(deadline=None, max_examples=1000)
def test_any_text_is_a_time_a_bad_row_or_refused(values: list[str | None], unit: str, layout: str | None) -> None:
    try:
        times = times_of(values, pa.string(), unit=unit, layout=layout)
    except PlumError:
        return
    assert ((times.nanosecond >= 0) & (times.nanosecond < 10**9)).all()
    assert ((times.second >= -62_135_596_800) & (times.second <= 253_402_300_799)).all()
