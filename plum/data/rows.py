"""Checks on rows that all sources share: unusable rows are removed, and every removed row is counted."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from plum.data.moments import with_nanoseconds
from plum.data.readers import RawRows
from plum.data.tables import RowProblem, refuse_many_problems
from plum.data.time_checks import check_times
from plum.data.times import POSITION, Times, read_times
from plum.errors import PlumError

log = logging.getLogger(__name__)

MISSING = pa.array(["", "nan", "NaN", "NAN", "null", "NULL", "None"])  # how programs write "no value" into text
DUPLICATE = "exact repetition of an earlier row"
_NUMBER = r"^[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?$"


def as_text(column: pa.ChunkedArray, name: str) -> pa.ChunkedArray:
    """Convert ids to trimmed text: 12 and 12.0 -> "12" (a column of ints with gaps is often stored as float).

    Raises:
        PlumError: if the column holds lists or structures.
    """
    kind = column.type
    if pa.types.is_dictionary(kind):
        column = column.cast(kind.value_type)
    if pa.types.is_floating(column.type):
        values = column.combine_chunks()
        whole = pc.all(pc.or_kleene(pc.equal(values, pc.floor(values)), pc.is_nan(values))).as_py() is not False
        if whole:
            column = pa.chunked_array([pc.if_else(pc.is_nan(values), None, values).cast(pa.int64())])
    try:
        return pc.utf8_trim_whitespace(column.cast(pa.string()))
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise PlumError(
            f"{name}: values of type {kind} can't be ids or text", str(error), "store text or numbers"
        ) from error


def absent(text: pa.ChunkedArray) -> np.ndarray:
    """Mask (N,) of missing values."""
    return pc.is_in(pc.fill_null(text, ""), value_set=MISSING).to_numpy().astype(bool)


def to_numbers(column: pa.ChunkedArray, name: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Read a column as numbers.

    Args:
        column: N values, text or typed.
        name: file and column, for messages.

    Returns:
        Float64 values (N,), NaN if missing; mask (N,) of missing values (empty, NaN); mask (N,) of values that aren't
        finite numbers.

    Raises:
        PlumError: if the type of the column can't be numbers.
    """
    if not pa.types.is_string(column.type) and not pa.types.is_large_string(column.type):
        try:
            if pa.types.is_boolean(column.type):
                column = column.cast(pa.int8())
            values = column.cast(pa.float64(), safe=False).to_numpy()
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
            raise PlumError(f"{name} must hold numbers", f"type {column.type}", "store numbers") from error
        missing = np.isnan(values)
        return values, missing, np.isinf(values)
    text = pc.utf8_trim_whitespace(column)
    gone = pc.is_in(pc.fill_null(text, ""), value_set=MISSING)
    text = pc.if_else(gone, None, text)
    try:
        numbers = text.cast(pa.float64())
    except pa.ArrowInvalid:
        numbers = pc.if_else(pc.match_substring_regex(text, _NUMBER), text, None).cast(pa.float64())
    missing = gone.to_numpy().astype(bool)
    values = pc.fill_null(numbers, float("nan")).to_numpy()
    return values, missing, ~missing & ~np.isfinite(values)


def repeats(columns: Iterable[pa.ChunkedArray], keep: np.ndarray) -> np.ndarray:
    """Find rows of ``keep`` that repeat an earlier one of them in every column.

    Args:
        columns: N values each.
        keep: mask (N,) of the rows to compare.

    Returns:
        Mask (N,), true from the second occurrence on.
    """
    rows = np.flatnonzero(keep)
    key = np.zeros(len(rows), np.int64)
    for column in columns:
        part = column.take(pa.array(rows)) if len(rows) < len(column) else column
        codes = pc.dictionary_encode(part).combine_chunks().indices.to_numpy(zero_copy_only=False)
        codes, distinct = pd.factorize(codes)  # -1 where there is no value
        key = pd.factorize(key)[0] * (len(distinct) + 1) + codes + 1  # below (number of rows + 1)^2: fits in 63 bits
        # A full repetition repeats the first columns too: most rows are ruled out after user and item.
        twice = pd.Series(key).duplicated(keep=False).to_numpy()
        rows, key = rows[twice], key[twice]
        if not len(rows):
            break
    found = np.zeros(len(keep), bool)
    found[rows] = pd.Series(key).duplicated().to_numpy()
    return found


