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
from collections.abc import Callable, Hashable, Sequence
from logging.handlers import QueueHandler
from multiprocessing.connection import Connection, wait
from typing import Any, NamedTuple, cast

from plum import runtime
from plum.errors import PlumError

PARENT_GONE = 3  # exit code


class _Report(NamedTuple):
    """A process's result."""

    error: PlumError | OSError | None
    peak_mib: float


_Message = logging.LogRecord | runtime.Step | _Report
"""What a process says: its log and its progress, which the one that started it shows, and at last a report."""


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
            wait([process.messages for process in working])
            for process in [process for process in working if process.messages.poll()]:
                if report := process.listen():
                    peaks.append(report.peak_mib)
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
        messages: readable when the process has said something or ended.
    """

    def __init__(self, call: Callable[[], None], threads: int) -> None:
        # A new interpreter: one forked from a process with threads may deadlock on their locks.
        context = multiprocessing.get_context("spawn")
        self.messages, outlet = context.Pipe(duplex=False)
        self._open: dict[Hashable, runtime.Step] = {}
        # Pickled here, so that the process is ready for signals before it loads the libraries that the call needs.
        arguments = (pickle.dumps(call), outlet, threads, logging.getLogger("plum").getEffectiveLevel())
        self._process = context.Process(target=_work, args=arguments, daemon=True)
        self._process.start()
        outlet.close()  # here, so that its end in the process is the last one

    def listen(self) -> _Report | None:
        """Show the next thing that it says; returns its report if that was all.

        Raises:
            PlumError, OSError: if the call raised it; PlumError also if the process was killed.
            RuntimeError: if the call raised another error.
        """
        try:
            message: _Message | None = self.messages.recv()
        except (EOFError, OSError):  # it ended without a report, or in the midst of a message
            message = None
        if isinstance(message, logging.LogRecord):
            logging.getLogger(message.name).handle(message)
            return None
        if isinstance(message, runtime.Step):
            self._show(message)
            return None
        self.close()
        if message is None:
            raise self._broken()
        if message.error:
            raise message.error
        return message

    def _show(self, step: runtime.Step) -> None:
        if step.done is None:
            self._open.pop(step.work, None)
        else:
            self._open[step.work] = step
        runtime.show_step(step._replace(work=(id(self), step.work)))  # two processes may number their work alike

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
        self.messages.close()
        for step in list(self._open.values()):  # it was killed at work
            self._show(step._replace(done=None))


class _Outlet(QueueHandler):
    """The process's end of the pipe. It says one thing at a time, whichever thread says it."""

    def __init__(self, pipe: Connection) -> None:
        super().__init__(cast(Any, pipe))  # not put into as a queue: see enqueue
        self._pipe = pipe
        self._one_at_a_time = threading.Lock()

    def send(self, message: _Message) -> None:
        """Say something to the process that started this one."""
        with self._one_at_a_time:
            self._pipe.send(message)

    def enqueue(self, record: logging.LogRecord) -> None:
        """Send a log record, which the handler has made fit to be sent."""
        self.send(record)


def _work(call: bytes, pipe: Connection, threads: int, log_level: int) -> None:
    """What the process does."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # reaches all processes of a terminal: the first one ends the others
    threading.Thread(target=_end_with_parent, daemon=True).start()
    outlet = _Outlet(pipe)
    package = logging.getLogger("plum")
    package.handlers, package.level, package.propagate = [outlet], log_level, False
    runtime.send_steps(outlet.send)
    import torch

    torch.set_num_threads(threads)
    error: PlumError | OSError | None = None
    try:
        pickle.loads(call)()
    except (PlumError, OSError) as raised:
        error = raised
    outlet.send(_Report(error, runtime.peak_memory_mib()))


def _end_with_parent() -> None:
    if parent := multiprocessing.parent_process():
        parent.join()
        os._exit(PARENT_GONE)
