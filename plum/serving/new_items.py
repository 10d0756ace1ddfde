"""Reading a file of new items in the same way as the catalogue's items."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import parquet

from plum.config.data import DataConfig, LogsSource
from plum.data.dialect import Dialect
from plum.data.files import Advice, Source
from plum.data.ids import as_ids
from plum.data.items import check_items
from plum.data.logs import read_table
from plum.data.missing import absent
from plum.data.readers import RawRows, read_parquet
from plum.data.tables import ITEM_COLUMNS, RowProblem
from plum.errors import PlumError
from plum.features.encoding import Encoder, named, refuse_repeated
from plum.features.given import FileEncoder
from plum.features.numeric import NumericEncoder
from plum.features.sentences import SentenceEncoder
from plum.features.text import TfidfEncoder, TopicsEncoder
from plum.stages.prepare import dialect_of

logger = logging.getLogger(__name__)

BLOCK = 1 << 14
"""Items at a time."""

_ADVICE = Advice("give the columns of data/items.parquet; item_id is required", "save the file as UTF-8")


class Layout(NamedTuple):
    """How a file of new items is read.

    Attributes:
        columns: our name -> the source's name, if it differs; the file may use either.
        topic_separator: between the topics of one text.
        encoding: of text.
        dialect: of delimited text.
        max_bad_share: share of unusable rows over which the file is refused.
    """

    columns: dict[str, str]
    topic_separator: str
    encoding: str
    max_bad_share: float
    dialect: Dialect = Dialect()

    @classmethod
    def of(cls, config: DataConfig) -> Layout:
        """The layout of the run's source."""
        source, bad = config.source, config.max_bad_share
        if isinstance(source, LogsSource):
            columns = {ours: theirs for ours, theirs in source.item_columns.items() if ours != theirs}
            return cls(columns, source.topic_separator, source.encoding, bad, dialect_of(source))
        return cls({}, "|", "utf-8", bad)

    def names_of(self, column: str) -> str:
        """The names that a column may have in the file, for messages."""
        return f"{column!r} or {self.columns[column]!r}" if column in self.columns else repr(column)


@dataclass(frozen=True)
class NewItems:
    """The items of a file that are not in the catalogue.

    Attributes:
        path: the file.
        items: N rows: the columns of the catalogue, and vectors that are not streamed.
        table: the same without vectors, with the catalogue's column types if possible.
        rows: (N,) row numbers in the file, ascending.
        streamed: columns of vectors that are read block by block.
        known: ids of the file that the catalogue has.
        left_out: columns of the file that the catalogue does not have.
        problems: unusable rows of the file.
    """

    path: Path
    items: pd.DataFrame
    table: pa.Table
    rows: np.ndarray
    streamed: list[str]
    known: list[str]
    left_out: list[str]
    problems: list[RowProblem]

    def blocks(self) -> Iterator[pd.DataFrame]:
        """The items with all their vectors, some at a time."""
        if not self.streamed:
            yield from (self.items.iloc[start : start + BLOCK] for start in range(0, len(self.items), BLOCK))
            return
        end = 0
        # Without pre-buffering (the default), which would load the whole file into memory.
        with parquet.ParquetFile(self.path, pre_buffer=False, buffer_size=1 << 20) as file:
            for batch in file.iter_batches(BLOCK, columns=self.streamed):
                start, end = end, end + batch.num_rows
                low, high = self.rows.searchsorted([start, end])
                places = pa.array(self.rows[low:high] - start)
                block = self.items.iloc[low:high]
                for name in self.streamed:
                    vectors = batch.column(name).take(places).to_numpy(zero_copy_only=False)
                    block = block.assign(**{name: pd.Series(list(vectors), index=block.index, dtype=object)})
                if len(block):
                    yield block


