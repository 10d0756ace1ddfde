"""Read JSON Lines, one object per line, and count the lines that are not objects."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from plum.data.columns import MOST_FURTHER, listed, pick_columns
from plum.data.encodings import undecodable
from plum.data.files import Advice, Source, damage_reported, empty_file, refuse_other_contents
from plum.data.lines import REPLACEMENT, SURROGATES, lines, mended
from plum.data.readers import RawRows
from plum.data.tables import RowProblem
from plum.errors import PlumError

log = logging.getLogger(__name__)

_TEXTS = pa.list_(pa.string())
_CHUNK = 100_000  # rows held as Python text before they become Arrow arrays
_CELLS = 2_000_000  # and values
_MARKS = re.compile(r'\\.|["\[\]{}]')
_VALUES = re.compile(r'"([^"\\]+)"|([^\s",:{}\[\]]+)')
_DEEPEST = 100  # brackets in each other; what a table holds has a few


class ObjectReader:
    """Iterate over the objects of a JSON Lines file; lines that aren't objects are counted.

    Args:
        source: the file.
        encoding: of the text.
        advice: what to tell users of a file that can't be read.
        parse: text of a line -> object; raises ValueError or SyntaxError for text that it can't read.

    Attributes:
        n_read: lines read that are not blank.
        is_broken: whether the current object held half a character (a lone surrogate), which is U+FFFD now.
    """

    def __init__(self, source: Source, encoding: str, advice: Advice, parse: Callable[[str], Any] = json.loads) -> None:
        self.source, self.encoding, self.advice, self.parse = source, encoding, advice, parse
        self.n_read = 0
        self.is_broken = False
        self.failures: dict[str, list[Any]] = {}  # reason -> [count, first example]

    def fail(self, reason: str, line: int, value: str) -> None:
        """Count a line that can't be used."""
        shown = value if len(value) <= 60 else value[:60] + "..."
        self.failures.setdefault(reason, [0, f"line {line}: {shown!r}"])[0] += 1

    @property
    def problems(self) -> list[RowProblem]:
        """The unusable lines so far."""
        return [RowProblem(self.source.name, reason, n, example) for reason, (n, example) in self.failures.items()]

    def __iter__(self) -> Iterator[tuple[int, dict[str, Any]]]:
        """Yield (line from 1, object).

        Raises:
            PlumError: if the file is missing, empty, damaged or in another encoding, or is one JSON array.
        """
        refuse_other_contents(self.source, self.encoding)
        with damage_reported(self.source):
            try:
                for line, content in enumerate(lines(self.source, self.encoding), 1):
                    if content.strip():
                        self.n_read += 1
                        value = self._object(line, content)
                        if value is not None:
                            yield line, value
            except UnicodeError as error:
                raise undecodable(self.source, self.encoding, self.advice.encoding) from error
        if not self.n_read:
            raise empty_file(self.source)

    def _object(self, line: int, content: str) -> dict[str, Any] | None:
        if self.n_read == 1 and content.lstrip().startswith("["):
            raise PlumError(
                f"{self.source.name} is a JSON array, not one JSON object per line",
                f"line {line}: {content.strip()[:40]!r}",
                "write one object per line, for example with: jq -c '.[]'",
            )
        if _too_deep(content):
            self.fail(f"the line has more than {_DEEPEST} brackets in each other", line, content.strip())
            return None
        try:
            value = self.parse(content)
        except (ValueError, SyntaxError, RecursionError, MemoryError):
            self.fail("the line is not a complete JSON object", line, content.strip())
            return None
        if not isinstance(value, dict):
            self.fail("the line is not a JSON object", line, content.strip())
            return None
        self.is_broken = ("\\u" in content or "\\U" in content) and _has_half_characters(value)
        return _whole(value) if self.is_broken else value


def _too_deep(content: str) -> bool:
    """Whether a line may hold more brackets in each other than a table has; those in text count too."""
    if content.count("[") + content.count("{") <= _DEEPEST:
        return False
    depth, deepest, in_text = 0, 0, False
    for part in _MARKS.findall(content):
        if part == '"':
            in_text = not in_text
        elif not in_text and len(part) == 1:
            depth += 1 if part in "[{" else -1
            deepest = max(deepest, depth)
    return deepest > _DEEPEST


def _has_half_characters(value: Any) -> bool:
    if isinstance(value, str):
        return not value.isascii() and SURROGATES.search(value) is not None
    if isinstance(value, dict):
        return any(_has_half_characters(part) for pair in value.items() for part in pair)
    return isinstance(value, list | tuple | set) and any(map(_has_half_characters, value))


