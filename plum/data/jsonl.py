"""Read JSON Lines, one object a line, and count the lines that hold none."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any

import pyarrow as pa

from plum.data.files import Advice, Source, check_encoding, damage_reported, empty_file, resolve_columns, undecodable
from plum.data.readers import RawRows, open_text
from plum.data.tables import RowProblem
from plum.errors import PlumError

_CHUNK = 100_000  # rows held as Python text before they become Arrow arrays


class ObjectReader:
    """Iterate over the objects of a JSON Lines file; lines that aren't objects are counted.

    Args:
        source: the file.
        encoding: of the text.
        advice: what to tell users of a file that can't be read.
        parse: text of a line -> object; raises ValueError or SyntaxError for what it can't read.
    """

    def __init__(self, source: Source, encoding: str, advice: Advice, parse: Callable[[str], Any] = json.loads) -> None:
        self.source, self.encoding, self.advice, self.parse = source, encoding, advice, parse
        self.n_read = 0
        self.failures: dict[str, list[Any]] = {}  # reason -> [count, first example]

    def fail(self, reason: str, line: int, value: str) -> None:
        """Count a line that can't be used."""
        shown = value if len(value) <= 60 else value[:60] + "..."
        self.failures.setdefault(reason, [0, f"line {line}: {shown!r}"])[0] += 1

    @property
    def problems(self) -> list[RowProblem]:
        """What could not be used so far."""
        return [RowProblem(self.source.name, reason, n, example) for reason, (n, example) in self.failures.items()]

    def __iter__(self) -> Iterator[tuple[int, dict[str, Any]]]:
        """Yield (line from 1, object).

        Raises:
            PlumError: if the file is missing, empty, damaged or in another encoding, or is one JSON array.
        """
        check_encoding(self.encoding)
        with damage_reported(self.source), self.source.open() as stream, open_text(stream, self.encoding) as text:
            try:
                for line, content in enumerate(text, 1):
                    if content.strip():
                        self.n_read += 1
                        value = self._object(line, content)
                        if value is not None:
                            yield line, value
            except UnicodeDecodeError as error:
                raise undecodable(self.source, self.encoding, self.advice.encoding) from error
        if not self.n_read:
            raise empty_file(self.source)

    def _object(self, line: int, content: str) -> dict[str, Any] | None:
        if self.n_read == 1 and content.lstrip().startswith("["):
            raise PlumError(
                f"{self.source.name} is a JSON array, not one JSON object a line",
                f"line {line}: {content.strip()[:40]!r}",
                "write one object a line, for example with: jq -c '.[]'",
            )
        try:
            value = self.parse(content)
        except (ValueError, SyntaxError, RecursionError, MemoryError):
            self.fail("the line is not a complete JSON object", line, content.strip())
            return None
        if not isinstance(value, dict):
            self.fail("the line is not a JSON object", line, content.strip())
            return None
        return value


def scalar_text(value: Any) -> str | None:
    """Give a JSON value as CSV would hold it: 4 -> "4", True -> "true", None -> None.

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
    raise TypeError(type(value).__name__)


def read_jsonl(
    source: Source,
    columns: Mapping[str, str] | None,
    optional: Collection[str] = (),
    lists: Collection[str] = (),
    *,
    encoding: str = "utf-8",
    advice: Advice,
) -> RawRows:
    """Read JSON Lines: one object a line, keys as columns. A key that some lines lack is empty there.

    Args and Raises as in :func:`read_delimited`; ``columns=None`` reads the keys of the first object.
    """
    reader = ObjectReader(source, encoding, advice)
    keys: dict[str, None] = {}
    pending: dict[str, list[Any]] = {}
    chunks: dict[str, list[pa.Array]] = {}
    kept: dict[str, list[Any]] = {}
    lines: list[int] = []
    for line, record in reader:
        if columns is None:
            columns = {key: key for key in record}
        if not pending:
            wanted = dict(columns) | {name: name for name in optional if name not in columns}
            pending = {ours: [] for ours in wanted if ours not in lists}
            chunks, kept = {ours: [] for ours in pending}, {ours: [] for ours in wanted if ours in lists}
        if not record.keys() <= keys.keys():
            keys.update(dict.fromkeys(record))
        try:
            row = {ours: scalar_text(record.get(wanted[ours])) for ours in pending}
        except TypeError as error:
            reader.fail(f"a {error} where one value is expected", line, json.dumps(record))
            continue
        for ours, value in row.items():
            pending[ours].append(value)
        for ours, values in kept.items():
            values.append(record.get(wanted[ours]))
        lines.append(line)
        if len(lines) % _CHUNK == 0:
            for ours, values in pending.items():
                chunks[ours].append(pa.array(values, pa.string()))
                values.clear()
    if not keys:
        listed = "; ".join(f"{p.count:,} lines: {p.reason} ({p.example})" for p in reader.problems)
        raise PlumError(f"{source.name} holds no JSON object", listed, "write one JSON object a line")
    picked = resolve_columns(source, list(keys), columns or {}, optional, advice)
    for ours, values in pending.items():
        chunks[ours].append(pa.array(values, pa.string()))
    return RawRows(
        source.name,
        pa.table({ours: pa.chunked_array(parts, pa.string()) for ours, parts in chunks.items() if ours in picked}),
        lambda row: f"line {lines[row]}",
        reader.n_read,
        picked,
        {ours: values for ours, values in kept.items() if ours in picked},
        reader.problems,
    )
