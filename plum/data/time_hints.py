"""Numbers that are dates in a notation that plum does not take by itself: named, with what makes them readable."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from plum.data.civil import seconds_of
from plum.data.time_numbers import Numbers
from plum.errors import PlumError

_MOST, _DIFFERENT, _MANY = 0.95, 3, 10
"""Share of the numbers that must fit, and how many different ones, or how many, for a notation to be no coincidence."""
_ROUNDED, _FIRST = r"^[+-]?\d(\.\d{1,7})?[eE]\+?\d{1,2}$", 1000
_DAYS_1990, _DAYS_2100 = 32_874, 73_051  # of spreadsheets, which count days from the end of 1899
_PER_DAY = 864_000_000_000  # .NET's ticks and Windows' file times, of 100 nanoseconds
_YEAR_1, _YEAR_1601 = -719_162, -134_774  # their beginnings in days since 1970


def refuse_other_numbers(numbers: Numbers, example: str, name: str) -> None:
    """Refuse numbers (N,) that are dates in another notation.

    Args:
        numbers: of which most are no times since 1970 in any unit.
        example: the first of them as it stands.
        name: file and column, for messages.

    Raises:
        PlumError: naming the notation and what to do.
    """
    some = numbers.where(numbers.ok & ~numbers.negative)
    if len(some.whole) < _MANY and len(np.unique(some.whole + some.fraction / 1e9)) < _DIFFERENT:
        return
    layouts = [layout for layout, fits in _layouts(some.whole).items() if (some.is_whole & fits).mean() >= _MOST]
    if layouts:
        told = " or ".join(f"--set data.source.timestamp_format='{layout}'" for layout in layouts)
        raise PlumError(
            f"{name}: the times are dates written as numbers",
            f"such as {example}",
            f"{told}, whichever is right" if len(layouts) > 1 else told,
        )
    for fits, notation, fix in _counts(some):
        if fits.mean() >= _MOST:
            raise PlumError(f"{name}: the times are {notation}", f"such as {example}", fix)


def refuse_rounded(text: pa.ChunkedArray, numbers: Numbers, unit: str, name: str) -> None:
    """Refuse numbers (N,) of which most are rounded to eight digits or fewer: 1.60E+12.

    Raises:
        PlumError: for these.
    """
    if not pc.any(pc.match_substring_regex(text[:_FIRST], _ROUNDED)).as_py():
        return
    rounded = pc.fill_null(pc.match_substring_regex(text, _ROUNDED), False).to_numpy().astype(bool)
    if rounded.sum() < max(_DIFFERENT, numbers.ok.sum() / 2):
        return
    raise PlumError(
        f"{name}: the times are rounded, as spreadsheets show large numbers",
        f"such as {text[int(np.argmax(rounded))].as_py()}",
        "write the column again with all digits (number format 0 in a spreadsheet); "
        f"--set data.source.timestamp_unit={unit} takes the rounded times",
    )


def _counts(numbers: Numbers) -> list[tuple[np.ndarray, str, str]]:
    """Mask of the numbers (M,) that fit, what they count, and what to do, for each way to count time."""
    whole, rewrite = numbers.whole, "write them as text, 2020-09-13 12:26:40"
    found = [
        (
            (whole >= _DAYS_1990) & (whole < _DAYS_2100),
            "days as spreadsheets count them",
            f'{rewrite}: in Excel by =TEXT(A2;"yyyy-mm-dd hh:mm:ss"); if only their order matters, '
            "--set data.source.timestamp_unit=s takes the numbers as they are",
        )
    ]
    for start, program in ((_YEAR_1, ".NET's ticks"), (_YEAR_1601, "Windows' file times")):
        days = whole // _PER_DAY + start
        fits = numbers.is_whole & (days >= 7_305) & (days < 47_482)  # 1990 to 2100
        found.append((fits, f"{program} of 100 nanoseconds", f"{rewrite}, or as seconds since 1970"))
    return found


def _layouts(whole: np.ndarray) -> dict[str, np.ndarray]:
    """Layout for strptime -> mask of the whole numbers (M,) that it fits; a first zero may have got lost."""
    of_6, of_8 = ((whole >= 10 ** (n - 2)) & (whole < 10**n) for n in (6, 8))
    hours = (whole >= 10**9) & (whole < 10**10) & (whole % 100 < 24)
    first, second, third, fourth = whole // 1_000_000, whole // 10_000 % 100, whole // 100 % 100, whole % 100
    return {
        "%Y": (whole >= 1990) & (whole <= 2100),
        "%Y%m": of_6 & _is_date(whole // 100, fourth, 1),
        "%y%m%d": of_6 & _is_date(2000 + second, third, fourth),
        "%d%m%y": of_6 & _is_date(2000 + fourth, third, second),
        "%m%d%y": of_6 & _is_date(2000 + fourth, second, third),
        "%d%m%Y": of_8 & _is_date(whole % 10_000, second, first),
        "%m%d%Y": of_8 & _is_date(whole % 10_000, first, second),
        "%Y%m%d%H": hours & _is_date(first, second, third),
    }


def _is_date(year: np.ndarray, month: np.ndarray, day: np.ndarray | int) -> np.ndarray:
    """Mask (M,) of what is a date of 1990 to 2100."""
    zero = np.zeros(len(year), np.int64)
    ok = (year >= 1990) & (year <= 2100)
    return seconds_of([year, month, zero + day], [zero, zero, zero], zero, ok).ok