def _whole(value: Any) -> Any:
    """A value with U+FFFD in place of each half character."""
    if isinstance(value, str):
        return mended(value)
    if isinstance(value, dict):
        return {_whole(key): _whole(part) for key, part in value.items()}
    return list(map(_whole, value)) if isinstance(value, list | tuple | set) else value


def scalar_text(value: Any) -> str | None:
    """Convert a JSON value to text as in CSV: 4 -> "4", True -> "true", None -> None.

    Raises:
        TypeError: for lists and objects.
    """
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, float):
        return str(int(value)) if value.is_integer() else repr(value)
    if isinstance(value, bytes | complex):  # of Python literals
        return str(value)
    raise TypeError("an object" if isinstance(value, dict) else "a list")


class _Asked:
    """Gathers the values of the keys to read by name.

    Args:
        wanted: our name -> key.
        lists: our names whose values are kept as they are.
    """

    def __init__(self, wanted: Mapping[str, str], lists: Collection[str]) -> None:
        self.theirs = set(wanted.values())
        self.lists: dict[str, list[Any]] = {ours: [] for ours in wanted if ours in lists}
        self._pending: dict[str, list[str | None]] = {ours: [] for ours in wanted if ours not in lists}
        self._chunks: dict[str, list[pa.Array]] = {ours: [] for ours in self._pending}
        self._wanted = wanted
        self._n_pending = 0

    def add(self, record: dict[str, Any]) -> None:
        """Add the next row.

        Raises:
            TypeError: for a list or object instead of a single value; the row is not added.
        """
        row = {ours: scalar_text(record.get(self._wanted[ours])) for ours in self._pending}
        for ours, value in row.items():
            self._pending[ours].append(value)
        for ours, values in self.lists.items():
            values.append(record.get(self._wanted[ours]))
        self._n_pending += 1
        if self._n_pending * max(1, len(self._pending)) >= _CELLS or self._n_pending == _CHUNK:
            self._flush()

    def broken_in(self, record: dict[str, Any]) -> list[str]:
        """Our names of the single values of a record that hold U+FFFD."""
        return [ours for ours in self._pending if REPLACEMENT in str(record.get(self._wanted[ours]))]

    def columns(self) -> dict[str, pa.ChunkedArray]:
        """Our name -> text, of all keys outside ``lists``."""
        self._flush()
        return {ours: pa.chunked_array(chunks, pa.string()) for ours, chunks in self._chunks.items()}

    def _flush(self) -> None:
        for ours, values in self._pending.items():
            self._chunks[ours].append(pa.array(values, pa.string()))
            values.clear()
        self._n_pending = 0


class _Others:
    """Gathers other keys as they occur; their values may be lists.

    Args:
        asked: keys to gather, besides the first ``MOST_FURTHER`` others.
        known: keys that are read elsewhere.

    Attributes:
        nested: keys that hold objects, lists of lists, or vectors; they are not gathered.
    """

    def __init__(self, asked: Collection[str] = (), known: Collection[str] = ()) -> None:
        self.nested: dict[str, None] = {}
        self._known, self._asked = set(known), set(asked)
        self._taken: dict[str, None] = {}
        self._listed: set[str] = set()
        self._pending: dict[str, list[list[str] | None]] = {}  # a single value is a list of one
        self._chunks: dict[str, list[pa.Array]] = {}
        self._flushed = 0

    def add(self, row: int, record: dict[str, Any]) -> None:
        """Add row number ``row``; rows come in order from 0."""
        for key, value in record.items():
            if value is None or not self._takes(key):
                continue
            values = value if isinstance(value, list) else [value]
            odd = (dict, list, float) if values is value else (dict, tuple, set)
            if any(isinstance(one, odd) for one in values):
                self.nested[key] = None
                self._pending.pop(key, None)
                self._chunks.pop(key, None)
                self._taken.pop(key, None)
                continue
            if values is value:
                self._listed.add(key)
            pending = self._pending.setdefault(key, [])
            pending += [None] * (row - self._flushed - len(pending))
            pending.append([text for text in map(scalar_text, values) if text is not None])
        waiting = row + 1 - self._flushed
        if waiting == _CHUNK or waiting * len(self._pending) >= _CELLS:
            self._flush(row + 1)

    def _takes(self, key: str) -> bool:
        """Whether a key is gathered; the first of those that no one asked for are."""
        if key in self._taken:
            return True
        if key in self._known or key in self.nested or not key.strip():
            return False
        if key not in self._asked and len(self._taken) >= MOST_FURTHER + len(self._asked):
            return False
        self._taken[key] = None
        return True

    def column(self, key: str, n: int) -> pa.ChunkedArray:
        """The values (n,) of a key: lists of text if one of them is a list, else text."""
        self._flush(n)
        column = pa.chunked_array(self._chunks.get(key, [pa.nulls(n, _TEXTS)]), _TEXTS)
        return column if key in self._listed else pc.list_element(column, 0)

    def _flush(self, n: int) -> None:
        for key, pending in self._pending.items():
            chunks = self._chunks.setdefault(key, [pa.nulls(self._flushed, _TEXTS)] if self._flushed else [])
            pending += [None] * (n - self._flushed - len(pending))
            chunks.append(pa.array(pending, _TEXTS))
            pending.clear()
        self._flushed = n


