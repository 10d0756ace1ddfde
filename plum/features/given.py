"""The user's own vectors, from .npy or Parquet."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import parquet

from plum.data.arrow_types import plain
from plum.data.files import is_file, missing_file
from plum.data.ids import as_ids
from plum.data.missing import absent
from plum.errors import PlumError
from plum.features.by_id import VectorsById
from plum.features.encoding import (
    SHOWN,
    Encoded,
    column_of,
    named,
    refuse_non_finite,
    refuse_repeated,
    save_parts,
)

logger = logging.getLogger(__name__)

LAYOUT = "store a column item_id, and one column of lists of numbers or one column of numbers per dimension"
_INDEX = re.compile(r"__index_level_\d+__")  # the name that pandas gives to an unnamed index in a file


@dataclass(frozen=True, eq=False)
class FileEncoder:
    """The user's vectors of the catalogue; new items bring theirs in a column of their own table.

    Attributes:
        column: name of that column.
        known: the catalogue's items with a vector.
    """

    kind: ClassVar[str] = "file"
    column: str
    known: VectorsById

    def transform(self, items: pd.DataFrame) -> Encoded:
        """Vectors (N, D) of items: from ``column`` if it exists, else by id; other items have none.

        Raises:
            PlumError: if a value of that column is not a list of D finite numbers.
        """
        given = column_of(items, self.column).tolist()
        present = np.array([not _is_missing(value) for value in given], dtype=bool)
        rows = np.flatnonzero(present).tolist()
        if not rows:
            return self.known.of(items)
        ids, width = column_of(items, "item_id").tolist(), self.known.vectors.shape[1]
        own = np.stack([_vector(given[row], width, self.column, ids[row]) for row in rows])
        refuse_non_finite(own, self.column, [ids[row] for row in rows], rows)
        vectors = np.zeros((len(items), width), dtype=np.float32)
        vectors[rows] = own
        by_id = ~present
        vectors[by_id], present[by_id] = self.known.of(items[by_id])
        return Encoded(vectors, present)

    def save(self, folder: Path, name: str) -> None:
        """Write ids (JSON) and vectors (safetensors)."""
        settings = {"column": self.column, "item_ids": list(self.known.item_ids)}
        save_parts(folder, name, self.kind, settings, {"vectors": self.known.vectors})

    @classmethod
    def from_parts(cls, settings: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> FileEncoder:
        """Rebuild the encoder that :meth:`save` wrote."""
        return cls(settings["column"], VectorsById(settings["item_ids"], arrays["vectors"]))


def fit_given(path: Path, item_ids: Sequence[str], name: str) -> FileEncoder:
    """Read the user's vectors and check that they fit the catalogue.

    Args:
        path: ``.parquet`` with a column ``item_id``, and either one column of lists of D numbers or D columns of
            numbers; items without a row, or with null for their vector, lack the modality. Any other file is read as a
            ``.npy`` of shape (N, D), rows in the order of the catalogue.
        item_ids: N ids of the catalogue.
        name: of the modality; new items bring their vectors in a column ``vectors_<name>``.

    Raises:
        PlumError: if the file can't be read or holds anything but finite numbers, if its number of rows is not the
            catalogue's (.npy), or if ids are missing, repeated or not in the catalogue (Parquet).
    """
    if path.suffix in (".parquet", ".pq"):
        ids, vectors = _from_parquet(path, item_ids)
    else:
        ids, vectors = list(item_ids), _from_npy(path, len(item_ids))
        refuse_non_finite(vectors, str(path), ids)
    _warn_of_constant_rows(path, ids, vectors)
    return FileEncoder(f"vectors_{name}", VectorsById(ids, vectors))


def _warn_of_constant_rows(path: Path, ids: Sequence[str], vectors: np.ndarray) -> None:
    """Warn of vectors (P, D) whose numbers are all the same: often they stand for a missing one."""
    if vectors.shape[1] < 2:
        return
    constant, zero = (vectors == vectors[:, :1]).all(axis=1), ~vectors.any(axis=1)
    if others := np.flatnonzero(constant & ~zero).tolist():
        logger.warning(
            "%s: %d vectors hold one number in all places and are used as they are (%s)",
            path.name,
            len(others),
            named([ids[row] for row in others]),
        )
    if zeros := int(zero.sum()):
        logger.warning(
            "%s: %d vectors are all zeros and are used as they are; to mark items without a vector, omit them from a "
            ".parquet",
            path.name,
            zeros,
        )


def _from_npy(path: Path, n_items: int) -> np.ndarray:
    vectors = _npy_array(path)
    if vectors.ndim != 2 or len(vectors) != n_items or not vectors.shape[1]:
        raise PlumError(
            f"{path} does not fit the catalogue",
            f"shape {vectors.shape}, {n_items:,} items",
            "give one row per item, in the order of data/items.parquet, or a .parquet with a column item_id",
        )
    with np.errstate(over="ignore"):  # what is too large becomes infinite, and is refused as such
        return vectors.astype(np.float32)


def _npy_array(path: Path) -> np.ndarray:
    """The array of a .npy file, mapped into memory: a header that promises more than the file holds is refused at once.

    Raises:
        PlumError: if there is no such file, it is damaged, or it holds anything but numbers.
    """
    if not is_file(path):
        raise missing_file(path)
    try:
        vectors = np.load(path, mmap_mode="r", allow_pickle=False)
        if not isinstance(vectors, np.ndarray):
            raise ValueError("it holds several arrays")
        if vectors.dtype.kind not in "biuf":
            kind = "complex numbers" if vectors.dtype.kind == "c" else f"values of type {vectors.dtype}"
            raise ValueError(f"it holds {kind}")
    except Exception as error:  # of NumPy's parser of headers, zipfile and the operating system: no family of their own
        fix = "save a float32 array, or a .parquet with a column item_id"
        raise PlumError(f"{path} is not a .npy file of numbers", str(error)[:300], fix) from None
    return vectors


def _from_parquet(path: Path, catalogue: Sequence[str]) -> tuple[list[str], np.ndarray]:
    """P ids and their vectors (P, D)."""
    if not is_file(path):
        raise missing_file(path)
    try:
        with parquet.ParquetFile(path) as file:
            table = file.read()
    except (OSError, UnicodeError, MemoryError, pa.ArrowException) as error:
        raise PlumError(f"{path} can't be read as Parquet", str(error)[:300], LAYOUT) from None
    table = table.drop_columns([name for name in table.column_names if _INDEX.fullmatch(name)])
    if table.column_names.count("item_id") != 1:
        raise PlumError(f"{path} has no column item_id", f"columns {', '.join(table.column_names[:20])}", LAYOUT)
    ids = _ids(path, table.column("item_id"), catalogue)
    rest = table.drop_columns(["item_id"])
    try:
        rest = pa.table([plain(column)[0] for column in rest.columns], rest.column_names)
        given, vectors = _vectors(path, rest)
    except pa.ArrowException as error:
        raise PlumError(f"{path} does not hold vectors", str(error)[:300], LAYOUT) from None
    if not given.any():
        raise PlumError(f"{path} has a vector for no item of the catalogue", f"{len(ids):,} rows", LAYOUT)
    rows = np.flatnonzero(given).tolist()
    found = [ids[row] for row in rows]
    refuse_non_finite(vectors, str(path), found, rows)
    return found, vectors


def _ids(path: Path, values: pa.ChunkedArray, catalogue: Sequence[str]) -> list[str]:
    text = as_ids(values, f"{path}, item_id")
    if missing := int(absent(text).sum()):
        raise PlumError(f"{path} has rows without an item_id", f"{missing:,} of {len(text):,} rows", "leave them out")
    ids: list[str] = text.to_pylist()
    refuse_repeated(ids, str(path), "give one vector per item")
    known = set(catalogue)
    unknown = [item_id for item_id in ids if item_id not in known]
    if len(unknown) == len(ids):
        raise PlumError(
            f"{path} has a vector for no item of the catalogue",
            f"{named(unknown)}; the catalogue begins with {catalogue[0]!r}" if ids else "no rows",
            "give the ids of data/items.parquet",
        )
    if unknown:
        raise PlumError(
            f"{path} has vectors for items that are not in the catalogue",
            named(unknown),
            "leave them out; data/items.parquet holds the catalogue, from which a k-core drops items",
        )
    return ids


def _vectors(path: Path, table: pa.Table) -> tuple[np.ndarray, np.ndarray]:
    """Mask (R,) of the rows with a vector, and their vectors (P, D) float32."""
    kinds = [field.type for field in table.schema]
    if len(kinds) == 1 and _is_list(kinds[0]) and _is_number(kinds[0].value_type):
        return _from_lists(path, table.column(0))
    if kinds and all(map(_is_number, kinds)):
        columns = [values.cast(pa.float64(), safe=False).to_numpy() for values in table.columns]
        with np.errstate(over="ignore"):  # what is too large becomes infinite, and is refused as such
            vectors = np.stack(columns, axis=1).astype(np.float32)
        given: np.ndarray = np.any([values.is_valid().to_numpy() for values in table.columns], axis=0)
        return given, vectors[given]
    shown = ", ".join(f"{field.name} ({field.type})" for field in table.schema)
    raise PlumError(f"{path} does not hold vectors", f"columns besides item_id: {shown or 'none'}", LAYOUT)


def _from_lists(path: Path, values: pa.ChunkedArray) -> tuple[np.ndarray, np.ndarray]:
    given = values.is_valid().to_numpy()
    chunks = [chunk.drop_null() for chunk in values.chunks]
    widths = sorted({width for chunk in chunks for width in pc.unique(pc.list_value_length(chunk)).to_pylist()})
    if len(widths) > 1 or widths == [0]:
        raise PlumError(
            f"{path}: the vectors must have the same width, at least 1",
            f"widths {', '.join(map(str, widths))}",
            "give every item equally many numbers, or null if it has no vector",
        )
    width = widths[0] if widths else 1
    flat = [chunk.flatten().cast(pa.float32(), safe=False).to_numpy(zero_copy_only=False) for chunk in chunks]
    return given, np.concatenate([np.zeros(0, dtype=np.float32), *flat]).reshape(-1, width)


def _vector(value: object, width: int, where: str, item_id: str) -> np.ndarray:
    """One item's own vector, (D,) float32.

    Raises:
        PlumError: if it is not a list of D numbers.
    """
    found = type(value).__name__
    if isinstance(value, list | tuple | np.ndarray):
        try:
            numbers = np.asarray(value)
        except ValueError:  # lists in it of different lengths
            numbers = np.zeros(0)
        if numbers.shape == (width,) and numbers.dtype.kind in "iufb":
            with np.errstate(over="ignore"):  # what is too large becomes infinite, and is refused as such
                return numbers.astype(np.float32)
        found = f"a list of {len(value)}: {value[:SHOWN]!r}"
    raise PlumError(
        f"{where} of item {item_id!r} is not a vector of this modality",
        found,
        f"give a list of {width} numbers, or null if the item has no vector",
    )


def _is_list(kind: pa.DataType) -> bool:
    return bool(pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind))


def _is_number(kind: pa.DataType) -> bool:
    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind))


def _is_missing(value: object) -> bool:
    return value is None or value is pd.NA or (isinstance(value, float) and np.isnan(value))