def read_new(
    path: Path, layout: Layout, catalogue: pa.Schema, known_ids: pd.Series, vectors: Sequence[str]
) -> NewItems:
    """Read and check a file of new items.

    Args:
        path: Parquet, CSV, TSV or JSON Lines (these also as .gz).
        layout: of the file.
        catalogue: columns of ``items.parquet`` and their types.
        known_ids: of the items that the catalogue has.
        vectors: columns of lists of numbers, one list per item, possible in Parquet and JSON Lines.

    Raises:
        PlumError: if it can't be read, has missing or repeated item ids, holds no new item, or has a column that does
            not fit the catalogue's type.
    """
    raw, streamed, left_out = _read_rows(path, layout, catalogue, vectors)
    ids = as_ids(raw.table.column("item_id"), raw.labels()["item_id"])
    given = np.flatnonzero(~absent(ids))
    refuse_repeated(ids.take(pa.array(given)).to_pylist(), path.name, "give each item one row")
    try:
        items, problems = check_items(
            raw,
            topic_separator=layout.topic_separator,
            max_bad_share=layout.max_bad_share,
            texts=[field.name for field in catalogue if _is_text(field.type)],
        )
    except pa.ArrowException as error:
        raise PlumError(f"{path.name} has a column of an unsupported type", str(error), _ADVICE.columns) from None
    there = items["item_id"].isin(known_ids).to_numpy(dtype=bool)
    if there.all():
        raise PlumError(
            f"{path.name} holds no new item", f"the catalogue has all {len(there):,} of them", "give items outside it"
        )
    if left_out:
        logger.warning("%s: left out columns that the catalogue does not have: %s", path.name, ", ".join(left_out))
    known = items["item_id"][there].tolist()
    if known:
        logger.warning("%s: ignored, because the catalogue has them: %s", path.name, named(known))
    items = items[~there].reset_index(drop=True)
    table = _as_in_catalogue(items, catalogue, path.name)
    return NewItems(path, items, table, given[~there], streamed, known, left_out, problems)


def refuse_lacking(
    new: NewItems, present: np.ndarray, encoders: Mapping[str, Encoder], complete: Collection[str], layout: Layout
) -> None:
    """Refuse N items that all lack an input of the tokenizer, because a column is missing or has another name.

    Items whose words or topics are all unknown are accepted if they have other content. Behaviour vectors may be
    missing, because new items have no training histories.

    Args:
        new: the items.
        present: (N, M), which of them have which of M modalities.
        encoders: M, by modality.
        complete: names of the modalities that all training items had.
        layout: of the file.

    Raises:
        PlumError: if no item has content, or none has a value in the columns of a modality that all training items had.
            It names these columns.
    """
    expected = {name: _columns_of(encoder) for name, encoder in encoders.items()}
    if not any(expected.values()):
        raise PlumError(
            "the tokenizer can't read new items",
            f"all its modalities ({', '.join(expected)}) come from training histories, which new items don't have",
            "run all stages again with these items in the catalogue, preferably with features.modalities of content",
        )
    some = {name: bool(column.any()) for name, column in zip(encoders, present.T, strict=True)}
    bare = not any(some.values())
    lacking = [
        name
        for name in encoders
        if expected[name] and not some[name] and (bare or (name in complete and not _filled(new, expected[name])))
    ]
    if not lacking:
        return
    names = ", ".join(dict.fromkeys(layout.names_of(column) for name in lacking for column in expected[name]))
    what = "any content" if bare else f"modality {', '.join(lacking)}, which all training items had"
    given = any(isinstance(encoders[name], FileEncoder) for name in lacking)
    raise PlumError(
        f"{new.path.name}: no new item has {what}",
        f"no known value in {names}; columns left out: {', '.join(new.left_out) or 'none'}",
        f"give {names}" + (" (lists of numbers, which Parquet and JSON Lines can hold)" if given else ""),
    )


def _filled(new: NewItems, columns: Sequence[str]) -> bool:
    """Whether any item has a value in one of these columns."""
    return any(name in new.items and new.items[name].notna().any() for name in columns)


def _columns_of(encoder: Encoder) -> tuple[str, ...]:
    """The columns of new items that an encoder reads; none for behaviour encoders."""
    if isinstance(encoder, FileEncoder):
        return (encoder.column,)
    if isinstance(encoder, TopicsEncoder):
        return ("topics",)
    if isinstance(encoder, TfidfEncoder | SentenceEncoder | NumericEncoder):
        return tuple(encoder.fields)
    return ()


def _read_rows(
    path: Path, layout: Layout, catalogue: pa.Schema, vectors: Sequence[str]
) -> tuple[RawRows, list[str], list[str]]:
    """The rows of a file, its columns of vectors to stream, and the columns left out."""
    columns = _mapped(path, layout)
    if _is_parquet(path):
        return _parquet_rows(path, columns, catalogue, vectors)
    return _text_rows(path, columns, catalogue, vectors, layout)


def _mapped(path: Path, layout: Layout) -> dict[str, str]:
    """Our name -> the name in the file, for item_id and each column that has the source's name in the file.

    Other columns are looked up under our own names.
    """
    names = _names(path, layout)
    columns = {ours: theirs for ours, theirs in layout.columns.items() if theirs in names}
    if "item_id" not in columns:  # the file has neither name: require the source's, so that the message has both
        named_so = "item_id" in names and "item_id" not in columns.values()
        columns["item_id"] = "item_id" if named_so else layout.columns.get("item_id", "item_id")
    return columns


