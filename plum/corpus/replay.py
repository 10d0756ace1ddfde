"""General text, streamed from files.

Read here and not by ``datasets.load_dataset``, which takes brackets, stars and colons of a path for patterns and then
finds no text, without a word.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from plum.corpus.documents import NO_TOKENS, Draft, sentences
from plum.corpus.encoder import Encoder
from plum.errors import PlumError

BATCH = 256
"""Texts that are encoded, and rows that are read, together."""


def problem_of(path: Path) -> str | None:
    """Why a file can't be read as text, without opening it; None if it can."""
    if path.suffix.lower() not in _READERS:
        return f"{path} ends in {path.suffix or 'no suffix'}; known: {', '.join(_READERS)}"
    return None if path.is_file() else f"{path} (no such file)"


def texts(files: Sequence[Path], column: str) -> Iterator[str]:
    """The texts of files, one after the other: paragraphs of plain text, rows of tables.

    Args:
        files: plain text in UTF-8, JSON Lines or Parquet.
        column: of tables, that holds text.

    Raises:
        PlumError: if a file is damaged or lacks the column.
    """
    for path in files:
        try:
            for text in _READERS[path.suffix.lower()](path, column):
                if isinstance(text, str) and text.strip():
                    yield text.strip()
        except (OSError, ValueError, RecursionError, pa.ArrowException) as error:  # bad UTF-8 and JSON are ValueErrors
            what = (str(error).strip().splitlines() or [type(error).__name__])[0]
            raise PlumError(f"{path} can't be read as {path.suffix}", what, "correct the file, or cpt.corpus") from None


def _paragraphs(path: Path, _: str) -> Iterator[str]:
    """What stands between blank lines."""
    lines: list[str] = []
    with path.open(encoding="utf-8") as file:
        for line in file:
            if line.strip():
                lines.append(line)
            elif lines:
                yield "".join(lines)
                lines = []
    yield "".join(lines)


def _json_lines(path: Path, column: str) -> Iterator[object]:
    with path.open(encoding="utf-8") as file:
        for number, line in enumerate(file, 1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except ValueError as error:
                raise ValueError(f"line {number}: {error}") from None
            _refuse_without(column, row if isinstance(row, dict) else (), f"line {number}: ")
            yield row[column]


def _parquet(path: Path, column: str) -> Iterator[object]:
    with pq.ParquetFile(path) as file:
        _refuse_without(column, file.schema_arrow.names)
        for batch in file.iter_batches(BATCH, columns=[column]):
            yield from batch.column(0).to_pylist()


def _refuse_without(column: str, there: Sequence[str] | dict[str, object], where: str = "") -> None:
    if column not in there:
        known = ", ".join(map(str, there)) or "none"
        raise ValueError(f"{where}there is no column {column!r} (cpt.corpus, column); there are: {known}")


_READERS: dict[str, Callable[[Path, str], Iterator[object]]] = {
    ".txt": _paragraphs,
    ".text": _paragraphs,
    ".md": _paragraphs,
    ".jsonl": _json_lines,
    ".parquet": _parquet,
}


def drafts(found: Iterator[str], encoder: Encoder) -> Iterator[Draft]:
    """Texts as drafts of documents, whose units are sentences."""
    while batch := list(itertools.islice(found, BATCH)):
        split = [sentences(text) for text in batch]
        ids = iter(encoder.encode([part for parts in split for part in parts]))
        for parts in split:
            yield Draft(NO_TOKENS, [next(ids) for _ in parts], NO_TOKENS, -1)


def limited(found: Iterator[Draft], tokens: int) -> Iterator[Draft]:
    """Drafts until they hold ``tokens`` tokens."""
    there = 0
    for draft in found:
        if there >= tokens:
            return
        there += sum(map(len, draft.units)) + 2  # the start and the end
        yield draft
