"""Open data files, plain or packed in gzip or zip, and report what is wrong with a file as a whole in one message."""

from __future__ import annotations

import codecs
import difflib
import gzip
import logging
import re
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, cast

from plum.errors import PlumError

log = logging.getLogger(__name__)

_LOOKS_LIKE_DATA = re.compile(r"[+-]?\d+(\.\d+)?([eE][+-]?\d+)?|\d{4}-\d\d-\d\d([T ].*)?")


@dataclass(frozen=True)
class Source:
    """A file, or a member of a zip archive, that can be opened repeatedly.

    Args:
        path: the file, or the archive.
        member: path inside the archive.
    """

    path: Path
    member: str | None = None

    @property
    def name(self) -> str:
        """Name for messages: ``ratings.csv`` or ``ml-1m.zip: ml-1m/ratings.dat``."""
        return self.path.name if self.member is None else f"{self.path.name}: {self.member}"

    def open(self) -> BinaryIO:
        """Open for reading bytes, unpacked.

        Raises:
            PlumError: if there is no such file.
        """
        if self.member is not None:
            return cast(BinaryIO, zipfile.ZipFile(self.path).open(self.member))
        if not self.path.is_file():
            raise missing_file(self.path)
        if self.path.suffix == ".gz":
            return cast(BinaryIO, gzip.open(self.path, "rb"))
        return self.path.open("rb")


@dataclass(frozen=True)
class Advice:
    """What to do about an unreadable file: users fix their own logs, but fetch published releases again."""

    columns: str
    encoding: str

    @staticmethod
    def fetch_again(what: str) -> Advice:
        """Advice for a file of a published data set."""
        fix = f"this is not the original file of {what}: get it again"
        return Advice(fix, fix)


def missing_file(path: Path) -> PlumError:
    """Build the error for a missing file, listing its folder's content."""
    if path.is_dir():
        return PlumError(f"{path} is a folder, not a file", None, "name the file itself")
    beside = sorted(p.name for p in path.parent.iterdir()) if path.parent.is_dir() else []
    near = difflib.get_close_matches(path.name, beside, n=1, cutoff=0.5)
    shown = ", ".join(beside[:8]) + (", ..." if len(beside) > 8 else "")
    found = (
        f"{path.parent} holds: {shown or 'nothing'}" if path.parent.is_dir() else f"there is no folder {path.parent}"
    )
    return PlumError(f"{path} does not exist", found, f"did you mean {near[0]}?" if near else "correct the path")


@contextmanager
def damage_reported(source: Source) -> Iterator[None]:
    """Turn the exceptions of damaged or truncated archives into one message.

    Raises:
        PlumError: if the gzip or zip data end too early or fail their checksum, or the file can't be opened.
    """
    try:
        yield
    except (EOFError, zlib.error, gzip.BadGzipFile, zipfile.BadZipFile) as error:
        raise PlumError(
            f"{source.name} is damaged or truncated",
            f"{error} ({source.path.stat().st_size:,} bytes on disk)",
            f"copy or download {source.path} again",
        ) from error
    except PermissionError as error:
        raise PlumError(f"{source.path} can't be read", str(error), "check the permissions of the file") from error


def check_encoding(encoding: str) -> None:
    """Refuse an encoding that Python doesn't know.

    Raises:
        PlumError: naming the encoding.
    """
    try:
        codecs.lookup(encoding)
    except LookupError as error:
        raise PlumError(f"unknown encoding {encoding!r}", None, "use one such as utf-8, cp1252, latin-1") from error


def undecodable(source: Source, encoding: str, fix: str) -> PlumError:
    """Find the first byte of ``source`` that isn't ``encoding`` and build the error that names it.

    This reads the file again, because readers that fail in the middle of a block don't say where.
    """
    decoder = codecs.getincrementaldecoder(encoding)()
    offset, line = 0, 1
    with source.open() as stream:
        while True:
            chunk = stream.read(1 << 20)
            try:
                decoder.decode(chunk, final=not chunk)
            except UnicodeDecodeError as error:
                seen = cast(bytes, error.object)  # bytes that the decoder had buffered, then the chunk
                at = offset - (len(seen) - len(chunk)) + error.start
                line += seen[: error.start].count(b"\n")
                where = f"byte 0x{seen[error.start]:02x} at offset {at:,} (line {line:,})"
                return PlumError(f"{source.name} is not {encoding}", where, fix)
            if not chunk:
                return PlumError(f"{source.name} is not {encoding}", None, fix)
            offset += len(chunk)
            line += chunk.count(b"\n")


