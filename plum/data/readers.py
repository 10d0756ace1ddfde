"""Read delimited text and Parquet into one form: our column names, and each row's place in its file.

Text stays text here, so that the same checks (``plum.data.rows``) apply to every format.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pyarrow as pa

from plum.data.arrow_types import can_be_field, plain, python_values
from plum.data.blocks import TextReader
from plum.data.columns import Picked, pick_columns, resolve_columns
from plum.data.dialect import Delimited, without_types
from plum.data.encodings import check_encoding, undecodable
from plum.data.files import (
    Advice,
    Source,
    damage_reported,
    empty_file,
    is_file,
    looks_like_data,
    missing_file,
    refuse_other_contents,
)
from plum.data.records import line_of, lines_of, records
from plum.data.tables import RowProblem
from plum.data.zones import with_known_zones
from plum.errors import PlumError

log = logging.getLogger(__name__)

_KEYS = ("item_id", "user_id")  # what a row begins with, in the sense of a swallowed one


@dataclass
class RawRows:
    """Rows as read, before their values are checked.

    Attributes:
        name: name of the file, for messages.
        table: N rows under our column names; strings, or typed columns from Parquet.
        lists: N values each of the columns that may hold lists (str, list of str or None).
        extras: N values each of the further columns: text, typed or lists.
        where: row number, from 0, -> ``"line 7"``.
        n_read: rows read, including those that could not be parsed.
        problems: rows that could not be parsed.
        theirs: our column names -> the file's.
        broken: our column name -> rows whose text held half a character or bytes that are no text; they are U+FFFD.
        quoted: whether values may have stood in quotes, so that one that is not closed may explain a line end in an id.
        unread_lines: ids -> the lines on which they stand, of those in lines that are no row of their own; None if each
            line is one.
    """

    name: str
    table: pa.Table
    where: Callable[[int], str]
    n_read: int
    theirs: dict[str, str]
    lists: dict[str, list[Any]] = field(default_factory=dict)
    extras: dict[str, pa.ChunkedArray] = field(default_factory=dict)
    problems: list[RowProblem] = field(default_factory=list)
    broken: dict[str, set[int]] = field(default_factory=dict)
    quoted: bool = False
    unread_lines: Callable[[Collection[str]], dict[str, int]] | None = None

    def labels(self) -> dict[str, str]:
        """Our column names -> file and column, for messages."""
        return {ours: f"{self.name}, column {theirs!r}" for ours, theirs in self.theirs.items()}

    def is_broken(self, column: str) -> np.ndarray:
        """Mask (N,) of the rows whose text of this column was broken."""
        mask = np.zeros(self.table.num_rows, bool)
        mask[sorted(self.broken.get(column, ()))] = True
        return mask


def read_delimited(
    source: Source,
    layout: Delimited,
    columns: Mapping[str, str] | None,
    optional: Collection[str] = (),
    lists: Collection[str] = (),
    *,
    advice: Advice,
    extras: Mapping[str, str] | None = None,
) -> RawRows:
    """Read CSV, TSV or text with another separator.

    Args:
        source: the file.
        layout: of the text.
        columns: our name -> the file's name; None reads every column under its own name.
        optional: columns read if they are there.
        lists: columns that hold lists; returned as Python values.
        advice: what to tell users of a file that can't be read.
        extras: further columns, our name -> the file's name, for ``RawRows.extras``; all remaining columns are added
            under their own names. None reads only ``columns`` and ``optional``.

    Raises:
        PlumError: for a file that is missing, empty, damaged, in another encoding or without the columns, or in which
            a quote takes in rows.
    """
    check_encoding(layout.encoding)
    refuse_other_contents(source, layout.encoding)
    with damage_reported(source):
        try:
            header, n_lines = _header(source, layout)
            names, types = without_types([name.strip() for name in header], layout)
            full = dict(zip(header, names, strict=True)) if layout.names is None else {}
            columns, extras = _as_named(columns, full), _as_named(extras, full)
            if columns is None and layout.names is None and looks_like_data(names):
                resolve_columns(source, names, {"user_id": "user_id"}, (), advice)
            picked = pick_columns(source, names, columns, optional, extras, advice)
            wanted = list(dict.fromkeys(picked.all.values()))
            id_place = names.index(next((picked.asked[name] for name in _KEYS if name in picked.asked), names[0]))
            text = TextReader(source, layout, names, wanted, id_place)
            parsed = text.table(n_lines)
            if layout.may_be_quoted and text.was_quoted:
                layout = replace(layout, quoted=True)
                text = TextReader(source, layout, names, wanted, id_place)
                parsed = text.table(n_lines)
            text.tell()
        except UnicodeError as error:
            raise undecodable(source, layout.encoding, advice.encoding) from error
        except pa.ArrowInvalid as error:
            raise _unparsed(source, layout, advice, error) from error
        problems = _malformed(source, layout, len(names), text.malformed)
    where = lambda row: f"line {line_of(source, layout, len(names), row)[0]}"  # noqa: E731
    rows = _sorted_out(source, parsed, picked, lists, where, parsed.num_rows + text.malformed, problems)
    for ours in rows.lists:
        if types.get(picked.asked[ours], "").endswith("_seq"):
            rows.lists[ours] = [value.split() if value else None for value in rows.lists[ours]]
    rows.quoted = layout.quoted
    if text.malformed or text.has_multi_line:
        rows.unread_lines = lambda ids: lines_of(source, layout, id_place, len(names), ids)
    return rows


def _unparsed(source: Source, layout: Delimited, advice: Advice, error: pa.ArrowInvalid) -> PlumError:
    if "UTF8" in str(error):
        return undecodable(source, layout.encoding, advice.encoding)
    what = f"{source.name} can't be read as text with separator {layout.separator!r}"
    return PlumError(what, str(error)[:200], advice.columns)


def _header(source: Source, layout: Delimited) -> tuple[list[str], int]:
    """The names of the columns, and the number of lines that they take up."""
    first = next(records(source, layout), None)
    if first is None:
        raise empty_file(source)
    return (list(layout.names), 0) if layout.names is not None else (first.fields, first.last)


def _as_named(columns: Mapping[str, str] | None, full: Mapping[str, str]) -> dict[str, str] | None:
    """A mapping in which columns may have the names of the header as they stand, with their blanks and types."""
    return None if columns is None else {ours: full.get(theirs, theirs) for ours, theirs in columns.items()}


def _malformed(source: Source, layout: Delimited, n_fields: int, count: int) -> list[RowProblem]:
    if not count:
        return []
    line, found = line_of(source, layout, n_fields, None)
    like = " like the header" if layout.names is None else ""
    return [
        RowProblem(source.name, f"the row does not have {n_fields} fields{like}", count, f"line {line}: {found} fields")
    ]


def read_parquet(
    source: Source,
    columns: Mapping[str, str] | None,
    optional: Collection[str] = (),
    lists: Collection[str] = (),
    *,
    advice: Advice,
    extras: Mapping[str, str] | None = None,
) -> RawRows:
    """Read Parquet; messages count rows from 1. Args and Raises as in :func:`read_delimited`."""
    import pyarrow.parquet as pq

    if not is_file(source.path):
        raise missing_file(source.path)
    try:
        with pq.ParquetFile(source.path) as file:
            names = file.schema_arrow.names
            picked = pick_columns(source, names, columns, optional, extras, advice)
            if columns is None:  # no one has named them: what can't be read is left out
                picked = Picked({}, picked.asked)
            picked = _without_odd_types(source, file.schema_arrow, picked)
            if columns is None:
                picked = Picked(picked.extras, {})
            raw = file.read(columns=list(dict.fromkeys(picked.all.values())))
            parsed, broken = _plain(with_known_zones(raw, source.name))
    except (pa.ArrowException, OSError, UnicodeError, MemoryError) as error:
        raise PlumError(
            f"{source.name} is not a complete Parquet file",
            f"{str(error)[:300]} ({source.path.stat().st_size:,} bytes)",
            f"copy or write {source.path} again",
        ) from error
    rows = _sorted_out(source, parsed, picked, lists, lambda row: f"row {row + 1}", parsed.num_rows, [])
    rows.broken = {ours: broken[theirs] for ours, theirs in picked.all.items() if theirs in broken}
    return rows


def _sorted_out(
    source: Source,
    parsed: pa.Table,
    picked: Picked,
    lists: Collection[str],
    where: Callable[[int], str],
    n_read: int,
    problems: list[RowProblem],
) -> RawRows:
    """Convert a table with the file's column names to the common form."""
    return RawRows(
        source.name,
        pa.table({ours: parsed.column(theirs) for ours, theirs in picked.asked.items() if ours not in lists}),
        where,
        n_read,
        picked.all,
        {ours: python_values(parsed.column(theirs)) for ours, theirs in picked.asked.items() if ours in lists},
        {ours: parsed.column(theirs) for ours, theirs in picked.extras.items()},
        problems,
    )


def _without_odd_types(source: Source, schema: pa.Schema, picked: Picked) -> Picked:
    """Drop extra columns that can't be fields, such as images or vectors, before they are read."""
    odd = [ours for ours, theirs in picked.extras.items() if not can_be_field(schema.field(theirs).type)]
    if odd:
        listed = ", ".join(f"{name!r} ({schema.field(picked.extras[name]).type})" for name in odd)
        log.warning("%s: left out columns whose types can't be fields: %s", source.name, listed)
    return Picked(picked.asked, {ours: theirs for ours, theirs in picked.extras.items() if ours not in odd})


def _plain(table: pa.Table) -> tuple[pa.Table, dict[str, set[int]]]:
    """A table of plain columns, and the rows of each in which text was broken, if there are any."""
    columns = {name: plain(column) for name, column in zip(table.column_names, table.columns, strict=True)}
    broken = {name: rows for name, (_, rows) in columns.items() if rows}
    return pa.table({name: column for name, (column, _) in columns.items()}), broken
