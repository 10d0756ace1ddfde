"""Open data files, plain or packed, and report what is wrong with a file as a whole in one message."""

from __future__ import annotations

import bz2
import difflib
import gzip
import logging
import lzma
import os
import re
import stat
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, cast

from plum.errors import PlumError

log = logging.getLogger(__name__)

_LOOKS_LIKE_DATA = re.compile(r"[+-]?\d+(\.\d+)?([eE][+-]?\d+)?|\d{4}-\d\d-\d\d([T ].*)?")
_CONTENTS = (  # first bytes of files that are no text -> what they are, and what to do
    (b"\x1f\x8b", "packed with gzip", "add .gz to its name"),
    (b"BZh", "packed with bzip2", "add .bz2 to its name"),
    (b"\xfd7zXZ\x00", "packed with xz", "add .xz to its name"),
    (b"\x28\xb5\x2f\xfd", "packed with Zstandard", "add .zst to its name"),
    (b"PAR1", "a Parquet file", "let its name end in .parquet"),
    (b"PK\x03\x04", "a zip archive or an Excel workbook", "unpack it, or save the table as CSV"),
    (b"\xd0\xcf\x11\xe0", "an old Excel workbook", "save the table as CSV"),
    (b"7z\xbc\xaf", "a 7z archive", "unpack it"),
    (b"Rar!", "a rar archive", "unpack it"),
    (b"SQLite format 3", "a SQLite database", "write the table as CSV"),
    (b"ARROW1", "an Arrow file", "write the table as Parquet"),
    (b"Obj\x01", "an Avro file", "write the table as Parquet"),
    (b"ORC", "an ORC file", "write the table as Parquet"),
    (b"\x89HDF", "an HDF5 file", "write the table as Parquet"),
    (b"\x93NUMPY", "a NumPy array", "write the table as Parquet"),
    (b"%PDF", "a PDF", "write the table as CSV"),
)


