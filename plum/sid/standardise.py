"""Modalities on one scale, over the items that have them."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from plum.errors import PlumError

BLOCK = 1 << 16
"""Rows whose squares are added up at a time, so that temporaries stay small."""


class Standardisation(NamedTuple):
    """What standardises a modality: its centre, and one scale for all dimensions.

    One factor for all dimensions keeps their relative weight (a TF-IDF space has few strong axes and many weak ones).

    Attributes:
        mean: (D_m,) float64.
        scale: root mean square per dimension of what the centring leaves.
    """

    mean: np.ndarray
    scale: float

    def apply(self, features: np.ndarray, present: np.ndarray | None = None) -> np.ndarray:
        """Features (N, D_m) centred and scaled, float32; zeros, which is the mean, for items that lack the modality.

        Args:
            features: (N, D_m).
            present: (N,) bool; None if all have it.
        """
        found = ((features - self.mean) / self.scale).astype(np.float32)
        if present is not None:
            found[~present] = 0.0
        return found


def fit_standardisation(features: np.ndarray, name: str, present: np.ndarray | None = None) -> Standardisation:
    """Centre and scale of a modality (N, D_m), from the items that have it.

    Args:
        features: (N, D_m).
        name: for messages.
        present: (N,) bool, which items have it; None if all have.

    Raises:
        PlumError: if there are non-finite values among them, no item has the modality, or all that have it are the
            same.
    """
    refuse_non_finite(features, name, present)
    had = features if present is None else features[present]
    if not len(had):
        raise PlumError(
            f"no item has modality {name!r}", f"{len(features):,} items", "drop it from features.modalities"
        )
    if (had == had[0]).all():
        of = "" if present is None else " of items that have it"
        raise PlumError(
            f"modality {name!r} tells no items apart: all {len(had):,} rows{of} are the same",
            None,
            "drop it from features.modalities, or give items text or topics",
        )
    mean = had.mean(0, dtype=np.float64)  # float64: single precision overflows and loses the mean
    squares = [((had[start : start + BLOCK] - mean) ** 2).sum() for start in range(0, len(had), BLOCK)]
    return Standardisation(mean, float(np.sqrt(np.sum(squares) / had.size)))


def standardise(features: np.ndarray, name: str, present: np.ndarray | None = None) -> np.ndarray:
    """:func:`fit_standardisation` applied to the modality that it is of: (N, D_m) float32."""
    return fit_standardisation(features, name, present).apply(features, present)


def refuse_non_finite(features: np.ndarray, name: str, present: np.ndarray | None = None, first_row: int = 0) -> None:
    """Refuse NaN and infinity in the rows (N, D_m) of items that have the modality.

    Args:
        features: (N, D_m).
        name: for messages.
        present: (N,) bool; None if all have it.
        first_row: of the first of these rows in what the user gave.

    Raises:
        PlumError: naming how many rows, and the first.
    """
    bad = ~np.isfinite(features).all(axis=1)
    if present is not None:
        bad &= present
    if bad.any():
        raise PlumError(
            f"features of modality {name!r} hold NaN or infinity",
            f"{bad.sum():,} rows, the first is row {first_row + int(bad.argmax())}",
            "mend the vectors",
        )
