"""Text of sequences: each line is a user and then this user's items, in the order of the interactions."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from plum.data.dialect import JSON_LINES, PARQUET, RECOGNISED, file_format, word_for
from plum.data.encodings import check_encoding, undecodable
from plum.data.files import Source, damage_reported, empty_file, refuse_other_contents
from plum.data.filters import RowFilter
from plum.data.lines import lines, mended
from plum.data.parts import find_parts, read_parts
from plum.data.readers import RawRows
from plum.data.tables import RowProblem, refuse_many_problems
from plum.data.times import AUTO, POSITION
from plum.errors import PlumError

_COLUMNS = ("user_id", "item_id")
_CHUNK = 1_000_000  # items held as Python text before they become an Arrow array


class LineProblems:
    """Counts the lines of a file that can't be used, by reason, each with the first example."""

    def __init__(self, source: Source) -> None:
        self.name = source.name
        self._found: dict[str, list[Any]] = {}

    def add(self, reason: str, line: int, content: str) -> None:
        """Count a line."""
        self._found.setdefault(reason, [0, f"line {line}: {content.strip()[:40]!r}"])[0] += 1

    def told(self) -> list[RowProblem]:
        """The problems, in the order of their first lines."""
        return [RowProblem(self.name, reason, count, example) for reason, (count, example) in self._found.items()]


@dataclass
class Sequences:
    """The usable lines of a file, L of them with N items together.

    Attributes:
        name: of the file, for messages.
        users: (L,) as written.
        lengths: (L,) items of each.
        lines: (L,) their lines in the file, from 1.
        items: (N,) as written, line by line.
        n_lines: lines read that are not blank.
        problems: unusable lines.
    """

    name: str
    users: list[str] = field(default_factory=list)
    lengths: list[int] = field(default_factory=list)
    lines: list[int] = field(default_factory=list)
    items: pa.ChunkedArray = field(default_factory=lambda: pa.chunked_array([], pa.string()))
    n_lines: int = 0
    problems: list[RowProblem] = field(default_factory=list)

    def owners(self) -> pa.Array:
        """(N,) the user of each item."""
        return pa.array(self.users, pa.string()).take(pa.array(np.repeat(np.arange(len(self.users)), self.lengths)))

    def where(self) -> Callable[[int], str]:
        """Item from 0 -> its place: ``"line 7, item 3"``."""
        ends = np.cumsum(self.lengths)

        def place(row: int) -> str:
            at = int(np.searchsorted(ends, row, side="right"))
            return f"line {self.lines[at]}, item {row - int(ends[at]) + self.lengths[at] + 1}"

        return place


def pseudo_random(item: str) -> bytes:
    """A sort key for a catalogue: the hash of an item's id, which says nothing about the item.

    Files of sequences number items by first occurrence, test items included. Catalogue rows break ties: that order
    would leak.
    """
    return hashlib.sha256(item.encode()).digest()


def shuffled(catalogue: pd.DataFrame) -> pd.DataFrame:
    """A catalogue in the order of :func:`pseudo_random`, with a new index."""
    return catalogue.sort_values("item_id", key=lambda ids: ids.map(pseudo_random), ignore_index=True)


def read_sequences(
    source: Source, encoding: str = "utf-8", separator: str | None = None, seen: set[str] | None = None
) -> Sequences:
    """Read ``user item item ...`` lines; blank lines are skipped.

    Unusable are lines without an item, and further lines of a user.

    Args:
        source: the file.
        encoding: of the text.
        separator: between user and items; None: blanks and tabs.
        seen: users of other files, whose lines here are further ones; the users of this file are added.

    Raises:
        PlumError: if the file is missing, empty or damaged, holds something else than text, or has another encoding.
    """
    check_encoding(encoding)
    refuse_other_contents(source, encoding)
    found, problems, known = Sequences(source.name), LineProblems(source), set[str]() if seen is None else seen
    chunks: list[pa.Array] = []
    held: list[str] = []
    for line, content in _lines(source, encoding):
        user, *items = _fields(content, separator) or [""]
        if not user and not any(items):
            continue
        found.n_lines += 1
        if reason := _unusable(user, items, known):
            problems.add(reason, line, content)
            continue
        known.add(user)
        found.users.append(user)
        found.lengths.append(len(items))
        found.lines.append(line)
        held += items
        if len(held) >= _CHUNK:
            chunks.append(pa.array(held, pa.string()))
            held = []
    if not found.n_lines:
        raise empty_file(source)
    found.items, found.problems = pa.chunked_array([*chunks, pa.array(held, pa.string())]), problems.told()
    return found


