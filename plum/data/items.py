"""The items table: fixed columns of content, then all further columns of the source, typed."""

from __future__ import annotations

import logging
from collections.abc import Collection, Sequence
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from plum.data.ids import as_ids
from plum.data.jsonl import scalar_text
from plum.data.markup import has_tags
from plum.data.missing import absent, no_prose
from plum.data.readers import RawRows
from plum.data.rows import (
    Tally,
    as_text,
    nothing_left,
    refuse_swallowed_lines,
    repeats,
    strike_unusable_ids,
    warn,
)
from plum.data.tables import ITEM_COLUMNS, RowProblem, refuse_many_problems
from plum.data.topics import read_texts, read_topics

log = logging.getLogger(__name__)

_BOOLEANS = pa.array(["true", "false"])
_WHOLE = r"^-?(0|[1-9]\d*)$"  # "007" is a name, not the number 7
_NUMBER = r"^-?((0|[1-9]\d*)(\.\d+)?|\.\d+)([eE][+-]?\d{1,2})?$"
_DATE = r"^\d{4}-\d\d-\d\d([T ]\d\d:\d\d.*)?$"


def clean(value: Any) -> str | None:
    """Strip text; None for blank text and for other types."""
    if value is None or (isinstance(value, float) and np.isnan(value)):
        return None
    return str(value).strip() or None


def as_objects(values: Sequence[Any]) -> pd.Series:
    """A series of objects: None stays None, and lists of equal length don't become a matrix."""
    held = np.empty(len(values), object)
    for row, value in enumerate(values):
        held[row] = value
    return pd.Series(held, dtype=object)


def item_frame(columns: dict[str, list[Any]]) -> pd.DataFrame:
    """Build an items table (M rows) from lists; columns that aren't given are None, missing values None."""
    n = len(columns["item_id"])
    frame = pd.DataFrame({"item_id": pd.Series(columns["item_id"], dtype="str")})
    for name in [*ITEM_COLUMNS[1:], *(name for name in columns if name not in ITEM_COLUMNS)]:
        frame[name] = as_objects(columns.get(name, [None] * n))
    return frame


def check_items(
    rows: RawRows, *, topic_separator: str, max_bad_share: float, texts: Collection[str] = ()
) -> tuple[pd.DataFrame, list[RowProblem]]:
    """Turn rows into an items table: ids unique, text that says "no value" None, topics as lists, extra columns typed.

    Titles, creators and descriptions that are lists become one text each.

    Args:
        rows: N rows with ``item_id`` and any other column; topics may be in ``rows.lists``, and ``rows.extras`` become
            extra columns, typed by :func:`typed_column`.
        topic_separator: between the topics of one text.
        max_bad_share: share of unusable rows, from 0 to 1, over which the file is refused.
        texts: names of extra columns that stay text, whatever they look like.

    Returns:
        The items (M rows) in the order of the file, and the problems.

    Raises:
        PlumError: if too many rows, or all, are unusable; if content is in objects that don't say what they are called.
    """
    tally, table = Tally(rows), rows.table
    label = rows.labels()
    ids = as_ids(table.column("item_id"), label["item_id"])
    refuse_swallowed_lines(rows)
    strike_unusable_ids(tally, ids, "item_id")
    tally.strike(repeats([ids], tally.kept()), "item_id repeats an earlier row", "item_id")
    refuse_many_problems(tally.problems, rows.n_read, max_bad_share)
    kept = np.flatnonzero(tally.kept())
    if not len(kept):
        raise nothing_left(rows, tally.problems)
    columns: dict[str, list[Any]] = {"item_id": ids.take(pa.array(kept)).to_pylist()}
    for name in (*table.column_names, *rows.lists):
        if name == "item_id":
            continue
        values = _values(rows, name, kept)
        place = lambda row: rows.where(int(kept[row]))  # noqa: E731
        told: dict[str, Any] = {"name": label[name], "where": place, "max_bad_share": max_bad_share}
        if name == "topics":
            columns[name] = read_topics(values, topic_separator, **told)
        elif name in rows.lists and name not in ITEM_COLUMNS:  # vectors
            columns[name] = values
        else:
            columns[name] = read_texts(values, joint=", " if name == "creator" else " ", **told)
            _warn_of_tags(columns[name], label[name])
    warn(tally.problems)
    frame = item_frame(columns)
    for name, values in rows.extras.items():
        column = values.take(pa.array(kept))
        is_text = pa.types.is_string(column.type) or pa.types.is_large_string(column.type)
        if name in texts and is_text:
            frame[name] = as_objects([clean(value) for value in column.to_pylist()])
        else:
            frame[name] = typed_column(column)
    return frame, tally.problems


