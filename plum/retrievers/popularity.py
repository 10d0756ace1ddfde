"""Retrievers that rank by how often items were taken: popularity and recent popularity."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np

from plum.evaluation.rankings import NO_ITEM, Recommendations, flatten, top_k
from plum.retrievers.choose import choose
from plum.retrievers.sums import batches, together

DAY = 86_400  # seconds
HALF_LIVES = (1, 7, 30, 90, 365)  # days


class Popularity:
    """The items with most training interactions, the same list for every user except for seen items.

    Items without training interactions are never recommended.

    Args:
        train_counts: (N,), training interactions per catalogue row.

    Raises:
        ValueError: counts that are not one-dimensional or negative.
    """

    name = "popularity"

    def __init__(self, train_counts: np.ndarray) -> None:
        counts = np.asarray(train_counts)
        if counts.ndim != 1 or (counts < 0).any():
            raise ValueError(f"train_counts must be (N,) and >= 0, found shape {counts.shape}")
        self._scores = np.where(counts > 0, counts, -np.inf).astype(np.float32)

    def recommend(self, histories: Sequence[np.ndarray], k: int, seen: Sequence[np.ndarray] | None) -> Recommendations:
        """Lists by training count; see :class:`plum.retrievers.protocol.Retriever`."""
        return _same_for_all(self._scores, len(histories), k, seen)


class RecencyPopularity:
    """The items with most recent training interactions: each interaction counts ``0.5 ** (age / half_life)``.

    Age is the time to the newest training interaction, so that all users are evaluated as of the end of training. Under
    leave-one-out some users' test items are earlier or later than that; counting up to each user's own time would leak
    validation, test or later interactions. Items without training interactions are never recommended.

    A score is the base-2 logarithm of an item's summed counts. It keeps the order where the sums would be 0 in float32,
    for items last used 150 half-lives ago.

    Args:
        items: (E,), catalogue row of each training interaction.
        times: (E,), its time in seconds.
        n_items: N.
        half_life: seconds, above 0.

    Raises:
        ValueError: arrays of different lengths, rows outside the catalogue, times that are not finite, or a half-life
            out of range.
    """

    name = "recencypop"

    def __init__(self, items: np.ndarray, times: np.ndarray, n_items: int, half_life: float) -> None:
        if items.shape != times.shape or items.ndim != 1:
            raise ValueError(f"items and times must both be (E,), found {items.shape} and {times.shape}")
        if items.size and (items.min() < 0 or items.max() >= n_items):
            raise ValueError(f"catalogue rows must lie in 0..{n_items - 1}, found {items.min()}..{items.max()}")
        if not np.isfinite(times).all() or not half_life > 0:
            raise ValueError(f"times must be finite and half_life above 0, found a half_life of {half_life}")
        self.half_life = half_life
        halvings = (times - times.max()) / half_life if items.size else np.zeros(0)
        newest = np.full(n_items, -np.inf)
        np.maximum.at(newest, items, halvings)
        # Relative to the item's own newest interaction, so that each sum is at least 1.
        sums = np.bincount(items, weights=2.0 ** (halvings - newest[items]), minlength=n_items)
        self._scores = (newest + np.log2(np.where(sums > 0, sums, 1.0))).astype(np.float32)

    def recommend(self, histories: Sequence[np.ndarray], k: int, seen: Sequence[np.ndarray] | None) -> Recommendations:
        """Lists by decayed training count; see :class:`plum.retrievers.protocol.Retriever`."""
        return _same_for_all(self._scores, len(histories), k, seen)


def choose_half_life(
    items: np.ndarray,
    times: np.ndarray,
    n_items: int,
    histories: Sequence[np.ndarray],
    targets: Sequence[np.ndarray],
    seen: Sequence[np.ndarray] | None,
    candidates: Sequence[float] = HALF_LIVES,
) -> tuple[RecencyPopularity, list[dict[str, Any]]]:
    """Choose the half-life of :class:`RecencyPopularity` by validation Recall@10.

    Args:
        items: (E,), catalogue row of each training interaction.
        times: (E,), seconds.
        n_items: N.
        histories, targets, seen: validation users; see :func:`plum.retrievers.choose.choose`.
        candidates: half-lives in days.

    Returns:
        best: the retriever.
        trials: ``{"settings": {"half_life_days": 30}, "valid_recall@10": x}`` each.
    """
    options = [
        ({"half_life_days": days}, partial(RecencyPopularity, items, times, n_items, days * DAY)) for days in candidates
    ]
    return choose(options, histories, targets, seen)


def _same_for_all(scores: np.ndarray, n_users: int, k: int, seen: Sequence[np.ndarray] | None) -> Recommendations:
    """Lists for users with the same scores (N,) but different seen items."""
    n_items = len(scores)
    if seen is not None:
        flatten(seen, n_items)
        if len(seen) != n_users:
            raise ValueError(f"seen has {len(seen)} entries for {n_users} users")
    # One ranking for all, deep enough for K unseen items of every user.
    depth = min(n_items, k + max(map(len, seen or ()), default=0))
    ranking = top_k(scores[None], max(1, depth), None)
    ranked = ranking.items[0]
    place = np.full(n_items, NO_ITEM, dtype=np.int64)
    place[ranked[ranked != NO_ITEM]] = np.flatnonzero(ranked != NO_ITEM)
    parts = []
    for start, stop in batches(n_users, depth):
        hidden = None
        if seen is not None:
            places = [place[np.asarray(rows, dtype=np.int64)] for rows in seen[start:stop]]
            hidden = [row[row != NO_ITEM] for row in places]
        best = top_k(np.broadcast_to(ranking.scores[0], (stop - start, len(ranked))), k, hidden)
        items = np.where(best.items == NO_ITEM, NO_ITEM, ranked[np.maximum(best.items, 0)])
        parts.append(Recommendations(items, best.scores))
    return together(parts, k)
