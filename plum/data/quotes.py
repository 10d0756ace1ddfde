"""Quoted values in a block of delimited text: where they begin and end, and whether one has swallowed rows."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from plum.data.dialect import Delimited

_LINE_END, _LINE_ENDS = re.compile(rb"[\r\n]"), re.compile(rb"\r\n|\n|\r")
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
        ends = line_ends(block)
        at = np.searchsorted(self.starts, ends) - 1
        inside = (at >= 0) & (ends < np.append(self.ends, 0)[at])
        return np.unique(at[inside])


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
    """The values if each first quote opens a field and each second one ends it; None if it is not as simple."""
    held = np.frombuffer(block, np.uint8)
    places = np.flatnonzero(held == quote[0])
    if len(places) % 2:
        return None
    starts, ends = places[0::2], places[1::2]
    if len(separator) > 1:
        return None
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


def odd_values(block: bytes, spans: Spans, layout: Delimited, n_fields: int, id_place: int | None) -> Iterator[Odd]:
    """The quoted values that text other than a separator follows, and those that hold whole rows.

    Args:
        block: whole rows.
        spans: of the block.
        layout: of the text.
        n_fields: of a row.
        id_place: of the field that names a row's item or user, if there is one; only by it can rows be told from prose.
    """
    if not len(spans.starts):
        return
    separator = layout.separator.encode()
    held, borders = np.frombuffer(block, np.uint8), _borders(separator)
    after = np.minimum(spans.ends + 1, len(held) - 1)
    goes_on = ~borders[held[after]] & (spans.ends < len(held) - 1)
    several = spans.multi_line(block)
    if goes_on.any():
        of_several = np.zeros(len(spans.starts), bool)
        of_several[several] = True
        for place in np.flatnonzero(goes_on):
            start, end = int(spans.starts[place]), int(spans.ends[place])
            escaped = layout.escape is None and block[end - 1 : end] == b"\\"
            kind = "swallows" if of_several[place] else "escaped" if escaped else "goes on"
            yield Odd(start, kind, end)
    for place in several:
        start, end = int(spans.starts[place]), int(spans.ends[place])
        if (
            id_place is not None
            and not goes_on[place]
            and _holds_rows(block, start, end, separator, n_fields, id_place)
        ):
            yield Odd(start, "swallows", end)


def _holds_rows(block: bytes, start: int, end: int, separator: bytes, n_fields: int, id_place: int) -> bool:
    """Whether each line that a value spans is a row of its own if quotes are plain text, and begins as rows do."""
    first = max(block.rfind(b"\n", 0, start), block.rfind(b"\r", 0, start)) + 1
    last = _LINE_END.search(block, end)
    touched = [line.split(separator) for line in _LINE_ENDS.split(block[first : last.start() if last else len(block)])]
    if n_fields < 2 or any(len(fields) != n_fields for fields in touched):
        return False
    own, *others = [_classes(fields[id_place]) for fields in touched]
    return all(other == own for other in others)


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
