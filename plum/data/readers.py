"""Read delimited text and Parquet into one form: our column names, and each row's place in its file.

Text stays text here, so that the same checks (``plum.data.rows``) apply to every format.
"""

from __future__ import annotations

import csv
import io
import logging
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
import pyarrow.csv as pa_csv

from plum.data.files import (
    Advice,
    Source,
    check_encoding,
    damage_reported,
    empty_file,
    further_columns,
    looks_like_data,
    resolve_columns,
    undecodable,
)
from plum.data.tables import RowProblem
from plum.data.zones import with_known_zones
from plum.errors import PlumError

log = logging.getLogger(__name__)

_UNIT_SEPARATOR = "\x1f"  # replaces "::", which no fast parser accepts; it occurs in no text
_LONGEST_FIELD = 1 << 27  # characters; the csv module's own limit of 2^17 is too short for a description


@dataclass(frozen=True)
class Delimited:
    """How a text file is laid out.

    Args:
        separator: between fields; ``::`` is allowed in files without quotes.
        encoding: of the text.
        quoted: whether fields may be in double quotes (and then hold separators and line ends).
        names: the columns of a file without a header line.
    """

    separator: str = ","
    encoding: str = "utf-8"
    quoted: bool = True
    names: tuple[str, ...] | None = None


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
    """

    name: str
    table: pa.Table
    where: Callable[[int], str]
    n_read: int
    theirs: dict[str, str]
    lists: dict[str, list[Any]] = field(default_factory=dict)
    extras: dict[str, pa.ChunkedArray] = field(default_factory=dict)
    problems: list[RowProblem] = field(default_factory=list)

    def labels(self) -> dict[str, str]:
        """Our column names -> file and column, for messages."""
        return {ours: f"{self.name}, column {theirs!r}" for ours, theirs in self.theirs.items()}


@dataclass(frozen=True)
class Picked:
    """Columns to read, our name -> the file's name: those asked for by name, and the extra ones."""

    asked: dict[str, str]
    extras: dict[str, str]

    @property
    def all(self) -> dict[str, str]:
        """Both together."""
        return self.asked | self.extras


def pick_columns(
    source: Source,
    names: list[str],
    columns: Mapping[str, str],
    optional: Collection[str],
    extras: Mapping[str, str] | None,
    advice: Advice,
) -> Picked:
    """Pick the columns to read; args as in :func:`read_delimited`, Raises as in ``files.resolve_columns``."""
    picked = resolve_columns(source, names, {**columns, **(extras or {})}, optional, advice)
    further = {} if extras is None else further_columns(source, names, picked)
    mapped = {ours: picked[ours] for ours in extras or ()}
    return Picked({ours: theirs for ours, theirs in picked.items() if ours not in mapped}, mapped | further)


def open_text(stream: Any, encoding: str) -> io.TextIOWrapper:
    """Decode a stream of bytes; keep line ends, and drop a UTF-8 byte-order mark."""
    codec = "utf-8-sig" if encoding.lower().replace("_", "-") in ("utf-8", "utf8") else encoding
    return io.TextIOWrapper(stream, encoding=codec, newline="")


def records(source: Source, layout: Delimited) -> Iterator[tuple[int, int, list[str]]]:
    """Yield (line the record starts on, number of fields, fields) of every record that isn't blank."""
    with source.open() as stream, open_text(stream, layout.encoding) as text:
        if len(layout.separator) > 1:
            for number, line in enumerate(text, 1):
                if line.strip("\r\n"):
                    fields = line.rstrip("\r\n").split(layout.separator)
                    yield number, len(fields), fields
            return
        reader = csv.reader(
            text, delimiter=layout.separator, quoting=csv.QUOTE_MINIMAL if layout.quoted else csv.QUOTE_NONE
        )
        csv.field_size_limit(_LONGEST_FIELD)
        before = 0
        try:
            for fields in reader:
                if fields:
                    yield before + 1, len(fields), fields
                before = reader.line_num
        except csv.Error:  # a field longer than the limit: an unclosed quote, after which lines can't be counted
            yield before + 1, 0, []


def _line(source: Source, layout: Delimited, n_fields: int, row: int | None) -> tuple[int, int]:
    """Find the line of row number ``row`` among the well-formed rows; None finds the first malformed row.

    Returns:
        The line, from 1, and its number of fields. This scans the file again, which only bad input pays for.
    """
    lines = records(source, layout)
    if layout.names is None:
        next(lines)
    seen = -1
    for line, found, _ in lines:
        seen += found == n_fields
        if (row is None and found != n_fields) or (row is not None and seen == row):
            return line, found
    return 0, 0


def _header(source: Source, layout: Delimited, advice: Advice) -> list[str]:
    try:
        first = next(records(source, layout), None)
    except UnicodeDecodeError as error:
        raise undecodable(source, layout.encoding, advice.encoding) from error
    if first is None:
        raise empty_file(source)
    return list(layout.names) if layout.names is not None else first[2]


