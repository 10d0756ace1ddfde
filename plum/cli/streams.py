r"""Standard output and error that no longer matter once nobody reads them: the work goes on.

A closed stream, a pipe whose reader has gone (``| head -1``) and a terminal that has been closed take what is printed
and lose it. Characters that a stream's encoding lacks are spelt out (``\xe9``). A disk that is full below standard
output is an error, told at the end.
"""

from __future__ import annotations

import errno
import io
import os
import select
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TextIO

_NOBODY_READS = (errno.EPIPE, errno.EBADF, errno.EIO, errno.ENXIO)


class _Forgiving(io.RawIOBase):
    """What is written to a file descriptor, for as long as somebody takes it.

    Attributes:
        lost: the error by which output was lost that somebody wanted; None if there was none.
    """

    def __init__(self, number: int) -> None:
        self._number, self._gone = number, False
        self.lost: OSError | None = None

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._number

    def isatty(self) -> bool:
        return os.isatty(self._number)

    def write(self, data: Any) -> int:
        while not self._gone:
            try:
                return os.write(self._number, data)
            except BlockingIOError:  # a reader that is slow
                select.select([], [self._number], [])
            except OSError as error:
                self._gone = True
                if error.errno not in _NOBODY_READS:
                    self.lost = error
        return len(data)


@contextmanager
def guarded_streams() -> Iterator[list[OSError]]:
    """While open, printing to the process's own standard output and error never fails.

    Yields:
        Empty; filled at the end with the error by which standard output was lost, if it was.
    """
    _open_closed()
    lost: list[OSError] = []
    before = sys.stdout, sys.stderr
    # Others, such as a test's, are left alone.
    out = _guarded(1, sys.stdout) if sys.stdout is None or sys.stdout is sys.__stdout__ else None
    err = _guarded(2, sys.stderr) if sys.stderr is None or sys.stderr is sys.__stderr__ else None
    sys.stdout, sys.stderr = out[0] if out else sys.stdout, err[0] if err else sys.stderr
    try:
        yield lost
    finally:
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        lost += [out[1].lost] if out and out[1].lost else []
        sys.stdout, sys.stderr = before


def _open_closed() -> None:
    """Lead closed standard streams nowhere: else the next file opened would take their number, and what is printed."""
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)  # takes the lowest free number: this one


def _guarded(number: int, stream: TextIO | None) -> tuple[TextIO, _Forgiving]:
    if stream is not None:
        stream.flush()
    raw = _Forgiving(number)
    encoding = stream.encoding if stream is not None else "utf-8"
    lines = number == 2 or raw.isatty()
    text = io.TextIOWrapper(io.BufferedWriter(raw), encoding, "backslashreplace", line_buffering=lines)
    return text, raw
