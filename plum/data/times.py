"""Times of interactions: text, numbers or typed values as seconds since 1970, and nanoseconds within the second.

Where no unit is given, each row is read by its own form: text by its layout, a number by its size, since numbers of
different units don't overlap for dates from 1990 to 2100. What can't be told apart so is refused, not guessed.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from plum.data import time_numbers, time_texts
from plum.data.civil import Instants
from plum.data.time_hints import refuse_other_numbers, refuse_rounded
from plum.data.time_numbers import UNITS, Numbers
from plum.errors import PlumError

log = logging.getLogger(__name__)

AUTO, ISO, POSITION = "auto", "iso", "position"
WAYS = (AUTO, *UNITS, ISO, POSITION)
"""What ``timestamp_unit`` may be. ``position`` reads no times: the order of the rows is that of the interactions."""
USUAL_FROM, USUAL_TO = 631_152_000, 4_102_444_800
"""1990 and 2100 in seconds: numbers in between are times; the logs of recommenders are not older."""
ORDER_BELOW = 100_000_000
"""Whole numbers below are numbers of rows or steps, which give an order and no dates, if no date is among them."""
TYPED, TEXT, ZONED = "timestamps", "text dates", "text dates with a zone"
_TICKS = (620_000_000_000_000_000, 660_000_000_000_000_000)  # .NET's of 1965 to 2092: as nanoseconds, 1989 and 1990
_HOURS = (1_990_010_100, 2_100_123_124)  # written as YYYYMMDDHH: as seconds, 2033 to 2036
_LEAST = 0.99  # of the numbers must be numbers of rows for the column to be so
_UNIT_NAMES = {
    "s": "seconds since 1970 (up to the year 9999)",
    "ms": "milliseconds since 1970",
    "us": "microseconds since 1970",
    "ns": "nanoseconds since 1970",
    ISO: "a date, in ISO 8601 or another layout that plum knows",
    AUTO: "a date or as a number since 1970",
}


@dataclass(frozen=True)
class Times:
    """The times of N rows.

    Attributes:
        second: int64, seconds since 1970 (UTC), rounded down; 0 where unusable.
        nanosecond: int64, 0 to 999,999,999 within the second.
        missing: mask of rows without a value.
        bad: mask of values that can't be read.
        placeholder: mask of values that stand for "no time", such as 0 and -1 among dates.
        forms: what rows were read as -> how many.
        order_only: whether the values are numbers of rows or steps, which are no dates.
    """

    second: np.ndarray
    nanosecond: np.ndarray
    missing: np.ndarray
    bad: np.ndarray
    placeholder: np.ndarray
    forms: dict[str, int] = field(default_factory=dict)
    order_only: bool = False

    @property
    def usable(self) -> np.ndarray:
        """Mask (N,) of the rows that have a time."""
        return ~(self.missing | self.bad | self.placeholder)


def read_times(
    column: pa.ChunkedArray,
    missing: np.ndarray,
    name: str,
    unit: str = AUTO,
    layout: str | None = None,
) -> Times:
    """Read a column of times; dates without a time zone count as UTC.

    Args:
        column: N values: text, numbers, or typed dates, for which ``unit`` and ``layout`` say nothing.
        missing: mask (N,) of text that stands for no value; nulls need not be in it.
        name: file and column, for messages.
        unit: of ``WAYS``, but not ``position``.
        layout: the strptime layout of text, and of numbers such as 20200913; then ``unit`` is not used.

    Raises:
        PlumError: if the type can't be a time, no value can be read, day and month can't be told apart, or the numbers
            are dates in another notation.
    """
    kind = column.type
    if pa.types.is_timestamp(kind) or pa.types.is_date(kind):
        return _typed(column, unit)
    column = _simple(column, name)
    missing = missing | column.is_null().to_numpy().astype(bool)
    if pa.types.is_floating(column.type):
        if column.type.bit_width < 64:
            log.warning("%s: floats of %d bits hold times rounded to minutes", name, column.type.bit_width)
        missing |= pc.fill_null(pc.is_nan(column), False).to_numpy().astype(bool)
    column = pc.if_else(pa.array(missing), None, column)
    is_text = pa.types.is_string(column.type)
    if layout is not None:
        found = time_texts.by_layout(column if is_text else _digits(column), layout)
        times = _result(found, missing, {f"dates as {layout}": int(found.ok.sum())})
        if not times.usable.any() and times.bad.any():
            raise _unreadable(column, times.bad, f"by timestamp_format {layout!r}", name, _reads(column, name))
        return times
    numbers = time_numbers.from_text(column) if is_text else time_numbers.from_typed(column)
    if unit == AUTO:
        return _auto(column, numbers, missing, name)
    found = _dates(column, numbers, name) if unit == ISO else time_numbers.in_unit(numbers, list(UNITS).index(unit))
    times = _result(found, missing, {TEXT if unit == ISO else unit: int(found.ok.sum())})
    if not times.usable.any() and times.bad.any():
        raise _unreadable(column, times.bad, f"as {_UNIT_NAMES[unit]}", name, _reads(column, name))
    return times


def _simple(column: pa.ChunkedArray, name: str) -> pa.ChunkedArray:
    """A column as string, integer, float or decimal.

    Raises:
        PlumError: for types that are no times.
    """
    kind = column.type
    if pa.types.is_dictionary(kind):
        return _simple(column.cast(kind.value_type), name)
    if pa.types.is_null(kind) or pa.types.is_large_string(kind) or "string_view" in str(kind):
        return column.cast(pa.string())
    if pa.types.is_string(kind):
        return pc.utf8_trim_whitespace(column)
    if pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind):
        return column
    raise PlumError(f"{name} must hold times", f"type {kind}", "store timestamps, seconds since 1970, or ISO 8601 text")


def _digits(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Numbers as text, the float 20200913.0 without its point."""
    return pc.replace_substring_regex(column.cast(pa.string()), r"\.0*$", "")


