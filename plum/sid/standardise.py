"""Standardisation of modalities, over the items that have them."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

BLOCK = 1 << 16
"""Rows whose squares are summed at a time, so that temporaries stay small."""


class Standardisation(NamedTuple):
    """Centre of a modality, and one scale for all dimensions.

    A common scale keeps the dimensions' relative weight (a TF-IDF space has few strong axes and many weak ones).

    Attributes:
        mean: (D_m,) float64.
        scale: root mean square per dimension of the centred vectors.
    """

    mean: np.ndarray
    scale: float

    def apply(self, features: np.ndarray, present: np.ndarray | None = None) -> np.ndarray:
        """Features (N, D_m) centred and scaled, float32; zeros (the mean) for items that lack the modality.

        Args:
            features: (N, D_m).
            present: (N,) bool; None if all have it.
        """
        found = ((features - self.mean) / self.scale).astype(np.float32)
        if present is not None:
            found[~present] = 0.0
        return found

    def moved(self, before: np.ndarray, after: np.ndarray) -> float:
        """How far vectors of the same items have moved, relative to the items' distance from their mean.

        Args:
            before: (N, D_m), vectors of the fit, or some of them.
            after: (N, D_m), of the same items.

        Returns:
            The median distance over the root mean square distance from the mean; NaN without items. About 1.4 for
            unrelated vectors. Example: mean [0, 0] and scale 1; from [3, 4] to [3, 5] it is 1 / sqrt(2).
        """
        if not len(before):
            return float("nan")
        distances = np.linalg.norm(np.subtract(after, before, dtype=np.float64), axis=1)
        return float(np.median(distances) / (self.scale * np.sqrt(len(self.mean))))


def fit_standardisation(features: np.ndarray, name: str, present: np.ndarray | None = None) -> Standardisation:
    """Centre and scale of a modality (N, D_m), from the items that have it.

    Args:
        features: (N, D_m), checked by :func:`plum.features.encoding.refuse_useless`.
        name: for messages.
        present: (N,) bool, which items have it; None if all have.

    Raises:
        ValueError: if no item has it, all have the same vector, or a vector is not finite.
    """
    had = features if present is None else features[present]
    if not len(had):
        raise ValueError(f"no item has modality {name!r}")
    mean = had.mean(0, dtype=np.float64)  # float64: single precision overflows and loses the mean
    squares = [((had[start : start + BLOCK] - mean) ** 2).sum() for start in range(0, len(had), BLOCK)]
    scale = float(np.sqrt(np.sum(squares) / had.size))
    if not 0 < scale < np.inf:
        raise ValueError(f"modality {name!r} has no scale: {scale}")
    return Standardisation(mean, scale)
