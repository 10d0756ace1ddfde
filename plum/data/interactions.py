"""From the rows of a log to interactions. Every row that is left out is counted."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from plum.data.arrow_types import can_be_value, is_text, refused_type, shown
from plum.data.filters import RowFilter, left_out, none_left
from plum.data.ids import as_ids, both_sides
from plum.data.missing import absent
from plum.data.moments import with_nanoseconds
from plum.data.readers import RawRows
from plum.data.rows import (
    Tally,
    as_text,
    nothing_left,
    refuse_swallowed_lines,
    repeats,
    strike_unusable_ids,
    to_numbers,
    warn,
)
from plum.data.tables import INTERACTION_COLUMNS, RowProblem, refuse_many_problems
from plum.data.time_checks import check_times
from plum.data.times import POSITION, Times, read_times
from plum.errors import PlumError

log = logging.getLogger(__name__)

DUPLICATE = "exact repetition of an earlier row"
KNOWN_USERS = "user_id is not null"
"""The rule that leaves out rows without a user."""
_LARGEST = float(np.finfo(np.float32).max)
_BAD_ROWS = "fix the rows, or allow more with --set data.max_bad_share=SHARE"
_Unusable = tuple[np.ndarray, str, str]  # mask (N,), reason, column


class Known(NamedTuple):
    """The items that a log may name.

    Attributes:
        items: ids of the catalogue.
        name: where they come from, for messages.
        unread_lines: ``RawRows.unread_lines`` of that file.
    """

    items: Sequence[str]
    name: str
    unread_lines: Callable[[Collection[str]], dict[str, int]] | None = None


class Choice(NamedTuple):
    """Which rows of a log are asked for.

    Attributes:
        where: a rule on the rows; None keeps all.
        only_for_where: extra columns that nothing but the rule needs.
        keep_repeats: keep exact repetitions.
    """

    where: RowFilter | None = None
    only_for_where: Collection[str] = ()
    keep_repeats: bool = False


EVERY_ROW = Choice()


class _Parsed(NamedTuple):
    """The columns that every log has, N values each; no times where the order of the rows counts."""

    ids: dict[str, pa.ChunkedArray]
    times: Times | None
    numbers: dict[str, np.ndarray]


def check_interactions(
    rows: RawRows,
    *,
    timestamp_unit: str,
    timestamp_format: str | None = None,
    time_advice: str | None = None,
    max_bad_share: float,
    rating_required: bool = False,
    known: Known | None = None,
    choice: Choice = EVERY_ROW,
) -> tuple[pd.DataFrame, list[RowProblem]]:
    """Turn rows into interactions, and count and report the unusable ones.

    A row is unusable if it could not be parsed, its user, item or time is missing, its time can't be read, its rating
    or reward is not a number, or its item isn't ``known``. Rows that a rule leaves out go before, and exact repetitions
    after; both are reported too, but don't count as unusable. Without times, no row repeats another.

    Args:
        rows: N rows with ``user_id``, ``item_id``, ``timestamp``, and any of ``rating``, ``reward`` and extra columns.
        timestamp_unit: of ``times.WAYS``; ``position`` needs no ``timestamp`` and counts each user's rows from 0.
        timestamp_format: the strptime layout of the times, in place of a unit.
        time_advice: what to do if times can't be read, of a source without settings for them.
        max_bad_share: share of unusable rows, from 0 to 1, over which the file is refused.
        rating_required: whether a row without a rating is unusable.
        known: the items that count; None accepts any.
        choice: which rows are asked for.

    Returns:
        The interactions (M, columns of ``INTERACTION_COLUMNS``, ``nanosecond`` if times are finer than a second, and
        extras as text) in the order of the file, and the problems.

    Raises:
        PlumError: if too many rows, or all, are unusable, or an item of the log stands in its file, but is not read.
    """
    tally = Tally(rows)
    parsed, unusable = _parse(rows, timestamp_unit, timestamp_format, time_advice, rating_required)
    filtered = [] if choice.where is None else _filter(tally, choice.where, _fields(rows.table, parsed), unusable)
    hint = _strike_unusable(tally, parsed.ids, unusable, known)
    n_asked = rows.n_read - sum(problem.count for problem in filtered)
    refuse_many_problems(tally.problems, n_asked, max_bad_share, hint + _advice(tally.problems))
    if hint:
        log.warning("%s: items %s", rows.name, hint.rstrip("; "))
    tally.problems += filtered
    table = rows.table.drop_columns(list(choice.only_for_where))
    if parsed.times is not None and not choice.keep_repeats:
        tally.strike(repeats(_events(table, parsed.times), tally.kept()), DUPLICATE)
    kept = tally.kept()
    if not kept.any():
        raise nothing_left(rows, tally.problems)
    if parsed.times is not None:
        _check_odd_times(rows, parsed.times, kept, timestamp_unit if timestamp_format is None else "")
    warn(tally.problems)
    return _frame(table, parsed, kept), tally.problems


def _parse(
    rows: RawRows, unit: str, layout: str | None, time_advice: str | None, rating_required: bool
) -> tuple[_Parsed, list[_Unusable]]:
    """The values of the columns, and the rows whose times and numbers are unusable."""
    _refuse_odd_types(rows)
    refuse_swallowed_lines(rows)
    label = rows.labels()
    ids = {name: as_ids(rows.table.column(name), label[name]) for name in ("user_id", "item_id")}
    times, unusable = (None, list[_Unusable]()) if unit == POSITION else _times(rows, unit, layout, time_advice)
    numbers, no_numbers = _numbers(rows, rating_required)
    return _Parsed(ids, times, numbers), unusable + no_numbers


def _strike_unusable(
    tally: Tally, ids: dict[str, pa.ChunkedArray], unusable: list[_Unusable], known: Known | None
) -> str:
    """Mark the unusable rows; returns what may explain items that are not known, for the message."""
    for name, values in ids.items():
        strike_unusable_ids(tally, values, name)
    for mask, reason, name in unusable:
        tally.strike(mask, reason, name)
    return "" if known is None else _strike_unlisted(tally, ids["item_id"], known)


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


def _fields(table: pa.Table, parsed: _Parsed) -> dict[str, pa.Array | pa.ChunkedArray]:
    """The columns of a log as a rule reads them, N values each; null where missing."""
    fields: dict[str, pa.Array | pa.ChunkedArray] = {
        name: pc.if_else(pa.array(absent(values)), None, values) for name, values in parsed.ids.items()
    }
    if parsed.times is not None:
        fields["timestamp"] = pa.array(parsed.times.second, mask=~parsed.times.usable)
    for name in table.column_names:
        if name in parsed.numbers:
            fields[name] = pa.array(parsed.numbers[name], from_pandas=True)
        elif name not in INTERACTION_COLUMNS:
            fields[name] = table.column(name)
    return fields


def _strike_unlisted(tally: Tally, ids: pa.ChunkedArray, known: Known) -> str:
    """Mark the rows (N,) whose item the catalogue lacks; returns what may explain it, for the message.

    An item that stands in the catalogue's file, but in a line that is no row, is not called missing.
    """
    listed = pc.is_in(ids, value_set=pa.array(known.items, pa.string())).to_numpy().astype(bool)
    wanted = pc.unique(ids.filter(pa.array(~listed & ~tally.bad))).to_pylist()
    if wanted and known.unread_lines is not None and (there := known.unread_lines(wanted)):
        item, line = next(iter(there.items()))
        there_mask = pc.is_in(ids, value_set=pa.array(list(there), pa.string())).to_numpy().astype(bool)
        reason = (
            f"item_id stands in {known.name}, but in a line that is no row of its own (line {line:,}: {item!r}): a "
            "quote before it takes it in, or the line is not as it should be"
        )
        tally.strike(there_mask & ~listed, reason, "item_id")
        wanted = [one for one in wanted if one not in there]
    tally.strike(~listed, f"item_id is not in {known.name}", "item_id")
    return both_sides(wanted, known.items, known.name) + "; " if wanted else ""


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
        fix += f"; rows of users who are not known are left out with --set 'data.source.where={KNOWN_USERS}'"
    return fix


def _frame(table: pa.Table, parsed: _Parsed, kept: np.ndarray) -> pd.DataFrame:
    """Combine the checked columns (N values each), for the rows of the mask ``kept`` (N,)."""
    mask, times = pa.array(kept), parsed.times
    frame = pd.DataFrame({name: values.filter(mask).to_pandas() for name, values in parsed.ids.items()})
    if times is None:
        frame["timestamp"] = frame.groupby("user_id", sort=False).cumcount().astype(np.int64)
    else:
        frame["timestamp"] = times.second[kept]
    for name, values in parsed.numbers.items():
        frame[name] = values[kept].astype(np.float32)
    if times is not None:
        frame = with_nanoseconds(frame, times.nanosecond[kept])
    for name in table.column_names:
        if name not in frame.columns and name != "timestamp":
            frame[name] = table.column(name).filter(mask).to_pandas()
    return frame
