"""The batch of an optimizer step, taken apart: each process has its rows, and takes as many at a time as fit in memory.

The batch of a step is the same whatever the number of processes and the size of the parts, and so is its loss, up to
rounding: a mean over labelled tokens is the mean of the parts' means, weighted by their labelled tokens.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, NamedTuple, TypeVar

from plum.errors import PlumError

Batch = TypeVar("Batch")


@dataclass(frozen=True)
class Parts(Generic[Batch]):
    """How a batch is taken apart.

    Attributes:
        rows: of a batch.
        take: the rows from the first number up to the second of a batch, as a batch.
        weight: what a batch's loss is a mean over, such as its labelled tokens; of all rows together the sum of each.
    """

    rows: Callable[[Batch], int]
    take: Callable[[Batch, int, int], Batch]
    weight: Callable[[Batch], float]


class Part(NamedTuple):
    """A part of a batch.

    Attributes:
        batch: the rows, or what was prepared of them.
        share: what its mean loss counts in the step's loss: 1 for the whole batch. Over the parts of all processes, the
            shares' sum is the number of processes, since these take the mean of their gradients.
    """

    batch: Any
    share: float


def divide(batch: Batch, parts: Parts[Batch] | None, micro: int | None, rank: int = 0, size: int = 1) -> list[Part]:
    """The parts of a batch that process ``rank`` of ``size`` works on, one after the other.

    All processes get as many: one that lacks rows gets some again that count nothing.

    Example: 10 rows of one label each, 2 processes, ``micro`` 3: rows 0-2 and 3-4 with shares .6 and .4, and 5-7 and
    8-9.

    Args:
        batch: of all processes.
        parts: how it is taken apart; None if it can't be.
        micro: most rows of a part; None for no limit.
        rank: of the process.
        size: processes.
    """
    if parts is None:
        return [Part(batch, 1.0)]
    n = parts.rows(batch)
    most = min(n if micro is None else micro, n)
    if size == 1 and most == n:
        return [Part(batch, 1.0)]
    each = -(-n // size)
    start, stop = min(rank * each, n), min((rank + 1) * each, n)
    whole = parts.weight(batch)
    cut: list[Part] = []
    for first in range(start, stop, most):
        taken = parts.take(batch, first, min(first + most, stop))
        weight = parts.weight(taken)
        if weight:
            cut.append(Part(taken, size * weight / whole))
    wanted = -(-each // most) if size > 1 else 1
    while len(cut) < wanted:  # without a label in the whole batch its loss is no number, and the step says so
        cut.append(Part(_labelled_row(batch, parts), 0.0 if whole else math.nan))
    return cut


def _labelled_row(batch: Batch, parts: Parts[Batch]) -> Batch:
    """The first row that has a label; the last one if none has."""
    n = parts.rows(batch)
    rows = (parts.take(batch, row, row + 1) for row in range(n))
    return next((row for row in rows if parts.weight(row)), parts.take(batch, n - 1, n))


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error of torch says that memory has run out, on any device."""
    import torch
    from accelerate.utils.memory import should_reduce_batch_size

    return isinstance(error, torch.OutOfMemoryError | MemoryError) or should_reduce_batch_size(error)  # type: ignore[arg-type]


def smaller(name: str, micro: int, divisible: bool, size: int) -> int:
    """The next smaller number of rows to try after memory ran out.

    Raises:
        PlumError: if there is none, or the processes would have to agree on it.
    """
    found = f"{micro:,} rows of a batch at a time" if divisible else "the whole batch at a time"
    if not divisible:
        raise PlumError(f"{name}: memory has run out in a training step", found, "lower batch_size")
    if micro == 1:
        fix = "set gradient_checkpointing to true, lower context_length or max_history, or take a smaller model"
        raise PlumError(f"{name}: memory has run out with a single row", found, fix)
    if size > 1:
        fix = f"set micro_batch_size to {micro // 2} and run the same command again"
        raise PlumError(f"{name}: memory has run out in a training step", found, fix)
    return micro // 2
