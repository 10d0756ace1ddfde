"""Documents -> token blocks of one length, and batches that mix two corpora in a fixed proportion."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np

from plum.errors import PlumError


def pack(documents: Sequence[np.ndarray], block_length: int, end: int, rng: np.random.Generator) -> np.ndarray:
    """Join documents in random order, each closed by ``end``, and cut the stream into blocks.

    Args:
        documents: int64 token ids.
        block_length: T.
        end: token id after each document.
        rng: draws the order.

    Returns:
        (blocks, T) int64. The last block is filled up from the stream's start, so that no token is lost and there is no
        padding.
    """
    order = rng.permutation(len(documents))
    stream = np.concatenate([np.append(documents[i], end) for i in order])
    blocks = -(-len(stream) // block_length)
    return np.resize(stream, (blocks, block_length))


class Mixture:
    """Batches of blocks from two corpora in a fixed proportion; a corpus is reshuffled whenever it is used up.

    Args:
        behaviour: token ids of behaviour documents.
        metadata: token ids of metadata documents; may be empty.
        block_length: T.
        batch_size: B, blocks per step.
        behaviour_share: share of the blocks that come from behaviour (PLUM section 2.2: half). If it doesn't divide a
            batch evenly, batches differ by one row, so that the epoch keeps the share.
        end: token id after each document.
        seed: of all orders. Batch k of epoch e depends on nothing else.
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
            raise PlumError(
                "there are no behaviour documents",
                "no user has a training interaction",
                "look at the training set with `plum data describe`",
            )
        if not 0 < behaviour_share <= 1:
            raise ValueError(f"behaviour_share must be above 0 and at most 1, found {behaviour_share}")
        self._behaviour, self._metadata = behaviour, metadata
        self._length, self._end, self._seed = block_length, end, seed
        self._batch_size = batch_size
        self._behaviour_rows = batch_size * (behaviour_share if metadata else 1.0)  # per step, on average
        tokens = sum(len(document) + 1 for document in behaviour)
        self.steps_per_epoch = math.ceil(-(-tokens // block_length) / self._behaviour_rows - 1e-9)

    def batches(self, epoch: int) -> Iterator[np.ndarray]:
        """Yield ``steps_per_epoch`` arrays (B, T) int64; an epoch is one pass over the behaviour corpus."""
        # Behaviour blocks used before each step; rounding a running total keeps the share exact.
        steps = np.arange(self.steps_per_epoch + 1)
        used = np.floor(steps * self._behaviour_rows + 1e-9).astype(np.int64)
        other = steps * self._batch_size - used
        behaviour = self._blocks(0, self._behaviour, epoch, int(used[-1]))
        metadata = self._blocks(1, self._metadata, epoch, int(other[-1]))
        for step in range(self.steps_per_epoch):
            yield np.concatenate([behaviour[used[step] : used[step + 1]], metadata[other[step] : other[step + 1]]])

    def _blocks(self, number: int, corpus: Sequence[np.ndarray], epoch: int, needed: int) -> np.ndarray:
        """The first ``needed`` blocks of one corpus in an epoch, packed again as often as needed."""
        rng = np.random.default_rng([self._seed, number, epoch])
        passes, there = [np.zeros((0, self._length), dtype=np.int64)], 0
        while there < needed:
            passes.append(pack(corpus, self._length, self._end, rng))
            there += len(passes[-1])
        return np.concatenate(passes)[:needed]
