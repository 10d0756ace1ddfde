"""Checks on rows that all sources share: unusable rows are removed, and every removed row is counted."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import replace

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from plum.data.arrow_types import can_be_value, is_text, plain, refused_type, shown
from plum.data.filters import RowFilter, left_out, none_left
from plum.data.ids import as_ids, both_sides
from plum.data.missing import absent
from plum.data.moments import with_nanoseconds
from plum.data.readers import RawRows
from plum.data.tables import INTERACTION_COLUMNS, RowProblem, refuse_many_problems
from plum.data.time_checks import check_times
from plum.data.times import POSITION, Times, read_times
from plum.errors import PlumError

log = logging.getLogger(__name__)

DUPLICATE = "exact repetition of an earlier row"
_NUMBER = r"^[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?$"
_LARGEST = float(np.finfo(np.float32).max)
_BAD_ROWS = "fix the rows, or allow more with --set data.max_bad_share=SHARE"
_Unusable = tuple[np.ndarray, str, str]  # mask (N,), reason, column


def as_text(column: pa.ChunkedArray, name: str) -> pa.ChunkedArray:
    """Convert to trimmed text: 12 and 12.0 -> "12" (a column of ints with gaps is often stored as float).

    Ids have a form of their own: :func:`plum.data.ids.as_ids`.

    Raises:
        PlumError: if the column holds lists or structures.
    """
    kind = column.type
    try:
        column, _ = plain(column)
        return pc.utf8_trim_whitespace(column.cast(pa.string()))
    except pa.ArrowException as error:
        raise PlumError(
            f"{name}: values of type {kind} can't be ids or text", str(error)[:200], "store text or numbers"
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
        return ", ".join(repr(shown(self.rows.table.column(name)[row])) for name in names)[:120]

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
    timestamp_format: str | None = None,
    time_advice: str | None = None,
    max_bad_share: float,
    rating_required: bool = False,
    known_items: Sequence[str] | None = None,
    items_name: str = "the items table",
    unread_items: Callable[[Collection[str]], dict[str, int]] | None = None,
    where: RowFilter | None = None,
    only_for_where: Collection[str] = (),
    keep_repeats: bool = False,
) -> tuple[pd.DataFrame, list[RowProblem]]:
    """Turn rows into interactions, and count and report the unusable ones.

    A row is unusable if it could not be parsed, its user, item or time is missing, its time can't be read, its rating
    or reward is not a number, or its item isn't in ``known_items``. Rows that don't satisfy ``where`` are left out
    before, and exact repetitions of a row after; both are reported too, but don't count as unusable. Without times,
    rows are events of their own and none repeats another.

    Args:
        rows: N rows with ``user_id``, ``item_id``, ``timestamp``, and any of ``rating``, ``reward`` and extra columns.
        timestamp_unit: of ``times.WAYS``; ``position`` needs no ``timestamp`` and counts each user's rows from 0.
        timestamp_format: the strptime layout of the times, in place of a unit.
        time_advice: what to do if times can't be read, of a source without settings for them.
        max_bad_share: share of unusable rows, from 0 to 1, over which the file is refused.
        rating_required: whether a row without a rating is unusable.
        known_items: the ids of the catalogue, or None to accept any.
        items_name: where ``known_items`` come from, for messages.
        unread_items: ``RawRows.unread_lines`` of that file.
        where: a rule on the rows; None keeps all.
        only_for_where: extra columns that nothing but the rule needs.
        keep_repeats: keep exact repetitions.

    Returns:
        The interactions (M, columns of ``INTERACTION_COLUMNS``, ``nanosecond`` if times are finer than a second, and
        extras as text) in the order of the file, and the problems.

    Raises:
        PlumError: if too many rows, or all, are unusable, or an item of the log stands in its file, but is not read.
    """
    tally, table = Tally(rows), rows.table
    _refuse_odd_types(rows)
    label = rows.labels()
    refuse_swallowed_lines(rows)
    ids = {name: as_ids(table.column(name), label[name]) for name in ("user_id", "item_id")}
    times: Times | None = None
    unusable: list[_Unusable] = []
    if timestamp_unit != POSITION:
        times, unusable = _times(rows, timestamp_unit, timestamp_format, time_advice)
    numbers, no_numbers = _numbers(rows, rating_required)
    unusable += no_numbers
    filtered = [] if where is None else _filter(tally, where, _parsed(table, ids, times, numbers), unusable)
    for name, values in ids.items():
        strike_unusable_ids(tally, values, name)
    for mask, reason, name in unusable:
        tally.strike(mask, reason, name)
    hint = ""
    if known_items is not None:
        known = pc.is_in(ids["item_id"], value_set=pa.array(known_items, pa.string())).to_numpy().astype(bool)
        hint = _strike_unlisted(tally, ids["item_id"], known, known_items, items_name, unread_items)
    n_asked = rows.n_read - sum(problem.count for problem in filtered)
    refuse_many_problems(tally.problems, n_asked, max_bad_share, hint + _advice(tally.problems))
    if hint:
        log.warning("%s: items %s", rows.name, hint.rstrip("; "))
    tally.problems += filtered
    table = table.drop_columns(list(only_for_where))
    if times is not None and not keep_repeats:
        tally.strike(repeats(_events(table, times), tally.kept()), DUPLICATE)
    kept = tally.kept()
    if not kept.any():
        raise nothing_left(rows, tally.problems)
    if times is not None:
        _check_odd_times(rows, times, kept, timestamp_unit if timestamp_format is None else "")
    frame = _frame(table, ids, times, numbers, kept)
    warn(tally.problems)
    return frame, tally.problems


def _refuse_odd_types(rows: RawRows) -> None:
    """Refuse extra columns whose type can't be text."""
    label = rows.labels()
    for name in set(rows.table.column_names) - set(INTERACTION_COLUMNS):
        if not (is_text(kind := rows.table.column(name).type) or can_be_value(kind)):
            raise refused_type(label[name], kind)