_KINDS = (
    (stat.S_ISFIFO, "a pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)


def _zstd(path: Path) -> Any:
    import pyarrow as pa

    return pa.input_stream(str(path), compression="zstd")


_WIDE = re.compile(r"u(tf)?[-_ ]?(16|32)", re.IGNORECASE)
PACKED: dict[str, Callable[[Path], Any]] = {".gz": gzip.open, ".bz2": bz2.open, ".xz": lzma.open, ".zst": _zstd}
"""Suffix -> how to open a file packed in that way."""
OTHERWISE_PACKED = {
    ".zip": "unzip", ".7z": "7z x", ".rar": "unrar x", ".tar": "tar xf", ".tgz": "tar xzf", ".lz4": "unlz4",
    ".lzma": "unlzma", ".z": "uncompress", ".br": "brotli -d", ".sz": "snzip -d",
}  # fmt: skip
"""Suffix of an archive or packing that isn't read -> the command that unpacks it."""


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
        if not is_file(self.path):
            raise missing_file(self.path)
        packed = PACKED.get(self.path.suffix.lower())
        return cast(BinaryIO, packed(self.path)) if packed else self.path.open("rb")


@dataclass(frozen=True)
class Advice:
    """What to do about an unreadable file: users fix their own logs, but fetch published releases again.

    Attributes:
        columns: without the columns asked for.
        encoding: in another encoding.
        header: without a header line, besides adding one.
    """

    columns: str
    encoding: str
    header: str = ""

    @staticmethod
    def fetch_again(what: str) -> Advice:
        """Advice for a file of a published data set."""
        fix = f"this is not the original file of {what}: get it again"
        return Advice(fix, fix)


def is_folder(path: Path) -> bool:
    """Whether a path is a folder; False for a path that no file can have."""
    try:
        return path.is_dir()
    except (OSError, ValueError):
        return False


def is_file(path: Path) -> bool:
    """Whether there is a regular file at a path; false for any path that can't be looked up."""
    try:
        return stat.S_ISREG(path.stat().st_mode)
    except (OSError, ValueError):  # ValueError: a zero byte in the name
        return False


def found_at(path: Path) -> str:
    """What is at a path that is no regular file, in words: a folder, a pipe, a link that leads nowhere, nothing."""
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        return "a link to a file that does not exist" if path.is_symlink() else "no such file"
    except OSError as error:
        return str(error.strerror)
    except ValueError:
        return "a zero byte, or half a character, in its name"
    if stat.S_ISDIR(mode):
        return "a folder"
    return next((name for test, name in _KINDS if test(mode)), "no regular file")


def missing_file(path: Path) -> PlumError:
    """Build the error for a path without a regular file: what is there instead, or the content of its folder."""
    try:
        mode = path.stat().st_mode
    except ValueError:
        return PlumError(f"{str(path)!r} is no path", "a zero byte, or half a character, in it", "correct the path")
    except OSError as error:
        return _not_found(path, error)
    if stat.S_ISDIR(mode):
        return PlumError(f"{path} is a folder, not a file", None, "name the file itself")
    kind = next((name for test, name in _KINDS if test(mode)), "no regular file")
    fix = "write its content to a file, and name that"
    return PlumError(f"{path} is {kind}, which can't be read several times", None, fix)


def _not_found(path: Path, error: OSError) -> PlumError:
    """What is wrong with a path that can't be looked up."""
    if os.path.islink(path):  # noqa: PTH114 - Path.is_symlink raises for names that are too long before Python 3.12
        if isinstance(error, FileNotFoundError):
            found = f"it leads to {path.readlink()}"
            return PlumError(f"{path} is a link to a file that does not exist", found, "mend the link")
        return PlumError(f"{path} is a link that leads nowhere", str(error), "mend the link")
    if not isinstance(error, FileNotFoundError | NotADirectoryError):
        fix = "check the permissions of its folder" if isinstance(error, PermissionError) else "correct the path"
        return PlumError(f"{path} can't be read", str(error.strerror), fix)
    beside: list[str] = []
    try:
        beside = sorted(entry.name for entry in path.parent.iterdir() if entry.name != path.name)
        found = f"{path.parent} holds: {', '.join(beside[:8]) or 'nothing'}" + (", ..." if len(beside) > 8 else "")
    except PermissionError:
        found = f"the folder {path.parent} can't be read"
    except OSError:
        found = f"there is no folder {path.parent}"
    near = difflib.get_close_matches(path.name, beside[:1000], n=1, cutoff=0.5)
    return PlumError(f"{path} does not exist", found, f"did you mean {near[0]}?" if near else "correct the path")


@contextmanager
def damage_reported(source: Source) -> Iterator[None]:
    """Turn the exceptions of damaged or truncated archives into one message.

    Raises:
        PlumError: if packed data end too early or fail their checksum, or the file can't be opened or read.
    """
    try:
        yield
    except (EOFError, zlib.error, gzip.BadGzipFile, zipfile.BadZipFile, lzma.LZMAError) as error:
        raise _damaged(source, error) from error
    except PermissionError as error:
        raise PlumError(f"{source.path} can't be read", str(error), "check the permissions of the file") from error
    except (NotImplementedError, RuntimeError) as error:  # of zipfile: a method it does not know, or a password
        if source.member is None:
            raise
        raise PlumError(f"{source.name} can't be unpacked", str(error), f"unpack {source.path} by hand") from error
    except OSError as error:
        if source.path.suffix.lower() in PACKED and error.errno is None:  # of bz2 and Zstandard
            raise _damaged(source, error) from error
        raise PlumError(f"{source.path} can't be read", str(error), "check the file and the disk it lies on") from error


def _damaged(source: Source, error: Exception) -> PlumError:
    return PlumError(
        f"{source.name} is damaged or truncated",
        f"{error} ({source.path.stat().st_size:,} bytes on disk)",
        f"copy or download {source.path} again",
    )


def refuse_other_contents(source: Source, encoding: str = "utf-16") -> None:
    """Refuse a file named as text that holds something else, by its first bytes.

    Args:
        source: the file.
        encoding: in which it is to be read; text of two bytes a character has another one than UTF-8.

    Raises:
        PlumError: saying what it is; and as :meth:`Source.open` and :func:`damage_reported`.
    """
    with damage_reported(source), source.open() as stream:
        head = stream.read(400)
    zeros = (head[0::2].count(0), head[1::2].count(0))
    if max(zeros) > len(head) // 3 and min(zeros) == 0 and not _WIDE.match(encoding):
        order = "be" if zeros[0] else "le"
        fix = f"name its encoding: --set data.source.encoding=utf-16-{order}"
        raise PlumError(f"{source.name} is not {encoding}, but UTF-16", "every other byte is zero", fix)
    for magic, kind, fix in _CONTENTS:
        if head.startswith(magic):
            raise PlumError(f"{source.name} holds no text, but is {kind}", f"first bytes: {head[:8].hex(' ')}", fix)


def looks_like_data(fields: Iterable[str]) -> bool:
    """Tell whether a first line holds values (a number, a date) where names are expected.

    Example:
        >>> looks_like_data(["196", "242", "3", "881250949"]), looks_like_data(["user", "item"])
        (True, False)
    """
    return any(_LOOKS_LIKE_DATA.fullmatch(field.strip()) for field in fields)


def empty_file(source: Source) -> PlumError:
    """Build the error for an empty file."""
    return PlumError(f"{source.name} is empty", "0 rows", f"check what wrote {source.path}")
