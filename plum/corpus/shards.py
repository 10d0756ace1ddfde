"""Documents on disk: Arrow files of Hugging Face ``datasets``, written as a stream and mapped into memory."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa

from plum.corpus.documents import Document
from plum.errors import PlumError
from plum.run import verified
from plum.run.writing import make_folder, written

SHARD_TOKENS = 1 << 25
"""Tokens of one file, about 128 MiB."""
ROWS = 1000
"""Documents that are written together."""
TRAIN, HELD_OUT = "train", "held_out"
_PATTERN = "{part}-{number:05d}.arrow"


def write_documents(folder: Path, part: str, documents: Iterable[Document], shard_tokens: int = SHARD_TOKENS) -> int:
    """Write documents as ``<folder>/<part>-00000.arrow``, ``-00001``, ...; none of them stays in memory.

    Args:
        folder: to write to.
        part: ``TRAIN`` or ``HELD_OUT``.
        documents: are read once.
        shard_tokens: of a file.

    Returns:
        How many tokens there are.
    """
    rows, total, number = iter(documents), 0, 0
    first = next(rows, None)
    make_folder(folder)
    while first is not None:
        with written(folder / _PATTERN.format(part=part, number=number), sync_entry=False) as path:
            first, there = _write_shard(path, first, rows, shard_tokens)
        total, number = total + there, number + 1
    return total


def _write_shard(
    path: Path, first: Document, rows: Iterator[Document], shard_tokens: int
) -> tuple[Document | None, int]:
    """Write one file; returns the document that comes after it, and its tokens."""
    from datasets import Features, List, Value
    from datasets.arrow_writer import ArrowWriter

    numbers = List(Value("int32"))
    features = Features(tokens=numbers, cuts=numbers, head=Value("int32"), owner=Value("int64"), fact=Value("string"))
    total, batch = 0, list[Document]()
    following: Document | None = first
    # Given a path, the library would take parts of some names for a protocol or an archive.
    with path.open("wb") as file, ArrowWriter(stream=file, features=features, writer_batch_size=ROWS) as writer:
        while following is not None and total < shard_tokens:
            batch.append(following)
            total += len(following.tokens)
            following = next(rows, None)
            if len(batch) == ROWS:
                writer.write_batch(_columns(batch))
                batch = []
        if batch:
            writer.write_batch(_columns(batch))
        writer.finalize()
    return following, total


def _columns(batch: list[Document]) -> dict[str, pa.Array]:
    return {
        "tokens": _lists([document.tokens for document in batch]),
        "cuts": _lists([document.cuts for document in batch]),
        "head": pa.array([document.head for document in batch], pa.int32()),
        "owner": pa.array([document.owner for document in batch], pa.int64()),
        "fact": pa.array([document.fact for document in batch], pa.string()),
    }


def _lists(arrays: list[np.ndarray]) -> pa.Array:
    offsets = np.cumsum([0, *(len(array) for array in arrays)]).astype(np.int32)
    return pa.ListArray.from_arrays(pa.array(offsets), pa.array(np.concatenate(arrays).astype(np.int32)))


class Documents:
    """Documents in files, mapped into memory: only what is asked for is read.

    Args:
        paths: Arrow files; none for no documents.

    Attributes:
        lengths: (D,) int32 tokens of each document.

    Raises:
        PlumError: if a file is damaged.
    """

    def __init__(self, paths: Iterable[Path] = ()) -> None:
        from datasets import Dataset

        self._chunks: list[pa.RecordBatch] = []
        for path in paths:
            try:
                table = Dataset.from_file(str(path)).data.table
            except (pa.ArrowException, OSError, ValueError) as error:
                raise PlumError(f"{path} can't be read as documents", str(error), "run `plum cpt --force`") from None
            self._chunks += table.to_batches()
        self._columns = [tuple(map(_Lists.of, (chunk["tokens"], chunk["cuts"]))) for chunk in self._chunks]
        self._starts = np.cumsum([0, *(chunk.num_rows for chunk in self._chunks)])
        self.lengths = np.concatenate([np.zeros(0, np.int32), *(tokens.lengths for tokens, _ in self._columns)])

    def __len__(self) -> int:
        return int(self._starts[-1])

    def __getitem__(self, number: int) -> Document:
        chunk, row = self._place(number)
        tokens, cuts = self._columns[chunk]
        values = self._chunks[chunk]
        head, owner, fact = (values[name][row].as_py() for name in ("head", "owner", "fact"))
        return Document(tokens[row], cuts[row], head, owner, fact)

    def __iter__(self) -> Iterator[Document]:
        return map(self.__getitem__, range(len(self)))

    def tokens(self, number: int) -> np.ndarray:
        """Token ids (n,) int32 of one document."""
        chunk, row = self._place(number)
        return self._columns[chunk][0][row]

    def facts(self) -> np.ndarray:
        """What each document (D,) tells; see ``Document.fact``."""
        return np.concatenate([np.zeros(0, object), *(chunk["fact"].to_numpy(False) for chunk in self._chunks)])

    def owners(self) -> np.ndarray:
        """Row (D,) of the user or item of each document."""
        return np.concatenate([np.zeros(0, np.int64), *(chunk["owner"].to_numpy() for chunk in self._chunks)])

    def _place(self, number: int) -> tuple[int, int]:
        if not 0 <= number < len(self):
            raise IndexError(f"document {number} of {len(self)}")
        chunk = int(np.searchsorted(self._starts, number, side="right")) - 1
        return chunk, number - int(self._starts[chunk])


class _Lists:
    """A column of lists as an array and offsets, both still in the file."""

    def __init__(self, values: np.ndarray, offsets: np.ndarray) -> None:
        self._values, self._offsets = values, offsets

    @classmethod
    def of(cls, column: pa.ListArray) -> _Lists:
        return cls(column.values.to_numpy(), column.offsets.to_numpy())

    @property
    def lengths(self) -> np.ndarray:
        return np.diff(self._offsets).astype(np.int32)

    def __getitem__(self, row: int) -> np.ndarray:
        return self._values[self._offsets[row] : self._offsets[row + 1]]


def read_documents(folder: Path, part: str) -> Documents:
    """The documents that ``write_documents`` wrote; of a complete stage, as the stage wrote them.

    Raises:
        PlumError: if a file was changed or is damaged.
    """
    paths = sorted(folder.glob(_PATTERN.replace("{number:05d}", "*").format(part=part)))
    for path in paths:
        verified.verify(path)
    return Documents(paths)