def _numbers(rows: RawRows, rating_required: bool) -> tuple[dict[str, np.ndarray], list[_Unusable]]:
    """Rating and reward, float64 (N,) each, NaN and 1 where there is none; and the rows with other values."""
    table, label = rows.table, rows.labels()
    numbers = {"rating": np.full(table.num_rows, np.nan), "reward": np.ones(table.num_rows)}
    unusable: list[_Unusable] = []
    for name in numbers:
        if name in table.column_names:
            values, missing, bad = to_numbers(table.column(name), label[name])
            unusable.append((bad, f"{name} is not a number", name))
            with np.errstate(invalid="ignore"):
                unusable.append((np.abs(values) > _LARGEST, f"{name} is too large", name))
            numbers[name] = np.where(missing, numbers[name], values)
            if rating_required and name == "rating":
                unusable.append((missing, "rating is missing", name))
    return numbers, unusable


def _times(rows: RawRows, unit: str, layout: str | None, advice: str | None) -> tuple[Times, list[_Unusable]]:
    """The column ``timestamp``, and the rows without a time."""
    column, name = rows.table.column("timestamp"), rows.labels()["timestamp"]
    is_text = pa.types.is_string(column.type)
    missing = absent(as_text(column, name)) if is_text else np.zeros(len(column), bool)
    try:
        times = read_times(column, missing, name, unit, layout)
    except PlumError as error:
        raise PlumError(error.what, error.found, advice or error.fix) from error
    reasons = {
        "timestamp is missing": times.missing,
        "timestamp can't be read": times.bad,
        "timestamp stands for no time": times.placeholder,
    }
    return times, [(mask, reason, "timestamp") for reason, mask in reasons.items()]


def _check_odd_times(rows: RawRows, times: Times, kept: np.ndarray, unit: str) -> None:
    """Tell of odd times among the rows of the mask ``kept`` (N,), or refuse them; see ``time_checks``."""
    column = rows.table.column("timestamp")
    at = lambda row: f"{rows.where(row)}: {shown(column[row])!r}"  # noqa: E731
    check_times(times, kept, unit, rows.labels()["timestamp"], at)


def _events(table: pa.Table, times: Times) -> list[pa.ChunkedArray]:
    """The columns by which rows are the same: all, with the time as it was read."""
    others = [table.column(name) for name in table.column_names if name != "timestamp"]
    return [*others, *(pa.chunked_array([values]) for values in (times.second, times.nanosecond))]


def _parsed(
    table: pa.Table, ids: dict[str, pa.ChunkedArray], times: Times | None, numbers: dict[str, np.ndarray]
) -> dict[str, pa.Array | pa.ChunkedArray]:
    """The columns of a log as a rule reads them, N values each; null where missing."""
    parsed: dict[str, pa.Array | pa.ChunkedArray] = {
        name: pc.if_else(pa.array(absent(values)), None, values) for name, values in ids.items()
    }
    if times is not None:
        parsed["timestamp"] = pa.array(times.second, mask=~times.usable)
    for name in table.column_names:
        if name in numbers:
            parsed[name] = pa.array(numbers[name], from_pandas=True)
        elif name not in INTERACTION_COLUMNS:
            parsed[name] = table.column(name)
    return parsed


