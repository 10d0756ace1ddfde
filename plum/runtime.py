"""Seeds, device choice, logging, progress and memory: what every stage needs from the machine."""

from __future__ import annotations

import functools
import itertools
import logging
import os
import platform
import resource
import sys
import time
from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple, TypeVar

from plum.errors import PlumError
from plum.foreign import VisibleFormatter, cell, terminal

if TYPE_CHECKING:
    import torch
    from rich.console import Console
    from rich.progress import Progress, TaskID
    from torch import nn

logger = logging.getLogger(__name__)
Part = TypeVar("Part")


def seed_everything(seed: int) -> None:
    """Seed Python, NumPy and torch, and ask torch for deterministic kernels. 0 is a seed like any other."""
    import random

    import numpy as np
    import torch

    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # cuBLAS is deterministic only with this set
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)
    torch.use_deterministic_algorithms(True, warn_only=True)
    # Filling new tensors shows code that reads them unwritten; none here does, and it takes a fifth of a training step.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Evaluation mode while open, without dropout; the model's own mode afterwards."""
    was_training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(was_training)


def n_processes() -> int:
    """Processes of this command: one, unless ``torchrun`` or ``accelerate launch`` started more."""
    known = all(os.environ.get(name) for name in ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"))
    return max(1, int(os.environ["WORLD_SIZE"])) if known else 1


def rank() -> int:
    """Number of this process among those of its command, from 0."""
    return int(os.environ["RANK"]) if n_processes() > 1 else 0


def is_first() -> bool:
    """Whether this process is the first of its command: the one that writes files and speaks."""
    return rank() == 0


def pick_device(choice: str) -> torch.device:
    """Turn ``auto``, ``cpu``, ``cuda`` or ``mps`` into a device.

    Raises:
        PlumError: if the device asked for is unknown or not there.
    """
    import torch

    available = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if choice == "auto":
        choice = next(name for name, there in available.items() if there)
    if choice == "cuda" and n_processes() > 1:
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))  # one device a process; it is `cuda` from now on
    if not available.get(choice):
        there = ", ".join(name for name, is_there in available.items() if is_there)
        raise PlumError(f"device {choice} is not available", f"available: {there}", "give --device auto")
    return torch.device(choice)


Precision = Literal["auto", "float32", "bfloat16"]


def is_half(device: torch.device, precision: Precision) -> bool:
    """Whether matrix products run in bfloat16: ``auto`` does on CUDA. Weights and optimizer are float32 always."""
    return precision == "bfloat16" or (precision == "auto" and device.type == "cuda")


def autocast(device: torch.device, precision: Precision) -> AbstractContextManager[None]:
    """While open, matrix products run in the precision asked for."""
    import torch

    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=is_half(device, precision))


def has_half_products() -> bool:
    """Whether the processor has instructions for bfloat16; without, a step takes several times as long in it."""
    cpuinfo = Path("/proc/cpuinfo")
    flags = cpuinfo.read_text(encoding="utf-8") if cpuinfo.exists() else ""
    return any(flag in flags.split() for flag in ("avx512_bf16", "amx_bf16", "bf16"))


@functools.cache
def _console() -> Console:
    """Standard error, one console for log and progress bars, so that messages appear above a running bar."""
    return terminal(stderr=True)


def setup_logging(verbose: bool = False) -> None:
    """Log the package's messages to standard error; libraries only when something is wrong."""
    handler: logging.Handler
    if sys.stderr.isatty():
        from rich.highlighter import NullHighlighter
        from rich.logging import RichHandler

        handler = RichHandler(
            console=_console(),
            show_path=False,
            show_level=False,
            omit_repeated_times=False,
            highlighter=NullHighlighter(),  # else recall@10 and 3,668 fall into pieces of different colours
            keywords=[],
        )
        handler.setFormatter(VisibleFormatter("%(message)s", datefmt="%H:%M:%S"))
    else:  # rich would wrap lines at 80 columns in a file
        handler = logging.StreamHandler()
        handler.setFormatter(VisibleFormatter("%(asctime)s %(message)s", datefmt="%H:%M:%S"))
    package = logging.getLogger("plum")
    package.handlers = [handler]
    package.setLevel(logging.ERROR if not is_first() else logging.DEBUG if verbose else logging.INFO)
    package.propagate = False


SOON = 1.0
"""Seconds that work without a bar may take."""


class Step(NamedTuple):
    """How far some work is.

    Attributes:
        work: tells the work from other work that goes on meanwhile.
        name: of the work, for a reader.
        total: how much there is to do; None if unknown.
        done: how much of it is done; None when the work ends.
        unit: ``"bytes"``, or empty for a plain count.
        alike: whether all of it takes equally long, so that the time left can be foretold.
    """

    work: Hashable
    name: str
    total: int | None
    done: int | None
    unit: str = ""
    alike: bool = True


