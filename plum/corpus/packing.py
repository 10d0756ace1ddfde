"""Documents -> blocks of one length: the longest that fits comes next, and few are cut.

First-fit decreasing over a pool: a block begins with the document that has waited longest and takes the longest ones of
the pool that still fit. The pool is refilled from a stream, so that memory does not grow with the corpus.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np

POOL = 64
"""Documents among which the packer chooses. Each block begins with the one that has waited longest, so none waits more
than as many blocks. With many more, blocks are hardly fuller, and an epoch takes more steps than a pass."""
FULL = 0.97
"""Documents are cut, at the borders of their units, only to keep the share of filled places above this."""
LOOKED_AT = 64
"""Waiting documents of which one may be cut to fill a block."""


class Part(NamedTuple):
    """A document, or a part of one.

    Attributes:
        kind: number of its kind.
        number: of the document in its kind.
        start, stop: its tokens; if ``start`` is above 0, the document's head comes before them.
        length: tokens with that head.
        is_due: whether it belongs to what an epoch must hold.
        serial: its number in the stream, in which a document may come again.
    """

    kind: int
    number: int
    start: int
    stop: int
    length: int
    is_due: bool
    serial: int


Borders = Callable[[int, int], tuple[np.ndarray, int]]
"""(kind, number) -> where the document may be cut, and the length of its head."""


class Packer:
    """Packs a stream of documents into blocks.

    Args:
        stream: whole documents, none longer than a block.
        block_length: T.
        borders: of a document.

    Attributes:
        blocks: how many were made.
        placed: tokens in them.
        cut: how often a document was cut.
    """

    def __init__(self, stream: Iterator[Part], block_length: int, borders: Borders) -> None:
        self._stream, self._length, self._borders = stream, block_length, borders
        self._waiting: deque[Part] = deque()
        self._by_length: dict[int, deque[Part]] = {}
        self._lengths = 0  # bit n: a document of n tokens is waiting
        self._gone: set[Part] = set()
        self._there = 0  # documents that wait
        self.blocks = self.placed = self.cut = 0

    @property
    def efficiency(self) -> float:
        """Share of the blocks' places that hold a token."""
        return self.placed / (self.blocks * self._length) if self.blocks else 1.0

    def block(self) -> list[Part]:
        """The next block's parts; empty if the stream has ended and nothing waits."""
        while self._there < POOL and (part := next(self._stream, None)) is not None:
            self._wait(part)
        found: list[Part] = []
        room = self._length
        if (oldest := self._oldest()) is not None:
            self._take(oldest)
            found.append(oldest)
            room -= oldest.length
        while fitting := self._lengths & ((1 << (room + 1)) - 1):
            part = self._of_length(fitting.bit_length() - 1)
            found.append(part)
            room -= part.length
        self.blocks += bool(found)
        self.placed += self._length - room if found else 0
        if found and self.efficiency < FULL and (part := self._cut(room)) is not None:
            found.append(part)
            self.placed += part.length
        return found

    def _wait(self, part: Part, first: bool = False) -> None:
        """Let a document wait, before all others if ``first``."""
        same = self._by_length.setdefault(part.length, deque())
        (self._waiting.appendleft if first else self._waiting.append)(part)
        (same.appendleft if first else same.append)(part)
        self._lengths |= 1 << part.length
        self._there += 1

    def _oldest(self) -> Part | None:
        while self._waiting and self._waiting[0] in self._gone:
            self._gone.remove(self._waiting.popleft())
        return self._waiting[0] if self._waiting else None

    def _take(self, part: Part) -> None:
        """Let a waiting document go."""
        same = self._by_length[part.length]
        same.remove(part)  # the first or near it: both queues have the same order
        self._left(part)

    def _of_length(self, length: int) -> Part:
        part = self._by_length[length].popleft()
        self._left(part)
        return part

    def _left(self, part: Part) -> None:
        self._gone.add(part)
        self._there -= 1
        if not self._by_length[part.length]:
            self._lengths &= ~(1 << part.length)

    def _cut(self, room: int) -> Part | None:
        """The first part, of two units or more, of a waiting document that fits; its rest waits on."""
        for looked, part in enumerate(self._waiting):
            if looked >= LOOKED_AT:
                return None
            if part in self._gone:
                continue
            cuts, head = self._borders(part.kind, part.number)
            inner = cuts[(cuts > part.start) & (cuts < part.stop)]
            before = head if part.start else 0
            fitting = inner[1:][inner[1:] - part.start + before <= room]  # the first would leave one unit alone
            if not len(fitting):
                continue
            border = int(fitting[-1])
            self._take(part)
            self.cut += 1
            self._wait(part._replace(start=border, length=part.stop - border + head), first=True)
            return part._replace(stop=border, length=border - part.start + before)
        return None
