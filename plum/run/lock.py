"""One command at a time writes into a run folder; those that only read are not stopped.

The lock is the system's (``flock``) on a file in the folder: it ends with the process that holds it, however that one
ends, so that no lock is ever left behind. The file says who holds it.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import socket
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from plum.errors import PlumError
from plum.run.writing import explained, make_folder
from plum.runtime import is_first

LOCK = ".lock"
"""In the run folder, held while a command writes into it."""
_NO_LOCKS = (errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS, errno.EINVAL, errno.EOPNOTSUPP)
_LONGEST = 4096  # bytes read of what a lock's file says
_held: dict[Path, int] = {}
"""Lock files of this process, and how often it has entered each: a stage works inside of a command."""


@contextmanager
def locked(folder: Path, name: str = LOCK) -> Iterator[None]:
    """Hold a folder's lock, made if needed; inside of itself it does nothing.

    Of the processes of one command (:mod:`plum.run.ranks`), the first holds it for all.

    Args:
        folder: of a run.
        name: of the lock's file in it.

    Raises:
        PlumError: if another process holds it, the folder can't be written, something else has the file's name, or the
            file system has no locks.
    """
    if not is_first():
        yield
        return
    make_workdir(folder)
    path = folder.resolve() / name
    if path in _held:
        _held[path] += 1
        try:
            yield
        finally:
            _held[path] -= 1
        return
    number = _acquire(path, folder)
    _held[path] = 1
    try:
        yield
    finally:
        del _held[path]
        with suppress(OSError):
            os.ftruncate(number, 0)
        os.close(number)


def held_folders() -> list[Path]:
    """Folders whose locks this process holds."""
    return [path.parent for path in _held]


def make_workdir(folder: Path) -> None:
    """Make a run folder.

    Raises:
        PlumError: if it can't be made.
    """
    try:
        make_folder(folder)
    except FileExistsError:
        there = next((path for path in (folder, *folder.parents) if path.is_symlink() or path.is_file()), folder)
        if there.is_symlink() and not there.exists():
            found = f"{there} is a link to {there.readlink()}, which is not there"
            raise PlumError(f"can't write to {folder}", found, f"make that folder, or {_ELSEWHERE}") from None
        raise PlumError(f"can't write to {folder}", f"{there} is not a folder", _ELSEWHERE) from None
    except OSError as error:
        raise _unwritable(folder, error) from None


_ELSEWHERE = "give another --workdir"


def _unwritable(folder: Path, error: OSError) -> PlumError:
    told = explained(error, error.errno or 0, folder / LOCK)
    return PlumError(f"can't write to {folder}", f"{os.strerror(error.errno or 0)}", told.fix)


def _acquire(path: Path, folder: Path) -> int:
    """Take the lock; gives the open file, which holds it."""
    while True:
        number = _open(path, folder)
        try:
            fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if _is_same(number, path):
                _say_who(number)
                return number
        except OSError as error:
            holder = _read_holder(number)
            os.close(number)
            raise _refused(folder, error, holder) from None
        os.close(number)  # it was removed or replaced meanwhile


def _open(path: Path, folder: Path) -> int:
    """Open a lock's file; nothing is waited for, as opening a pipe would be, and nothing is followed."""
    try:
        if path.is_symlink() or (path.exists() and not path.is_file()):
            found = f"{_kind(path)} of that name"
            raise PlumError(f"can't lock {folder}: {path} is no plain file", found, "remove it: plum makes its own")
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        return os.open(path, flags, 0o666)
    except OSError as error:
        raise _unwritable(folder, error) from None


def _kind(path: Path) -> str:
    mode = path.lstat().st_mode
    kinds = {"a link": stat.S_ISLNK, "a folder": stat.S_ISDIR, "a named pipe": stat.S_ISFIFO, "a socket": stat.S_ISSOCK}
    return next((kind for kind, is_kind in kinds.items() if is_kind(mode)), "a device")


def _is_same(number: int, path: Path) -> bool:
    """Whether the locked file still has its name: one who has just ended may have removed it."""
    try:
        return os.path.samestat(os.fstat(number), path.stat())
    except FileNotFoundError:
        return False


def _say_who(number: int) -> None:
    now = datetime.now(timezone.utc).isoformat(timespec="seconds")
    text = json.dumps({"process": os.getpid(), "host": socket.gethostname(), "started": now})
    try:
        os.ftruncate(number, 0)
        os.pwrite(number, text.encode() + b"\n", 0)
    except OSError:  # the disk is full: the lock holds without its file's words
        return


def _read_holder(number: int) -> str | None:
    """Who a lock's file says holds it, in words; None if it does not say."""
    try:
        said: Any = json.loads(os.pread(number, _LONGEST, 0))
        started = datetime.fromisoformat(said["started"]).astimezone()
        host = "".join(letter for letter in str(said["host"])[:200] if letter.isprintable())
        return f"process {int(said['process'])} on {host}, since {started:%Y-%m-%d %H:%M:%S}"
    except (OSError, ValueError, TypeError, KeyError, OverflowError, RecursionError):
        return None


def _refused(folder: Path, error: OSError, holder: str | None) -> PlumError:
    if error.errno in (errno.EWOULDBLOCK, errno.EAGAIN, errno.EACCES):
        what = f"another plum process is working in {folder}"
        return PlumError(what, holder, f"wait for it to end, or {_ELSEWHERE}")
    if error.errno in _NO_LOCKS:
        what = f"{folder} can't be locked: its file system has no file locks"
        found = f"{os.strerror(error.errno or 0)} (network disks may be mounted without them)"
        return PlumError(what, found, "give a --workdir on a local disk, or mount this one with locks")
    return PlumError(f"{folder} can't be locked", os.strerror(error.errno or 0), _ELSEWHERE)