def _parse_delimited(source: Source, layout: Delimited, names: list[str], wanted: list[str]) -> tuple[pa.Table, int]:
    """Parse with pyarrow. Returns the table under the file's names, and the number of rows with a wrong field count."""
    malformed = 0
    swallowed = False

    def note(row: Any) -> str:
        nonlocal malformed, swallowed
        malformed += 1
        swallowed |= layout.quoted and "\n" in row.text.strip("\r\n")
        return "skip"

    separator = layout.separator
    stream: Any = source.open()
    if len(separator) > 1:
        separator = _UNIT_SEPARATOR
        with stream:
            stream = io.BytesIO(stream.read().replace(layout.separator.encode(), separator.encode()))
    with stream:
        table = pa_csv.read_csv(
            stream,
            read_options=pa_csv.ReadOptions(
                column_names=list(layout.names) if layout.names else None, encoding=layout.encoding, block_size=1 << 23
            ),
            parse_options=pa_csv.ParseOptions(
                delimiter=separator,
                quote_char='"' if layout.quoted else False,
                newlines_in_values=layout.quoted,
                invalid_row_handler=note,
            ),
            convert_options=pa_csv.ConvertOptions(
                column_types={name: pa.string() for name in names}, include_columns=wanted, strings_can_be_null=False
            ),
        )
    if swallowed:
        raise _unclosed_quote(source, layout, len(names))
    return table, malformed


def _unclosed_quote(source: Source, layout: Delimited, n_fields: int) -> PlumError:
    line, _ = _line(source, layout, n_fields, None)
    return PlumError(
        f"{source.name}: the double quote opened on line {line:,} is not closed on that line",
        "a row that spans several lines and has the wrong number of fields",
        "close the quote, or double each quote that belongs to the text",
    )


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
        PlumError: for a file that is missing, empty, damaged, in another encoding or without the columns.
    """
    check_encoding(layout.encoding)
    with damage_reported(source):
        names = _header(source, layout, advice)
        if columns is None:
            if layout.names is None and looks_like_data(names):
                resolve_columns(source, names, {"user_id": "user_id"}, (), advice)
            columns = {name: name for name in names}
        picked = pick_columns(source, names, columns, optional, extras, advice)
        wanted = list(dict.fromkeys(picked.all.values()))
        try:
            parsed, malformed = _parse_delimited(source, layout, names, wanted)
        except (UnicodeDecodeError, pa.ArrowInvalid) as error:
            if isinstance(error, UnicodeDecodeError) or "UTF8" in str(error):
                raise undecodable(source, layout.encoding, advice.encoding) from error
            if "straddling" in str(error):
                raise _unclosed_quote(source, layout, len(names)) from error
            raise PlumError(
                f"{source.name} can't be read as text with separator {layout.separator!r}", str(error), advice.columns
            ) from error
        problems = []
        if malformed:
            line, found = _line(source, layout, len(names), None)
            reason = (
                f"the row does not have {len(names)} fields like the header"
                if layout.names is None
                else f"the row does not have {len(names)} fields"
            )
            problems.append(RowProblem(source.name, reason, malformed, f"line {line}: {found} fields"))
    n_read = parsed.num_rows + malformed
    where = lambda row: f"line {_line(source, layout, len(names), row)[0]}"  # noqa: E731
    return _sorted_out(source, parsed, picked, lists, where, n_read, problems)


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

    with source.open():
        pass  # raises the usual error if the file is missing
    try:
        with pq.ParquetFile(source.path) as file:
            names = file.schema_arrow.names
            wanted = {name: name for name in names} if columns is None else columns
            picked = pick_columns(source, names, wanted, optional, extras, advice)
            picked = _without_odd_types(source, file.schema_arrow, picked)
            parsed = _plain_text(file.read(columns=list(dict.fromkeys(picked.all.values()))))
            parsed = with_known_zones(parsed, source.name)
    except (pa.ArrowException, OSError) as error:
        raise PlumError(
            f"{source.name} is not a complete Parquet file",
            f"{error} ({source.path.stat().st_size:,} bytes)",
            f"copy or write {source.path} again",
        ) from error
    return _sorted_out(source, parsed, picked, lists, lambda row: f"row {row + 1}", parsed.num_rows, [])


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
        {ours: parsed.column(theirs).to_pylist() for ours, theirs in picked.asked.items() if ours in lists},
        {ours: parsed.column(theirs) for ours, theirs in picked.extras.items()},
        problems,
    )


def _without_odd_types(source: Source, schema: pa.Schema, picked: Picked) -> Picked:
    """Drop extra columns that can't be fields, such as images or vectors, before they are read."""
    odd = [ours for ours, theirs in picked.extras.items() if not _can_be_field(schema.field(theirs).type)]
    if odd:
        listed = ", ".join(f"{name!r} ({schema.field(picked.extras[name]).type})" for name in odd)
        log.warning("%s: left out columns whose types can't be fields: %s", source.name, listed)
    return Picked(picked.asked, {ours: theirs for ours, theirs in picked.extras.items() if ours not in odd})


def _can_be_field(kind: pa.DataType) -> bool:
    types = pa.types
    if types.is_dictionary(kind):
        return _can_be_field(kind.value_type)
    if types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind):
        inner = kind.value_type
        return types.is_string(inner) or types.is_large_string(inner) or types.is_integer(inner)
    text = types.is_string(kind) or types.is_large_string(kind) or types.is_null(kind)
    number = types.is_boolean(kind) or types.is_integer(kind) or types.is_floating(kind) or types.is_decimal(kind)
    return text or number or types.is_timestamp(kind) or types.is_date(kind)


def _plain_text(table: pa.Table) -> pa.Table:
    """Turn dictionary-encoded and large strings into plain ones; other types stay."""
    for at, column in enumerate(table.schema):
        kind = column.type.value_type if pa.types.is_dictionary(column.type) else column.type
        kind = pa.string() if pa.types.is_large_string(kind) else kind
        if kind != column.type:
            table = table.set_column(at, column.name, table.column(at).cast(kind))
    return table
