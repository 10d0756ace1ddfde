"""Nearest-neighbour search with faiss, the only module that imports it (faiss and torch can crash by import order)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from plum.retrieval.interface import Recommendations


def exact_search(
    items: np.ndarray, queries: np.ndarray, k: int, seen: Sequence[np.ndarray] | None
) -> Recommendations:
    """The K items of largest inner product for each query.

    Args:
        items: (N, D) float32.
        queries: (U, D) float32.
        k: K.
        seen: per query, item rows that must not be returned; None for no such rule.

    Returns:
        Items by falling score, ties by catalogue row; lists are shorter where fewer items are left.
    """
    import faiss

    index = faiss.IndexFlatIP(items.shape[1])
    index.add(np.ascontiguousarray(items, dtype=np.float32))
    # Ask for so many that K are left when the seen ones are taken out.
    most_seen = max((len(rows) for rows in seen), default=0) if seen is not None else 0
    depth = min(len(items), k + most_seen)
    found_scores, found = index.search(np.ascontiguousarray(queries, dtype=np.float32), depth)
    result = np.full((len(queries), k), -1, dtype=np.int64)
    scores = np.full((len(queries), k), -np.inf, dtype=np.float32)
    for row in range(len(queries)):
        kept = found[row] >= 0
        if seen is not None:
            kept &= ~np.isin(found[row], seen[row])
        rows, values = found[row][kept], found_scores[row][kept]
        order = np.lexsort((rows, -values))[:k]
        result[row, : len(order)], scores[row, : len(order)] = rows[order], values[order]
    return Recommendations(result, scores)