def _warn_of_tags(texts: Sequence[str | None], name: str) -> None:
    """Warn of texts that hold HTML tags, which stay: a title that is only tags would count as one."""
    tagged = [text for text in texts if text and has_tags(text)]
    if tagged:
        log.warning("%s: %s values hold HTML tags, which stay (first: %r)", name, f"{len(tagged):,}", tagged[0][:60])


def _values(rows: RawRows, name: str, kept: np.ndarray) -> list[Any]:
    """The values of a column of content, at the rows ``kept`` (M,): text, or lists and objects as they are."""
    if name in rows.lists:
        held = rows.lists[name]
        return [_scalar(held[row]) if name in ITEM_COLUMNS and name != "topics" else held[row] for row in kept]
    column = rows.table.column(name).take(pa.array(kept))
    if name == "topics" or pa.types.is_nested(column.type):
        return column.to_pylist()
    return as_text(column, rows.labels()[name]).to_pylist()  # type: ignore[no-any-return]


def _scalar(value: Any) -> Any:
    """A single value as text, as in CSV; lists and objects as they are."""
    return value if isinstance(value, list | dict) else scalar_text(value)


def typed_column(values: pa.ChunkedArray) -> pd.Series:
    """Give a column the type of its values, whatever format it was read from.

    Text that is all true and false, all whole numbers, all numbers, or all ISO 8601 dates (UTC if no zone is given) is
    converted; in such columns, words such as "null" or "NaN" are missing values. Blank text is missing.

    Args:
        values: N values as in ``RawRows.extras``.

    Returns:
        N values: boolean, Int64, float, datetime64[us], or objects that are text, lists of text, or None.
    """
    kind = values.type
    if pa.types.is_dictionary(kind):
        return typed_column(values.cast(kind.value_type))
    if pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
        return as_objects([[t for t in map(clean, value or ()) if t] or None for value in values.to_pylist()])
    if pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_null(kind):
        return _typed_text(pc.utf8_trim_whitespace(values.cast(pa.string())))
    if pa.types.is_boolean(kind):
        return values.to_pandas().astype("boolean")
    if pa.types.is_integer(kind):
        fits = not pa.types.is_uint64(kind) or (pc.max(values).as_py() or 0) < 1 << 63
        return _numbers(values.cast(pa.int64() if fits else pa.float64(), safe=False))
    if pa.types.is_floating(kind):
        return _numbers(values.cast(pa.float32()) if pa.types.is_float16(kind) else values)
    if pa.types.is_decimal(kind):
        return _numbers(values.cast(pa.float64()))
    moments = values.cast(pa.timestamp("us", tz=getattr(kind, "tz", None)), safe=False)
    return moments.cast(pa.timestamp("us")).to_pandas().astype("datetime64[us]")


def _numbers(values: pa.ChunkedArray) -> pd.Series:
    return values.to_pandas(types_mapper={pa.int64(): pd.Int64Dtype()}.get)


def _typed_text(text: pa.ChunkedArray) -> pd.Series:
    """The work of :func:`typed_column` for trimmed text."""
    present = pc.if_else(pa.array(absent(text)), None, text)
    if present.null_count < len(present):
        if pc.all(pc.is_in(pc.utf8_lower(present.drop_null()), value_set=_BOOLEANS)).as_py():
            return pc.equal(pc.utf8_lower(present), "true").to_pandas().astype("boolean")
        if _all_match(present, _WHOLE) and pc.all(pc.less_equal(pc.utf8_length(present), 18)).as_py():
            return _numbers(present.cast(pa.int64()))
        if _all_match(present, _NUMBER) and not _all_match(present, _WHOLE):
            return present.cast(pa.float64()).to_pandas()
        if _all_match(present, _DATE):
            moments = pd.to_datetime(present.to_pandas(), format="ISO8601", utc=True, errors="coerce")
            if int(moments.isna().sum()) == present.null_count:
                return moments.dt.tz_localize(None).astype("datetime64[us]")
    return as_objects([None if value is None or no_prose(value) else value for value in text.to_pylist()])


def _all_match(text: pa.ChunkedArray, pattern: str) -> bool:
    return bool(pc.all(pc.match_substring_regex(text, pattern)).as_py())
