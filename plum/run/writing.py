"""Writing files whole or not at all, also through a power cut, and what is said when a write fails.

A file is written beside its place under another name, synced to the disk and renamed; then its folder is synced, since
a rename is an entry of the folder. So a reader finds the old file or the new one, whatever stops the process or the
machine in between.
"""

from __future__ import annotations

import errno
import fcntl
import os
import re
import resource
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from plum.errors import PlumError

if TYPE_CHECKING:  # the command line loads this module to explain errors
    import numpy as np
    from torch import Tensor, nn

PARTIAL = ".partial"
"""What ends the name of a file that is being written."""
WORKDIR = "--workdir"
_AGAIN = "then run the same command again: what is complete is kept"
# What libraries written in Rust and C++ say of the system's error, which they don't raise as an OSError:
# "No space left on device (os error 28)", "Os { code: 28, ...", "[Errno 28] Error writing bytes to file".
_NUMBER = re.compile(r"\(os error (\d+)\)|\bcode: (\d+)|\[errno (\d+)\]", re.IGNORECASE)
_SHORT = re.compile(r"\d+ requested and \d+ written")  # NumPy, of a write that it could not finish
_NO_FOLDER_SYNC = (errno.EINVAL, errno.ENOTSUP, errno.EBADF, errno.EACCES, errno.EPERM)
DISK = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EFBIG)
"""Errors that only a write has, wherever they come from."""


@contextmanager
def written(path: Path, needs: int | None = None, elsewhere: str = WORKDIR, sync_entry: bool = True) -> Iterator[Path]:
    """Give the path to write to; at the end the file is synced and renamed to ``path``.

    Args:
        path: of the file; its folder is made if needed.
        needs: its size in bytes, if known.
        elsewhere: the option that names another place, for the message.
        sync_entry: also wait for the folder's entry; without it the caller syncs the folder.

    Raises:
        PlumError: if it can't be written. Nothing of it is left then, and an earlier file of this name stays.
    """
    partial = path.with_name(path.name + PARTIAL)
    with write_errors(path, needs, elsewhere):
        make_folder(path.parent)
        partial.unlink(missing_ok=True)  # a link would be written through, and a pipe waited for
        try:
            yield partial
            sync_file(partial)
            partial.replace(path)
            if sync_entry:
                sync_folder(path.parent)
        except BaseException:
            with suppress(OSError):
                partial.unlink(missing_ok=True)
            raise


def write_text(path: Path, text: str, elsewhere: str = WORKDIR, sync_entry: bool = True) -> None:
    """Write a text in UTF-8; see :func:`written`."""
    content = text.encode("utf-8")
    with written(path, len(content), elsewhere, sync_entry) as partial:
        partial.write_bytes(content)


def write_array(path: Path, array: np.ndarray) -> None:
    """Write an array of numbers as .npy; see :func:`written`."""
    import numpy as np

    with written(path, array.nbytes) as partial, partial.open("wb") as file:
        np.save(file, array, allow_pickle=False)


def mapped_array(path: Path, shape: tuple[int, ...]) -> np.ndarray:
    """A new float32 array in a file, its space reserved: on a full disk a write into memory would end the process."""
    import math

    import numpy as np

    size = 4 * math.prod(shape)
    with write_errors(path, size):
        array: np.ndarray = np.lib.format.open_memmap(path, "w+", np.float32, shape)
        if hasattr(os, "posix_fallocate"):
            with path.open("r+b") as file:
                try:
                    os.posix_fallocate(file.fileno(), 0, path.stat().st_size)
                except OSError as error:
                    if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # it can't be reserved there
                        raise
    return array


def write_arrays(path: Path, arrays: Mapping[str, np.ndarray], metadata: dict[str, str] | None = None) -> None:
    """Write C-contiguous arrays as safetensors; see :func:`written`."""
    from safetensors.numpy import save_file

    with written(path, sum(array.nbytes for array in arrays.values())) as partial:
        save_file(dict(arrays), partial, metadata)


def write_tensors(path: Path, tensors: Mapping[str, Tensor], sync_entry: bool = True) -> None:
    """Write contiguous tensors as safetensors; see :func:`written`."""
    from safetensors.torch import save_file

    size = sum(value.numel() * value.element_size() for value in tensors.values())
    with written(path, size, sync_entry=sync_entry) as partial:
        save_file(dict(tensors), str(partial))


def bytes_of(model: nn.Module) -> int:
    """Size of a model's weights; tied ones count once."""
    return sum(value.numel() * value.element_size() for value in model.parameters())


def copy_file(source: Path, path: Path) -> None:
    """Copy a file; see :func:`written`."""
    with written(path, source.stat().st_size) as partial:
        shutil.copyfile(source, partial)


def make_folder(folder: Path) -> None:
    """Make a folder and those above it, and sync what holds the new entries."""
    if folder.is_dir():
        return
    make_folder(folder.parent)
    folder.mkdir(exist_ok=True)
    sync_folder(folder.parent)


def remove(path: Path) -> None:
    """Remove a file, a folder with all that it holds, or a link; what is not there is fine."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def sync_file(path: Path) -> None:
    """Wait until a file's content is on the disk."""
    _sync(path, os.O_RDONLY)


def sync_folder(folder: Path) -> None:
    """Wait until a folder's entries are on the disk, where its file system can do that."""
    try:
        _sync(folder, os.O_RDONLY | os.O_DIRECTORY)
    except OSError as error:
        if error.errno not in _NO_FOLDER_SYNC:
            raise


