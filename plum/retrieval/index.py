"""Nearest-neighbour search by inner product, exact and with one rule for ties.

A block of queries is one matrix product. (A flat faiss index computes the same and leaves open which of several items
with equal scores make the list.)
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from plum.retrieval.interface import Recommendations, top_k

_BLOCK_ENTRIES = 1 << 24  # scores of one block of queries: 64 MiB of float32


def exact_search(items: np.ndarray, queries: np.ndarray, k: int, seen: Sequence[np.ndarray] | None) -> Recommendations:
    """The K items of largest inner product for each query.

    Args:
        items: (N, D) float32.
        queries: (U, D) float32.
        k: K.
        seen: per query, item rows that must not be returned; None for no such rule.

    Returns:
        Items by falling score, ties by catalogue row; lists are shorter where fewer items are left.
    """
    block = max(1, _BLOCK_ENTRIES // max(1, len(items)))
    parts = [
        top_k(queries[start : start + block] @ items.T, k, None if seen is None else seen[start : start + block])
        for start in range(0, max(1, len(queries)), block)
    ]
    return Recommendations(
        np.concatenate([part.items for part in parts]), np.concatenate([part.scores for part in parts])
    )