def read_jsonl(
    source: Source,
    columns: Mapping[str, str] | None,
    optional: Collection[str] = (),
    lists: Collection[str] = (),
    *,
    encoding: str = "utf-8",
    advice: Advice,
    extras: Mapping[str, str] | None = None,
    parse: Callable[[str], Any] = json.loads,
) -> RawRows:
    """Read JSON Lines: one object per line, keys as columns. A key missing on a line is empty there.

    Args and Raises as in :func:`read_delimited`; ``columns=None`` reads the keys of the first object, and ``parse`` is
    that of :class:`ObjectReader`.
    """
    reader = ObjectReader(source, encoding, advice, parse)
    keys: dict[str, None] = {}
    at: list[int] = []
    broken: dict[str, set[int]] = {}
    asked: _Asked | None = None
    others = _Others()
    for line, record in reader:
        if asked is None:
            columns = {key: key for key in list(record)[:MOST_FURTHER]} if columns is None else columns
            asked = _Asked(dict(columns) | {name: name for name in optional if name not in columns}, lists)
            others = _Others((extras or {}).values(), asked.theirs - set((extras or {}).values()))
        if not record.keys() <= keys.keys():
            keys.update(dict.fromkeys(record))
        try:
            asked.add(record)
        except TypeError as error:
            reader.fail(f"{error} instead of a single value", line, _shown(record))
            continue
        if reader.is_broken:
            for ours in asked.broken_in(record):
                broken.setdefault(ours, set()).add(len(at))
        if extras is not None:
            others.add(len(at), record)
        at.append(line)
    if asked is None or not keys:
        raise _no_object(source, reader.problems)
    if others.nested:
        shown = ", ".join([*others.nested][:MOST_FURTHER])
        log.warning("%s: left out keys with nested values or vectors: %s", source.name, shown)
    names = [key for key in keys if key not in others.nested]
    picked = pick_columns(source, names, columns or {}, optional, extras, advice)
    rows = RawRows(
        source.name,
        pa.table({ours: column for ours, column in asked.columns().items() if ours in picked.asked}),
        lambda row: f"line {at[row]}",
        reader.n_read,
        picked.all,
        {ours: values for ours, values in asked.lists.items() if ours in picked.asked},
        {ours: others.column(theirs, len(at)) for ours, theirs in picked.extras.items()},
        reader.problems,
    )
    rows.broken = broken
    if reader.problems:
        rows.unread_lines = lambda ids: _in_other_lines(source, encoding, set(at), ids)
    return rows


def _no_object(source: Source, problems: Sequence[RowProblem]) -> PlumError:
    told = "; ".join(f"{one.count:,} lines: {one.reason} ({one.example})" for one in problems)
    return PlumError(f"{source.name} holds no JSON object", told, "write one JSON object per line")


def _in_other_lines(source: Source, encoding: str, read: Collection[int], ids: Collection[str]) -> dict[str, int]:
    """Find ids in the lines that are no rows: those that are found -> the line of the first one."""
    wanted, found = set(ids), dict[str, int]()
    for number, line in enumerate(lines(source, encoding), 1):
        if number not in read:
            for text, other in _VALUES.findall(line):
                if (text or other) in wanted:
                    found.setdefault(text or other, number)
    return found


def _shown(record: dict[str, Any]) -> str:
    try:
        return json.dumps(record)
    except (TypeError, ValueError, RecursionError):
        return f"an object with the keys {listed(record, 6)}"
