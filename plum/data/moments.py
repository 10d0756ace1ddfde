"""The order of interactions in time: whole seconds in ``timestamp`` and, where a source has finer times, the rest.

``timestamp`` holds int64 seconds since 1970. ``nanosecond`` holds what is left within the second, int32 from 0 to
999,999,999; a table has this column only if a value is not 0. Whoever orders or compares times uses both.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pandas as pd

TIMESTAMP, NANOSECOND = "timestamp", "nanosecond"
PER_SECOND = 1_000_000_000


class Moment(NamedTuple):
    """A point in time: whole seconds since 1970 (UTC), and nanoseconds within the second."""

    second: int
    nanosecond: int = 0


def time_columns(table: pd.DataFrame) -> list[str]:
    """The columns to sort by, the seconds first; two rows are at the same time if they agree in all of them."""
    return [TIMESTAMP, NANOSECOND] if NANOSECOND in table.columns else [TIMESTAMP]


def sort_keys(table: pd.DataFrame) -> tuple[np.ndarray, ...]:
    """The times (N,) each as ``np.lexsort`` takes them: the finest key first."""
    return tuple(table[name].to_numpy() for name in reversed(time_columns(table)))


def with_nanoseconds(table: pd.DataFrame, nanosecond: np.ndarray) -> pd.DataFrame:
    """Add the column ``nanosecond`` (N,) if a value is not 0."""
    return table.assign(**{NANOSECOND: nanosecond.astype(np.int32)}) if nanosecond.any() else table


def before(table: pd.DataFrame, moment: Moment) -> np.ndarray:
    """Mask (N,) of the rows before a moment."""
    second = table[TIMESTAMP].to_numpy()
    earlier = second < moment.second
    if NANOSECOND in table.columns:
        return earlier | ((second == moment.second) & (table[NANOSECOND].to_numpy() < moment.nanosecond))
    return earlier | ((second == moment.second) & (moment.nanosecond > 0))


def same_as_before(keys: tuple[np.ndarray, ...]) -> np.ndarray:
    """Mask (N - 1,): whether each row but the first is at the time of the row above it; ``keys`` of N values each."""
    return np.logical_and.reduce([key[1:] == key[:-1] for key in keys])


def earlier_than_above(keys: tuple[np.ndarray, ...]) -> np.ndarray:
    """Mask (N - 1,): whether each row but the first is earlier than the row above it; ``keys`` as of ``sort_keys``."""
    found = np.zeros(max(0, len(keys[0]) - 1), dtype=bool)
    for key in keys:  # from the finest: a coarser key overrules it unless it ties
        found = (key[1:] < key[:-1]) | ((key[1:] == key[:-1]) & found)
    return found


def codes(table: pd.DataFrame) -> np.ndarray:
    """A number (N,) int64 for each distinct time of a table."""
    found = np.zeros(len(table), dtype=np.int64)
    for name in time_columns(table):
        values, distinct = pd.factorize(table[name].to_numpy())
        found = pd.factorize(found * (len(distinct) + 1) + values)[0]
    return found