def shown_value(column: pa.ChunkedArray, row: int) -> str:
    """A value as messages show it; also one that Python cannot hold, such as a date beyond the year 9999."""
    try:
        return repr(column[row].as_py())
    except (ValueError, OverflowError):
        return str(column.slice(row, 1).cast(pa.int64())[0].as_py())


class Tally:
    """Counts unusable rows of one file, each under the first reason found."""

    def __init__(self, rows: RawRows) -> None:
        self.rows = rows
        self.bad = np.zeros(rows.table.num_rows, bool)
        self.problems = list(rows.problems)

    def strike(self, mask: np.ndarray, reason: str, column: str | None = None) -> None:
        """Mark the rows of ``mask`` (N,) as unusable and note the first of those not yet marked."""
        new = mask & ~self.bad
        if not new.any():
            return
        first = int(np.argmax(new))
        shown = [column] if column else list(self.rows.table.column_names)
        values = ", ".join(shown_value(self.rows.table.column(name), first) for name in shown)
        example = f"{self.rows.where(first)}: {values[:120]}"
        self.problems.append(RowProblem(self.rows.name, reason, int(new.sum()), example))
        self.bad |= new

    def kept(self) -> np.ndarray:
        """Mask (N,) of the usable rows."""
        return ~self.bad


def check_interactions(
    rows: RawRows,
    *,
    timestamp_unit: str,
    timestamp_format: str | None = None,
    time_advice: str | None = None,
    max_bad_share: float,
    rating_required: bool = False,
    known_items: Sequence[str] | None = None,
    items_name: str = "the items table",
) -> tuple[pd.DataFrame, list[RowProblem]]:
    """Turn rows into interactions, and count and report the unusable ones.

    A row is unusable if it could not be parsed, its user, item or time is missing, its time can't be read, its rating
    or reward is not a number, or its item isn't in ``known_items``. Exact repetitions of a row are left out and
    reported too, but don't count as unusable; without times, rows are events of their own and none repeats another.

    Args:
        rows: N rows with ``user_id``, ``item_id``, ``timestamp``, and any of ``rating``, ``reward`` and extra columns.
        timestamp_unit: of ``times.WAYS``; ``position`` needs no ``timestamp`` and counts each user's rows from 0.
        timestamp_format: the strptime layout of the times, in place of a unit.
        time_advice: what to do if times can't be read, of a source without settings for them.
        max_bad_share: share of unusable rows, from 0 to 1, over which the file is refused.
        rating_required: whether a row without a rating is unusable.
        known_items: the ids of the catalogue, or None to accept any.
        items_name: where ``known_items`` come from, for messages.

    Returns:
        The interactions (M, columns of ``INTERACTION_COLUMNS``, ``nanosecond`` if times are finer than a second, and
        extras as text) in the order of the file, and the problems.

    Raises:
        PlumError: if too many rows, or all, are unusable.
    """
    tally, table = Tally(rows), rows.table
    ids = {name: as_text(table.column(name), rows.labels()[name]) for name in ("user_id", "item_id")}
    for name, values in ids.items():
        tally.strike(absent(values), f"{name} is missing", name)
    times = None
    if timestamp_unit != POSITION:
        times = _times(rows, tally, timestamp_unit, timestamp_format, time_advice)
    numbers = _numbers(rows, tally, rating_required)
    if known_items is not None:
        known = pc.is_in(ids["item_id"], value_set=pa.array(known_items, pa.string())).to_numpy().astype(bool)
        tally.strike(~known, f"item_id is not in {items_name}", "item_id")
    _refuse_swallowed_lines(rows, tally)
    refuse_many_problems(tally.problems, rows.n_read, max_bad_share)
    if times is not None:
        tally.strike(repeats(_events(table, times), tally.kept()), DUPLICATE)
    kept = tally.kept()
    if not kept.any():
        raise nothing_left(rows, tally.problems)
    if times is not None:
        _check_odd_times(rows, times, kept, timestamp_unit if timestamp_format is None else "")
    frame = _frame(table, ids, times, numbers, kept)
    warn(tally.problems)
    return frame, tally.problems


