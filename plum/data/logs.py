"""Users' own logs in CSV, TSV, Parquet or JSON Lines, through a mapping from our column names to theirs."""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from plum.data.files import Advice, Source, damage_reported, undecodable
from plum.data.items import check_items, item_frame, typed_column
from plum.data.jsonl import read_jsonl
from plum.data.moments import NANOSECOND, TIMESTAMP
from plum.data.readers import Delimited, RawRows, open_text, read_delimited, read_parquet
from plum.data.rows import as_text, check_interactions, warn
from plum.data.tables import INTERACTION_COLUMNS, ITEM_COLUMNS, RawTables, RowProblem, refuse_many_problems
from plum.data.time_texts import check_layout
from plum.data.times import AUTO, POSITION, WAYS
from plum.errors import PlumError

log = logging.getLogger(__name__)

SEPARATORS = {".csv": ",", ".tsv": "\t", ".tab": "\t"}
JSON_LINES, PARQUET = "jsonl", "parquet"
_SUFFIXES = "csv, tsv, jsonl (each also with .gz) and parquet"


def _advice(key: str) -> Advice:
    return Advice(
        f"map it with --set data.source.{key}.OUR_NAME=YOUR_NAME",
        "save the file as UTF-8, or name its encoding: --set data.source.encoding=cp1252 (or latin-1, utf-16, ...)",
    )


def read_table(
    path: Path,
    columns: Mapping[str, str] | None,
    optional: Collection[str] = (),
    lists: Collection[str] = (),
    *,
    encoding: str,
    advice: Advice,
    extras: Mapping[str, str] | None = None,
) -> RawRows:
    """Read a table in the format that the file's suffix names.

    Args:
        path: a file ending in .csv, .tsv, .jsonl (or any of these with .gz), or .parquet.
        columns: our name -> the file's name; None reads every column under its own name.
        optional: columns read if they are there.
        lists: columns that may hold lists; returned as Python values.
        encoding: of text files.
        advice: what to tell users of a file that can't be read.
        extras: further columns, our name -> the file's name, for ``RawRows.extras``; all remaining columns are added
            under their own names. None reads only ``columns`` and ``optional``.

    Raises:
        PlumError: for another suffix, and as the readers do.
    """
    kind, source = file_format(path), Source(path)
    if kind == JSON_LINES:
        return read_jsonl(source, columns, optional, lists, encoding=encoding, advice=advice, extras=extras)
    if kind == PARQUET:
        return read_parquet(source, columns, optional, lists, advice=advice, extras=extras)
    layout = Delimited(separator=kind, encoding=encoding)
    return read_delimited(source, layout, columns, optional, lists, advice=advice, extras=extras)


def file_format(path: Path) -> str:
    """The format that a file's suffix names: ``JSON_LINES``, ``PARQUET``, or the separator of delimited text.

    Raises:
        PlumError: for a folder and for an unknown suffix.
    """
    suffix = Path(path.stem).suffix.lower() if path.suffix.lower() == ".gz" else path.suffix.lower()
    if suffix in SEPARATORS:
        return SEPARATORS[suffix]
    if suffix in (".jsonl", ".ndjson"):
        return JSON_LINES
    if path.suffix.lower() in (".parquet", ".pq"):
        return PARQUET
    if path.is_dir():
        raise PlumError(f"{path} is a folder, not a file", None, "name the file")
    raise PlumError(f"{path.name}: unknown format {path.suffix!r}", f"known: {_SUFFIXES}", "convert or rename the file")


