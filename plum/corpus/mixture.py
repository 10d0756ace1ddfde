"""Batches of packed documents of several kinds, in fixed shares of the tokens."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import torch

from plum.corpus.packing import Packer, Part
from plum.corpus.shards import Documents
from plum.errors import PlumError
from plum.lm.examples import IGNORED, Batch, pad_rows


class Mixture:
    """Packed batches of several kinds of documents; a kind that is used up is shuffled and read again.

    Args:
        documents: of each kind, by name; kinds without a document are left out.
        weights: of each kind, above 0: shares of the tokens or, ``by_epochs``, passes over the kind in an epoch.
        block_length: T.
        batch_size: B, blocks per step.
        pad: token id that fills up blocks.
        seed: of all orders. Batch k of epoch e depends on nothing else.
        by_epochs: what weights count.

    Attributes:
        shares: of the tokens, by kind.
        steps_per_epoch: batches in an epoch, which is one pass over the first kind. Packing differs from epoch to
            epoch: a few documents may be left out of one.
        packing_efficiency: share of the blocks' places that hold a token, in the first epoch.
        cut_share: documents cut in the first epoch, per block.

    Raises:
        PlumError: if there are no documents, or one is longer than a block.
    """

    def __init__(
        self,
        documents: Mapping[str, Documents],
        weights: Mapping[str, float],
        block_length: int,
        batch_size: int,
        pad: int,
        seed: int,
        by_epochs: bool = False,
    ) -> None:
        self._names = [name for name in documents if len(documents[name])]
        if not self._names:
            raise PlumError(
                "there are no documents to pre-train on",
                f"none of {', '.join(documents)}: no user has a training interaction, and no item a text",
                "look at the training set with `plum data describe`, and at cpt.corpus",
            )
        self._documents = [documents[name] for name in self._names]
        self._length, self._batch_size, self._pad, self._seed = block_length, batch_size, pad, seed
        self._totals = [int(corpus.lengths.sum()) for corpus in self._documents]
        self._refuse_longer()
        parts = [weights[name] * (n if by_epochs else 1) for name, n in zip(self._names, self._totals, strict=True)]
        self._shares = [part / sum(parts) for part in parts]
        self.shares = dict(zip(self._names, self._shares, strict=True))
        self._due = math.ceil(self._totals[0] * (weights[self._names[0]] if by_epochs else 1))
        blocks, packer = self._first_epoch()
        self.steps_per_epoch = -(-blocks // batch_size)
        self.packing_efficiency, self.cut_share = packer.efficiency, packer.cut / blocks

    def batches(self, epoch: int) -> Iterator[Batch]:
        """Yield ``steps_per_epoch`` batches of (B, T) tokens."""
        packer = self._packer(epoch)
        for _ in range(self.steps_per_epoch):
            yield self._batch([packer.block() for _ in range(self._batch_size)])

    def _first_epoch(self) -> tuple[int, Packer]:
        """Blocks until all that is due in epoch 0 has its place."""
        packer = self._packer(0)
        left = self._due
        while left > 0:
            left -= sum(part.stop - part.start for part in packer.block() if part.is_due)
        return packer.blocks, packer

    def _packer(self, epoch: int) -> Packer:
        return Packer(self._stream(epoch), self._length, self._borders)

    def _borders(self, kind: int, number: int) -> tuple[np.ndarray, int]:
        document = self._documents[kind][number]
        return document.cuts, document.head

    def _stream(self, epoch: int) -> Iterator[Part]:
        """Documents of all kinds without end, the next always of the kind that is furthest behind its share."""
        per_epoch = [self._due * share / self._shares[0] for share in self._shares]
        streams = [self._of_kind(kind, round(epoch * tokens)) for kind, tokens in enumerate(per_epoch)]
        behind, drawn, kinds = [0.0] * len(streams), 0, range(len(streams))
        for serial in itertools.count():
            kind = max(kinds, key=behind.__getitem__)
            number = next(streams[kind])
            length = int(self._documents[kind].lengths[number])
            yield Part(kind, number, 0, length, length, kind == 0 and drawn < self._due, serial)
            drawn += length if kind == 0 else 0
            behind = [gap + share * length for gap, share in zip(behind, self._shares, strict=True)]
            behind[kind] -= length

    def _of_kind(self, kind: int, start: int) -> Iterator[int]:
        """Documents of a kind, pass after pass in another order, after the first ``start`` tokens of them all."""
        lengths, (done, skipped) = self._documents[kind].lengths, divmod(start, self._totals[kind])
        while True:
            order = np.random.default_rng([self._seed, kind, done]).permutation(len(lengths)).astype(np.int32)
            if skipped:
                order = order[np.searchsorted(np.cumsum(lengths[order]), skipped) :]
            yield from order.tolist()
            done, skipped = done + 1, 0

    def _batch(self, blocks: Sequence[Sequence[Part]]) -> Batch:
        shape = (len(blocks), self._length)
        tokens, labels = np.full(shape, self._pad, np.int64), np.full(shape, IGNORED, np.int64)
        positions = np.zeros(shape, np.int64)
        for row, block in enumerate(blocks):
            place = 0
            for part in block:
                ids, stop = self._tokens(part), place + part.length
                tokens[row, place:stop] = ids
                labels[row, place + 1 : stop] = ids[1:]
                positions[row, place:stop] = np.arange(part.length)
                place = stop
            positions[row, place:] = np.arange(self._length - place)  # what fills up is a document of its own
        told = [self._told(block) for block in blocks]
        return Batch(torch.from_numpy(tokens), torch.from_numpy(labels), None, torch.from_numpy(positions), told)

    def _told(self, block: Sequence[Part]) -> str:
        """Which documents a block holds, in words."""
        return "; ".join(f"{self._names[part.kind]} document {part.number}" for part in block)

    def _tokens(self, part: Part) -> np.ndarray:
        if not part.start:
            return self._documents[part.kind].tokens(part.number)[: part.stop]
        document = self._documents[part.kind][part.number]
        return np.concatenate([document.tokens[: document.head], document.tokens[part.start : part.stop]])

    def _refuse_longer(self) -> None:
        for name, corpus in zip(self._names, self._documents, strict=True):
            if (longest := int(corpus.lengths.max())) > self._length:
                raise PlumError(
                    f"a document of {name} is longer than the context",
                    f"{longest:,} tokens, cpt.context_length is {self._length:,}",
                    "raise cpt.context_length",
                )


def apart(batch: Batch) -> Batch:
    """A packed batch with a row per document, padded on the right, for models that can't be told of packing."""
    if batch.positions is None:
        return batch
    rows, ids = [], []
    parts = (part.numpy() for part in (batch.tokens, batch.labels, batch.positions))
    for number, (tokens, labels, positions) in enumerate(zip(*parts, strict=True)):
        starts = np.flatnonzero(positions == 0)
        for start, stop in zip(starts, [*starts[1:], len(tokens)], strict=True):
            if (labels[start:stop] != IGNORED).any():
                rows.append((tokens[start:stop], labels[start:stop]))
                ids.append(batch.ids[number] if batch.ids else "")
    return pad_rows(rows, pad=0)._replace(ids=ids)