def _strike_missing(tally: Tally, ids: pa.ChunkedArray, name: str) -> None:
    """Mark the rows without an id, and tell the words, such as "NA", that ids (N,) say so in."""
    gone = absent(ids)
    if not tally.strike(gone, f"{name} is missing", name):
        return
    words = [word for word in pc.unique(ids.filter(pa.array(gone))).to_pylist() if word]
    if len(words) > 1:
        listed = ", ".join(map(repr, words[:8]))
        tally.problems[-1] = replace(tally.problems[-1], example=f"{tally.problems[-1].example}; written as {listed}")


def strike_unusable_ids(tally: Tally, ids: pa.ChunkedArray, name: str) -> None:
    """Mark the rows whose id is missing, holds half a character, or spans several lines.

    Args:
        tally: of the file.
        ids: N ids in the form of ``plum.data.ids``.
        name: our name of their column.
    """
    _strike_missing(tally, ids, name)
    tally.strike(tally.rows.is_broken(name), f"{name} holds half a character, or bytes that are no text", name)
    if not tally.rows.quoted:  # else it may be due to a quote, which is refused
        several = pc.fill_null(pc.match_substring(ids, "\n"), False).to_numpy().astype(bool)
        tally.strike(several, f"{name} holds a line end", name)


def _strike_unlisted(
    tally: Tally,
    ids: pa.ChunkedArray,
    known: np.ndarray,
    known_items: Sequence[str],
    items_name: str,
    unread_items: Callable[[Collection[str]], dict[str, int]] | None,
) -> str:
    """Mark the rows (N,) whose item the catalogue lacks; returns what may explain it, for the message.

    An item that stands in the catalogue's file, but in a line that is no row, is not called missing.
    """
    wanted = pc.unique(ids.filter(pa.array(~known & ~tally.bad))).to_pylist()
    if wanted and unread_items is not None and (there := unread_items(wanted)):
        item, line = next(iter(there.items()))
        there_mask = pc.is_in(ids, value_set=pa.array(list(there), pa.string())).to_numpy().astype(bool)
        reason = (
            f"item_id stands in {items_name}, but in a line that is no row of its own (line {line:,}: {item!r}): a "
            "quote before it takes it in, or the line is not as it should be"
        )
        tally.strike(there_mask & ~known, reason, "item_id")
        wanted = [one for one in wanted if one not in there]
    tally.strike(~known, f"item_id is not in {items_name}", "item_id")
    return both_sides(wanted, known_items, items_name) + "; " if wanted else ""


def _filter(
    tally: Tally,
    where: RowFilter,
    columns: dict[str, pa.Array | pa.ChunkedArray],
    unusable: list[_Unusable],
) -> list[RowProblem]:
    """Take the rows (N) that don't satisfy a rule out of the tally; those with values it can't read stay unusable.

    Raises:
        PlumError: if no row satisfies it.
    """
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
    fix = _BAD_ROWS
    if any(problem.reason.startswith("user_id is missing") for problem in problems):
        fix += "; rows of users who are not known are left out with --set 'data.source.where=user_id is not null'"
    return fix


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


def refuse_swallowed_lines(rows: RawRows) -> None:
    """Refuse a file in which an unclosed quote joined many lines into one value: they would count as one row."""
    if not rows.quoted:
        return
    for name in ("user_id", "item_id", "timestamp", "rating", "reward"):
        if name in rows.table.column_names and pa.types.is_string(rows.table.column(name).type):
            hits = pc.fill_null(pc.match_substring(rows.table.column(name), "\n"), False).to_numpy().astype(bool)
            if hits.any():
                where = rows.where(int(np.argmax(hits)))
                raise PlumError(
                    f"{rows.name}: {name} on {where} spans several lines",
                    "a double quote opens before its first line end and closes after it",
                    "close the quote, or double each quote that belongs to the text; if quotes are plain text in this "
                    "file: --set data.source.quoting=none",
                )


def warn(problems: Iterable[RowProblem]) -> None:
    """Log every problem, so that no row is left out silently."""
    for problem in problems:
        file, count, reason = problem.file, f"{problem.count:,}", problem.reason
        if problem.asked:
            log.info("%s: %s rows %s (first: %s)", file, count, reason, problem.example)
        else:
            log.warning("%s: %s rows left out, %s (first: %s)", file, count, reason, problem.example)
