"""Documents -> token blocks of one length, and batches that mix two corpora in a fixed proportion."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from plum.errors import PlumError


def pack(documents: Sequence[np.ndarray], block_length: int, end: int, rng: np.random.Generator) -> np.ndarray:
    """Join documents in random order, each closed by ``end``, and cut the stream into blocks.

    Args:
        documents: int64 token ids.
        block_length: T.
        end: token id put after each document.
        rng: draws the order.

    Returns:
        (blocks, T) int64. What is left at the end is filled up from the stream's start, so that no token is lost and
        there is no padding.
    """
    order = rng.permutation(len(documents))
    stream = np.concatenate([np.append(documents[i], end) for i in order])
    blocks = -(-len(stream) // block_length)
    return np.resize(stream, (blocks, block_length))


class Mixture:
    """Batches of blocks from two corpora, so many rows of each, reshuffled whenever a corpus is used up.

    Args:
        behaviour: token ids of behaviour documents.
        metadata: token ids of metadata documents; may be empty.
        block_length: T.
        batch_size: B, blocks per step.
        behaviour_share: share of a batch's blocks that come from behaviour (PLUM section 2.2: half).
        end: token id after each document.
        seed: decides every order. Batch k of epoch e depends on nothing else.
    """

    def __init__(
        self,
        behaviour: Sequence[np.ndarray],
        metadata: Sequence[np.ndarray],
        block_length: int,
        batch_size: int,
        behaviour_share: float,
        end: int,
        seed: int,
    ) -> None:
        if not behaviour:
            raise PlumError("there are no behaviour documents", "no user has a training interaction", "check data/")
        self._corpora = [corpus for corpus in (behaviour, metadata) if corpus]
        self._length, self._end, self._seed = block_length, end, seed
        first = max(1, min(batch_size - 1, round(batch_size * behaviour_share))) if batch_size > 1 else 1
        self._rows = [first, batch_size - first] if metadata else [batch_size]
        tokens = sum(len(document) + 1 for document in behaviour)
        self.steps_per_epoch = max(1, -(-tokens // (block_length * first)))

    def batches(self, epoch: int):  # noqa: ANN201
        """Yield ``steps_per_epoch`` arrays (B, T) int64; one epoch passes once over the behaviour corpus."""
        streams = [self._blocks(number, epoch, rows) for number, rows in enumerate(self._rows)]
        for step in range(self.steps_per_epoch):
            parts = [
                stream[step * rows : (step + 1) * rows] for stream, rows in zip(streams, self._rows, strict=True) if rows
            ]
            yield np.concatenate(parts)

    def _blocks(self, number: int, epoch: int, rows: int) -> np.ndarray:
        """The blocks of one corpus for a whole epoch, packed anew as often as it takes."""
        rng = np.random.default_rng([self._seed, number, epoch])
        needed, passes = rows * self.steps_per_epoch, []
        while sum(len(blocks) for blocks in passes) < needed:
            passes.append(pack(self._corpora[number], self._length, self._end, rng))
        return np.concatenate(passes)[:needed]