def looks_like_data(fields: Iterable[str]) -> bool:
    """Tell whether a first line holds values (a number, a date) where names are expected.

    Example:
        >>> looks_like_data(["196", "242", "3", "881250949"]), looks_like_data(["user", "item"])
        (True, False)
    """
    return any(_LOOKS_LIKE_DATA.fullmatch(field.strip()) for field in fields)


def resolve_columns(
    source: Source, names: list[str], columns: Mapping[str, str], optional: Iterable[str], advice: Advice
) -> dict[str, str]:
    """Pick the columns to read.

    Args:
        source: the file, for messages.
        names: the file's columns.
        columns: our name -> the file's name; each must be there.
        optional: our names that are read under the same name if the file has them.
        advice: what to do if one is missing.

    Returns:
        Our name -> the file's name, of the columns that are there.

    Raises:
        PlumError: for missing columns (all at once, each with the nearest name there is), for a file without a header
            line, and for a wanted name that the header repeats.
    """
    missing = {ours: theirs for ours, theirs in columns.items() if theirs not in names}
    if missing and looks_like_data(names):
        raise PlumError(
            f"{source.name} has no header line",
            f"line 1 holds values, not names: {', '.join(map(repr, names[:6]))}",
            f"put a first line with the column names, such as: {','.join(columns.values())}",
        )
    if missing and len(names) == 1 and (other := re.search(r"[;|\t,]", names[0])):
        raise PlumError(
            f"{source.name}: its fields seem to be separated by {other[0]!r}",
            f"line 1: {names[0]!r}",
            "separate fields by commas in .csv files and by tabs in .tsv files",
        )
    if missing:
        listed = ", ".join(
            f"{theirs!r}" + (f" (our {ours})" if ours != theirs else "") for ours, theirs in missing.items()
        )
        lower = {name.lower(): name for name in names}
        hints = []
        for ours, theirs in missing.items():
            near = [
                m for wish in (theirs, ours) for m in difflib.get_close_matches(wish.lower(), lower, n=1, cutoff=0.5)
            ]
            if near:
                hints.append(f"did you mean {lower[near[0]]!r} for {ours}?")
        found = f"its columns: {', '.join(map(repr, names))}"
        raise PlumError(f"{source.name}: no column {listed}", found, " ".join([*hints, advice.columns]))
    picked = dict(columns) | {name: name for name in optional if name in names and name not in columns}
    twice = sorted({theirs for theirs in picked.values() if names.count(theirs) > 1})
    if twice:
        raise PlumError(f"{source.name}: column {twice[0]!r} is twice in the header", None, "rename one of them")
    return picked


def further_columns(source: Source, names: list[str], picked: Mapping[str, str]) -> dict[str, str]:
    """Pick the remaining columns; they keep their names.

    Args:
        source: the file, for messages.
        names: the file's columns.
        picked: our name -> the file's name, of the columns picked by name.

    Returns:
        Name -> name. Columns without a name, with a repeated name, or with one of our names that is mapped to another
        column are left out with a warning.
    """
    rest = [name for name in dict.fromkeys(names) if name not in picked.values()]
    usable = [name for name in rest if name.strip() and names.count(name) == 1 and name not in picked]
    if len(usable) < len(rest):
        left_out = ", ".join(repr(name) for name in rest if name not in usable)
        log.warning("%s: left out columns whose names are blank, repeated or reserved: %s", source.name, left_out)
    return {name: name for name in usable}


def empty_file(source: Source) -> PlumError:
    """Build the error for an empty file."""
    return PlumError(f"{source.name} is empty", "0 rows", f"check what wrote {source.path}")
