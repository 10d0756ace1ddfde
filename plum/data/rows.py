"""Checks on rows that all sources share: unusable rows are removed, and every removed row is counted."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import replace

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from plum.data.arrow_types import plain, shown
from plum.data.missing import absent
from plum.data.readers import RawRows
from plum.data.tables import RowProblem
from plum.errors import PlumError

log = logging.getLogger(__name__)

_TRUE, _FALSE = "(?i)^true$", "(?i)^false$"  # 1 and 0, as in Parquet
_LOOKED_AT = 1000  # ids
_NUMBER = r"^[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?$"


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
        text = pc.replace_substring_regex(pc.replace_substring_regex(text, _TRUE, "1"), _FALSE, "0")
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


def _strike_missing(tally: Tally, ids: pa.ChunkedArray, name: str) -> None:
    """Mark the rows without an id, and tell the words, such as "NA", that ids (N,) say so in."""
    gone = absent(ids)
    if not tally.strike(gone, f"{name} is missing", name):
        return
    words = [word for word in pc.unique(ids.filter(pa.array(gone))).to_pylist() if word]
    if len(words) > 1:
        listed = ", ".join(map(repr, words[:8]))
        tally.problems[-1] = replace(tally.problems[-1], example=f"{tally.problems[-1].example}; written as {listed}")


def _warn_of_quotes(tally: Tally, ids: pa.ChunkedArray, name: str) -> None:
    """Warn if most ids (N,) have quotes around them, which are part of the ids as the file is read."""
    for quote, quoting in (('"', "double"), ("'", "single")):
        if not pc.any(pc.starts_with(ids[:_LOOKED_AT], quote)).as_py():
            continue
        quoted = pc.and_(pc.starts_with(ids, quote), pc.ends_with(ids, quote))
        if 2 * (pc.sum(quoted).as_py() or 0) > len(ids):
            log.warning(
                "%s: the quotes around most ids count as part of them (first: %s). If they enclose the values: --set "
                "data.source.quoting=%s, without blanks between a quote and what separates the values",
                *(tally.rows.labels()[name], ids.filter(quoted)[0].as_py(), quoting),
            )


def strike_unusable_ids(tally: Tally, ids: pa.ChunkedArray, name: str) -> None:
    """Mark the rows whose id is missing, holds half a character, or spans several lines.

    Args:
        tally: of the file.
        ids: N ids in the form of ``plum.data.ids``.
        name: our name of their column.
    """
    _warn_of_quotes(tally, ids, name)
    _strike_missing(tally, ids, name)
    tally.strike(tally.rows.is_broken(name), f"{name} holds half a character, or bytes that are no text", name)
    if not tally.rows.quoted:  # else it may be due to a quote, which is refused
        several = pc.fill_null(pc.match_substring(ids, "\n"), False).to_numpy().astype(bool)
        tally.strike(several, f"{name} holds a line end", name)


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
