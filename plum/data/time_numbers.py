"""Times as numbers, read to the last digit: seconds to nanoseconds since 1970, and dates written as one number."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from plum.data.civil import Instants, seconds_of

UNITS = {"s": 1, "ms": 1_000, "us": 1_000_000, "ns": 1_000_000_000}
DATE_DIGITS = {8: "YYYYMMDD", 12: "YYYYMMDDHHMM", 14: "YYYYMMDDHHMMSS", 17: "YYYYMMDDHHMMSS and milliseconds"}
"""Lengths of dates that are written as one number; no time since 1970 in any unit is one as well, for these years."""

_PARTS = r"^(?P<sign>[+-]?)(?P<whole>\d*)(?:\.(?P<fraction>\d*))?(?:[eE](?P<power>[+-]?\d{1,4}))?$"
_NUMBER = r"^[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d{1,4})?$"
_DECIMAL = pa.decimal128(28, 9)
_SLICE = 1 << 19
"""Rows that are taken apart at a time, for the sake of memory."""
_LARGEST = (1 << 63) - 1
_BILLION = 1_000_000_000
_BOUNDS = np.array([10**11, 10**14, 10**17])
"""From here on a number is in the next finer unit: 10^11 seconds are the year 5138, 10^11 milliseconds 1973."""


class Numbers(NamedTuple):
    """Numbers as sign, whole part and fraction, N of each, without the rounding of floats.

    Attributes:
        negative: mask.
        whole: int64, of the absolute value.
        fraction: int64, billionths of the absolute value; finer digits are cut.
        ok: mask of the values that are numbers below 2^63.
    """

    negative: np.ndarray
    whole: np.ndarray
    fraction: np.ndarray
    ok: np.ndarray

    @property
    def is_whole(self) -> np.ndarray:
        """Mask (N,) of whole numbers from 0 on."""
        return self.ok & ~self.negative & (self.fraction == 0)

    def where(self, rows: np.ndarray) -> Numbers:
        """The numbers of some rows."""
        return Numbers(*(values[rows] for values in self))


def unit_of(values: np.ndarray) -> str:
    """The key of ``UNITS`` that fits the median size of these times (M,); seconds if there are none."""
    size = float(np.median(np.abs(values))) if len(values) else 0.0
    return list(UNITS)[int(np.searchsorted(_BOUNDS, size, side="right"))]


def units_by_size(numbers: Numbers) -> np.ndarray:
    """For each number (N,) the place in ``UNITS`` of the unit that its size tells."""
    return np.searchsorted(_BOUNDS, numbers.whole, side="right")


def from_text(text: pa.ChunkedArray) -> Numbers:
    """Read trimmed text (N,), such as ``1600000000.25`` or ``1.6E+9``; nulls are no numbers."""
    try:
        return from_typed(text.cast(pa.int64()))
    except pa.ArrowInvalid:
        pass
    slices = [_from_slice(text.slice(start, _SLICE).combine_chunks()) for start in range(0, max(1, len(text)), _SLICE)]
    return Numbers(*(np.concatenate(values) for values in zip(*slices, strict=True)))


def _from_slice(text: pa.Array) -> Numbers:
    text = pc.if_else(pc.match_substring_regex(text, _NUMBER), text, None)
    if text.null_count == len(text):
        zero = np.zeros(len(text), np.int64)
        return Numbers(zero > 0, zero, zero, zero > 0)
    try:
        return _from_decimals(text.cast(_DECIMAL))
    except pa.ArrowInvalid:  # more than nine digits behind the point, or before it more than an int64 holds
        return _by_parts(text)


def _from_decimals(values: pa.Array) -> Numbers:
    """Decimals of ``_DECIMAL`` (N,), whose lower 64 bits tell the fraction once the whole part is taken off.

    Raises:
        ArrowInvalid: if a whole part is no int64.
    """
    ok = values.is_valid().to_numpy(zero_copy_only=False)
    whole = pc.fill_null(pc.trunc(values).cast(pa.int64()), 0).to_numpy(zero_copy_only=False)
    bits = np.frombuffer(values.buffers()[1], dtype=np.int64)[2 * values.offset :][: 2 * len(values) : 2]
    fraction = np.where(ok, bits - whole * _BILLION, 0)  # both wrap around alike
    ok &= whole != -_LARGEST - 1
    whole = np.where(ok, whole, 0)
    return Numbers((whole < 0) | (fraction < 0), np.abs(whole), np.abs(fraction), ok)


def from_typed(column: pa.ChunkedArray) -> Numbers:
    """Take numbers (N,) of any integer, float or decimal type; nulls, NaN and infinity are no numbers.

    A float is taken as the shortest decimal that it stands for: 1600000000.1 is a tenth, not .0999999.
    """
    kind = column.type
    if pa.types.is_integer(kind):
        ok = column.is_valid().to_numpy().astype(bool)
        if pa.types.is_uint64(kind):
            ok &= pc.fill_null(pc.less_equal(column, pa.scalar(_LARGEST, pa.uint64())), False).to_numpy().astype(bool)
        signed = pc.fill_null(column, 0).cast(pa.int64(), safe=False).to_numpy()
        ok &= signed != -_LARGEST - 1
        signed = np.where(ok, signed, 0)
        return Numbers(signed < 0, np.abs(signed), np.zeros(len(signed), np.int64), ok)
    if pa.types.is_floating(kind):
        values = column.cast(pa.float64()).to_numpy()
        with np.errstate(invalid="ignore"):
            if not (values != np.floor(values))[np.isfinite(values)].any():
                ok = np.isfinite(values) & (np.abs(values) < 2.0**63)
                signed = np.where(ok, values, 0).astype(np.int64)
                return Numbers(signed < 0, np.abs(signed), np.zeros(len(signed), np.int64), ok)
        column = pc.if_else(pc.is_finite(column), column, None)
    if pa.types.is_decimal(kind):
        try:
            return _from_decimals(column.cast(_DECIMAL).combine_chunks())
        except pa.ArrowInvalid:
            pass
    return from_text(column.cast(pa.string()))


def _by_parts(text: pa.Array) -> Numbers:
    """Read text (N,) digit by digit."""
    parts = pc.extract_regex(text, _PARTS)
    sign, whole, fraction, power = (pc.fill_null(parts.field(i), "") for i in range(4))
    digits = pc.binary_join_element_wise(whole, fraction, "")
    ok = pc.and_(pc.is_valid(parts), pc.greater(pc.utf8_length(digits), 0)).to_numpy(zero_copy_only=False)
    moved = pc.not_equal(power, "").to_numpy(zero_copy_only=False)
    if moved.any():
        whole, fraction = _point_moved(whole, digits, power)
    whole = pc.utf8_ltrim(whole, "0")
    ok &= pc.less_equal(pc.utf8_length(whole), 19).to_numpy(zero_copy_only=False)
    size = _integers(whole, ok).astype(np.uint64)
    ok &= size <= _LARGEST
    padded = pc.utf8_slice_codeunits(pc.utf8_rpad(fraction, 9, "0"), 0, 9)
    billionths = _integers(padded, ok).astype(np.int64)
    negative = pc.equal(sign, "-").to_numpy(zero_copy_only=False) & ok
    return Numbers(negative, np.where(ok, size, 0).astype(np.int64), np.where(ok, billionths, 0), ok)


def _integers(digits: pa.Array, ok: np.ndarray) -> np.ndarray:
    """Texts of at most 19 digits as uint64; 0 where there are none."""
    known = pc.if_else(pc.and_(pa.array(ok), pc.not_equal(digits, "")), digits, "0")
    return known.cast(pa.uint64()).to_numpy(zero_copy_only=False)


def _point_moved(whole: pa.Array, digits: pa.Array, power: pa.Array) -> tuple[pa.Array, pa.Array]:
    """Whole and fractional digits of numbers with a power of ten, by moving the point through their digits."""
    powers = pc.if_else(pc.equal(power, ""), "0", pc.replace_substring_regex(power, r"^\+", "")).cast(pa.int64())
    place = np.clip(pc.add(pc.utf8_length(whole), powers).to_numpy(zero_copy_only=False), -10, 40)
    before, after = whole, whole
    for point in np.unique(place):
        here = pa.array(place == point)
        if point <= 0:
            shifted, zero = pc.binary_join_element_wise("0" * int(-point), digits, ""), pa.scalar("0")
            before, after = pc.if_else(here, zero, before), pc.if_else(here, shifted, after)
        else:
            padded = pc.utf8_rpad(digits, int(point), "0")
            before = pc.if_else(here, pc.utf8_slice_codeunits(padded, 0, int(point)), before)
            after = pc.if_else(here, pc.utf8_slice_codeunits(padded, int(point)), after)
    return before, after


def in_unit(numbers: Numbers, unit: np.ndarray | int) -> Instants:
    """Numbers (N,) as times.

    Args:
        numbers: since 1970.
        unit: of each, or of all: the place in ``UNITS``.
    """
    per_second = np.array(list(UNITS.values()), dtype=np.int64)[unit]
    second, rest = np.divmod(numbers.whole, per_second)
    nanosecond = rest * (_BILLION // per_second) + numbers.fraction // per_second
    borrowed = numbers.negative & (nanosecond > 0)
    second = np.where(numbers.negative, -second, second) - borrowed
    return Instants.checked(second, np.where(borrowed, _BILLION - nanosecond, nanosecond), numbers.ok)


def as_dates(numbers: Numbers) -> tuple[Instants, np.ndarray]:
    """Numbers (N,) that are dates of 1900 to 2100 written as one number: 20200913, 20200913122640.

    Returns:
        The times, ok where there is one, and the number (N,) of digits.
    """
    n = len(numbers.whole)
    found, digits = Instants.none(n), np.zeros(n, np.int64)
    for length in DATE_DIGITS:
        of_length = numbers.is_whole & (numbers.whole >= 10 ** (length - 1)) & (numbers.whole < 10**length)
        rows = np.flatnonzero(of_length)
        if not len(rows):
            continue
        date, clock, nanosecond = _digit_groups(numbers.whole[rows], length)
        ok = (date[0] >= 1900) & (date[0] <= 2100)
        found.put(rows, seconds_of(date, clock, nanosecond, ok))
        digits[rows] = length
    return found, np.where(found.ok, digits, 0)


def _digit_groups(whole: np.ndarray, length: int) -> tuple[list[np.ndarray], list[np.ndarray], np.ndarray]:
    """Year, month and day; hour, minute and second; nanosecond of numbers (M,) of this many digits."""
    full = whole * 10 ** (17 - length) if length < 17 else whole
    milli, full = full % 1000, full // 1000
    clock = [full // 10_000 % 100, full // 100 % 100, full % 100]
    days = full // 1_000_000
    return [days // 10_000, days // 100 % 100, days % 100], clock, milli * 1_000_000
