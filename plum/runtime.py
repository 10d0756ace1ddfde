"""Seeds, device choice, logging, progress and memory: what every stage needs from the machine."""

from __future__ import annotations

import functools
import logging
import multiprocessing
import os
import platform
import resource
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from plum.errors import PlumError

if TYPE_CHECKING:
    import torch
    from rich.console import Console
    from rich.progress import Progress

logger = logging.getLogger(__name__)


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


def pick_device(choice: str) -> torch.device:
    """Turn ``auto``, ``cpu``, ``cuda`` or ``mps`` into a device.

    Raises:
        PlumError: if the device asked for is unknown or not there.
    """
    import torch

    available = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if choice == "auto":
        choice = next(name for name, there in available.items() if there)
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


@functools.cache
def _console() -> Console:
    """Standard error, one console for log and progress bars, so that messages appear above a running bar."""
    from rich.console import Console

    return Console(stderr=True)


def setup_logging(verbose: bool = False) -> None:
    """Log the package's messages to standard error; libraries only when something is wrong."""
    handler: logging.Handler
    if sys.stderr.isatty():
        from rich.logging import RichHandler

        handler = RichHandler(console=_console(), show_path=False, show_level=False, omit_repeated_times=False)
        handler.setFormatter(logging.Formatter("%(message)s", datefmt="%H:%M:%S"))
    else:  # rich would wrap lines at 80 columns in a file
        handler = logging.StreamHandler()
        handler.setFormatter(logging.Formatter("%(asctime)s %(message)s", datefmt="%H:%M:%S"))
    package = logging.getLogger("plum")
    package.handlers = [handler]
    package.setLevel(logging.DEBUG if verbose else logging.INFO)
    package.propagate = False


@contextmanager
def progress(quiet: bool | None = None) -> Iterator[Progress]:
    """A rich progress bar on standard error, silent when that is not a terminal.

    Silent as well in processes that work side by side, whose bars would stand on one line.
    """
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    shared = multiprocessing.parent_process() is not None
    hidden = shared or not sys.stderr.isatty() if quiet is None else quiet
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=_console(), transient=True, disable=hidden) as bar:
        yield bar


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