def sync_tree(folder: Path) -> None:
    """Wait until all files and folders in a folder, and the folder itself, are on the disk."""
    for path, folders, files in os.walk(folder, topdown=False):
        for name in files:
            if not (file := Path(path) / name).is_symlink():
                sync_file(file)
        for name in folders:
            if not (inner := Path(path) / name).is_symlink():
                sync_folder(inner)
    sync_folder(folder)


def _sync(path: Path, flags: int) -> None:
    number = os.open(path, flags | os.O_CLOEXEC)
    try:
        if hasattr(fcntl, "F_FULLFSYNC"):  # macOS: fsync alone leaves the data in the disk's own cache
            with suppress(OSError):
                fcntl.fcntl(number, fcntl.F_FULLFSYNC)
                return
        os.fsync(number)
    finally:
        os.close(number)


@contextmanager
def write_errors(path: Path, needs: int | None = None, elsewhere: str = WORKDIR) -> Iterator[None]:
    """Turn every error of a write, in whichever library, into one that says what, where and what to do.

    Args:
        path: that is being written, a file or a folder.
        needs: its size in bytes, if known.
        elsewhere: the option that names another place, for the message.

    Raises:
        PlumError: instead of the system's error. Other errors pass.
    """
    try:
        yield
    except Exception as error:
        number = None if isinstance(error, PlumError) else system_error(error, path)
        if number is None:
            raise
        raise explained(error, number, path, needs, elsewhere) from error


def system_error(error: BaseException, path: Path | None = None) -> int | None:
    """The number of the system's error (``errno``) behind an exception of any library; None if there is none."""
    if isinstance(error, OSError) and error.errno:
        return error.errno
    text = str(error)
    if match := _NUMBER.search(text):
        return int(next(number for number in match.groups() if number))
    if isinstance(error, OSError) and _SHORT.search(text):
        limited = resource.getrlimit(resource.RLIMIT_FSIZE)[0] != resource.RLIM_INFINITY
        return errno.EFBIG if limited and path is not None and _free(path)[0] > 1 << 20 else errno.ENOSPC
    return None


def explained(
    error: BaseException, number: int, path: Path, needs: int | None = None, elsewhere: str = WORKDIR
) -> PlumError:
    """What is said of a failed write.

    Args:
        error: as it was raised.
        number: of the system's error.
        path: that was being written.
        needs: its size in bytes, if known.
        elsewhere: the option that names another place.
    """
    free, entries = _free(path)
    place = _existing(path)
    size = f"{_amount(needs)} needed, " if needs else ""
    room = f"{size}{_amount(free)} free on the disk of {place}"
    other = f"give another {elsewhere}"
    if number == errno.ENOSPC and entries == 0:
        return _failed(path, "the disk holds as many files as it can", room, f"remove files from it, {_AGAIN}")
    if number == errno.ENOSPC:
        return _failed(path, "the disk is full", room, f"free space on it, {_AGAIN}; or {other} on a larger disk")
    if number == errno.EDQUOT:
        fix = f"remove files of yours (`quota -s` shows them counted), {_AGAIN}; or {other} on another disk"
        return _failed(path, "your quota of disk space is used up", room, fix)
    if number == errno.EFBIG:
        limit = resource.getrlimit(resource.RLIMIT_FSIZE)[0]
        known = "no limit set here" if limit == resource.RLIM_INFINITY else f"{_amount(limit)} allowed"
        fix = f"lift the limit with `ulimit -f unlimited`, {_AGAIN}; or {other} on a disk that takes larger files"
        return _failed(path, "the file would be larger than is allowed", f"{size}{known}", fix)
    if number == errno.EROFS:
        return _failed(path, "the disk is mounted read-only", None, f"mount it for writing, {_AGAIN}; or {other}")
    if number in (errno.EACCES, errno.EPERM):
        fix = f"give yourself the right to write in {place}, {_AGAIN}; or {other}"
        return _failed(path, "permission denied", None, fix)
    if number == errno.EIO:
        fix = f"look for errors of the disk (`dmesg`), copy the run elsewhere if it is failing, {_AGAIN}; or {other}"
        return _failed(path, "the disk reports an input/output error", None, fix)
    if number == errno.ENAMETOOLONG:
        fix = f"shorten the names in the configuration, or {other} with a shorter path"
        return _failed(path, "the name is too long for this file system", f"{len(path.name)} characters", fix)
    if number in (errno.EMFILE, errno.ENFILE):
        return _failed(path, "too many files are open", None, f"raise the limit with `ulimit -n 4096`, {_AGAIN}")
    if number == errno.ENOENT:
        fix = f"let nothing else remove files of the run, {_AGAIN}; or {other}"
        return _failed(path, f"{place} no longer holds the folder", None, fix)
    return _failed(path, os.strerror(number), str(error) if error.args else None, other)


def _failed(path: Path, why: str, found: str | None, fix: str) -> PlumError:
    return PlumError(f"can't write {path}: {why}", found, fix)


def _existing(path: Path) -> Path:
    """The nearest folder above a path that is there."""
    return next((folder for folder in path.absolute().parents if folder.is_dir()), Path("/"))


def _free(path: Path) -> tuple[int, int | None]:
    """Bytes and further files that fit on the disk of a path; None where files are not counted."""
    try:
        there = os.statvfs(_existing(path))
    except OSError:
        return 0, None
    return there.f_bavail * there.f_frsize, there.f_favail if there.f_files else None


def _amount(n_bytes: int) -> str:
    """``1.5 GiB``."""
    value, unit = float(n_bytes), "bytes"
    for larger in ("KiB", "MiB", "GiB", "TiB"):
        if value < 1024:
            break
        value, unit = value / 1024, larger
    return f"{value:,.0f} {unit}" if unit == "bytes" else f"{value:,.1f} {unit}"
