"""Parallel calls, each in its own process, which ends when its parent ends for whatever reason.

Small models gain little from a second core, because every operation waits for all threads; two parallel trainings use
two cores well.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import pickle
import signal
import threading
from collections import deque
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection, wait
from typing import NamedTuple

from plum import runtime
from plum.errors import PlumError

PARENT_GONE = 3  # exit code


class _Report(NamedTuple):
    """A process's result."""

    error: PlumError | OSError | None
    peak_mib: float


def run_side_by_side(calls: Sequence[Callable[[], None]], at_once: int, threads: int) -> None:
    """Run all calls, several at a time.

    Args:
        calls: started in this order; they must be picklable and write their results to files.
        at_once: number of parallel processes.
        threads: torch's in each process.

    Raises:
        PlumError: if a call raised it, or its process was killed; the others are terminated.
        OSError: if a call raised it.
        RuntimeError: if a call raised another error; its process has printed the traceback.
    """
    waiting, working = deque(calls), list[_Process]()
    peaks: list[float] = []
    try:
        while waiting or working:
            while waiting and len(working) < at_once:
                working.append(_Process(waiting.popleft(), threads))
            wait([process.ended for process in working])
            for process in [process for process in working if process.ended.poll()]:
                peaks.append(process.peak_mib())
                working.remove(process)
    finally:
        for process in working:
            process.kill()
        for process in working:
            process.close()
    runtime.add_to_peak_memory(sum(sorted(peaks)[-at_once:]))


class _Process:
    """A running call.

    Attributes:
        ended: readable when the process has reported or ended.
    """

    def __init__(self, call: Callable[[], None], threads: int) -> None:
        # A new interpreter: one forked from a process with threads may deadlock on their locks.
        context = multiprocessing.get_context("spawn")
        self.ended, report = context.Pipe(duplex=False)
        plum_logger = logging.getLogger("plum")
        level = plum_logger.level if plum_logger.handlers else None
        # Pickled here, so that the process handles signals before it loads the call's libraries.
        arguments = (pickle.dumps(call), report, threads, level)
        self._process = context.Process(target=_work, args=arguments, daemon=True)
        self._process.start()
        report.close()  # so that the child holds the only write end

    def peak_mib(self) -> float:
        """Its peak memory, once it has ended.

        Raises:
            PlumError, OSError: if the call raised it; PlumError also if the process was killed.
            RuntimeError: if the call raised another error.
        """
        try:
            report = self.ended.recv()
        except (EOFError, OSError):  # it ended without a complete report
            report = None
        self._process.join()
        self.ended.close()
        if report is None:
            raise self._broken()
        if report.error:
            raise report.error
        return float(report.peak_mib)

    def _broken(self) -> Exception:
        code = self._process.exitcode or 0
        if code < 0:
            return PlumError(
                "a training process was killed",
                f"signal {-code}" + (", often sent when memory runs out" if code == -signal.SIGKILL else ""),
                "lower trials_at_once if memory is short, and run the command again: it resumes from the checkpoint",
            )
        return RuntimeError(f"a process ended with code {code}; its error is printed above")

    def kill(self) -> None:
        """Terminate it; a training resumes from its checkpoint."""
        self._process.kill()

    def close(self) -> None:
        """Wait for its end."""
        self._process.join()
        self.ended.close()


def _work(call: bytes, report: Connection, threads: int, log_level: int | None) -> None:
    """The process's main function."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all processes; the parent ends the others
    threading.Thread(target=_end_with_parent, daemon=True).start()
    if log_level is not None:
        runtime.setup_logging(verbose=log_level <= logging.DEBUG)
    import torch

    torch.set_num_threads(threads)
    error: PlumError | OSError | None = None
    try:
        pickle.loads(call)()
    except (PlumError, OSError) as raised:
        error = raised
    report.send(_Report(error, runtime.peak_memory_mib()))


def _end_with_parent() -> None:
    if parent := multiprocessing.parent_process():
        parent.join()
        os._exit(PARENT_GONE)
