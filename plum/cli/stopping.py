"""Ctrl-C, SIGTERM and SIGHUP: a message that says what is kept, and the exit code that shells expect."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_NAMES = {signal.SIGINT: "Ctrl-C", signal.SIGTERM: "SIGTERM", signal.SIGHUP: "SIGHUP (the terminal was closed)"}
_SHOW_CURSOR = "\x1b[?25h"
AGAIN = "Run the same command again to continue from the last checkpoint."


class Stopped(BaseException):
    """A signal has stopped the command.

    Args:
        number: of the signal.

    Attributes:
        exit_code: as of a process that the signal ended.
    """

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.exit_code = 128 + number
        self._name = _NAMES.get(signal.Signals(number), signal.Signals(number).name)
        self._place = _place_at_work()

    def told(self) -> str:
        """What was stopped, what is kept and how to go on."""
        first = f"Stopped by {self._name}."
        if self._place is None:
            return f"{first} {AGAIN}" if _holds_a_run() else first
        from plum.run.leftovers import checkpoint_told

        return f"{first} {self._place.stage} has {checkpoint_told(self._place.partial)}. {AGAIN}"


@contextmanager
def stoppable() -> Iterator[list[Stopped]]:
    """While open, each of the signals raises :class:`Stopped`; a second one ends the process at once.

    Yields:
        Empty; holds what was raised, for it may have become another error on its way through a library.
    """
    raised: list[Stopped] = []

    def stop(number: int, frame: FrameType | None) -> None:
        stopped = Stopped(number)
        if raised or _importing(frame):  # nothing is at work in an import, and libraries report what stops it
            leave(stopped)
        raised.append(stopped)
        raise stopped

    with _handled(stop):
        yield raised


@contextmanager
def _handled(handler: Any) -> Iterator[None]:
    """Handle the signals, but those that are ignored (``nohup``, a shell's background job)."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in _SIGNALS}
    ours = [number for number in _SIGNALS if before[number] != signal.SIG_IGN]
    for number in ours:
        signal.signal(number, handler)
    try:
        yield
    finally:
        for number in ours:
            signal.signal(number, before[number])


def leave(stopped: Stopped) -> None:
    """Say what was stopped and end the process."""
    try:
        tail = _SHOW_CURSOR if sys.stderr.isatty() else ""  # a progress bar hides it
        os.write(2, f"\n{stopped.told()}{tail}\n".encode(errors="backslashreplace"))
    finally:
        os._exit(stopped.exit_code)


def _importing(frame: FrameType | None) -> bool:
    while frame is not None:
        if frame.f_code.co_filename.startswith("<frozen importlib"):
            return True
        frame = frame.f_back
    return False


def _place_at_work() -> Any:
    """Where the process writes; None if it does not, or has not loaded what is needed for it."""
    place = sys.modules.get("plum.run.place")
    return place.at_work() if place is not None and hasattr(place, "at_work") else None


def _holds_a_run() -> bool:
    lock = sys.modules.get("plum.run.lock")
    return bool(lock is not None and hasattr(lock, "held_folders") and lock.held_folders())
