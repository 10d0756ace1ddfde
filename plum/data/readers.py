"""Read delimited text and Parquet into one form: our column names, and each row's place in its file.

Text stays text here, so that the same checks (``plum.data.rows``) apply to every format.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pa_csv

from plum.data.arrow_types import can_be_field, plain, python_values
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
from plum.data.lines import LONGEST_LINE, too_long, utf8_blocks
from plum.data.quotes import Odd, Spans, enclosed, odd_values, quoted_spans
from plum.data.records import lines_of, records
from plum.data.tables import RowProblem
from plum.errors import PlumError

log = logging.getLogger(__name__)

_LINE_END = re.compile(rb"\r\n|\n|\r")
_STAND_INS = b"\x1f\x1e\x1d\x1c\x01\x02\x03\x04\x05"  # for separators of several bytes, which no fast parser accepts
_QUOTE_ADVICE = (
    "close the quote, or double each quote that belongs to the text; if quotes are plain text in this file: "
    "--set data.source.quoting=none"
)
_TO_THE_END = "nor on any later one: all that follows would be one value"
_SPREAD = "a row that spans several lines and has the wrong number of fields"
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


def _line(source: Source, layout: Delimited, n_fields: int, row: int | None) -> tuple[int, int]:
    """Find the line of row number ``row`` among the well-formed rows; None finds the first malformed row.

    Returns:
        The line, from 1, and its number of fields. This scans the file again, which only bad input pays for.
    """
    found = records(source, layout)
    if layout.names is None:
        next(found)
    seen = -1
    for record in found:
        seen += record.n_fields == n_fields
        if (row is None and record.n_fields != n_fields) or (row is not None and seen == row):
            return record.line, record.n_fields
    return 0, 0


@dataclass(frozen=True)
class _Block:
    """Whole rows of a file.

    Attributes:
        content: UTF-8.
        line: number of the first line, from 1.
        spans: the quoted values.
    """

    content: bytes
    line: int
    spans: Spans

    def line_at(self, offset: int) -> int:
        """Number of the line of a byte."""
        return self.line + self.content.count(b"\n" if b"\n" in self.content else b"\r", 0, offset)


def _blocks(source: Source, layout: Delimited) -> Iterator[_Block]:
    """A file in blocks that end between rows.

    Raises:
        PlumError: for a line that is too long, and a quote that is not closed.
    """
    held, line = b"", 1
    for part in utf8_blocks(source, layout.encoding):
        held += part
        end = _row_end(held, len(held), layout)
        block = _spanned(held[:end], line, layout)
        while block.spans.open_at >= 0:  # end before the row whose quote is still open
            end = _row_end(held, block.spans.open_at, layout)
            block = _spanned(held[:end], line, layout)
        if end:
            yield block
            held, line = held[end:], block.line_at(end)
        elif len(held) > LONGEST_LINE:
            _refuse_endless(source, held, line, layout)
    if held:
        rest = _spanned(held, line, layout)
        if rest.spans.open_at >= 0:
            raise _unclosed_quote(
                source, rest.line_at(rest.spans.open_at), "nor on any later one: all that follows would be one value"
            )
        yield rest


def _row_end(held: bytes, before: int, layout: Delimited) -> int:
    """The offset after the last line end in front of ``before`` that no escape makes part of a field; 0 if none is."""
    escape = layout.escape.encode() if layout.escape else None
    end = before
    while True:
        end = (held.rfind(b"\n", 0, end) + 1) or (held.rfind(b"\r", 0, end) + 1)
        content = held[max(0, end - 3) : end].rstrip(b"\r\n")
        if not end or escape is None or not content.endswith(escape):
            return end
        end -= 1


def _spanned(content: bytes, line: int, layout: Delimited) -> _Block:
    spans = quoted_spans(content, layout) if layout.quoted else Spans.none()
    return _Block(content, line, spans)


def _refuse_endless(source: Source, held: bytes, line: int, layout: Delimited) -> None:
    """Refuse text without the end of a row in it, longer than any row."""
    block = _spanned(held, line, layout)
    if block.spans.open_at >= 0 and _LINE_END.search(held, block.spans.open_at):
        raise _unclosed_quote(
            source, block.line_at(block.spans.open_at), f"nor in the {LONGEST_LINE >> 20} MiB after it"
        )
    raise too_long(source, line)


def _unclosed_quote(source: Source, line: int, found: str) -> PlumError:
    return PlumError(
        f"{source.name}: the double quote opened on line {line:,} is not closed on that line", found, _QUOTE_ADVICE
    )


def _swallowed(source: Source, block: _Block, odd: Odd) -> PlumError:
    first, last = block.line_at(odd.at), block.line_at(odd.end)
    shown = _LINE_END.split(block.content[odd.at : odd.at + 200])[0].decode(errors="replace")
    return PlumError(
        f"{source.name}: the double quote opened on line {first:,} is not closed on that line and takes in rows up to "
        f"line {last:,}",
        f"{shown[:60]!r}",
        _QUOTE_ADVICE,
    )


class _Text:
    """Reads the blocks of a file one after the other.

    Args:
        source: the file.
        layout: of the text.
        names: of the columns.
        wanted: those to read.
        id_place: of the field that names a row's item or user.
    """

    def __init__(
        self, source: Source, layout: Delimited, names: list[str], wanted: list[str], id_place: int | None
    ) -> None:
        self.source, self.layout, self.names, self.wanted, self.id_place = source, layout, names, wanted, id_place
        self.malformed = 0
        self.has_multi_line = False
        self.doubled = self.stray = self.first_doubled = 0
        self.goes_on = self.first_goes_on = 0

    def table(self, skip_lines: int) -> pa.Table:
        """The rows under the file's names; ``skip_lines`` lines of header are left out.

        Raises:
            PlumError: for quotes that take in rows, or are escaped in a way that the layout does not have.
        """
        parts = []
        for number, block in enumerate(_blocks(self.source, self.layout)):
            self._check_quotes(block)
            content = _without_lines(block.content, skip_lines) if number == 0 else block.content
            if content:
                parts.append(self._parsed(content, block))
        schema = pa.schema([(name, pa.string()) for name in self.wanted])
        return pa.concat_tables(parts) if parts else schema.empty_table()

    def _parsed(self, content: bytes, block: _Block) -> pa.Table:
        """Parse on this thread, and from memory: no thread of pyarrow's may call Python when Python has ended."""
        layout, places = self.layout, [str(self.names.index(name)) for name in self.wanted]
        separator, swallowed = layout.separator.encode(), []
        if several := len(separator) > 1:
            stand_in = next((bytes([one]) for one in _STAND_INS if one not in content), b"\x1f")
            content, separator = content.replace(separator, stand_in), stand_in

        def note(row: Any) -> str:
            self.malformed += 1
            if layout.quoted and "\n" in row.text.strip("\r\n"):
                swallowed.append(row.text)
            return "skip"

        table = pa_csv.read_csv(
            pa.BufferReader(content),
            read_options=pa_csv.ReadOptions(
                column_names=[str(place) for place in range(len(self.names))],
                use_threads=False,
                block_size=len(content) + 1,
            ),
            parse_options=pa_csv.ParseOptions(
                delimiter=separator.decode(),
                quote_char=layout.quote if layout.quoted else False,
                escape_char=layout.escape or False,
                newlines_in_values=layout.quoted or layout.escape is not None,
                invalid_row_handler=note,
            ),
            convert_options=pa_csv.ConvertOptions(
                column_types=dict.fromkeys(places, pa.string()),
                include_columns=places or ["0"],
                strings_can_be_null=False,
            ),
        )
        if swallowed:
            line, _ = _line(self.source, layout, len(self.names), None)
            raise _unclosed_quote(self.source, line, _SPREAD)
        if several and (layout.quoted or layout.escape):
            columns = [pc.replace_substring(column, separator.decode(), layout.separator) for column in table.columns]
            table = pa.table(columns, table.column_names)
        return table.select(places).rename_columns(self.wanted)

    def _check_quotes(self, block: _Block) -> None:
        """Refuse values that take in rows; note those whose quotes are odd."""
        if not self.layout.quoted:
            doubled, stray, first = enclosed(block.content, self.layout.separator.encode())
            if doubled and not self.doubled:
                self.first_doubled = block.line_at(first)
            self.doubled, self.stray = self.doubled + doubled, self.stray + stray
            return
        several = block.spans.multi_line(block.content)
        self.has_multi_line |= bool(len(several))
        for odd in odd_values(block.content, block.spans, several, self.layout, len(self.names), self.id_place):
            if odd.kind == "swallows":
                raise _swallowed(self.source, block, odd)
            if odd.kind == "escaped":
                raise PlumError(
                    f"{self.source.name}: quotes inside values are escaped by backslashes (line "
                    f"{block.line_at(odd.at):,})",
                    repr(block.content[odd.at : odd.at + 60].decode(errors="replace")),
                    "say so: --set data.source.escape=backslash",
                )
            self.first_goes_on = self.first_goes_on or block.line_at(odd.at)
            self.goes_on += 1

    def tell(self) -> None:
        """Warn of values whose quotes are odd."""
        if self.doubled:
            log.warning(
                "%s: %s values stand in double quotes with doubled ones inside (first: line %s), and are kept as they "
                "are; if the quotes enclose values, set data.source.quoting to double",
                self.source.name,
                f"{self.doubled:,}",
                f"{self.first_doubled:,}",
            )
        if self.goes_on:
            log.warning(
                "%s: %s values go on after their closing quote (first: line %s), and lose their quotes; if quotes are "
                "plain text in this file, set data.source.quoting to none",
                self.source.name,
                f"{self.goes_on:,}",
                f"{self.first_goes_on:,}",
            )


