"""Times as text, in the layouts that programs, servers, shops and spreadsheets write."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from plum.data.civil import Instants, seconds_of
from plum.errors import PlumError

_MONTHS = (
    *("january", "february", "march", "april", "may", "june", "july"),
    *("august", "september", "october", "november", "december"),
)
_MONTH_NAMES = {name: n for n, full in enumerate(_MONTHS, 1) for name in (full, full[:3])} | {"sept": 9}
_ZONES = {"": 0, "Z": 0, "UTC": 0, "GMT": 0, "UT": 0, "EST": -300, "EDT": -240, "CST": -360, "CDT": -300} | {
    **{"MST": -420, "MDT": -360, "PST": -480, "PDT": -420, "WET": 0, "WEST": 60, "CET": 60, "CEST": 120},
    **{"EET": 120, "EEST": 180, "MSK": 180, "JST": 540},
}
"""Zones by name -> minutes east of Greenwich; the American ones as RFC 2822 has them."""

_PLAIN = r"^\d{4}-\d{2}-\d{2}([T ]\d{2}:\d{2}(:\d{2}(\.\d{1,6})?)?)?"
_PLAIN_ZONE = r"(Z|[+-]\d{2}:?\d{2}| ?(UTC|GMT))$"
_CLOCK = (
    r"(?:(?:[Tt_]| ?, ?| at | |:)(?P<hour>\d{1,2})(?:[:.](?P<minute>\d{2})(?:[:.](?P<second>\d{2})"
    r"(?:[.,:](?P<fraction>\d{1,18}))?)?)? ?(?P<half>[AaPp]\.?[Mm]\.?)?)?"
)
_ZONE = r" ?(?P<zone>(?:UTC|GMT)?[+-]\d{1,2}(?::?\d{2})?|[A-Za-z]{1,4})?"
_NAME = r"(?P<name>[A-Za-z]{3,9})\.?"
_DAY = r"(?P<day>\d{1,2})(?:st|nd|rd|th)?"
_YEAR = r"(?P<year>\d{4})"
_SHORT_YEAR = r"(?P<year>\d{4}|\d{2})"
_REST = _CLOCK + _ZONE + "$"
_LAYOUTS = (
    rf"^{_YEAR}[-/.](?P<month>\d{{1,2}})(?:[-/.](?P<day>\d{{1,2}}))?" + _REST,
    rf"^{_YEAR}(?P<month>\d{{2}})(?P<day>\d{{2}})[T ](?P<hour>\d{{2}}):?(?P<minute>\d{{2}})(?::?(?P<second>\d{{2}})"
    rf"(?:[.,](?P<fraction>\d{{1,18}}))?)?{_ZONE}$",
    rf"^{_DAY}[ ./-]{{0,2}}{_NAME}[ ./,-]{{0,2}}{_SHORT_YEAR}" + _REST,
    rf"^{_NAME}[ ./-]{_DAY}(?:[ ./-]|, ?){_YEAR}" + _REST,
    rf"^{_YEAR}[ ./-]{_NAME}[ ./-]{_DAY}" + _REST,
    rf"^{_NAME} {_DAY} (?P<hour>\d{{1,2}}):(?P<minute>\d{{2}}):(?P<second>\d{{2}})(?:\.(?P<fraction>\d{{1,18}}))?"
    rf"{_ZONE} {_YEAR}$",
)
"""2020-9-13 1:26:40,5Z; 20200913T012640; 13/Sep/2020:1:26; Sep 13, 2020; 2020-Sep-13; Sep 13 1:26:40 2020."""
_SLASHED = rf"^(?P<a>\d{{1,2}})[ ./-](?P<b>\d{{1,2}})(?:[./-]| ?, ?| ){_SHORT_YEAR}" + _REST
"""13/09/2020 or 09/13/2020: which is the day, only other values can tell."""
_SLICE = 1 << 16
"""Rows that are read at a time: one that Arrow refuses costs the fast way for these."""


class Ambiguous(NamedTuple):
    """Dates of which nothing tells the day from the month.

    Attributes:
        rows: (M,) places in the column.
        example: the first of them, or the first that rules out a layout.
        both: whether some values put the day first and some the month; else none tells.
    """

    rows: np.ndarray
    example: str
    both: bool


def from_text(text: pa.ChunkedArray) -> tuple[Instants, Ambiguous | None]:
    """Read dates from trimmed text (N,), each by its layout; a date without a zone counts as UTC.

    Returns:
        The times, and the dates that remain ambiguous, which are not ok.
    """
    found = Instants.none(len(text))
    slashed: list[tuple[np.ndarray, pa.StructArray]] = []
    for start in range(0, len(text), _SLICE):
        part = text.slice(start, _SLICE).combine_chunks()
        rows = start + np.flatnonzero(part.is_valid().to_numpy(zero_copy_only=False))
        part = part.drop_null()
        rows, part = _plain(found, part, rows)
        for look in (lambda text: text, _cleaned):
            if len(rows):
                rows, part = _by_layout(found, look(part), rows)
                rows, part = _set_aside(slashed, part, rows)
    return found, _slashed(found, text, slashed) if slashed else None


def has_zone(text: pa.ChunkedArray) -> np.ndarray:
    """Mask (N,) of dates that end with a zone."""
    found = pc.match_substring_regex(text, r":\d{2}.*(Z|z|[A-Z]{3,4}|[+-]\d{2}(:?\d{2})?)( \d{4})?( ?[\[(].*)?[\])]?$")
    return pc.fill_null(found, False).to_numpy().astype(bool)


def _plain(found: Instants, text: pa.Array, rows: np.ndarray) -> tuple[np.ndarray, pa.Array]:
    """Read what Arrow reads of text (M,) of these rows. Returns the rows that remain, and their text."""
    for pattern, kind in ((_PLAIN + "$", pa.timestamp("us")), (_PLAIN + _PLAIN_ZONE, pa.timestamp("us", "UTC"))):
        if not len(rows):
            break
        here = pc.match_substring_regex(text, pattern)
        hit = here.to_numpy(zero_copy_only=False)
        if not hit.any():
            continue
        part = text.filter(here)
        if kind.tz is not None and not pc.match_substring_regex(part[:1], "[Z0-9]$")[0].as_py():
            part = pc.replace_substring_regex(part, " ?(UTC|GMT)$", "Z")
        try:
            micros = part.cast(kind).cast(pa.int64()).to_numpy()
        except pa.ArrowInvalid:  # a 30 February among them, or some with a name as zone
            continue
        second, rest = np.divmod(micros, 1_000_000)
        found.put(rows[hit], Instants.checked(second, rest * 1000, np.ones(len(second), bool)))
        rows, text = rows[~hit], text.filter(pc.invert(here))
    return rows, text


def _cleaned(text: pa.Array) -> pa.Array:
    """Text without what says nothing about the time: brackets, the day of the week, a second name of the zone."""
    for pattern, instead in (
        ("[\u00a0\u2009\u202f\u2007]", " "),
        (r"^[\[\"'(](.*)[\])\"']$", r"\1"),
        # after a zone, Java writes [Europe/Berlin] and JavaScript (Central European Summer Time)
        (r"(Z|UTC|GMT|[+-][0-9]{2}:?[0-9]{2}) ?[\[(].*[\])]$", r"\1"),
        (r" \(([A-Za-z]{1,4})\)$", r" \1"),
        (r"^(?i:mon|tue|tues|wed|wednes|thu|thur|thurs|fri|sat|satur|sun)(?i:day)?[.,]? ", ""),
        ("([0-9])[年月]", r"\1-"),
        ("日", ""),
        (" +", " "),
    ):
        text = pc.replace_substring_regex(text, pattern, instead)
    return pc.utf8_trim_whitespace(text)


def _by_layout(found: Instants, text: pa.Array, rows: np.ndarray) -> tuple[np.ndarray, pa.Array]:
    """Read text (M,) of these rows by its layouts. Returns the rows that remain, and their text."""
    for layout in _LAYOUTS:
        if not len(rows):
            break
        here = pc.match_substring_regex(text, layout)  # much faster than taking apart
        hit = here.to_numpy(zero_copy_only=False)
        if hit.any():
            parts = pc.extract_regex(text.filter(here), layout)
            found.put(rows[hit], _instants(parts, _date(parts)))
            rows, text = rows[~hit], text.filter(pc.invert(here))
    return rows, text


def _set_aside(
    slashed: list[tuple[np.ndarray, pa.StructArray]], text: pa.Array, rows: np.ndarray
) -> tuple[np.ndarray, pa.Array]:
    """Put rows whose text (M,) leaves day and month open to ``slashed``; returns the others, and their text."""
    here = pc.match_substring_regex(text, _SLASHED)
    hit = here.to_numpy(zero_copy_only=False)
    if hit.any():
        slashed.append((rows[hit], pc.extract_regex(text.filter(here), _SLASHED)))
    return rows[~hit], text.filter(pc.invert(here))


def _field(parts: pa.StructArray, name: str) -> pa.Array | None:
    place = parts.type.get_field_index(name)
    return None if place < 0 else pc.fill_null(parts.field(place), "")


def _number(parts: pa.StructArray, name: str, absent: int = 0) -> np.ndarray:
    """A group of digits as int64 (M,)."""
    digits = _field(parts, name)
    if digits is None:
        return np.full(len(parts), absent, np.int64)
    return pc.if_else(pc.equal(digits, ""), str(absent), digits).cast(pa.int64()).to_numpy(zero_copy_only=False)


def _year(parts: pa.StructArray) -> np.ndarray:
    """The year (M,), of two digits as strptime takes them: 69 to 99 are of the last century."""
    year = _number(parts, "year")
    digits = _field(parts, "year")
    short = pc.equal(pc.utf8_length(digits), 2).to_numpy(zero_copy_only=False)
    return np.where(short, year + np.where(year < 69, 2000, 1900), year)


def _date(parts: pa.StructArray) -> list[np.ndarray]:
    """Year, month and day (M,); the month 0 where its name is none."""
    name = _field(parts, "name")
    month = _number(parts, "month", absent=1) if name is None else _looked_up(pc.utf8_lower(name), _MONTH_NAMES, 0)
    return [_year(parts), month, _number(parts, "day", absent=1)]


def _looked_up(text: pa.Array, table: dict[str, int], otherwise: int) -> np.ndarray:
    codes = pc.dictionary_encode(text)
    values = np.array([table.get(value, otherwise) for value in codes.dictionary.to_pylist()] or [0], np.int64)
    return values[codes.indices.to_numpy(zero_copy_only=False)]


def _instants(parts: pa.StructArray, date: Sequence[np.ndarray]) -> Instants:
    """The times (M,) of parts whose dates are known."""
    hour, half = _number(parts, "hour"), _field(parts, "half")
    ok = np.ones(len(parts), bool)
    if half is not None:
        letter = pc.utf8_lower(pc.utf8_slice_codeunits(half, 0, 1))
        am, pm = (pc.equal(letter, one).to_numpy(zero_copy_only=False) for one in "ap")
        ok = ~am | (hour <= 12)
        hour = np.where((am | pm) & (hour <= 12), hour % 12 + 12 * pm, hour)  # some write 13:05 PM
    fraction = _field(parts, "fraction")
    nanosecond = np.zeros(len(parts), np.int64)
    if fraction is not None:
        padded = pc.utf8_slice_codeunits(pc.utf8_rpad(fraction, 9, "0"), 0, 9)
        nanosecond = padded.cast(pa.int64()).to_numpy(zero_copy_only=False)
    zone = _field(parts, "zone")
    east = np.zeros(len(parts), np.int64) if zone is None else _minutes_east(zone)
    ok &= east < _UNKNOWN
    clock = [hour, _number(parts, "minute"), _number(parts, "second")]
    local = seconds_of(date, clock, nanosecond, ok)
    return Instants.checked(local.second - 60 * np.where(local.ok, east, 0), local.nanosecond, local.ok)


_UNKNOWN = 10_000


def _minutes_east(zones: pa.Array) -> np.ndarray:
    """Minutes (M,) that zones such as ``Z``, ``+0200``, ``GMT-5`` are ahead of UTC; ``_UNKNOWN`` for unknown names."""
    codes = pc.dictionary_encode(zones)
    values = np.array([_zone(zone) for zone in codes.dictionary.to_pylist()] or [0], np.int64)
    return values[codes.indices.to_numpy(zero_copy_only=False)]


def _zone(zone: str) -> int:
    offset = re.fullmatch(r"(?:UTC|GMT)?([+-])(\d{1,2}):?(\d{2})?", zone.upper())
    if offset is None:
        return _ZONES.get(zone.upper(), _UNKNOWN)
    hours, minutes = int(offset[2]), int(offset[3] or 0)
    return (-1 if offset[1] == "-" else 1) * (60 * hours + minutes) if hours <= 18 and minutes < 60 else _UNKNOWN


def _slashed(
    found: Instants, text: pa.ChunkedArray, groups: Sequence[tuple[np.ndarray, pa.StructArray]]
) -> Ambiguous | None:
    """Read dates such as 13/09/2020 if a value tells the day from the month, and none the other way round.

    Where the year has two digits too, the first number may be the year: only a day in the middle tells.
    """
    rows = np.concatenate([group[0] for group in groups])
    a, b = (np.concatenate([_number(parts, name) for _, parts in groups]) for name in "ab")
    short = np.concatenate(
        [pc.equal(pc.utf8_length(_field(parts, "year")), 2).to_numpy(zero_copy_only=False) for _, parts in groups]
    )
    day_first = bool(((a > 12) & (b <= 12) & ~short).any())
    month_first = bool(((b > 12) & (a <= 12)).any())
    if day_first == month_first:
        telling = rows[0] if day_first else rows[np.argmax(a > 12)]  # a year or a day, but no month
        return Ambiguous(rows, str(text[int(telling)].as_py()), both=day_first)
    for where, parts in groups:
        one, two = _number(parts, "a"), _number(parts, "b")
        found.put(where, _instants(parts, [_year(parts), two if day_first else one, one if day_first else two]))
    return None


def layouts_of(example: str) -> list[str]:
    """The strptime layouts that an ambiguous date may have: ``9/5/2020`` -> ``%d/%m/%Y``, ``%m/%d/%Y``."""
    match = re.match(r"(\d{1,2})([ ./-])(\d{1,2})([ ./,-]+)(\d{4}|\d{2})", example)
    if match is None:
        return []
    year = "%Y" if len(match[5]) == 4 else "%y"
    orders = [("%d", "%m", year)]
    if int(match[1]) <= 12:
        orders.append(("%m", "%d", year))
    if len(match[1]) == len(match[5]) == 2:
        orders.append(("%y", "%m", "%d"))
    rest = _clock_layout(example[match.end() :])
    return [f"{one}{match[2]}{two}{match[4]}{three}{rest}" for one, two, three in orders]


def _clock_layout(clock: str) -> str:
    """The strptime layout of what follows a date."""
    half = re.search(r"[ap]m\b", clock, re.IGNORECASE)
    zone = re.search(r"[+-]\d{2}:?\d{2}$|Z$", clock)
    named = None if zone else re.search(r"\b(UTC|GMT)$", clock)
    head = clock[: zone.start() if zone else named.start() if named else len(clock)]
    head = re.sub(r"[.,]\d+", lambda match: match[0][0] + "%f", head) if head.count(":") == 2 else head
    fields = iter(["%I" if half else "%H", "%M", "%S"])
    head = re.sub(r"\d+", lambda match: next(fields, match[0]), head)
    return re.sub(r"[ap]m\b", "%p", head, flags=re.IGNORECASE) + ("%z" if zone else "%Z" if named else "")


_WIDTHS = {"%Y": 4, "%y": 2, "%m": 2, "%d": 2, "%H": 2, "%M": 2, "%S": 2, "%j": 3}


def by_layout(text: pa.ChunkedArray, layout: str) -> Instants:
    """Read text (N,) by a strptime layout, such as ``%d/%m/%Y %H:%M``; without a zone (``%z``) it counts as UTC.

    Raises:
        PlumError: for what is no layout.
    """
    check_layout(layout)
    widths = [_WIDTHS.get(directive) for directive in re.findall(r"%.|.", layout)]
    if None not in widths:  # digits alone: programs that take them for a number drop the zeros in front
        text = pc.utf8_lpad(text, sum(width or 0 for width in widths), "0")
    parsed = pd.to_datetime(text.to_pandas(), format=layout, utc=True, errors="coerce")
    unit = np.datetime_data(parsed.dt.tz_localize(None).dtype)[0]
    per_second = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}[unit]
    ok = parsed.notna().to_numpy()
    ticks = np.where(ok, parsed.dt.tz_localize(None).to_numpy().astype(np.int64), 0)
    second, rest = np.divmod(ticks, per_second)
    return Instants.checked(second, rest * (10**9 // per_second), ok)


def check_layout(layout: str) -> None:
    """Refuse a layout that strptime does not know, or without a year.

    Raises:
        PlumError: for these.
    """
    fix = "for example %d/%m/%Y %H:%M:%S for 13/09/2020 12:26:40; the directives are those of Python's strptime"
    if not re.search(r"%[YyGcx]", layout):
        raise PlumError(f"timestamp_format {layout!r} has no year", "no %Y and no %y in it", fix)
    try:
        pd.to_datetime(pd.Series(["-"]), format=layout, utc=True, errors="coerce")
    except (ValueError, re.error) as error:
        raise PlumError(f"timestamp_format {layout!r} is no layout of a date", str(error), fix) from error
