"""Reading plain files only: a named pipe would be waited for, and a device never ends."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path
from typing import BinaryIO


def open_plain(path: Path) -> BinaryIO:
    """Open a file for reading, in binary; nothing is waited for.

    Raises:
        OSError: if it can't be opened, or is a pipe, a device or anything else that is no plain file.
    """
    number = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    if not stat.S_ISREG(os.fstat(number).st_mode):
        os.close(number)
        raise OSError(errno.EINVAL, "no plain file", str(path))
    return os.fdopen(number, "rb")


def read_plain(path: Path) -> bytes:
    """The bytes of a file; see :func:`open_plain`."""
    with open_plain(path) as file:
        return file.read()
