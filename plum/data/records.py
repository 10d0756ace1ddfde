"""Records of delimited text one by one, with their lines: for headers, examples and messages. Tables are read in
:mod:`plum.data.readers`, much faster.
"""

from __future__ import annotations

import csv
from collections.abc import Collection, Iterable, Iterator
from typing import NamedTuple

from plum.data.dialect import Delimited
from plum.data.files import Source
from plum.data.lines import LONGEST_LINE, lines

_STAND_IN = "\x1f"  # for separators of several characters, which no fast parser accepts; it occurs in no text


class Record(NamedTuple):
    """A record.

    Attributes:
        line: on which it starts, from 1.
        n_fields: number of fields; 0 if it can't be parsed.
        fields: text.
        last: the line on which it ends.
    """

    line: int
    n_fields: int
    fields: list[str]
    last: int


def records(source: Source, layout: Delimited) -> Iterator[Record]:
    """Every record of a file that isn't blank.

    Raises:
        PlumError, UnicodeError: as :func:`plum.data.lines.lines`.
    """
    return parsed(lines(source, layout.encoding), layout)


def parsed(text: Iterable[str], layout: Delimited) -> Iterator[Record]:
    """Every record in lines of text (with their ends) that isn't blank."""
    separator = layout.separator
    if len(separator) > 1 and not layout.quoted and layout.escape is None:
        for number, line in enumerate(text, 1):
            if content := line.rstrip("\r\n"):
                fields = content.split(separator)
                yield Record(number, len(fields), fields, number)
        return
    single = _STAND_IN if len(separator) > 1 else separator
    several = single != separator
    text = (line.replace("\0", "\ufffd") for line in text)  # which the csv module of Python 3.10 refuses
    reader = csv.reader(
        (line.replace(separator, single) for line in text) if several else text,
        delimiter=single,
        quoting=csv.QUOTE_MINIMAL if layout.quoted else csv.QUOTE_NONE,
        quotechar=layout.quote,
        escapechar=layout.escape,
    )
    csv.field_size_limit(LONGEST_LINE)
    before = 0
    try:
        for fields in reader:
            if fields:
                fields = [field.replace(single, separator) for field in fields] if several else fields
                yield Record(before + 1, len(fields), fields, reader.line_num)
            before = reader.line_num
    except csv.Error:  # a field longer than the limit: an unclosed quote, after which lines can't be counted
        yield Record(before + 1, 0, [], reader.line_num)


def line_of(source: Source, layout: Delimited, n_fields: int, row: int | None) -> tuple[int, int]:
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


def lines_of(source: Source, layout: Delimited, place: int, n_fields: int, ids: Collection[str]) -> dict[str, int]:
    """Find ids in the lines of a file that have the fields of a row or more, whatever its quotes say.

    Args:
        source: the file.
        layout: of the text.
        place: number of the field, from 0, that holds the id of a row.
        n_fields: of a row.
        ids: to look for.

    Returns:
        Those that are found -> the line of the first one.
    """
    wanted, found = set(ids), dict[str, int]()
    for number, line in enumerate(lines(source, layout.encoding), 1):
        fields = line.rstrip("\r\n").split(layout.separator)
        if len(fields) >= n_fields and (text := fields[place].strip(f"{layout.quote} ")) in wanted:
            found.setdefault(text, number)
    return found
