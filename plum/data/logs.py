"""Users' own logs: rows in CSV, TSV, Parquet or JSON Lines, through a mapping from our column names to theirs; or text
with a line per user.

``user_id``, ``item_id`` and ``timestamp`` are required; unmapped names are looked up as they are. ``rating``,
``reward`` and the item columns ``title``, ``topics``, ``creator``, ``description`` are optional, but required once they
are mapped. Other mapped names become extra columns. Unmapped unknown columns of items become extra columns, for rules;
those of the log are not read. Rows of the log that agree in every column read are repetitions: if they are separate
events, map an event id as an extra column.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from plum.data.columns import listed
from plum.data.dialect import JSON_LINES, PARQUET, Dialect, file_format, layout_of
from plum.data.encodings import undecodable
from plum.data.files import Advice, Source, damage_reported, refuse_other_contents
from plum.data.filters import RowFilter
from plum.data.ids import as_ids, one_id
from plum.data.interactions import Choice, Known, check_interactions
from plum.data.items import check_items, item_frame, typed_column
from plum.data.jsonl import read_jsonl
from plum.data.lines import lines
from plum.data.moments import NANOSECOND, TIMESTAMP
from plum.data.parts import find_parts, read_parts
from plum.data.readers import RawRows, read_delimited, read_parquet
from plum.data.rows import Tally, refuse_swallowed_lines, repeats, strike_unusable_ids, warn
from plum.data.sequences import read_log, refuse_beyond, shuffled
from plum.data.tables import INTERACTION_COLUMNS, ITEM_COLUMNS, RawTables, RowProblem, refuse_many_problems
from plum.data.time_texts import check_layout
from plum.data.times import AUTO, POSITION, WAYS
from plum.errors import PlumError

log = logging.getLogger(__name__)

_BOOLEANS = pa.array(["true", "false"])


def _advice(key: str) -> Advice:
    return Advice(
        f"map it with --set data.source.{key}.OUR_NAME=YOUR_NAME",
        "save the file as UTF-8, or name its encoding: --set data.source.encoding=cp1252 (or latin-1, utf-16, ...)",
        f"or --set data.source.header=false, and name columns by their place: --set data.source.{key}.user_id=1"
        if key == "columns"
        else f"or --set data.source.header=false, and name columns by their place: --set data.source.{key}.item_id=1",
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
    dialect: Dialect | None = None,
) -> RawRows:
    """Read a table in the format that the file's suffix names.

    Args:
        path: a file ending in .csv, .tsv, .jsonl, .dat, .txt, .inter, .item, .user (or any of these with .gz, .bz2, .xz
            or .zst), or .parquet.
        columns: our name -> the file's name; None reads every column under its own name.
        optional: columns read if they are there.
        lists: columns that may hold lists; returned as Python values.
        encoding: of text files.
        advice: what to tell users of a file that can't be read.
        extras: further columns, our name -> the file's name, for ``RawRows.extras``; all remaining columns are added
            under their own names. None reads only ``columns`` and ``optional``.
        dialect: of delimited text, where it is not what the suffix says.

    Raises:
        PlumError: for another suffix, and as the readers do.
    """
    dialect = dialect or Dialect()
    kind, source = file_format(path, dialect.delimiter), Source(path)
    if kind == JSON_LINES:
        return read_jsonl(source, columns, optional, lists, encoding=encoding, advice=advice, extras=extras)
    if kind == PARQUET:
        return read_parquet(source, columns, optional, lists, advice=advice, extras=extras)
    refuse_other_contents(source, encoding)
    with damage_reported(source):
        try:
            layout = layout_of(source, encoding, dialect, [*(columns or {}).values()])
        except UnicodeError as error:
            raise undecodable(source, encoding, advice.encoding) from error
    return read_delimited(source, layout, columns, optional, lists, advice=advice, extras=extras)


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
    dialect: Dialect | None = None,
    max_bad_share: float = 0.01,
    where: RowFilter | None = None,
    keep_repeats: bool = False,
    keep_unlisted: bool = False,
    sequences: bool = False,
) -> RawTables:
    """Read interaction logs, with their items and users; which columns, the module says.

    Args:
        interactions: the log: a file, a folder of parts, or a pattern such as ``log/part-*.csv``.
        items: the catalogue; interactions with other items are unusable. None derives the items from the log.
        users: user attributes; all columns are kept.
        columns: our name -> the name in ``interactions`` (``user_id``: and ``users``); "" leaves out an optional one.
        item_columns: our name -> the name in ``items``.
        topic_separator: between the topics of one text.
        timestamp_unit, timestamp_format: how times are read, see :class:`plum.config.data.LogsSource`.
        encoding, dialect: of text files; the dialect where it is not what the suffix says.
        max_bad_share: share of unusable rows, from 0 to 1, over which a file is refused.
        where: a rule on the rows of the log; it may name columns that are not mapped.
        keep_repeats: keep rows that agree in every column.
        keep_unlisted: add items that only the log has, without content, instead of leaving out their interactions.
        sequences: the log has a line per user. The delimiter is that of the log alone then, and the catalogue shuffled.

    Raises:
        PlumError: for every mistake in the files, the mapping or the rule.
    """
    check_time_settings(timestamp_unit, timestamp_format)
    given = dialect or Dialect()
    if sequences:
        refuse_beyond(columns or {}, where, timestamp_unit, timestamp_format)
        timestamp_unit, dialect = POSITION, replace(given, delimiter=None)
    read = partial(read_table, encoding=encoding, dialect=dialect)
    named, optional, only_for_where = _columns_to_read(columns or {}, where, timestamp_unit)
    check = partial(check_items, topic_separator=topic_separator, max_bad_share=max_bad_share)
    catalogue, known, problems = _known_items(items, item_columns or {}, read, dialect, check)
    one = partial(read, columns=named, optional=optional, advice=_advice("columns"))
    rows = _read_log(interactions, None if sequences else one, encoding, given.delimiter, max_bad_share)
    log_rows, found = check_interactions(
        rows,
        timestamp_unit=timestamp_unit,
        timestamp_format=timestamp_format,
        max_bad_share=max_bad_share,
        known=None if keep_unlisted else known,
        choice=Choice(where, only_for_where, keep_repeats),
    )
    people, of_users = _load_users(users, named["user_id"], read, max_bad_share) if users else (None, [])
    catalogue = _catalogue(catalogue, log_rows["item_id"], interactions.name)
    log_rows, catalogue = _typed_extras(log_rows, rows), shuffled(catalogue) if sequences else catalogue
    problems, positions = [*problems, *found, *of_users], timestamp_unit == POSITION
    return RawTables(log_rows, catalogue, people, None, problems, rows.n_read, None, positions)


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


def _columns_to_read(
    columns: Mapping[str, str], where: RowFilter | None, unit: str
) -> tuple[dict[str, str], list[str], list[str]]:
    """The columns of the log, our name -> its name; those read if it has them; those that only a rule needs.

    Raises:
        PlumError: if they don't fit together.
    """
    _refuse_left_out(columns, where, unit)
    named, optional = _required_and_optional(columns, unit)
    named, only_for_where = _with_fields(named, where)
    return named, optional, only_for_where


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


def _refuse_left_out(columns: Mapping[str, str], where: RowFilter | None, unit: str) -> None:
    """Refuse a rule on a column that the mapping leaves out, or on times where none are read."""
    if where is None:
        return
    for name in where.fields:
        if columns.get(name) == "":
            fix = "name the column, or change the rule"
            raise PlumError(f"{where.text} needs {name!r}, which data.source.columns leaves out", None, fix)
    if unit == POSITION and TIMESTAMP in where.fields:
        fix = "name the unit of the times in data.source.timestamp_unit, or change the rule"
        raise PlumError(f"{where.text} needs times, but timestamp_unit is position, which reads none", None, fix)


def _with_fields(columns: dict[str, str], where: RowFilter | None) -> tuple[dict[str, str], list[str]]:
    """The columns to read with those that a rule needs, and the names of the ones that nothing else needs."""
    needed = [] if where is None else [name for name in where.fields if name not in columns]
    return columns | {name: name for name in needed}, [name for name in needed if name not in INTERACTION_COLUMNS]


def _catalogue(catalogue: pd.DataFrame | None, logged: pd.Series, name: str) -> pd.DataFrame:
    """The catalogue with the items that only the log has, which have no content."""
    if catalogue is None:
        return item_frame({"item_id": sorted(pd.unique(logged))})  # no order of the log leaks
    bare = sorted(set(logged.unique()) - set(catalogue["item_id"]))
    if not bare:
        return catalogue
    log.info("%s: %s items are not in the items table and have no content", name, f"{len(bare):,}")
    joined = pd.concat([catalogue, item_frame({"item_id": bare})], ignore_index=True)
    objects = [column for column in joined.columns[1:] if joined[column].dtype == object]
    return joined.assign(**{column: joined[column].where(joined[column].notna(), None) for column in objects})


def _read_log(
    path: Path, one: Callable[[Path], RawRows] | None, encoding: str, delimiter: str | None, max_bad_share: float
) -> RawRows:
    """Read a log: each of its parts by ``one``, or as sequences if there is none."""
    if one is None:
        return read_log(path, encoding=encoding, delimiter=delimiter, max_bad_share=max_bad_share)
    return read_parts(path, find_parts(path, partial(file_format, delimiter=delimiter), tell=True), one)


def _known_items(
    path: Path | None,
    columns: Mapping[str, str],
    read: Callable[..., RawRows],
    dialect: Dialect | None,
    check: Callable[[RawRows], tuple[pd.DataFrame, list[RowProblem]]],
) -> tuple[pd.DataFrame | None, Known | None, list[RowProblem]]:
    """The catalogue, the items that the log may name, and unusable rows; nothing of these without a file."""
    if path is None:
        return None, None, []
    rows = _read_items(path, columns, read, dialect)
    catalogue, problems = check(rows)
    return catalogue, Known(catalogue["item_id"].tolist(), path.name, rows.unread_lines), problems


def _read_items(
    path: Path, columns: Mapping[str, str], read: Callable[..., RawRows], dialect: Dialect | None
) -> RawRows:
    """Read the catalogue: known columns under our names, all others as extra columns."""
    known = {"item_id": "item_id"} | {ours: theirs for ours, theirs in columns.items() if ours in ITEM_COLUMNS}
    extras = {ours: theirs for ours, theirs in columns.items() if ours not in ITEM_COLUMNS}
    packed_as = file_format(path, None if dialect is None else dialect.delimiter)
    lists = ITEM_COLUMNS[1:] if packed_as == JSON_LINES else ("topics",)  # Parquet's types tell what are lists
    return read(path, known, ITEM_COLUMNS[1:], lists, advice=_advice("item_columns"), extras=extras)


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
    ids = as_ids(rows.table.column("item_id"), rows.labels()["item_id"])
    columns = {name: typed_column(values) for name, values in rows.extras.items()}
    return pd.DataFrame({"item_id": ids.to_pandas(), **columns})


def read_ids(path: Path) -> list[str]:
    """Read ids, one per line; blank lines are skipped.

    Raises:
        PlumError: if the file is missing, damaged or not UTF-8.
    """
    source = Source(path)
    try:
        with damage_reported(source):
            return [one_id(line) for line in lines(source, "utf-8") if line.strip()]
    except UnicodeError as error:
        raise undecodable(source, "utf-8", "save the file as UTF-8") from error


def _typed_extras(frame: pd.DataFrame, rows: RawRows) -> pd.DataFrame:
    """Give extra columns from a text format the type that Parquet would have kept."""
    for name in frame.columns.difference([*INTERACTION_COLUMNS, NANOSECOND], sort=False):
        if pa.types.is_string(rows.table.column(name).type):
            frame[name] = typed(pa.chunked_array([pa.array(frame[name], pa.string())]))
    return frame


def typed(text: pa.ChunkedArray) -> pd.Series:
    """Convert text to booleans, int64 or float64 if all values are true or false, whole numbers, or numbers.

    Blank text is missing; whole numbers of which some are missing are float64, as pandas reads them from Parquet. Other
    text is returned unchanged, as is text such as "007", which a number would not reproduce.
    """
    text = pc.if_else(pc.equal(text, ""), None, text)
    if text.null_count == len(text):
        return text.to_pandas()
    if pc.all(pc.is_in(pc.utf8_lower(text.drop_null()), value_set=_BOOLEANS)).as_py():
        return pc.equal(pc.utf8_lower(text), "true").to_pandas()
    if not pc.any(pc.match_substring_regex(text, r"^[+-]?0\d|^\+")).as_py():
        for kind in (pa.float64(),) if text.null_count else (pa.int64(), pa.float64()):
            with suppress(pa.ArrowInvalid):
                return text.cast(kind).to_pandas()
    return text.to_pandas()


def _load_users(
    path: Path, user_column: str, read: Callable[..., RawRows], max_bad_share: float
) -> tuple[pd.DataFrame, list[RowProblem]]:
    """Read user attributes, ``user_id`` first; the id's column has the same name as in the log, or ``user_id``."""
    rows = read(path, None, advice=_advice("columns"))
    names = rows.table.column_names
    user_column = "user_id" if user_column not in names and "user_id" in names else user_column
    if user_column not in names:
        fix = f"name the user's column {user_column!r}"
        raise PlumError(f"{path.name}: no column {user_column!r}", f"its columns: {listed(names)}", fix)
    others = [name for name in names if name != user_column]
    rows.table = rows.table.select([user_column, *others]).rename_columns(["user_id", *others])
    rows.theirs["user_id"] = user_column
    rows.broken["user_id"] = rows.broken.pop(user_column, set())
    ids = as_ids(rows.table.column("user_id"), rows.labels()["user_id"])
    refuse_swallowed_lines(rows)
    tally = Tally(rows)
    strike_unusable_ids(tally, ids, "user_id")
    tally.strike(repeats([ids], tally.kept()), "user_id repeats an earlier row", "user_id")
    refuse_many_problems(tally.problems, rows.n_read, max_bad_share)
    warn(tally.problems)
    attributes = {
        name: typed(column) if pa.types.is_string(column.type) else column.to_pandas()
        for name, column in ((name, rows.table.column(name)) for name in others)
    }
    frame = pd.DataFrame({"user_id": ids.to_pandas(), **attributes})
    return frame[tally.kept()].reset_index(drop=True), tally.problems
