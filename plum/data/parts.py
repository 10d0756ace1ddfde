"""Logs in several files: a folder of parts, or a pattern such as ``log/part-*.parquet``."""

from __future__ import annotations

import glob
import logging
import re
from bisect import bisect_right
from collections.abc import Callable, Sequence
from itertools import accumulate
from pathlib import Path

import pyarrow as pa

from plum.data.files import Source, damage_reported, is_file, is_folder, missing_file
from plum.data.readers import RawRows
from plum.errors import PlumError

log = logging.getLogger(__name__)

_SHOWN = 5
_NO_TABLE = (
    "name a file, or a folder of .csv, .tsv, .jsonl or .parquet files; if these are text, say what separates the "
    "values, for example --set data.source.delimiter=comma"
)


def is_pattern(path: Path) -> bool:
    """Whether a path names several files: there is no file or folder of this name, and it has ``*``, ``?`` or ``[``."""
    return glob.has_magic(str(path)) and not (is_file(path) or is_folder(path))


def find_parts(path: Path, file_format: Callable[[Path], str], *, tell: bool = False) -> list[Path]:
    """The files that a path names.

    Args:
        path: a file, a folder with parts at any depth, or a pattern with ``*``, ``?``, ``[...]`` and ``**``.
        file_format: file -> its format; raises ``PlumError`` for a file that is no table.
        tell: log the files that are left out.

    Returns:
        A file as it is; else all tables, in the order of the numbers in their names. Names that begin with a dot or an
        underscore, such as ``_SUCCESS``, and files that are no tables are left out.

    Raises:
        PlumError: if a folder or a pattern holds no table, or tables of several formats.
    """
    if is_pattern(path):
        found = glob.glob(str(path), recursive=True)  # noqa: PTH207 - the pattern may be absolute
        named = [Path(one) for one in found]
        if not named:
            raise PlumError(f"{path} fits no file", _beside(path), "correct the pattern")
    elif is_folder(path):
        named = [path]
    else:
        return [path]
    files = {file for one in named for file in ([one] if one.is_file() else _inside(one))}
    formats: dict[Path, str] = {}
    for file in sorted(files, key=_natural):
        try:
            formats[file] = file_format(file)
        except PlumError:
            if tell:
                log.info("%s: %s is no table and is left out", path, file.name)
    if not formats:
        shown = ", ".join(sorted(file.name for file in files)[:_SHOWN]) or "no file"
        what = f"{path} is a folder without a table" if path.is_dir() else f"{path} fits no table"
        raise PlumError(what, shown, _NO_TABLE)
    if len(set(formats.values())) > 1:
        firsts = {kind: file.name for file, kind in reversed(formats.items())}
        fix = f"name those of one format by a pattern, such as {path if path.is_dir() else path.parent}/*.csv"
        raise PlumError(f"{path} holds tables of several formats", ", ".join(firsts.values()), fix)
    return list(formats)


def read_parts(path: Path, parts: Sequence[Path], read: Callable[[Path], RawRows]) -> RawRows:
    """Read the parts of a log, one after the other, as one table.

    Args:
        path: that named them, for messages.
        parts: the files.
        read: file -> its rows.

    Raises:
        PlumError: if all are empty, or one has not the columns of the first.
    """
    if list(parts) == [path]:
        return read(path)
    full = [part for part in parts if not _is_empty(part)]
    if not full:
        raise PlumError(f"{path}: all parts are empty", f"{len(parts):,} files", "check what wrote them")
    if len(full) < len(parts):
        log.info("%s: %s empty parts left out", path, f"{len(parts) - len(full):,}")
    rows = [read(part) for part in full]
    for part, found in zip(full, rows, strict=True):
        if found.theirs != rows[0].theirs:
            raise _other_columns(path, full[0], rows[0], part, found)
    log.info("%s: read %s parts", path, f"{len(rows):,}")
    return _joined(path, full, rows)


def _joined(path: Path, parts: Sequence[Path], rows: Sequence[RawRows]) -> RawRows:
    try:
        table = pa.concat_tables([one.table for one in rows], promote_options="permissive")
    except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
        raise _other_types(path, parts, rows) from error
    starts = list(accumulate((one.table.num_rows for one in rows), initial=0))[:-1]

    def where(row: int) -> str:
        at = bisect_right(starts, row) - 1
        while not rows[at].table.num_rows:  # a part without rows begins where the next one does
            at -= 1
        return f"{parts[at].name}, {rows[at].where(row - starts[at])}"

    joined = RawRows(path.name, table, where, sum(one.n_read for one in rows), rows[0].theirs)
    joined.problems = [problem for one in rows for problem in one.problems]
    joined.quoted = any(one.quoted for one in rows)
    for start, one in zip(starts, rows, strict=True):
        for column, broken in one.broken.items():
            joined.broken.setdefault(column, set()).update(start + row for row in broken)
    return joined


def _inside(folder: Path) -> list[Path]:
    """The files in a folder, at any depth, that are not hidden."""
    found = (file for file in folder.rglob("*") if file.is_file())
    return [file for file in found if not any(part[0] in "._" for part in file.relative_to(folder).parts)]


def _natural(path: Path) -> list[tuple[int, str]]:
    """A sort key by which part-2 comes before part-10."""
    return [(int(piece), "") if piece.isdigit() else (0, piece) for piece in re.split(r"([0-9]+)", str(path))]


def _is_empty(part: Path) -> bool:
    source = Source(part)
    with damage_reported(source), source.open() as stream:
        return not stream.read(1)


def _beside(path: Path) -> str:
    fixed = next(parent for parent in path.parents if not glob.has_magic(str(parent)))
    return (missing_file(fixed / path.name).found or "") if fixed.is_dir() else f"there is no folder {fixed}"


def _other_columns(path: Path, first: Path, one: RawRows, part: Path, other: RawRows) -> PlumError:
    extra = {
        first.name: [name for ours, name in one.theirs.items() if ours not in other.theirs],
        part.name: [name for ours, name in other.theirs.items() if ours not in one.theirs],
    }
    found = "; ".join(f"only {file} has {', '.join(map(repr, names))}" for file, names in extra.items() if names)
    fix = "give all parts the same columns, or leave one out, for example with --set \"data.source.columns.rating=''\""
    return PlumError(f"{path}: {part.name} has other columns than {first.name}", found, fix)


def _other_types(path: Path, parts: Sequence[Path], rows: Sequence[RawRows]) -> PlumError:
    for part, one in zip(parts, rows, strict=True):
        for field in one.table.schema:
            kind = rows[0].table.schema.field(field.name).type
            if field.type != kind:
                found = f"{part.name}: {field.name} is {field.type}, in {parts[0].name} {kind}"
                return PlumError(f"{path}: the parts hold one column in several types", found, "write it in one type")
    return PlumError(f"{path}: the parts don't fit together", None, "write them with the same columns and types")
