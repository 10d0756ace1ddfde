"""Quoted values in a block of delimited text: where they begin and end, and whether one has swallowed rows."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from plum.data.dialect import Delimited

_LINE_ENDS = re.compile(rb"\r\n|\n|\r")
_KINDS = tuple(map(re.compile, (rb"[A-Za-z]", rb"[0-9]", rb"\s", rb"[^A-Za-z0-9\s]")))


@dataclass(frozen=True)
class Spans:
    """The quoted values of a block.

    Attributes:
        starts, ends: int64 (Q,), offsets of the opening and of the closing quotes, ascending.
        open_at: offset of a quote that opens and is not closed within the block; -1 if there is none.
    """

    starts: np.ndarray
    ends: np.ndarray
    open_at: int = -1

    @staticmethod
    def none() -> Spans:
        """No quoted value."""
        return Spans(np.zeros(0, np.int64), np.zeros(0, np.int64))

    def multi_line(self, block: bytes) -> np.ndarray:
        """The values that hold line ends, as their numbers (M,)."""
        end = 0x0A if b"\n" in block else 0x0D
        before = np.cumsum(np.frombuffer(block, np.uint8) == end, dtype=np.int32)
        return np.flatnonzero(before[self.starts] != before[self.ends])


def line_ends(block: bytes) -> np.ndarray:
    """Offsets of all line feeds of a block, or of carriage returns if it has none, int64."""
    held = np.frombuffer(block, np.uint8)
    found = np.flatnonzero(held == 0x0A)
    return found if len(found) else np.flatnonzero(held == 0x0D)


def quoted_spans(block: bytes, layout: Delimited) -> Spans:
    """Find the quoted values of a block that begins with a row: those whose quote opens a field.

    Args:
        block: UTF-8.
        layout: of the text.
    """
    separator, quote = layout.separator.encode(), layout.quote.encode()
    if quote not in block:
        return Spans.none()
    escape = layout.escape.encode() if layout.escape else None
    if escape is None or escape not in block:
        escape = None
        if (paired := _paired(block, separator, quote)) is not None:
            return paired
    starts, ends, open_at = [], [], -1
    for match in _pattern(separator, quote, escape).finditer(block):
        if match[1]:
            starts.append(match.start())
            ends.append(match.end() - 1)
        else:
            open_at = match.start()
    return Spans(np.array(starts, np.int64), np.array(ends, np.int64), open_at)


def _paired(block: bytes, separator: bytes, quote: bytes) -> Spans | None:
    """The values of a block in which quotes only enclose values or are doubled inside; None if it is not as simple.

    An even number of quotes comes before one that opens a value, and up to one that closes it, its own included.
    """
    if len(separator) > 1:
        return None
    held = np.frombuffer(block, np.uint8)
    places = np.flatnonzero(held == quote[0])
    if len(places) % 2:
        return None
    run = np.flatnonzero(np.diff(places, prepend=-2) != 1)  # where each run of quotes without anything between begins
    upto = np.append(run[1:], len(places))
    starts, ends = places[run[run % 2 == 0]], places[upto[upto % 2 == 0] - 1]
    borders = _borders(separator)
    before = borders[held[starts - 1]] | (starts == 0)
    after = borders[held[np.minimum(ends + 1, len(held) - 1)]] | (ends == len(held) - 1)
    return Spans(starts, ends) if before.all() and after.all() else None


def _pattern(separator: bytes, quote: bytes, escape: bytes | None) -> re.Pattern[bytes]:
    """A quoted value from its opening quote; group 1 is the closing one, if there is one."""
    q, sep = re.escape(quote), re.escape(separator)
    if escape is None:
        inside = rb"[^%b]*(?:%b%b[^%b]*)*" % (q, q, q, q)
    else:
        e = re.escape(escape)
        inside = rb"[^%b%b]*(?:(?:%b%b|%b.)[^%b%b]*)*" % (q, e, q, q, e, q, e)
    return re.compile(rb"(?:\A|(?<=[\r\n])|(?<=%b))%b%b(%b)?" % (sep, q, inside, q), re.DOTALL)


def _borders(separator: bytes) -> np.ndarray:
    """Mask (256,) of the bytes that may follow a closing quote."""
    borders = np.zeros(256, bool)
    borders[[separator[0], 0x0A, 0x0D]] = True
    return borders


@dataclass(frozen=True)
class Odd:
    """A quoted value that is not what it seems.

    Attributes:
        at: offset of the opening quote.
        kind: ``swallows`` rows; ``escaped``: by backslashes, as its quotes are; ``goes on`` after the closing quote.
        end: offset of the closing quote.
    """

    at: int
    kind: str
    end: int


def odd_values(
    block: bytes, spans: Spans, several: np.ndarray, layout: Delimited, n_fields: int, id_place: int
) -> Iterator[Odd]:
    """The quoted values that text other than a separator follows, and those that hold whole rows.

    Args:
        block: whole rows.
        spans: of the block.
        several: :meth:`Spans.multi_line` of the block.
        layout: of the text.
        n_fields: of a row.
        id_place: of the field that names a row's item or user.
    """
    if not len(spans.starts):
        return
    separator = layout.separator.encode()
    held, borders = np.frombuffer(block, np.uint8), _borders(separator)
    after = np.minimum(spans.ends + 1, len(held) - 1)
    goes_on = ~borders[held[after]] & (spans.ends < len(held) - 1)
    if goes_on.any():
        of_several = np.zeros(len(spans.starts), bool)
        of_several[several] = True
        for place in np.flatnonzero(goes_on):
            start, end = int(spans.starts[place]), int(spans.ends[place])
            escaped = layout.escape is None and block[end - 1 : end] == b"\\"
            kind = "swallows" if of_several[place] else "escaped" if escaped else "goes on"
            yield Odd(start, kind, end)
    if n_fields > 1:
        for start, end in _holding_rows(block, spans, several[~goes_on[several]], separator, n_fields, id_place):
            yield Odd(start, "swallows", end)


def _holding_rows(
    block: bytes, spans: Spans, several: np.ndarray, separator: bytes, n_fields: int, id_place: int
) -> Iterator[tuple[int, int]]:
    """Of values that span several lines (their numbers), those whose lines are rows of their own if quotes are text.

    Each line has the fields of a row then, and begins as rows do.
    """
    if not len(several):
        return
    ends = line_ends(block)
    separators = np.flatnonzero(np.frombuffer(block, np.uint8) == separator[0])
    upto = np.append(np.searchsorted(separators, ends), len(separators))
    fields = np.diff(upto, prepend=0) // len(separator) + 1
    unlike = np.append(0, np.cumsum(fields != n_fields))
    first, last = np.searchsorted(ends, spans.starts[several]), np.searchsorted(ends, spans.ends[several])
    for place in np.flatnonzero(unlike[first] == unlike[last + 1]):
        start = int(ends[first[place] - 1]) + 1 if first[place] else 0
        stop = int(ends[last[place]]) if last[place] < len(ends) else len(block)
        lines = [line.split(separator) for line in _LINE_ENDS.split(block[start:stop].rstrip(b"\r"))]
        if all(len(line) == n_fields for line in lines):
            own, *others = [_classes(line[id_place]) for line in lines]
            if all(other == own for other in others):
                yield int(spans.starts[several[place]]), int(spans.ends[several[place]])


def _classes(value: bytes) -> tuple[bool, ...]:
    """What a value is made of: letters, digits, blanks, anything else."""
    return tuple(bool(kind.search(value)) for kind in _KINDS)


def enclosed(block: bytes, separator: bytes) -> tuple[int, int, int]:
    """Look at double quotes in a block that is read without quoting.

    Returns:
        Number of fields in quotes with doubled ones inside, as only programs that quote write them; number of fields
        that begin with a quote, but are not in quotes; and offset of the first of the former.
    """
    if b'"' not in block:
        return 0, 0, 0
    sep = re.escape(separator)
    begins = rb"(?:\A|(?<=[\r\n])|(?<=%b))" % sep
    field = rb'(?:(?!%b)[^"\r\n]|"")*' % sep
    found = list(re.finditer(rb'%b"%b"(?=[\r\n]|%b|\Z)' % (begins, field, sep), block))
    doubled = [match.start() for match in found if b'""' in match[0][1:-1]]
    stray = len(re.findall(begins + b'"', block)) - len(found)
    return len(doubled), stray, doubled[0] if doubled else 0