@contextmanager
def progress(
    name: str, total: int | None, done: int = 0, unit: str = "", after: float = 0.0, alike: bool = True
) -> Iterator[Callable[[int], None]]:
    """Show how far some work is while it goes on: a bar on standard error, nothing where that is not a terminal.

    Bars may be open inside each other. They stand below the log, and each is gone with its work.

    Args:
        name: of the work.
        total: how much there is to do; None if unknown.
        done: how much of it an earlier run has done.
        unit: ``"bytes"``, or empty for a plain count.
        after: seconds of work that may pass without a bar, for work that is mostly short.
        alike: whether all of it takes equally long, so that the time left can be foretold.

    Yields:
        A function to be called with how much is done by now, as often as one likes.
    """
    begun, due, visible = Step(next(_numbers), name, total, done, unit, alike), time.monotonic() + after, not after

    def show(done: int) -> None:
        nonlocal due, visible
        if time.monotonic() >= due:
            due, visible = time.monotonic() + _BETWEEN, True
            show_step(begun._replace(done=done))

    if visible:
        show_step(begun)
    try:
        yield show
    finally:
        if visible:
            show_step(begun._replace(done=None))


def track(parts: Sequence[Part], name: str, after: float = SOON, alike: bool = True) -> Iterator[Part]:
    """Show how many parts are done while they are iterated over; see :func:`progress`."""
    with progress(name, len(parts), after=after, alike=alike) as show:
        for number, part in enumerate(parts):
            show(number)
            yield part


def show_step(step: Step) -> None:
    """Show how far some work is that goes on here, or in a process that has said so; see :func:`progress`."""
    _bars.receive(step)


def send_steps(receive: Callable[[Step], None]) -> None:
    """From now on give ``receive`` what would be shown: for a process whose terminal is another one's to write on."""
    _bars.receive = receive


_numbers = itertools.count()
_BETWEEN = 0.1  # seconds: as often as rich draws


class _Bars:
    """The bars on the terminal, in the order in which their work began."""

    def __init__(self) -> None:
        self.receive: Callable[[Step], None] = self.draw
        self._live: Progress | None = None
        self._tasks: dict[Hashable, TaskID] = {}

    def draw(self, step: Step) -> None:
        """Draw how far some work is; with the last work that ends, all lines are gone."""
        task = self._tasks.get(step.work)
        if step.done is not None and self._live and task is not None:
            self._live.update(task, completed=step.done)
        elif step.done is not None and sys.stderr.isatty() and is_first():
            if self._live is None:
                self._live = _new_bars()
                self._live.start()
            self._tasks[step.work] = self._live.add_task(
                step.name, total=step.total, completed=step.done, unit=step.unit, alike=step.alike
            )
        elif self._live and task is not None:
            del self._tasks[step.work]
            self._live.remove_task(task)
            if self._tasks:
                self._live.refresh()  # now, or the bar would stand below the next message once more
            else:
                self._live.stop()
                self._live = None


_bars = _Bars()


def _new_bars() -> Progress:
    """Bars without a task yet: name, bar, amount, time that is left."""
    from rich.filesize import decimal
    from rich.progress import BarColumn, Progress, ProgressColumn, Task, TimeRemainingColumn
    from rich.text import Text

    width = max(10, min(40, _console().width - 60))

    class Amount(ProgressColumn):
        def render(self, task: Task) -> Text:
            amounts = [task.completed] if task.total is None else [task.completed, task.total]
            written = decimal if task.fields["unit"] == "bytes" else "{:,}".format
            return Text("/".join(written(int(amount)) for amount in amounts), no_wrap=True)

    class Name(ProgressColumn):
        """Where the line is too long the name is cut, not the numbers as a table of rich's would."""

        def render(self, task: Task) -> Text:
            numbers = len(Amount().render(task)) + len("00:00:00") + 3  # and a blank between two columns
            name = cell(task.description)
            name.no_wrap = True
            name.truncate(max(10, _console().width - width - numbers), overflow="ellipsis")
            return name

    class Left(TimeRemainingColumn):
        def render(self, task: Task) -> Text:
            return super().render(task) if task.fields["alike"] else Text("")

    return Progress(Name(), BarColumn(width), Amount(), Left(), console=_console(), transient=True)


def processor() -> str:
    """Model and number of the cores that this process may use, and the GPU that there is, if torch is loaded.

    On other models the same seed gives other figures.
    """
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    model = next(named, platform.processor() or platform.machine())
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    torch = sys.modules.get("torch")
    gpu = f", GPU: {torch.cuda.get_device_name()}" if torch and torch.cuda.is_available() else ""
    return f"{model}, cores: {cores}{gpu}"


_of_others = [0.0]
"""Peaks in MiB of processes that worked side by side for this one."""


def add_to_peak_memory(mib: float) -> None:
    """Count the peak of processes that this one had started: ``peak_memory_mib`` is of all together, at most."""
    _of_others.append(mib)


def reset_peak_memory() -> None:
    """Forget the process's peak so far, where the kernel lets us (Linux), so that each stage reports its own."""
    _of_others[:] = [0.0]
    clear = Path("/proc/self/clear_refs")
    try:
        clear.write_text("5")
    except OSError:
        logger.debug("peak memory can't be reset here: stages report the peak of the whole process")


def peak_memory_mib() -> float:
    """Peak resident memory in MiB since ``reset_peak_memory``, or of the whole process where that has no effect."""
    return _own_peak_mib() + max(_of_others)


def _own_peak_mib() -> float:
    status = Path("/proc/self/status")
    if status.exists():
        for line in status.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 2**20 if sys.platform == "darwin" else peak / 1024