def _numbers(rows: RawRows, tally: Tally, rating_required: bool) -> dict[str, np.ndarray]:
    """Rating and reward, float64 (N,) each, NaN and 1 where there is none; strikes the rows with other values."""
    table, label = rows.table, rows.labels()
    numbers = {"rating": np.full(table.num_rows, np.nan), "reward": np.ones(table.num_rows)}
    for name in numbers:
        if name in table.column_names:
            values, missing, bad = to_numbers(table.column(name), label[name])
            tally.strike(bad, f"{name} is not a number", name)
            numbers[name] = np.where(missing, numbers[name], values)
            if rating_required and name == "rating":
                tally.strike(missing, "rating is missing", name)
    return numbers


def _times(rows: RawRows, tally: Tally, unit: str, layout: str | None, advice: str | None) -> Times:
    """Read the column ``timestamp``, and strike the rows without a time."""
    column, name = rows.table.column("timestamp"), rows.labels()["timestamp"]
    is_text = pa.types.is_string(column.type)
    missing = absent(as_text(column, name)) if is_text else np.zeros(len(column), bool)
    try:
        times = read_times(column, missing, name, unit, layout)
    except PlumError as error:
        raise PlumError(error.what, error.found, advice or error.fix) from error
    tally.strike(times.missing, "timestamp is missing", "timestamp")
    tally.strike(times.bad, "timestamp can't be read", "timestamp")
    tally.strike(times.placeholder, "timestamp stands for no time", "timestamp")
    return times


def _check_odd_times(rows: RawRows, times: Times, kept: np.ndarray, unit: str) -> None:
    """Tell of odd times among the rows of the mask ``kept`` (N,), or refuse them; see ``time_checks``."""
    column = rows.table.column("timestamp")
    shown = lambda row: f"{rows.where(row)}: {shown_value(column, row)}"  # noqa: E731
    check_times(times, kept, unit, rows.labels()["timestamp"], shown)


def _events(table: pa.Table, times: Times) -> list[pa.ChunkedArray]:
    """The columns by which rows are the same: all, with the time as it was read."""
    others = [table.column(name) for name in table.column_names if name != "timestamp"]
    return [*others, *(pa.chunked_array([values]) for values in (times.second, times.nanosecond))]


def _frame(
    table: pa.Table,
    ids: dict[str, pa.ChunkedArray],
    times: Times | None,
    numbers: dict[str, np.ndarray],
    kept: np.ndarray,
) -> pd.DataFrame:
    """Combine the checked columns (N values each), for the rows of the mask ``kept`` (N,)."""
    mask = pa.array(kept)
    frame = pd.DataFrame({name: values.filter(mask).to_pandas() for name, values in ids.items()})
    if times is None:
        frame["timestamp"] = frame.groupby("user_id", sort=False).cumcount().astype(np.int64)
    else:
        frame["timestamp"] = times.second[kept]
    for name, values in numbers.items():
        frame[name] = values[kept].astype(np.float32)
    if times is not None:
        frame = with_nanoseconds(frame, times.nanosecond[kept])
    for name in table.column_names:
        if name not in frame.columns and name != "timestamp":
            frame[name] = table.column(name).filter(mask).to_pandas()
    return frame


def nothing_left(rows: RawRows, problems: list[RowProblem]) -> PlumError:
    """Build the error for a file without a usable row."""
    found = "; ".join(f"{p.count:,} rows: {p.reason} ({p.example})" for p in problems) or "a header and no rows"
    return PlumError(f"{rows.name} has no usable row", found, "check the file and the mapping of its columns")


def _refuse_swallowed_lines(rows: RawRows, tally: Tally) -> None:
    """Refuse a file in which an unclosed quote joined many lines into one value: they would count as one row."""
    for name in ("user_id", "item_id", "timestamp", "rating", "reward"):
        if name in rows.table.column_names and pa.types.is_string(rows.table.column(name).type):
            hits = pc.fill_null(pc.match_substring(rows.table.column(name), "\n"), False).to_numpy().astype(bool)
            if hits.any():
                where = rows.where(int(np.argmax(hits)))
                raise PlumError(
                    f"{rows.name}: {name} on {where} spans several lines",
                    "a double quote that is never closed",
                    "close the quote, or double each quote that belongs to the text",
                )


def warn(problems: Iterable[RowProblem]) -> None:
    """Log every problem, so that no row is left out silently."""
    for problem in problems:
        log.warning(
            "%s: %s rows left out, %s (first: %s)", problem.file, f"{problem.count:,}", problem.reason, problem.example
        )
