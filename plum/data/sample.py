"""The first rows of a table as they stand, for a look at columns that no one has named yet."""

from __future__ import annotations

import codecs
import io
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from plum.data.files import Advice, Source, damage_reported, empty_file, looks_like_data, undecodable
from plum.data.jsonl import ObjectReader
from plum.data.logs import JSON_LINES, PARQUET, file_format
from plum.data.readers import Delimited, records
from plum.errors import PlumError

_BLOCK = 1 << 20


@dataclass(frozen=True)
class Sample:
    """The first rows of a file.

    Attributes:
        path: the file.
        columns: name -> N values: text, or what Parquet and JSON hold; None where a row has none.
        n_rows: N.
        is_whole: whether the file has no more rows.
        header: whether delimited text begins with a line of names; true for other formats.
    """

    path: Path
    columns: dict[str, list[Any]]
    n_rows: int
    is_whole: bool
    header: bool = True


def read_sample(path: Path, n_rows: int, encoding: str = "utf-8") -> Sample:
    """Read the first rows of CSV, TSV, JSON Lines (each also packed with gzip) or Parquet.

    A row of delimited text with too many or too few fields is left out. Without a header line the columns are called
    ``1``, ``2``, ...

    Args:
        path: the file; its suffix names the format.
        n_rows: at most.
        encoding: of text.

    Raises:
        PlumError: for a folder, an unknown suffix, and a file that is missing, empty, damaged or in another encoding.
    """
    kind, source = file_format(path), Source(path)
    with source.open():
        pass  # says so if the file isn't there
    if kind == PARQUET:
        return _parquet(source, n_rows)
    advice = Advice("correct the file", "save the file as UTF-8")
    if kind == JSON_LINES:
        return _jsonl(source, n_rows, encoding, advice)
    with damage_reported(source):
        try:
            return _delimited(source, Delimited(separator=kind, encoding=encoding), n_rows)
        except UnicodeDecodeError as error:
            raise undecodable(source, encoding, advice.encoding) from error


def _delimited(source: Source, layout: Delimited, n_rows: int) -> Sample:
    lines = (fields for _, _, fields in records(source, layout))
    first = next(lines, None)
    if first is None:
        raise empty_file(source)
    header = not looks_like_data(first)
    names = first if header else [str(place) for place in range(1, len(first) + 1)]
    rows = list(islice(lines, n_rows + 1)) if header else [first, *islice(lines, n_rows)]
    whole, fitting = len(rows) <= n_rows, [fields for fields in rows[:n_rows] if len(fields) == len(names)]
    columns = (
        dict(zip(names, map(list, zip(*fitting, strict=True)), strict=True)) if fitting else {n: [] for n in names}
    )
    return Sample(source.path, columns, len(fitting), whole, header)


def _jsonl(source: Source, n_rows: int, encoding: str, advice: Advice) -> Sample:
    found = [record for _, record in islice(ObjectReader(source, encoding, advice), n_rows + 1)]
    if not found:
        raise PlumError(f"{source.name} holds no JSON object", None, "write one JSON object a line")
    objects = found[:n_rows]
    keys = dict.fromkeys(key for record in objects for key in record)
    columns = {key: [record.get(key) for record in objects] for key in keys}
    return Sample(source.path, columns, len(objects), len(found) <= n_rows)


def _parquet(source: Source, n_rows: int) -> Sample:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(source.path) as file:
            batch = next(file.iter_batches(batch_size=n_rows), None)
            whole = file.metadata.num_rows <= n_rows
            names = file.schema_arrow.names
    except (pa.ArrowException, OSError) as error:
        raise PlumError(
            f"{source.name} is not a whole Parquet file",
            f"{error} ({source.path.stat().st_size:,} bytes)",
            f"copy or write {source.path} again",
        ) from error
    if batch is None:
        return Sample(source.path, {name: [] for name in names}, 0, True)
    columns = {name: _values(batch.column(place)) for place, name in enumerate(names)}
    return Sample(source.path, columns, batch.num_rows, whole)


def _values(column: Any) -> list[Any]:
    """The values of an Arrow array; one that Python can't hold, such as a date beyond the year 9999, as text."""
    import pyarrow as pa

    try:
        return list(column.to_pylist())
    except (ValueError, OverflowError):
        pass
    if pa.types.is_timestamp(column.type):
        column = column.cast(pa.timestamp(column.type.unit))  # without a zone that is not known
    return [_value(value) for value in column]


def _value(value: Any) -> Any:
    import pyarrow as pa

    try:
        return value.as_py()
    except (ValueError, OverflowError):
        return str(value.cast(pa.int64()).as_py()) if pa.types.is_timestamp(value.type) else str(value)


def first_lines(path: Path, n: int = 3) -> list[str]:
    """The first lines of a file of any suffix as text, without their ends; none of a binary file.

    Raises:
        PlumError: if it is missing, a folder, or damaged.
    """
    source = Source(path)
    with damage_reported(source), source.open() as stream:
        head = stream.read(_BLOCK)
    if b"\0" in head and not head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return []
    return [line for line in io.StringIO(head.decode("utf-8", errors="replace")).read().splitlines() if line][:n]


def guess_encoding(path: Path) -> str | None:
    """The encoding of a text file: utf-8, utf-16 by its mark, else cp1252 or latin-1; None if all of it is ASCII.

    Raises:
        PlumError: if it is missing or damaged, or holds zero bytes as no text does.
    """
    source, is_ascii = Source(path), True
    with damage_reported(source):
        candidates = ["utf-8", "cp1252", "latin-1"]
        decoders = {name: codecs.getincrementaldecoder(name)() for name in candidates}
        for number, block in enumerate(_blocks(source)):
            if number == 0 and block.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
                return "utf-16"
            if b"\0" in block:
                raise PlumError(
                    f"{source.name} is no text file", "it holds zero bytes", "give CSV, TSV, JSON Lines or Parquet"
                )
            if is_ascii and block.isascii():
                continue
            is_ascii = False
            for name in list(candidates):
                try:
                    decoders[name].decode(block)
                except UnicodeDecodeError:
                    candidates.remove(name)
    return None if is_ascii else candidates[0]


def _blocks(source: Source) -> Iterator[bytes]:
    with source.open() as stream:
        while block := stream.read(_BLOCK):
            yield block