def _typed(column: pa.ChunkedArray, unit: str) -> Times:
    """Times of typed dates; the name of a time zone changes nothing, Arrow holds UTC."""
    missing = column.is_null().to_numpy().astype(bool)
    if pa.types.is_date(column.type):
        column = column.cast(pa.date64()).cast(pa.int64())
        per_second = 1_000
    else:
        per_second = UNITS[column.type.unit]
        column = column.cast(pa.int64())
    second, rest = np.divmod(pc.fill_null(column, 0).to_numpy(), per_second)
    found = Instants.checked(second, rest * (UNITS["ns"] // per_second), ~missing)
    placeholder = _stands_for_none(found) if unit == AUTO else np.zeros(len(missing), bool)
    return _result(found, missing, {TYPED: int(found.ok.sum())}, placeholder)


def _result(
    found: Instants, missing: np.ndarray, forms: dict[str, int], placeholder: np.ndarray | None = None
) -> Times:
    bad = ~missing & ~found.ok
    none = np.zeros(len(missing), bool) if placeholder is None else placeholder & found.ok
    return Times(found.second, found.nanosecond, missing, bad, none, {k: n for k, n in forms.items() if n})


def _dates(column: pa.ChunkedArray, numbers: Numbers, name: str) -> Instants:
    """Dates as text, and written as one number."""
    found, _ = time_numbers.as_dates(numbers)
    if pa.types.is_string(column.type):
        _put_texts(found, column, numbers, name)
    return found


def _put_texts(found: Instants, column: pa.ChunkedArray, numbers: Numbers, name: str) -> np.ndarray:
    """Read what is no number as dates, into ``found``. Returns the mask (N,) of what could be read.

    Raises:
        PlumError: if most of it leaves open which number is the day and which the month.
    """
    if numbers.ok.all():
        return numbers.ok & False
    texts, ambiguous = time_texts.from_text(pc.if_else(pa.array(numbers.ok), None, column))
    if ambiguous is not None and 2 * len(ambiguous.rows) >= int(texts.ok.sum()):
        raise _ambiguous(ambiguous, name)
    found.put(texts.ok, Instants(*(values[texts.ok] for values in texts)))
    return texts.ok


def _ambiguous(dates: time_texts.Ambiguous, name: str) -> PlumError:
    layouts = time_texts.layouts_of(dates.example)
    told = " or ".join(f"--set data.source.timestamp_format='{layout}'" for layout in layouts)
    rewrite = "write times as 2020-09-13 12:26:40"
    what, found = f"{name}: no telling the day from the month", f"such as {dates.example!r}"
    if dates.both:
        fix = f"{rewrite}; or {told}, which leaves out the others as unusable rows"
        return PlumError(what, f"{found}; some dates have the day first, some the month", fix)
    return PlumError(
        what,
        f"{found}; no date has a number that must be the day",
        f"{told}, whichever is right; or {rewrite}",
    )


def _auto(column: pa.ChunkedArray, numbers: Numbers, missing: np.ndarray, name: str) -> Times:
    """Each row by its own form.

    Raises:
        PlumError: if no value can be read, or most are numbers that are neither dates nor an order.
    """
    units = time_numbers.units_by_size(numbers)
    if pa.types.is_string(column.type):
        refuse_rounded(column, numbers, list(UNITS)[int(np.median(units))] if len(units) else "s", name)
    found = time_numbers.in_unit(numbers, units)
    usual = found.ok & (found.second >= USUAL_FROM) & (found.second < USUAL_TO) & ~_are_ticks(numbers)
    rest = np.flatnonzero(numbers.ok & ~usual)
    written, digits = time_numbers.as_dates(numbers.where(rest))
    as_date = np.zeros(len(missing), bool)
    as_date[rest] = written.ok
    texts = np.zeros(len(missing), bool)
    if pa.types.is_string(column.type):
        texts = _put_texts(found, column, numbers, name)
    dated = usual | as_date | texts
    if 2 * int(dated.sum()) < int((numbers.ok | texts).sum()):
        return _order(column, numbers, missing, texts, name)
    if 2 * int((usual & (numbers.whole >= _HOURS[0]) & (numbers.whole < _HOURS[1])).sum()) > int(dated.sum()):
        refuse_other_numbers(numbers, _first(column, numbers.ok), name)
    if not dated.any() and not missing.all():
        raise _unreadable(column, ~missing, f"as {_UNIT_NAMES[AUTO]}", name, "")
    found.put(as_date, Instants(*(values[written.ok] for values in written)))
    number = numbers.ok & ~as_date
    forms = {one: int((number & usual & (units == place)).sum()) for place, one in enumerate(UNITS)}
    forms |= {one: int((digits == n).sum()) for n, one in time_numbers.DATE_DIGITS.items()}
    if texts.any():
        zoned = time_texts.has_zone(column) & texts
        forms |= {TEXT: int((texts & ~zoned).sum()), ZONED: int(zoned.sum())}
    none = (number & (numbers.negative | (numbers.whole == 0))) | (texts & _stands_for_none(found))
    return _result(found, missing, forms, none)


def _are_ticks(numbers: Numbers) -> np.ndarray:
    return (numbers.whole >= _TICKS[0]) & (numbers.whole < _TICKS[1])


def _stands_for_none(found: Instants) -> np.ndarray:
    """Mask (N,) of dates by which programs mean "no time": the first of 1970 and of the year 1, the last of 9999."""
    epoch = (found.second == 0) & (found.nanosecond == 0)
    return found.ok & (epoch | (found.second < -62_135_510_400) | (found.second >= 253_402_214_400))


def _order(column: pa.ChunkedArray, numbers: Numbers, missing: np.ndarray, texts: np.ndarray, name: str) -> Times:
    """Numbers of rows or steps as times; what else stands among them is bad.

    Raises:
        PlumError: for other numbers.
    """
    refuse_other_numbers(numbers, _first(column, numbers.ok), name)
    counted = numbers.is_whole & (numbers.whole < ORDER_BELOW)
    if counted.sum() < _LEAST * numbers.ok.sum():
        odd = numbers.ok & ~counted
        raise PlumError(
            f"{name}: most times are no dates from 1990 to 2100 in any unit",
            f"such as {_first(column, odd)}",
            "write times as 2020-09-13 12:26:40 or in seconds since 1970; if only their order matters, "
            "--set data.source.timestamp_unit=s takes the numbers as they are",
        )
    second = np.where(counted, numbers.whole, 0)
    bad = ~missing & ~counted
    zero = np.zeros(len(missing), np.int64)
    return Times(second, zero, missing, bad, bad & False, {"s": int(counted.sum())}, order_only=True)


def _first(column: pa.ChunkedArray, mask: np.ndarray) -> str:
    """The first value of a mask (N,), as it stands."""
    return str(column[int(np.argmax(mask))].as_py())


def _reads(column: pa.ChunkedArray, name: str) -> str:
    """Advice to let plum tell the unit, if that reads these values; else blank."""
    try:
        times = read_times(column, np.zeros(len(column), bool), name)
    except PlumError:
        return ""
    if 2 * int(times.usable.sum()) < int((~times.missing).sum()):
        return ""
    return "--set data.source.timestamp_unit=auto (and no timestamp_format) reads them"


def _unreadable(column: pa.ChunkedArray, bad: np.ndarray, how: str, name: str, advice: str) -> PlumError:
    first = _first(column, bad)
    if first[:1] in ('"', "'") and first[-1:] == first[:1]:
        quoting = "double" if first[0] == '"' else "single"
        advice = f"the quotes count as part of the values; to take them off: --set data.source.quoting={quoting}"
    layout = (
        "name their layout, such as --set data.source.timestamp_format='%d/%m/%Y %H:%M'; or write times as "
        "2020-09-13 12:26:40; or, if the rows are in order, --set data.source.timestamp_unit=position"
    )
    return PlumError(f"{name}: no timestamp can be read {how}", f"the first is {first!r}", advice or layout)
