"""Calendar dates as seconds since 1970, for whole columns at once; the Gregorian calendar, UTC."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

EARLIEST, LATEST = -62_135_596_800, 253_402_300_799
"""The years 1 to 9999 in seconds: what a calendar date can be."""


class Instants(NamedTuple):
    """Times as read, N of each.

    Attributes:
        second: int64, seconds since 1970 (UTC), rounded down; 0 where not ok.
        nanosecond: int64, 0 to 999,999,999 within the second; 0 where not ok.
        ok: mask of the values that could be read.
    """

    second: np.ndarray
    nanosecond: np.ndarray
    ok: np.ndarray

    @classmethod
    def checked(cls, second: np.ndarray, nanosecond: np.ndarray, ok: np.ndarray) -> Instants:
        """Only years 1 to 9999 are ok."""
        ok = ok & (second >= EARLIEST) & (second <= LATEST)
        return cls(np.where(ok, second, 0), np.where(ok, nanosecond, 0), ok)

    @classmethod
    def none(cls, n: int) -> Instants:
        """No value read of n."""
        return cls(np.zeros(n, np.int64), np.zeros(n, np.int64), np.zeros(n, bool))

    def put(self, rows: np.ndarray, found: Instants) -> None:
        """Set the values of rows (M,), given as numbers or as a mask, to M others."""
        for mine, theirs in zip(self, found, strict=True):
            mine[rows] = theirs


def seconds_of(
    date: Sequence[np.ndarray], clock: Sequence[np.ndarray], nanosecond: np.ndarray, ok: np.ndarray
) -> Instants:
    """Seconds of dates and times of day; what is no date, such as 30 February, is not ok.

    Args:
        date: year, month (from 1) and day (from 1), (N,) int64 each.
        clock: hour (0 to 23), minute and second, likewise; the leap second 60 is the first second of the next minute.
        nanosecond: (N,) int64, within the second.
        ok: mask (N,) of the values to look at.
    """
    year, month, day = date
    hour, minute, second = clock
    ok = ok & (year >= 1) & (year <= 9999) & (month >= 1) & (month <= 12) & (day >= 1) & (hour >= 0) & (hour <= 23)
    ok &= (minute >= 0) & (minute <= 59) & (second >= 0) & (second <= 60)
    months = np.where(ok, (year - 1970) * 12 + month - 1, 0)
    first = _days(months)
    ok &= day <= _days(months + 1) - first
    total = ((first + day - 1) * 24 + hour) * 3600 + minute * 60 + second
    return Instants.checked(np.where(ok, total, 0), nanosecond, ok)


def _days(months: np.ndarray) -> np.ndarray:
    """Days since 1970 of the first days of months (N,), counted from January 1970."""
    return months.astype("datetime64[M]").astype("datetime64[D]").astype(np.int64)