def refuse_beyond(columns: Mapping[str, str], where: RowFilter | None, unit: str, layout: str | None) -> None:
    """Refuse settings of what sequences, which hold users and items alone, don't have.

    Raises:
        PlumError: for columns but the users' id, a unit or layout of times, and a rule on other fields.
    """
    beyond = [f"columns.{name}" for name in columns if name != "user_id"]
    beyond += ["timestamp_unit"] if unit not in (AUTO, POSITION) else []
    beyond += ["timestamp_format"] if layout is not None else []
    beyond += [] if where is None else [f"where, on {name}" for name in where.fields if name not in _COLUMNS]
    if beyond:
        what = "layout sequences has no columns and no times, only users and their items in order"
        raise PlumError(what, ", ".join(beyond), "leave these settings out, or the layout")


def _unusable(user: str, items: list[str], known: set[str]) -> str:
    """Why a line can't be used; blank if it can."""
    if not user:
        return "no user before the items"
    return "a second line of the user" if user in known else "" if items else "no item after the user"


def _lines(source: Source, encoding: str) -> Iterator[tuple[int, str]]:
    with damage_reported(source):
        try:
            yield from enumerate(map(mended, lines(source, encoding)), 1)
        except UnicodeError as error:
            fix = "save the file as UTF-8, or name its encoding: --set data.source.encoding=cp1252 (or latin-1, ...)"
            raise undecodable(source, encoding, fix) from error


def _fields(content: str, separator: str | None) -> list[str]:
    """The fields of a line; separators at its end, as spreadsheets write them, enclose none."""
    if separator is None:
        return content.split()
    fields = [one.strip() for one in content.rstrip("\r\n").split(separator)]
    while fields and not fields[-1]:
        fields.pop()
    return fields


def read_log(path: Path, *, encoding: str, delimiter: str | None, max_bad_share: float) -> RawRows:
    """Read a log of sequences as rows of ``user_id`` and ``item_id``.

    Args:
        path: a file, a folder of parts, or a pattern.
        encoding: of the text.
        delimiter: between user and items; None: as the suffix says, else blanks and tabs.
        max_bad_share: share of unusable lines, from 0 to 1, over which the log is refused.

    Raises:
        PlumError: as :func:`read_sequences`; for formats that hold no sequences; if too many lines are unusable.
    """
    parts = find_parts(path, lambda part: sequences_format(part, delimiter), tell=True)
    seen, n_lines, problems = set[str](), 0, list[RowProblem]()

    def read(part: Path) -> RawRows:
        nonlocal n_lines
        found = read_sequences(Source(part), encoding, sequences_format(part, delimiter) or None, seen)
        _refuse_one_field(found, delimiter)
        n_lines += found.n_lines
        problems.extend(found.problems)
        table = pa.table({"user_id": found.owners(), "item_id": found.items})
        n_read = table.num_rows + sum(problem.count for problem in found.problems)
        theirs = {"user_id": "user", "item_id": "items"}
        return RawRows(found.name, table, found.where(), n_read, theirs, problems=found.problems)

    rows = read_parts(path, parts, read)
    refuse_many_problems(problems, n_lines, max_bad_share)
    return rows


def sequences_format(part: Path, delimiter: str | None) -> str:
    """The separator of a file; ``RECOGNISED`` for blanks and tabs.

    Raises:
        PlumError: for a format of rows.
    """
    kind = file_format(part, delimiter if delimiter is not None else " ")
    if kind in (JSON_LINES, PARQUET):
        fix = "write a line per user, or leave data.source.layout out"
        raise PlumError(f"{part.name}: layout sequences is for text", f"the suffix says {kind}", fix)
    if delimiter is not None:
        return delimiter
    return kind if kind not in (RECOGNISED, "\t") else RECOGNISED


def _refuse_one_field(found: Sequences, delimiter: str | None) -> None:
    """Refuse a file none of whose lines has an item: the separator is another one.

    Raises:
        PlumError: naming the separator at hand.
    """
    if found.users:
        return
    what = "blanks and tabs" if delimiter is None else word_for(delimiter)
    fix = "a line is a user and its items; if something else separates them: --set data.source.delimiter=..."
    raise PlumError(f"{found.name}: no line has an item", f"{found.problems[0].example}; separated by {what}", fix)
