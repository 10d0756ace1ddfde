"""Vectors of unit length, and several modalities of an item as one vector."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def joined(modalities: Sequence[np.ndarray]) -> np.ndarray:
    """Join several modalities into one vector per item, with equal weight: unit vectors, concatenated.

    A modality that an item lacks (a zero row) stays zero.

    Args:
        modalities: (N, D_m) each.

    Returns:
        float32 (N, sum of D_m).

    Raises:
        ValueError: no modalities, different numbers of items, or vectors that are not finite.

    Example:
        >>> joined([np.array([[3.0, 4.0], [0.0, 0.0]]), np.array([[2.0], [5.0]])]).tolist()
        [[0.6000000238418579, 0.800000011920929, 1.0], [0.0, 0.0, 1.0]]
    """
    if not modalities or len({len(vectors) for vectors in modalities}) > 1:
        raise ValueError(f"modalities must all be (N, D), found {[vectors.shape for vectors in modalities]}")
    return np.concatenate([unit_rows(vectors) for vectors in modalities], axis=1)


def unit_rows(vectors: np.ndarray) -> np.ndarray:
    """Rows scaled to unit length, float32; zero rows stay."""
    vectors = np.asarray(vectors)
    if vectors.ndim != 2 or not np.isfinite(vectors).all():
        raise ValueError(f"vectors must be (N, D) and finite, found shape {vectors.shape}")
    largest = np.abs(vectors).max(axis=1, keepdims=True, initial=0.0)
    # After division by the largest entry no square under- or overflows, and only zero rows have a length below 1.
    scaled = (vectors / np.where(largest > 0, largest, 1.0)).astype(np.float32)
    return scaled / np.maximum(np.linalg.norm(scaled, axis=1, keepdims=True), 1.0)
