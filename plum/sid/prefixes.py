"""The prefixes of Semantic IDs as groups of items: the basis of all measures of codes."""

from __future__ import annotations

import numpy as np


def prefix_groups(codes: np.ndarray) -> np.ndarray:
    """Number the prefixes of each length in ascending order; return each item's numbers.

    Args:
        codes: (N, L) int64, not negative.

    Returns:
        (N, L) int64: column l is equal where the first l + 1 codes are. Example: codes [[7, 1], [2, 1], [7, 0]] ->
        [[1, 2], [0, 0], [1, 1]].

    Raises:
        ValueError: codes that are not (N, L).
    """
    if codes.ndim != 2:
        raise ValueError(f"codes must be (N, L), found shape {codes.shape}")
    groups = np.zeros(codes.shape, dtype=np.int64)
    parent = np.zeros(len(codes), dtype=np.int64)
    for level, code in enumerate(codes.T):
        # Two numbers as one, below N times the codes of a level: it fits in 64 bits.
        pair = parent * (int(code.max(initial=0)) + 1) + code
        parent = np.unique(pair, return_inverse=True)[1].reshape(-1)
        groups[:, level] = parent
    return groups