def _without_lines(content: bytes, n: int) -> bytes:
    """Text without its first ``n`` lines."""
    for _ in range(n):
        end = _LINE_END.search(content)
        content = content[end.end() :] if end else b""
    return content


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
            key = next((picked.asked[name] for name in _KEYS if name in picked.asked), None)
            wanted = list(dict.fromkeys(picked.all.values()))
            id_place = None if key is None else names.index(key)
            text = _Text(source, layout, names, wanted, id_place)
            parsed = text.table(n_lines)
            if layout.may_be_quoted and text.doubled and not text.stray:
                layout = replace(layout, quoted=True)
                text = _Text(source, layout, names, wanted, id_place)
                parsed = text.table(n_lines)
            text.tell()
        except UnicodeError as error:
            raise undecodable(source, layout.encoding, advice.encoding) from error
        except pa.ArrowInvalid as error:
            if "UTF8" in str(error):
                raise undecodable(source, layout.encoding, advice.encoding) from error
            what = f"{source.name} can't be read as text with separator {layout.separator!r}"
            raise PlumError(what, str(error)[:200], advice.columns) from error
        problems = _malformed(source, layout, len(names), text.malformed)
    where = lambda row: f"line {_line(source, layout, len(names), row)[0]}"  # noqa: E731
    rows = _sorted_out(source, parsed, picked, lists, where, parsed.num_rows + text.malformed, problems)
    for ours in rows.lists:
        if types.get(picked.asked[ours], "").endswith("_seq"):
            rows.lists[ours] = [value.split() if value else None for value in rows.lists[ours]]
    rows.quoted = layout.quoted
    if key is not None and (text.malformed or text.has_multi_line):
        rows.unread_lines = lambda ids: lines_of(source, layout, names.index(key), len(names), ids)
    return rows


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
    line, found = _line(source, layout, n_fields, None)
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
            parsed, broken = _plain(file.read(columns=list(dict.fromkeys(picked.all.values()))))
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
