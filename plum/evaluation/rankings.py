"""Ranked lists of catalogue rows, one per user, with one rule of tie-breaking.

Items are catalogue rows (rows of ``items.parquet``), never Semantic IDs, so that retrievers can be compared on items.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

NO_ITEM = -1


@dataclass(frozen=True)
class Recommendations:
    """Ranked lists, one row per user, best first; a list with fewer than K items ends in ``-1`` / ``-inf``.

    Args:
        items: int64 (U, K), catalogue rows; ``-1`` after the end of the list.
        scores: float32 (U, K), non-increasing along a row; ``-inf`` exactly where ``items`` is ``-1``.

    Raises:
        ValueError: if the above does not hold, or an item is twice in a list.
    """

    items: np.ndarray
    scores: np.ndarray

    def __post_init__(self) -> None:
        items, scores = self.items, self.scores
        if items.ndim != 2 or items.shape != scores.shape:
            raise ValueError(f"items and scores must both be (U, K), found {items.shape} and {scores.shape}")
        if items.dtype != np.int64 or scores.dtype != np.float32:
            raise ValueError(f"items must be int64 and scores float32, found {items.dtype} and {scores.dtype}")
        filled = items != NO_ITEM
        if (items < NO_ITEM).any():
            raise ValueError(f"catalogue rows are >= 0 (or -1 for none), found {int(items.min())}")
        if np.isnan(scores).any():
            raise ValueError("scores hold NaN, which has no rank")
        if not np.array_equal(filled, scores != -np.inf):
            raise ValueError("a score must be -inf exactly where the item is -1")
        if (filled[:, 1:] & ~filled[:, :-1]).any():
            raise ValueError("-1 may only stand at the end of a list")
        if (scores[:, 1:] > scores[:, :-1]).any():
            raise ValueError("scores must not increase along a list")
        ordered = np.sort(items, axis=1)
        if ((ordered[:, 1:] == ordered[:, :-1]) & (ordered[:, 1:] != NO_ITEM)).any():
            raise ValueError("an item is twice in one list")


def top_k(scores: np.ndarray, k: int, seen: Sequence[np.ndarray] | None) -> Recommendations:
    """The k best items of each row, by score descending; tie-breaking by catalogue row ascending.

    Scores are compared as float32, the precision of the result. Items scored ``-inf`` are never recommended: a row with
    fewer than k others gives a shorter list.

    Args:
        scores: (U, N), any float type; not changed.
        k: entries of a list (K); may exceed N.
        seen: per user the catalogue rows never to return, or None to keep all.

    Returns:
        Lists of k entries.

    Raises:
        ValueError: scores that are not (U, N) or hold NaN, k < 1, or ``seen`` of another length or out of range.

    Example:
        >>> top_k(np.array([[1.0, 3.0, 3.0, -np.inf]]), k=4, seen=[np.array([0])]).items
        array([[ 1,  2, -1, -1]])
    """
    if scores.ndim != 2:
        raise ValueError(f"scores must be (U, N), found {scores.shape}")
    if k < 1:
        raise ValueError(f"k must be at least 1, found {k}")
    ranked = scores.astype(np.float32)  # a copy, so that masking does not change the caller's array
    if np.isnan(ranked).any():
        raise ValueError("scores hold NaN, which has no rank")
    n_users, n_items = ranked.shape
    if seen is not None:
        users, rows = flatten(seen, n_items)
        if len(seen) != n_users:
            raise ValueError(f"seen has {len(seen)} entries for {n_users} users")
        ranked[users, rows] = -np.inf

    width = min(k, n_items)
    items = np.full((n_users, k), NO_ITEM, dtype=np.int64)
    best = np.full((n_users, k), -np.inf, dtype=np.float32)
    if width and n_users:
        rows = best_columns(ranked, width)
        values = np.take_along_axis(ranked, rows, axis=1)
        # Columns come in ascending order, so a stable sort leaves ties in catalogue order.
        order = np.argsort(-values, axis=1, kind="stable")
        best[:, :width] = np.take_along_axis(values, order, axis=1)
        items[:, :width] = np.take_along_axis(rows, order, axis=1)
        items[best == -np.inf] = NO_ITEM
    return Recommendations(items=items, scores=best)


def flatten(rows: Sequence[np.ndarray], n_items: int) -> tuple[np.ndarray, np.ndarray]:
    """Lists of catalogue rows, one per user, as two flat index arrays.

    Args:
        rows: U arrays of catalogue rows.
        n_items: N, upper bound of the rows.

    Returns:
        users: int64, the list of each entry.
        items: int64, the entries in order.

    Raises:
        ValueError: a row outside the catalogue.

    Example:
        >>> flatten([np.array([4, 1]), np.array([2])], n_items=5)
        (array([0, 0, 1]), array([4, 1, 2]))
    """
    lengths = [len(row) for row in rows]
    users = np.repeat(np.arange(len(rows), dtype=np.int64), lengths)
    items = np.concatenate(rows).astype(np.int64) if users.size else np.zeros(0, dtype=np.int64)
    if items.size and (items.min() < 0 or items.max() >= n_items):
        raise ValueError(f"catalogue rows must lie in 0..{n_items - 1}, found {items.min()}..{items.max()}")
    return users, items


def best_columns(scores: np.ndarray, k: int) -> np.ndarray:
    """Columns of the k best entries of each row, ascending; ties at the border go to the lower column.

    A partial selection: linear in N, where a full sort would dominate the time of a large evaluation.

    Args:
        scores: (U, N), no NaN.
        k: at most N.

    Returns:
        int64 (U, k).
    """
    n_users, n_items = scores.shape
    border = np.partition(scores, n_items - k, axis=1)[:, n_items - k, None]
    above = scores > border
    at_border = scores == border
    places_left = k - above.sum(axis=1, keepdims=True)
    # Few rows have more at the border than places: only these need to be counted along.
    full = np.flatnonzero(at_border.sum(axis=1) > places_left[:, 0])
    at_border[full] &= np.cumsum(at_border[full], axis=1, dtype=np.int32) <= places_left[full]
    chosen = above | at_border
    return np.nonzero(chosen)[1].reshape(n_users, k)
