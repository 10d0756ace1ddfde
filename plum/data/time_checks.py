"""What is odd about times that could be read: told in the log, and refused where it holds for most of them."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

import numpy as np

from plum.data.time_numbers import UNITS
from plum.data.times import AUTO, ISO, USUAL_FROM, Times
from plum.errors import PlumError

log = logging.getLogger(__name__)

_DAY = 86_400  # a clock may be ahead, and a zone be taken for UTC
_NOT_BEFORE = 1_767_225_600  # 2026: a machine whose clock says less has it wrong


def latest_usual() -> int:
    """The last second that is not in the future, a day of grace included."""
    return int(max(time.time(), _NOT_BEFORE)) + _DAY


def check_times(times: Times, usable: np.ndarray, unit: str, name: str, show: Callable[[int], str]) -> None:
    """Tell of times in several forms, before 1990 or in the future.

    Args:
        times: of N rows.
        usable: mask (N,) of the rows that are used.
        unit: the setting; under ``auto`` a column of which most times are odd is refused.
        name: file and column, for messages.
        show: row -> its place and value.

    Raises:
        PlumError: for such a column.
    """
    _tell_forms(times, unit, name)
    odd = usable & ((times.second < USUAL_FROM) | (times.second > latest_usual()))
    if not odd.any():
        return
    first, n_odd, n = int(np.argmax(odd)), int(odd.sum()), int(usable.sum())
    if times.order_only:
        log.warning(
            "%s: the numbers are no dates (first: %s); they are used as an order, so dates in reports mean nothing",
            name,
            show(first),
        )
        return
    what = f"{n_odd:,} of {n:,} times are before 1990 or in the future"
    found = f"{show(first)}, read as {iso_second(int(times.second[first]))}"
    if unit == AUTO and 2 * n_odd > n:
        way = next((form for form in times.forms if form in UNITS), ISO)
        right = f"; or, if they are right, --set data.source.timestamp_unit={way} takes them as they are"
        raise PlumError(f"{name}: {what}", found, "correct them" + (right if len(times.forms) == 1 else ""))
    log.warning("%s: %s (first: %s)", name, what, found)


def _tell_forms(times: Times, unit: str, name: str) -> None:
    if len(times.forms) > 1:
        listed = ", ".join(f"{count:,} as {form}" for form, count in times.forms.items())
        log.warning("%s: times in several forms, each row read by its own: %s", name, listed)
    elif unit == AUTO and times.forms:
        log.info("%s: times read as %s", name, next(iter(times.forms)))


def iso_second(second: int) -> str:
    """A second since 1970 as ISO 8601 in UTC, for any of the years 1 to 9999.

    Example:
        >>> iso_second(1_600_000_000)
        '2020-09-13 12:26:40'
    """
    return str(np.datetime64(second, "s")).replace("T", " ")
