"""Batches prepared one step ahead, on another thread."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import torch

Batch = TypeVar("Batch")
Made = TypeVar("Made")


def prepared(batches: Iterable[Batch], prepare: Callable[[Batch], Made]) -> Generator[Made, None, None]:
    """Prepare each batch one step ahead, on another thread.

    That thread and the caller's share torch's threads; with more threads than cores, they would wait for each other.
    """

    def make(rest: Iterator[Batch]) -> tuple[Made] | None:
        for batch in rest:
            return (prepare(batch),)
        return None

    rest, threads = iter(batches), torch.get_num_threads()
    share = max(1, threads // 2)
    try:
        torch.set_num_threads(max(1, threads - share))  # first: a new thread starts with the value set last
        with ThreadPoolExecutor(1, "prepare", torch.set_num_threads, (share,)) as thread:
            coming = thread.submit(make, rest)
            while made := coming.result():
                coming = thread.submit(make, rest)
                yield made[0]
    finally:
        torch.set_num_threads(threads)  # for this thread and later ones
