"""Delimited text in blocks of whole rows, each parsed on its own; quotes that take in rows are refused on the way."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pa_csv

from plum.data.dialect import Delimited
from plum.data.files import Source
from plum.data.lines import LONGEST_LINE, too_long, utf8_blocks
from plum.data.quotes import Odd, Spans, enclosed, odd_values, quoted_spans
from plum.data.records import line_of
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


class TextReader:
    """Reads the blocks of a file one after the other.

    Args:
        source: the file.
        layout: of the text.
        names: of the columns.
        wanted: those to read.
        id_place: of the field that names a row's item or user.
    """

    def __init__(self, source: Source, layout: Delimited, names: list[str], wanted: list[str], id_place: int) -> None:
        self.source, self.layout, self.names, self.wanted, self.id_place = source, layout, names, wanted, id_place
        self.malformed = 0
        self.has_multi_line = False
        self.doubled = self.stray = self.first_doubled = 0
        self.goes_on = self.first_goes_on = 0

    @property
    def was_quoted(self) -> bool:
        """Whether all quotes of text read without quoting enclose values, some of which hold doubled quotes."""
        return bool(self.doubled) and not self.stray

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
            line, _ = line_of(self.source, layout, len(self.names), None)
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
