"""Checks on rows that all sources share: unusable rows are removed, and every removed row is counted."""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable, Sequence
from dataclasses import replace

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from plum.data.filters import RowFilter, left_out, none_left
from plum.data.missing import absent
from plum.data.readers import RawRows
from plum.data.tables import INTERACTION_COLUMNS, RowProblem, refuse_many_problems
from plum.errors import PlumError

log = logging.getLogger(__name__)

DUPLICATE = "exact repetition of an earlier row"
UNITS = {"s": 1, "ms": 1_000, "us": 1_000_000, "ns": 1_000_000_000}
_NUMBER = r"^[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?$"
_EARLIEST, _LATEST = -62_135_596_800, 253_402_300_799  # years 1 to 9999 in seconds: what a calendar date can be


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
    missing = absent(text)
    text = pc.if_else(pa.array(missing), None, text)
    try:
        numbers = text.cast(pa.float64())
    except pa.ArrowInvalid:
        numbers = pc.if_else(pc.match_substring_regex(text, _NUMBER), text, None).cast(pa.float64())
    values = pc.fill_null(numbers, float("nan")).to_numpy()
    return values, missing, ~missing & ~np.isfinite(values)


def guess_unit(column: pa.ChunkedArray, name: str) -> str:
    """Guess the unit of timestamps: ISO dates if most of 1,000 aren't numbers, else by the size of the numbers.

    10^11 seconds are the year 5138, 10^11 milliseconds 1973: the units' ranges don't overlap for dates from 1973 on.
    """
    if not pa.types.is_string(column.type) and not pa.types.is_large_string(column.type):
        head = column
    else:
        head = column.slice(0, 1000)
    values, missing, bad = to_numbers(head, name)
    good = values[~missing & ~bad]
    return "iso" if len(good) * 2 < (~missing).sum() else unit_of(good)


def unit_of(values: np.ndarray) -> str:
    """The key of ``UNITS`` that fits the median size of these times (M,); seconds if there are none."""
    size = float(np.median(np.abs(values))) if len(values) else 0.0
    return "s" if size < 1e11 else "ms" if size < 1e14 else "us" if size < 1e17 else "ns"