def load_logs(
    interactions: Path,
    items: Path | None = None,
    users: Path | None = None,
    columns: Mapping[str, str] | None = None,
    item_columns: Mapping[str, str] | None = None,
    *,
    topic_separator: str = "|",
    timestamp_unit: str = AUTO,
    timestamp_format: str | None = None,
    encoding: str = "utf-8",
    max_bad_share: float = 0.01,
) -> RawTables:
    """Read interaction logs, with their items and users.

    ``user_id``, ``item_id`` and ``timestamp`` are required; unmapped names are looked up as they are. ``rating``,
    ``reward`` and the item columns ``title``, ``topics``, ``creator``, ``description`` are optional, but required once
    they are mapped. Other mapped names become extra columns. Unmapped unknown columns of items become extra columns,
    for rules; those of the log are not read. Rows of the log that agree in every column read are repetitions: if they
    are separate events, map an event id as an extra column.

    Args:
        interactions: the log.
        items: the catalogue; interactions with other items are unusable. None derives the items from the log.
        users: user attributes; all columns are kept.
        columns: our name -> the name in ``interactions`` (and, for ``user_id``, in ``users``). An empty name for
            ``rating`` or ``reward`` leaves out the column of that name.
        item_columns: our name -> the name in ``items``.
        topic_separator: between the topics of one text.
        timestamp_unit, timestamp_format: how times are read, see :class:`plum.config.data.LogsSource`.
        encoding: of text files.
        max_bad_share: share of unusable rows, from 0 to 1, over which a file is refused.

    Raises:
        PlumError: for every mistake in the files or the mapping.
    """
    check_time_settings(timestamp_unit, timestamp_format)
    columns, optional = _required_and_optional(columns or {}, timestamp_unit)
    problems: list[RowProblem] = []
    catalogue = None
    if items is not None:
        item_rows = _read_items(items, {"item_id": "item_id"} | dict(item_columns or {}), encoding)
        catalogue, problems = check_items(item_rows, topic_separator=topic_separator, max_bad_share=max_bad_share)
    rows = read_table(interactions, columns, optional, encoding=encoding, advice=_advice("columns"))
    log_rows, found = check_interactions(
        rows,
        timestamp_unit=timestamp_unit,
        timestamp_format=timestamp_format,
        max_bad_share=max_bad_share,
        known_items=None if catalogue is None else catalogue["item_id"].tolist(),
        items_name=items.name if items is not None else "",
    )
    problems, log_rows = problems + found, _typed_extras(log_rows, rows)
    people = None
    if users is not None:
        people, found = _load_users(users, columns["user_id"], encoding, max_bad_share)
        problems += found
    if catalogue is None:
        catalogue = item_frame({"item_id": sorted(pd.unique(log_rows["item_id"]))})  # no order of the log leaks
    tables = RawTables(log_rows, catalogue, people, problems=problems, n_rows=rows.n_read)
    tables.timestamps_are_positions = timestamp_unit == POSITION
    return tables


def check_time_settings(unit: str, layout: str | None) -> None:
    """Refuse settings of times that don't fit.

    Raises:
        PlumError: for an unknown unit, a layout that strptime does not know, or both a unit and a layout.
    """
    if unit not in WAYS:
        raise PlumError(f"unknown timestamp_unit {unit!r}", None, f"use {', '.join(WAYS[:-1])} or {WAYS[-1]}")
    if layout is None:
        return
    if unit != AUTO:
        raise PlumError(
            "timestamp_unit and timestamp_format are both set",
            f"{unit!r} and {layout!r}",
            "set timestamp_unit to auto, or leave timestamp_format out",
        )
    check_layout(layout)


def _required_and_optional(columns: Mapping[str, str], unit: str) -> tuple[dict[str, str], list[str]]:
    """The columns that the log must have, our name -> its name, and those that are read if it has them.

    Raises:
        PlumError: for an extra column of a name that plum gives to a column of its own.
    """
    if NANOSECOND in columns:
        raise PlumError(
            f"columns.{NANOSECOND}: plum keeps what is finer than a second under this name",
            f"it is mapped to {columns[NANOSECOND]!r}",
            f"give the extra column another name, such as columns.{NANOSECOND}s",
        )
    named = {name: name for name in INTERACTION_COLUMNS[:3]} | dict(columns)
    if unit == POSITION and named.pop(TIMESTAMP) in columns.values():
        log.warning("timestamp_unit is position: the column of times is not read, the order of the rows counts")
    optional = [name for name in INTERACTION_COLUMNS[3:] if named.get(name) != ""]
    left_out = set(INTERACTION_COLUMNS[3:]) - set(optional)
    return {ours: theirs for ours, theirs in named.items() if ours not in left_out}, optional


def _read_items(path: Path, columns: Mapping[str, str], encoding: str) -> RawRows:
    """Read the catalogue: known columns under our names, all others as extra columns."""
    known = {ours: theirs for ours, theirs in columns.items() if ours in ITEM_COLUMNS}
    extras = {ours: theirs for ours, theirs in columns.items() if ours not in ITEM_COLUMNS}
    advice = _advice("item_columns")
    return read_table(path, known, ITEM_COLUMNS[1:], ("topics",), encoding=encoding, advice=advice, extras=extras)


