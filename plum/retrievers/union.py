"""Several lists per user as one: what its entries are worth is added up per item."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from plum.evaluation.rankings import NO_ITEM, Recommendations, top_k

# The lists of one batch of users hold at most this many entries (32 MiB each of a few arrays).
_BATCH_ENTRIES = 1 << 22


def best_of_union(items: Sequence[np.ndarray], worth: Sequence[np.ndarray], k: int) -> Recommendations:
    """The k items of largest summed worth among all that a user's lists hold.

    Args:
        items: one array (U, W) of catalogue rows per part, ``-1`` where there is none; W may differ.
        worth: one (U, W) per part, finite: what each entry adds to its item.
        k: entries of a list (K).

    Returns:
        Lists of k entries by summed worth, ties by catalogue row; shorter if fewer items are listed.
    """
    n_users, width = len(items[0]), sum(part.shape[1] for part in items)
    best = np.full((n_users, k), NO_ITEM, dtype=np.int64)
    scores = np.full((n_users, k), -np.inf, dtype=np.float32)
    size = max(1, _BATCH_ENTRIES // max(1, width))
    for start in range(0, n_users if width else 0, size):
        batch = slice(start, start + size)
        candidates, sums = _summed(
            *(np.concatenate([part[batch] for part in parts], axis=1) for parts in (items, worth))
        )
        found = top_k(sums, k, None)  # columns are in catalogue order, so ties go to the lower row
        filled = found.items != NO_ITEM
        chosen = np.take_along_axis(candidates, np.where(filled, found.items, 0), axis=1)
        best[batch], scores[batch] = np.where(filled, chosen, NO_ITEM), found.scores
    return Recommendations(best, scores)


def _summed(items: np.ndarray, worth: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Add up each user's entries of the same item.

    Args:
        items: (U, M), not empty: several concatenated lists; an item may be in each of them.
        worth: (U, M), value of each entry.

    Returns:
        items: (U, M), ascending along a row.
        sums: (U, M), at the first of an item's entries; ``-inf`` at its others and at empty places.

    Example:
        >>> _summed(np.array([[7, 3, 3, -1]]), np.array([[1.0, 0.5, 1.0, 0.5]]))
        (array([[-1,  3,  3,  7]]), array([[-inf,  1.5, -inf,  1. ]]))
    """
    order = np.argsort(items, axis=1, kind="stable")
    items, worth = np.take_along_axis(items, order, axis=1), np.take_along_axis(worth, order, axis=1)
    sums, first = np.full(items.shape, -np.inf), np.ones(items.shape, dtype=bool)
    first[:, 1:] = items[:, 1:] != items[:, :-1]
    sums[first] = np.add.reduceat(worth.ravel(), np.flatnonzero(first))
    sums[items == NO_ITEM] = -np.inf
    return items, sums
