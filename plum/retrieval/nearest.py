"""Nearest-neighbour search with faiss, the only module that imports it (faiss and torch can crash by import order)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from plum.retrieval.interface import NO_ITEM, Recommendations, flatten, top_k


def largest_products(
    items: np.ndarray, queries: np.ndarray, k: int, seen: Sequence[np.ndarray] | None
) -> Recommendations:
    """The K items of largest inner product for each query, by a flat faiss index.

    Args:
        items: (N, D) float32.
        queries: (U, D) float32.
        k: K.
        seen: per query, item rows that must not be returned; None for no such rule.

    Returns:
        Items by falling score, ties by catalogue row; lists are shorter where fewer items are left.

    Raises:
        ValueError: ``seen`` names a row outside the catalogue.
    """
    import faiss

    if seen is not None:
        flatten(seen, len(items))

    items, queries = np.ascontiguousarray(items, np.float32), np.ascontiguousarray(queries, np.float32)
    n_items = len(items)
    result = np.full((len(queries), k), NO_ITEM, dtype=np.int64)
    scores = np.full((len(queries), k), -np.inf, dtype=np.float32)
    if not n_items or not len(queries):
        return Recommendations(result, scores)
    index = faiss.IndexFlatIP(items.shape[1])
    index.add(items)
    # So many that K are left without the seen ones, and one more to notice a tie at the border.
    most_seen = max((len(rows) for rows in seen), default=0) if seen is not None else 0
    depth = min(n_items, k + most_seen + 1)
    found_scores, found = index.search(queries, depth)
    for row in range(len(queries)):
        kept = np.ones(depth, dtype=bool) if seen is None else ~np.isin(found[row], seen[row])
        rows, values = found[row][kept], found_scores[row][kept]
        order = np.lexsort((rows, -values))[:k]
        if depth < n_items and values[order[-1]] == found_scores[row, -1]:
            # faiss leaves open which of several equal scores it lists: rank this user's whole catalogue.
            whole = top_k(queries[row : row + 1] @ items.T, k, None if seen is None else seen[row : row + 1])
            result[row], scores[row] = whole.items[0], whole.scores[0]
            continue
        result[row, : len(order)], scores[row, : len(order)] = rows[order], values[order]
    return Recommendations(result, scores)
