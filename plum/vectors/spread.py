"""How vectors of items spread: whether they all point one way, which items share theirs, which columns say nothing."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np

from plum.vectors.unit import unit_rows

BLOCK = 1 << 14
"""Rows read at a time, so that temporaries stay small."""


def mean_cosine(vectors: np.ndarray, present: np.ndarray | None = None) -> float | None:
    """Mean cosine of two different items, over all pairs.

    Exact for any number of items: the pairs' sum is ``(|sum of unit vectors|^2 - N) / 2``. Near 0 where directions are
    spread evenly; near 1 where vectors share one direction, which then drowns what tells items apart (Mu and
    Viswanath 2018).

    Args:
        vectors: (N, D), finite where ``present``.
        present: (N,) bool; None for all. Zero rows have no direction and are left out.

    Returns:
        None with fewer than two items. Example: [[1, 0], [0, 2], [3, 0]] -> 1/3.
    """
    total, n_items = np.zeros(vectors.shape[1]), 0
    for start in range(0, len(vectors), BLOCK):
        block = vectors[start : start + BLOCK]
        if present is not None:
            block = block[present[start : start + BLOCK]]
        unit = unit_rows(block)
        total += unit.sum(axis=0, dtype=np.float64)
        n_items += int(unit.any(axis=1).sum())
    return float((total @ total - n_items) / (n_items * (n_items - 1))) if n_items > 1 else None


def sharing(modalities: Sequence[np.ndarray], present: np.ndarray) -> np.ndarray:
    """Which items (N,) have exactly the vectors of another item, in all modalities; items without any are left out.

    Rows are compared by 64-bit digests, so that a million wide rows need no sorting.

    Args:
        modalities: M arrays (N, D_m), zeros for items that lack the modality.
        present: (N, M) bool.
    """
    groups = np.zeros(len(present), dtype=np.int64)
    for vectors, there in zip(modalities, present.T, strict=True):
        alike = np.unique(_digests(vectors), return_inverse=True)[1]
        groups = np.unique((groups * len(present) + alike) * 2 + there, return_inverse=True)[1]
    shared: np.ndarray = np.bincount(groups)[groups] > 1
    return shared & present.any(axis=1)


def constant_columns(vectors: np.ndarray, present: np.ndarray) -> int:
    """Number of columns in which all items that have the modality (``present`` (N,) bool) have the same number."""
    first = vectors[present.argmax()]
    same = np.ones(vectors.shape[1], dtype=bool)
    for start in range(0, len(vectors), BLOCK):
        there = present[start : start + BLOCK]
        same &= (vectors[start : start + BLOCK][there] == first).all(axis=0)
    return int(same.sum())


def _digests(vectors: np.ndarray) -> np.ndarray:
    """A digest (N,) uint64 of each row."""
    digests = np.empty(len(vectors), dtype=np.uint64)
    for start in range(0, len(vectors), BLOCK):
        block = vectors[start : start + BLOCK] + np.float32(0)  # no -0, which has other bytes than 0
        for row, numbers in enumerate(block, start):
            digests[row] = int.from_bytes(hashlib.blake2b(numbers.tobytes(), digest_size=8).digest(), "little")
    return digests