def read_fields(path: Path, id_column: str = "item_id", *, max_bad_share: float = 0.01) -> pd.DataFrame:
    """Read further fields of items, such as today's price and stock.

    Args:
        path: CSV, TSV, JSONL (UTF-8) or Parquet, with a column of item ids.
        id_column: another name that this column may have, besides ``item_id``.
        max_bad_share: share of rows that can't be parsed, from 0 to 1, over which the file is refused.

    Returns:
        ``item_id`` (str or None) and every other column, typed.

    Raises:
        PlumError: if the file can't be read, has no ids, or has no other column.
    """
    advice = Advice("give a column item_id and one or more others", "save the file as UTF-8")
    try:
        rows = read_table(path, {"item_id": id_column}, encoding="utf-8", advice=advice, extras={})
    except PlumError:
        if id_column == "item_id":
            raise
        rows = read_table(path, {"item_id": "item_id"}, encoding="utf-8", advice=advice, extras={})
    refuse_many_problems(rows.problems, rows.n_read, max_bad_share, "fix the rows")
    warn(rows.problems)
    if not rows.extras:
        raise PlumError(f"{path.name} holds no fields of items", "item ids and no other column", advice.columns)
    ids = as_text(rows.table.column("item_id"), rows.labels()["item_id"])
    columns = {name: typed_column(values) for name, values in rows.extras.items()}
    return pd.DataFrame({"item_id": ids.to_pandas(), **columns})


def read_ids(path: Path) -> list[str]:
    """Read ids, one per line; blank lines are skipped.

    Raises:
        PlumError: if the file is missing, damaged or not UTF-8.
    """
    source = Source(path)
    try:
        with damage_reported(source), source.open() as stream, open_text(stream, "utf-8") as text:
            return [line.strip() for line in text if line.strip()]
    except UnicodeDecodeError as error:
        raise undecodable(source, "utf-8", "save the file as UTF-8") from error


def _typed_extras(frame: pd.DataFrame, rows: RawRows) -> pd.DataFrame:
    """Give extra columns from a text format the type that Parquet would have kept."""
    for name in frame.columns.difference([*INTERACTION_COLUMNS, NANOSECOND], sort=False):
        if pa.types.is_string(rows.table.column(name).type):
            frame[name] = typed(pa.chunked_array([pa.array(frame[name], pa.string())]))
    return frame


def typed(text: pa.ChunkedArray) -> pd.Series:
    """Convert text to int64 if all values are whole numbers, else to float64 if all are numbers or empty.

    Other text is returned unchanged, as is text such as "007", which a number would not reproduce.
    """
    if not pc.any(pc.match_substring_regex(text, r"^[+-]?0\d|^\+")).as_py():
        for kind in (pa.int64(), pa.float64()):
            try:
                filled = text if kind == pa.int64() else pc.if_else(pc.equal(text, ""), None, text)
                numbers = filled.cast(kind)
            except pa.ArrowInvalid:
                continue
            if numbers.null_count < len(numbers) and not (kind == pa.int64() and numbers.null_count):
                return numbers.to_pandas()
    return text.to_pandas()


def _load_users(
    path: Path, user_column: str, encoding: str, max_bad_share: float
) -> tuple[pd.DataFrame, list[RowProblem]]:
    """Read user attributes, ``user_id`` first; the id's column has the same name as in the log, or ``user_id``."""
    advice = _advice("columns")
    rows = read_table(path, None, encoding=encoding, advice=advice)
    if user_column not in rows.table.column_names and "user_id" in rows.table.column_names:
        user_column = "user_id"
    if user_column not in rows.table.column_names:
        found = f"its columns: {', '.join(map(repr, rows.table.column_names))}"
        raise PlumError(f"{path.name}: no column {user_column!r}", found, f"name the user's column {user_column!r}")
    ids = as_text(rows.table.column(user_column), f"{path.name}, column {user_column!r}")
    attributes = {
        name: typed(column) if pa.types.is_string(column.type) else column.to_pandas()
        for name, column in zip(rows.table.column_names, rows.table.columns, strict=True)
        if name != user_column
    }
    frame = pd.DataFrame({"user_id": ids.to_pandas(), **attributes})
    missing = frame["user_id"].isna() | (frame["user_id"] == "")
    repeated = frame["user_id"].duplicated() & ~missing
    problems = list(rows.problems)
    for mask, reason in ((missing, "user_id is missing"), (repeated, "user_id repeats an earlier row")):
        if mask.any():
            first = int(mask.to_numpy().argmax())
            problems.append(
                RowProblem(path.name, reason, int(mask.sum()), f"{rows.where(first)}: {ids[first].as_py()!r}")
            )
    refuse_many_problems(problems, rows.n_read, max_bad_share)
    warn(problems)
    return frame[~(missing | repeated)].reset_index(drop=True), problems
