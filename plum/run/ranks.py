"""The processes of one command that ``torchrun`` or ``accelerate launch`` started: the first works, the others train.

Each has its number in the environment (``RANK``, ``WORLD_SIZE``). All run the same command. What only one may do, such
as writing files or preparing data, the first process does inside of :func:`shared`, while the others wait for its
answer at the launcher's key-value store; they look again and again, so that the work may take hours. All must come to
the same calls in the same order. Run folders must lie where every process can read them.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import logging
import os
import sys
import time
from collections.abc import Callable
from typing import Any, NoReturn, TypeVar

from plum.errors import PlumError
from plum.runtime import is_first, n_processes, rank

Answer = TypeVar("Answer")
BETWEEN_S = 0.05
"""Between two looks for an answer."""
LINGER_S = 30.0
"""That the first process waits for the others at its end: it may hold the store."""
_numbers = itertools.count()
_store: list[Any] = []
_working: list[str] = []
"""Shared work that this process is at."""


class Left(SystemExit):
    """The first process has failed and said so: this one ends without a word."""


def store() -> Any:
    """The launcher's key-value store (``torch.distributed.Store``), the same for all processes.

    Raises:
        PlumError: if it can't be reached.
    """
    if not _store:
        from torch.distributed.rendezvous import rendezvous

        try:
            _store.append(next(iter(rendezvous("env://")))[0])
        except (RuntimeError, ValueError, OSError) as error:
            raise PlumError(
                "the processes of this command can't find each other",
                str(error).splitlines()[0],
                "start them with `torchrun -m plum ...` or `accelerate launch -m plum ...`; or, for one process, unset "
                "WORLD_SIZE",
            ) from error
    return _store[0]


def shared(work: Callable[[], Answer]) -> Answer:
    """The first process's answer, which is of the kinds that JSON has; the others wait for it and do not work.

    In a command of one process, just the work; so too inside of shared work.

    Raises:
        Left: in the other processes, if the first one failed.
        PlumError: in the other processes, if the first one is gone.
    """
    if n_processes() == 1 or _working:
        return work()
    key = f"plum/{next(_numbers)}"
    if not is_first():
        told: Answer = json.loads(_wait(key))
        return told
    there = store()
    _working.append(key)
    try:
        answer = work()
    finally:
        _working.pop()
    there.set(key, json.dumps(answer, default=float))  # numbers of NumPy among them
    return answer


def is_alone() -> bool:
    """Whether this process is at shared work, while the others wait: what it trains, it trains alone."""
    return bool(_working)


def _wait(key: str) -> str:
    try:
        there = store()
        while not there.check([key]):
            if there.check(["plum/failed"]):
                raise Left(PlumError.exit_code)
            time.sleep(BETWEEN_S)
        return bytes(there.get(key)).decode()
    except RuntimeError as error:  # also torch.distributed.DistStoreError
        raise lost(error) from error


def lost(error: BaseException) -> PlumError:
    """What to say when another process of the command is gone."""
    return PlumError(
        "another process of this command has ended, so this one can't go on",
        str(error).splitlines()[0][:200],
        "see what it said before; then run the same command again: it resumes from the last checkpoint",
    )


def may_tell() -> bool:
    """Whether this process is to say what stopped the command: the first one that asks."""
    if n_processes() == 1 or not _store:
        return is_first()
    try:
        return int(_store[0].add("plum/told", 1)) == 1
    except RuntimeError:  # the store is gone with the process that held it, which has spoken
        return False


def leave(failed: bool) -> None:
    """Say goodbye to the other processes; the first one waits for them, unless it has failed."""
    if n_processes() == 1 or not _store:
        return
    with contextlib.suppress(RuntimeError):
        if failed:
            _store[0].set("plum/failed", str(rank()))
            return
        patience = time.monotonic() + LINGER_S
        left = _store[0].add("plum/left", 1)
        while is_first() and left < n_processes() and time.monotonic() < patience:
            time.sleep(BETWEEN_S)
            left = _store[0].add("plum/left", 0)


def end(code: int | str | None) -> NoReturn:
    """End this process, as ``sys.exit`` does; of several that have trained, at once.

    Threads of torch's process groups are still there, and may abort a process whose interpreter takes itself down.
    """
    if n_processes() == 1 or not _store:
        sys.exit(code)
    if isinstance(code, str):
        sys.stderr.write(f"{code}\n")
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):  # a reader that is gone
            stream.flush()
    logging.shutdown()
    os._exit(code if isinstance(code, int) else int(code is not None))