def _names(path: Path, layout: Layout) -> set[str]:
    """The file's columns that the layout names."""
    if not layout.columns:
        return set()
    if _is_parquet(path):
        read_parquet(Source(path), {}, advice=_ADVICE)  # reads nothing, but raises if it is not Parquet
        return set(parquet.read_schema(path).names)
    asked = {"item_id", *layout.columns.values()}
    # As lists, which may hold anything: the later full read reports unusable values.
    return set(
        read_table(path, {}, asked, asked, encoding=layout.encoding, advice=_ADVICE, dialect=layout.dialect).theirs
    )


def _is_parquet(path: Path) -> bool:
    return path.suffix.lower() in (".parquet", ".pq")


def _parquet_rows(
    path: Path, columns: Mapping[str, str], catalogue: pa.Schema, vectors: Sequence[str]
) -> tuple[RawRows, list[str], list[str]]:
    """See :func:`_read_rows`; only needed columns are read, because vectors of a million items need much memory."""
    optional = [name for name in catalogue.names if name not in columns.values()]
    raw = read_parquet(Source(path), columns, optional, ("topics",), advice=_ADVICE)
    extras = {name: raw.table.column(name) for name in raw.table.column_names if name not in ITEM_COLUMNS}
    names = parquet.read_schema(path).names
    read = {*raw.theirs.values(), *vectors}
    left_out = [name for name in names if name not in read and not name.startswith("__index_level_")]  # pandas' index
    streamed = [name for name in vectors if name in names]
    return replace(raw, table=raw.table.drop_columns(list(extras)), extras=extras), streamed, left_out


def _text_rows(
    path: Path, columns: Mapping[str, str], catalogue: pa.Schema, vectors: Sequence[str], layout: Layout
) -> tuple[RawRows, list[str], list[str]]:
    """See :func:`_read_rows`; vectors are lists, in JSON only, and not streamed."""
    fixed = {ours: theirs for ours, theirs in columns.items() if ours in ITEM_COLUMNS}
    further = {ours: theirs for ours, theirs in columns.items() if ours not in ITEM_COLUMNS}
    ours = [name for name in ITEM_COLUMNS[1:] if name not in columns.values()]
    optional, lists = (*ours, *vectors), ("topics", *vectors)
    raw = read_table(
        path,
        fixed,
        optional,
        lists,
        encoding=layout.encoding,
        advice=_ADVICE,
        extras=further,
        dialect=layout.dialect,
    )
    extras = {name: values for name, values in raw.extras.items() if name in catalogue.names}
    return replace(raw, extras=extras), [], [name for name in raw.extras if name not in extras]


def _as_in_catalogue(items: pd.DataFrame, catalogue: pa.Schema, name: str) -> pa.Table:
    """The catalogue's columns of N items, in its types; integers become floats if new items need it.

    Raises:
        PlumError: naming a column whose values can't be converted to the catalogue's type without loss.
    """
    columns = {}
    for field in catalogue:
        if field.name not in items:
            columns[field.name] = pa.nulls(len(items), field.type)
            continue
        found = pa.Array.from_pandas(items[field.name])
        held = _held_in(found, field.type)
        if held is None:
            raise PlumError(
                f"{name}: column {field.name!r} is {found.type}, and {field.type} in the catalogue",
                f"{found.drop_null()[0].as_py()!r}, for example",
                "write it as in data/items.parquet, or leave it out",
            )
        columns[field.name] = held
    return pa.table(columns)


def _held_in(found: pa.Array, kind: pa.DataType) -> pa.Array | None:
    """Values (N,) in the type ``kind``, or in their own if ``kind`` is integers and they have fractions; else None.

    Casts of Arrow that change the value are refused: times to numbers, numbers to booleans, fractions to text, numbers
    beyond single precision.
    """
    if pa.types.is_null(kind) or found.null_count == len(found):
        return found if pa.types.is_null(kind) else pa.nulls(len(found), kind)
    for is_kind, may_be in _MAY_BE:
        if is_kind(kind) and not any(is_found(found.type) for is_found in may_be):
            return None
    try:
        held = found.cast(kind)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        return found if pa.types.is_integer(kind) and pa.types.is_floating(found.type) else None
    beyond = (
        pa.types.is_floating(kind) and not pc.all(pc.or_(pc.is_finite(held), pc.invert(pc.is_finite(found)))).as_py()
    )
    return None if beyond else held


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def _is_number(kind: pa.DataType) -> bool:
    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind))


_MAY_BE: Sequence[tuple[Callable[[pa.DataType], bool], Sequence[Callable[[pa.DataType], bool]]]] = (
    (_is_text, (_is_text, pa.types.is_integer)),
    (_is_number, (_is_number,)),
    (pa.types.is_boolean, (pa.types.is_boolean,)),
    (pa.types.is_temporal, (pa.types.is_temporal,)),
)
"""Types of the catalogue's columns, and those of new items that may stand in them. Lists are left to the cast."""
