"""Pairs of items that occur together in training histories: positives of the contrastive term (PLUM section 2.1)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Pairs:
    """Co-occurring pairs and their sampling weights.

    Attributes:
        rows: (P, 2) int64 item rows.
        cumulative: (P,) running sum of the weights; None for equal weights.
    """

    rows: np.ndarray
    cumulative: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.rows)

    def draw(self, n: int, rng: np.random.Generator) -> np.ndarray:
        """Draw ``n`` pairs (n, 2) with replacement; there must be at least one."""
        if self.cumulative is None:
            return self.rows[rng.integers(0, len(self.rows), n)]
        places = np.searchsorted(self.cumulative, rng.random(n) * self.cumulative[-1], side="right")
        return self.rows[np.minimum(places, len(self.rows) - 1)]

    def among(self, rows: np.ndarray, n_items: int) -> Pairs:
        """The pairs whose both items are among ``rows`` of a catalogue of ``n_items``, with their weights."""
        allowed = np.zeros(n_items, dtype=bool)
        allowed[rows] = True
        kept = allowed[self.rows].all(axis=1)
        if kept.all():
            return self
        weights = None if self.cumulative is None else np.diff(self.cumulative, prepend=0.0)[kept]
        return Pairs(self.rows[kept], None if weights is None else np.cumsum(weights))


def cooccurrence_pairs(histories: Sequence[np.ndarray], window: int) -> np.ndarray:
    """All pairs of different items at most ``window`` places apart in a history.

    Args:
        histories: item rows of each user's training interactions, or of each session, oldest first.
        window: largest distance in places; 1 pairs consecutive items only.

    Returns:
        (P, 2) int64 with repetition, so that drawing rows draws pairs by their count. Example: [4, 7, 9], window 1 ->
        [[4, 7], [7, 9]].
    """
    items = np.concatenate([np.zeros(0, dtype=np.int64), *histories])
    owner = np.repeat(np.arange(len(histories)), [len(history) for history in histories])
    parts = [np.zeros((0, 2), dtype=np.int64)]
    for gap in range(1, min(window, max(map(len, histories), default=0)) + 1):
        kept = (owner[:-gap] == owner[gap:]) & (items[:-gap] != items[gap:])
        parts.append(np.stack([items[:-gap][kept], items[gap:][kept]], axis=1))
    return np.concatenate(parts).astype(np.int64)


def sessions(histories: Sequence[np.ndarray], times: np.ndarray, minutes: float) -> list[np.ndarray]:
    """Cut histories wherever more than ``minutes`` pass between two interactions of a user.

    Args:
        histories: item rows of each user's training interactions, oldest first.
        times: (E,) int64 seconds of all of them, in the order of ``histories``.
        minutes: longest pause within a session.

    Returns:
        The sessions, in that order. Example: [4, 7, 9] at 0, 60 and 3,600 seconds, 30 minutes -> [4, 7], [9].

    Raises:
        ValueError: if there is not one time for each interaction.
    """
    lengths = [len(history) for history in histories]
    if len(times) != sum(lengths):
        raise ValueError(f"{len(times)} times for {sum(lengths)} interactions")
    items = np.concatenate([np.zeros(0, dtype=np.int64), *histories])
    owner = np.repeat(np.arange(len(histories)), lengths)
    cut = (owner[1:] != owner[:-1]) | (np.diff(times) > 60 * minutes)
    return np.split(items, np.flatnonzero(cut) + 1) if len(items) else []


def by_pmi(pairs: np.ndarray) -> Pairs:
    """Each pair once, weighted by its positive pointwise mutual information.

    ``PMI(i, j) = log(p(i, j) / (p(i) p(j)))`` (Church and Hanks 1990) of the counts, ``p(i)`` the share of pairs' ends
    that are item i; negative values count as 0 (Bullinaria and Levy 2007). Compared with drawing by count, this favours
    pairs that co-occur more often than their popularity explains; rare items, whose counts are noisy, gain most.

    Args:
        pairs: (P, 2) with repetition, in either order.

    Returns:
        The pairs of positive PMI, the smaller row first. Example: [[0, 1], [1, 0], [0, 2]] -> [[0, 1], [0, 2]], both
        weighing log 2.
    """
    n_items = int(pairs.max(initial=0)) + 1
    keys, counts = np.unique(pairs.min(axis=1) * n_items + pairs.max(axis=1), return_counts=True)
    distinct = np.stack([keys // n_items, keys % n_items], axis=1)
    ends = np.bincount(pairs.reshape(-1)).astype(np.float64)
    information = np.log(2 * len(pairs) * counts / (ends[distinct[:, 0]] * ends[distinct[:, 1]]))
    # No pair is an item with itself, so the mean PMI over pairs is above 0, and at least one pair's is.
    kept = information > 0
    return Pairs(distinct[kept], np.cumsum(information[kept]))
