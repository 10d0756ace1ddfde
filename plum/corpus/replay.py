"""General text, streamed from files."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path

from plum.corpus.documents import NO_TOKENS, Draft, sentences
from plum.corpus.encoder import Encoder
from plum.errors import PlumError

LOADERS = {".txt": "text", ".text": "text", ".md": "text", ".jsonl": "json", ".json": "json", ".parquet": "parquet"}
"""Suffix -> loader of ``datasets``."""
BATCH = 256
"""Texts that are encoded together."""


def problem_of(path: Path) -> str | None:
    """Why a file can't be read as text, without opening it; None if it can."""
    if path.suffix.lower() not in LOADERS:
        return f"{path} ends in {path.suffix or 'no suffix'}; known: {', '.join(LOADERS)}"
    return None if path.is_file() else f"{path} (no such file)"


def texts(files: Sequence[Path], column: str) -> Iterator[str]:
    """The texts of files, one after the other: paragraphs of plain text, rows of tables.

    Args:
        files: plain text in UTF-8, JSON Lines or Parquet.
        column: of tables, that holds text.

    Raises:
        PlumError: if a file is damaged or lacks the column.
    """
    from datasets import load_dataset

    for path in files:
        kind = LOADERS[path.suffix.lower()]
        name = "text" if kind == "text" else column
        options = {"sample_by": "paragraph"} if kind == "text" else {}
        try:
            rows = load_dataset(kind, data_files=str(path), split="train", streaming=True, **options)
            for row in rows:
                if name not in row:
                    raise KeyError(f"no column {name!r} (cpt.corpus: column); columns: {', '.join(map(str, row))}")
                if isinstance(row[name], str) and row[name].strip():
                    yield row[name].strip()
        except Exception as error:  # readers of three formats raise what they like on damaged files
            told = error.args[0] if isinstance(error, KeyError) else str(error).strip().splitlines()[:1]
            what = told if isinstance(told, str) else f"{type(error).__name__}: {' '.join(told)}"
            raise PlumError(f"{path} can't be read as {kind}", what, "correct cpt.corpus, or the file") from None


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
