"""Scores that are weighted sums over the items of a history: the weights, and ranking in batches."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from scipy import sparse

from plum import runtime
from plum.evaluation.rankings import NO_ITEM, Recommendations, flatten, top_k

# Dense scores of one batch hold at most this many numbers (64 MiB of float32), for any size of the catalogue.
_BATCH_ENTRIES = 1 << 24
_SPARSE_SHARE = 0.1  # with more entries stored, ranking all of them as dense scores is faster


def newest_first(users: np.ndarray, decay: float, last: int | None) -> np.ndarray:
    """Weights (E,) float64 of the entries of histories: 1 for a user's newest, ``decay`` times as much for each older.

    Args:
        users: (E,), ascending; each user's entries stand oldest first.
        decay: within 0 (excluded) and 1.
        last: entries of a history that count; older ones weigh 0. None for all.

    Example:
        >>> newest_first(np.array([0, 0, 0, 2]), decay=0.5, last=2).tolist()
        [0.0, 0.5, 1.0, 1.0]
    """
    age = np.searchsorted(users, users, side="right") - 1 - np.arange(len(users))
    weights = np.asarray(decay ** age.astype(np.float64))
    return weights if last is None else np.where(age < last, weights, 0.0)


def check_weights(decay: float, last: int | None) -> None:
    """Refuse settings of :func:`newest_first` that are out of range, with ``ValueError``."""
    if not 0 < decay <= 1:
        raise ValueError(f"decay must be above 0 and at most 1, found {decay}")
    if last is not None and last < 1:
        raise ValueError(f"last must be at least 1, or None for the whole history, found {last}")


def ranked(
    weights: sparse.csr_array,
    score: Callable[[sparse.csr_array], np.ndarray | sparse.csr_array],
    k: int,
    seen: Sequence[np.ndarray] | None,
) -> Recommendations:
    """Lists of the K items of largest score, a batch of users at a time.

    Args:
        weights: (U, N), a row per user: the weights of the items of the history.
        score: of such rows (B, N) the scores of all items (B, N); see :func:`plum.evaluation.rankings.top_k`, or
            :func:`best_stored` for sparse ones.
        k: K.
        seen: per user the rows never to return, or None to keep all.

    Raises:
        ValueError: as :func:`plum.evaluation.rankings.top_k`.
    """
    n_users, n_items = weights.shape
    if seen is not None and len(seen) != n_users:
        raise ValueError(f"seen has {len(seen)} entries for {n_users} users")
    parts = []
    with runtime.progress("scoring users", n_users, after=runtime.SOON) as show:
        for start, stop in batches(n_users, n_items):
            scores, hidden = score(weights[start:stop]), None if seen is None else seen[start:stop]
            best = top_k if isinstance(scores, np.ndarray) else best_stored
            parts.append(best(scores, k, hidden))
            show(stop)
    return together(parts, k)


def best_stored(scores: sparse.csr_array, k: int, seen: Sequence[np.ndarray] | None) -> Recommendations:
    """The k best items of each row of sparse scores (U, N) among those above 0; ties by catalogue row.

    As :func:`plum.evaluation.rankings.top_k` of the dense scores; in the time and memory of the stored ones if few are.
    """
    n_users, n_items = scores.shape
    if scores.nnz > _SPARSE_SHARE * n_users * n_items:
        dense = scores.toarray()
        dense[dense <= 0] = -np.inf
        return top_k(dense, k, seen)
    scores = sparse.csr_array(scores, dtype=np.float32, copy=True)
    scores.sort_indices()
    if seen is not None:
        users, rows = flatten(seen, n_items)
        stored = np.repeat(np.arange(n_users, dtype=np.int64), np.diff(scores.indptr)) * n_items + scores.indices
        wanted = users * n_items + rows
        place = np.minimum(np.searchsorted(stored, wanted), max(0, len(stored) - 1))
        scores.data[place[stored[place] == wanted] if len(stored) else []] = 0.0
    scores.data[scores.data <= 0] = 0.0
    scores.eliminate_zeros()
    lengths = np.diff(scores.indptr)
    items = np.full((n_users, k), NO_ITEM, dtype=np.int64)
    values = np.full((n_users, k), -np.inf, dtype=np.float32)
    # Rows of about the same length together, so that one user with a long history does not widen all others.
    width_of = np.where(lengths > 0, 2 ** np.ceil(np.log2(np.maximum(lengths, 1))).astype(np.int64), 0)
    for width in np.unique(width_of[width_of > 0]).tolist():
        chosen = np.flatnonzero(width_of == width)
        part = scores[chosen]
        filled = np.arange(width) < np.diff(part.indptr)[:, None]
        padded = np.full(filled.shape, -np.inf, dtype=np.float32)
        padded[filled] = part.data
        columns = np.zeros(filled.shape, dtype=np.int64)
        columns[filled] = part.indices
        best = top_k(padded, k, None)
        found = np.take_along_axis(columns, np.maximum(best.items, 0), axis=1)
        items[chosen] = np.where(best.items == NO_ITEM, NO_ITEM, found)
        values[chosen] = best.scores
    return Recommendations(items, values)


def batches(n_users: int, n_items: int) -> list[tuple[int, int]]:
    """Ranges of users whose dense scores fit into one batch."""
    size = max(1, _BATCH_ENTRIES // max(1, n_items))
    return [(start, min(start + size, n_users)) for start in range(0, n_users, size)]


def together(parts: list[Recommendations], k: int) -> Recommendations:
    """The lists of consecutive batches as one; K is for the case that there is none."""
    if not parts:
        return Recommendations(np.zeros((0, k), np.int64), np.zeros((0, k), np.float32))
    return Recommendations(
        np.concatenate([part.items for part in parts]), np.concatenate([part.scores for part in parts])
    )