def to_seconds(column: pa.ChunkedArray, unit: str, name: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Read a column as seconds since 1970 (UTC), rounded down; dates without a time zone count as UTC.

    Args:
        column: N timestamps: text, numbers, or typed dates, for which ``unit`` is ignored.
        unit: a key of ``UNITS``, ``iso`` or ``auto``.
        name: file and column, for messages.

    Returns:
        Int64 seconds (N,), 0 where unusable; masks (N,) of missing and of unreadable values.

    Raises:
        PlumError: if the type can't be a time, or no value can be read.
    """
    if pa.types.is_timestamp(column.type) or pa.types.is_date(column.type):
        missing = column.is_null().to_numpy().astype(bool)
        typed = column.cast(pa.timestamp("us", tz=getattr(column.type, "tz", None)), safe=False).cast(pa.int64())
        return pc.fill_null(typed, 0).to_numpy() // UNITS["us"], missing, np.zeros(len(missing), bool)
    chosen = guess_unit(column, name) if unit == "auto" else unit
    if unit == "auto":
        log.info("%s: timestamps read as %s", name, chosen)
    if chosen == "iso":
        text = as_text(column, name)
        missing = absent(text)
        parsed = pd.to_datetime(text.to_pandas(), format="ISO8601", utc=True, errors="coerce")
        bad = parsed.isna().to_numpy() & ~missing
        seconds = parsed.dt.tz_localize(None).to_numpy().astype("datetime64[s]").astype(np.int64)
        result = np.where(missing | bad, 0, seconds)
    else:
        values, missing, bad = to_numbers(column, name)
        with np.errstate(invalid="ignore"):
            scaled = np.floor(values / UNITS[chosen])
            bad |= ~missing & ((scaled < _EARLIEST) | (scaled > _LATEST))
        result = np.where(missing | bad, 0, scaled).astype(np.int64)
    if len(bad) and bad.any() and (bad | missing).all():
        first = column[int(np.argmax(bad))].as_py()
        raise PlumError(
            f"{name}: no timestamp can be read as {_UNIT_NAMES[chosen]}",
            f"the first is {first!r}",
            "set data.source.timestamp_unit to s, ms, iso or auto, whichever fits",
        )
    return result, missing, bad


_UNIT_NAMES = {
    "s": "seconds since 1970 (up to the year 9999)",
    "ms": "milliseconds since 1970",
    "us": "microseconds since 1970",
    "ns": "nanoseconds since 1970",
    "iso": "an ISO 8601 date",
}


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


class Tally:
    """Counts unusable rows of one file, each under the first reason found."""

    def __init__(self, rows: RawRows) -> None:
        self.rows = rows
        self.bad = np.zeros(rows.table.num_rows, bool)
        self.problems = list(rows.problems)

    def strike(self, mask: np.ndarray, reason: str, column: str | None = None) -> bool:
        """Mark the rows of ``mask`` (N,) as unusable and note the first of those not yet marked; False if all were."""
        new = mask & ~self.bad
        if not new.any():
            return False
        first = int(np.argmax(new))
        example = f"{self.rows.where(first)}: {self.shown(first, column)}"
        self.problems.append(RowProblem(self.rows.name, reason, int(new.sum()), example))
        self.bad |= new
        return True

    def shown(self, row: int, column: str | None = None) -> str:
        """The values of a row, or the one of a column, for messages."""
        names = [column] if column else list(self.rows.table.column_names)
        return ", ".join(repr(self.rows.table.column(name)[row].as_py()) for name in names)[:120]

    def kept(self) -> np.ndarray:
        """Mask (N,) of the usable rows."""
        return ~self.bad


def strike_missing(tally: Tally, ids: pa.ChunkedArray, name: str) -> None:
    """Mark the rows without an id, and tell the words, such as "NA", that ids (N,) say so in."""
    gone = absent(ids)
    if not tally.strike(gone, f"{name} is missing", name):
        return
    words = [word for word in pc.unique(ids.filter(pa.array(gone))).to_pylist() if word]
    if len(words) > 1:
        listed = ", ".join(map(repr, words[:8]))
        tally.problems[-1] = replace(tally.problems[-1], example=f"{tally.problems[-1].example}; written as {listed}")


def check_interactions(
    rows: RawRows,
    *,
    timestamp_unit: str,
    max_bad_share: float,
    rating_required: bool = False,
    known_items: Sequence[str] | None = None,
    items_name: str = "the items table",
    where: RowFilter | None = None,
    only_for_where: Collection[str] = (),
    keep_repeats: bool = False,
) -> tuple[pd.DataFrame, list[RowProblem]]:
    """Turn rows into interactions, and count and report the unusable ones.

    A row is unusable if it could not be parsed, its user, item or time is missing, its time, rating or reward is not a
    number, or its item isn't in ``known_items``. Rows that don't satisfy ``where`` are left out before, and exact
    repetitions of a row after; both are reported too, but don't count as unusable.

    Args:
        rows: N rows with ``user_id``, ``item_id``, ``timestamp``, and any of ``rating``, ``reward`` and extra columns.
        timestamp_unit: s, ms, us, ns, iso or auto.
        max_bad_share: share of unusable rows, from 0 to 1, over which the file is refused.
        rating_required: whether a row without a rating is unusable.
        known_items: the ids of the catalogue, or None to accept any.
        items_name: where ``known_items`` come from, for messages.
        where: a rule on the rows; None keeps all.
        only_for_where: extra columns that nothing but the rule needs.
        keep_repeats: keep exact repetitions.

    Returns:
        The interactions (M, columns of ``INTERACTION_COLUMNS`` and extras as text) in the order of the file, and the
        problems.

    Raises:
        PlumError: if too many rows, or all, are unusable.
    """
    tally, table = Tally(rows), rows.table
    label = rows.labels()
    ids = {name: as_text(table.column(name), label[name]) for name in ("user_id", "item_id")}
    seconds, missing, bad = to_seconds(table.column("timestamp"), timestamp_unit, label["timestamp"])
    unusable = [(missing, "timestamp is missing", "timestamp"), (bad, "timestamp can't be read", "timestamp")]
    numbers = {"rating": np.full(len(seconds), np.nan), "reward": np.ones(len(seconds))}
    for name in numbers:
        if name in table.column_names:
            values, missing, bad = to_numbers(table.column(name), label[name])
            unusable.append((bad, f"{name} is not a number", name))
            numbers[name] = np.where(missing, numbers[name], values)
            if rating_required and name == "rating":
                unusable.append((missing, "rating is missing", name))
    parsed = ids | {"timestamp": pa.array(seconds, mask=unusable[0][0] | unusable[1][0])} | _given(numbers, table)
    filtered = [] if where is None else _filter(tally, where, parsed, unusable)
    for name, text in ids.items():
        strike_missing(tally, text, name)
    for mask, reason, name in unusable:
        tally.strike(mask, reason, name)
    if known_items is not None:
        known = pc.is_in(ids["item_id"], value_set=pa.array(known_items, pa.string())).to_numpy().astype(bool)
        tally.strike(~known, f"item_id is not in {items_name}", "item_id")
    _refuse_swallowed_lines(rows, tally)
    n_asked = rows.n_read - sum(problem.count for problem in filtered)
    refuse_many_problems(tally.problems, n_asked, max_bad_share, _advice(tally.problems))
    tally.problems += filtered
    table = table.drop_columns(list(only_for_where))
    if not keep_repeats:
        tally.strike(repeats(table.columns, tally.kept()), DUPLICATE)
    kept = tally.kept()
    if not kept.any():
        raise nothing_left(rows, tally.problems)
    frame = _frame(table, ids, seconds, numbers, kept)
    warn(tally.problems)
    return frame, tally.problems


def _given(numbers: dict[str, np.ndarray], table: pa.Table) -> dict[str, pa.Array | pa.ChunkedArray]:
    """The columns of a log besides ids and time that it has, as a rule reads them: numbers null where missing."""
    given = {name: pa.array(numbers[name], from_pandas=True) for name in numbers if name in table.column_names}
    rest = [name for name in table.column_names if name not in (*INTERACTION_COLUMNS[:3], *numbers)]
    return given | {name: table.column(name) for name in rest}


def _filter(
    tally: Tally,
    where: RowFilter,
    columns: dict[str, pa.Array | pa.ChunkedArray],
    unusable: list[tuple[np.ndarray, str, str]],
) -> list[RowProblem]:
    """Take the rows (N) that don't satisfy a rule out of the tally; those with values it can't read stay unusable.

    Raises:
        PlumError: if no row satisfies it.
    """
    for name in ("user_id", "item_id"):
        gone = pa.array(absent(columns[name]))
        columns = columns | {name: pc.if_else(gone, None, columns[name])}
    for mask, reason, name in unusable:
        if name in where.fields and not reason.endswith("missing"):
            tally.strike(mask, reason, name)
    out = ~where.mask(columns) & tally.kept()
    if not out.any():
        return []
    first = int(np.argmax(out))
    example = f"{tally.rows.where(first)}: {tally.shown(first)}"
    if out.all():
        raise none_left(tally.rows.name, where, example)
    tally.bad |= out
    return [left_out(tally.rows.name, where, int(out.sum()), example)]


def _advice(problems: Iterable[RowProblem]) -> str:
    """What to do about too many unusable rows."""
    fix = "fix the rows, or allow more with --set data.max_bad_share=SHARE"
    if any(problem.reason.startswith("user_id is missing") for problem in problems):
        fix += "; rows of users who are not known are left out with --set 'data.source.where=user_id is not null'"
    return fix


def _frame(
    table: pa.Table,
    ids: dict[str, pa.ChunkedArray],
    seconds: np.ndarray,
    numbers: dict[str, np.ndarray],
    kept: np.ndarray,
) -> pd.DataFrame:
    """Combine the checked columns (N values each), for the rows of the mask ``kept`` (N,)."""
    mask = pa.array(kept)
    frame = pd.DataFrame({name: values.filter(mask).to_pandas() for name, values in ids.items()})
    frame["timestamp"] = seconds[kept]
    for name, values in numbers.items():
        frame[name] = values[kept].astype(np.float32)
    for name in table.column_names:
        if name not in frame.columns:
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
        file, count, reason = problem.file, f"{problem.count:,}", problem.reason
        if problem.asked:
            log.info("%s: %s rows %s (first: %s)", file, count, reason, problem.example)
        else:
            log.warning("%s: %s rows left out, %s (first: %s)", file, count, reason, problem.example)
