"""Standardisation of modalities, over the items that have them, and their weights beside each other."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal, NamedTuple

import numpy as np

from plum.errors import PlumError

BLOCK = 1 << 16
"""Rows whose squares are summed at a time, so that temporaries stay small."""
FLAT = 1e-8
"""Axes with a smaller share of the strongest axis's variance hold rounding errors: whitening leaves them out."""
PER_TOP_AXIS = 100
"""all-but-the-top removes one axis per so many dimensions (Mu and Viswanath 2018, section 3.1: about D / 100)."""

Isotropy = Literal["none", "centre", "whiten", "all-but-the-top"]


class Standardisation(NamedTuple):
    """Centre of a modality, and one scale for all dimensions.

    A common scale keeps the dimensions' relative weight (a TF-IDF space has few strong axes and many weak ones).

    Attributes:
        mean: (D_m,) float64.
        scale: root mean square per dimension of the centred, transformed vectors.
        isotropy: what is removed. ``none`` keeps the mean.
        transform: (D_m, D_m) float64, symmetric, by which centred vectors are multiplied; None for none.
    """

    mean: np.ndarray
    scale: float
    isotropy: Isotropy = "centre"
    transform: np.ndarray | None = None

    def apply(self, features: np.ndarray, present: np.ndarray | None = None) -> np.ndarray:
        """Features (N, D_m) standardised, float32; items that lack the modality get what the mean becomes.

        Args:
            features: (N, D_m).
            present: (N,) bool; None if all have it.
        """
        centred = features if self.isotropy == "none" else features - self.mean
        if self.transform is not None:
            centred = centred @ self.transform
        found = (centred / self.scale).astype(np.float32)
        if present is not None:
            found[~present] = self.mean / self.scale if self.isotropy == "none" else 0.0
        return found

    def moved(self, before: np.ndarray, after: np.ndarray) -> float:
        """How far vectors of the same items have moved, relative to the items' distance from their mean.

        Args:
            before: (N, D_m), vectors of the fit, or some of them.
            after: (N, D_m), of the same items.

        Returns:
            The median distance over the root mean square distance from the mean, both after the transform; NaN without
            items. About 1.4 for unrelated vectors. Example: mean [0, 0] and scale 1; from [3, 4] to [3, 5] it is
            1 / sqrt(2).
        """
        if not len(before):
            return float("nan")
        differences = np.subtract(after, before, dtype=np.float64)
        if self.transform is not None:
            differences = differences @ self.transform
        distances = np.linalg.norm(differences, axis=1)
        return float(np.median(distances) / (self.scale * np.sqrt(len(self.mean))))


def fit_standardisation(
    features: np.ndarray,
    name: str,
    present: np.ndarray | None = None,
    isotropy: Isotropy = "centre",
    known: np.ndarray | None = None,
) -> Standardisation:
    """Centre and scale of a modality (N, D_m), from the items that have it.

    Args:
        features: (N, D_m), checked by :func:`plum.features.encoding.refuse_useless`.
        name: for messages.
        present: (N,) bool, which items have it; None if all have.
        isotropy: ``none`` and ``centre`` keep the axes' relative weight; for the others see :func:`_whitening` and
            :func:`_without_top`.
        known: (N,) bool, the items that may be learnt from; None for all.

    Raises:
        PlumError: if the transform leaves nothing, or there are too few items to whiten.
        ValueError: if no such item has it, all have the same vector, or a vector is not finite.
    """
    had = _chosen(features, present, known)
    if not len(had):
        raise ValueError(f"no item has modality {name!r}")
    mean = had.mean(0, dtype=np.float64)  # float64: single precision overflows and loses the mean
    transform = None
    if isotropy in ("whiten", "all-but-the-top"):
        # One scale first, so that squares of small or large vectors stay in range.
        variances, axes = np.linalg.eigh(_covariance(had, mean, _root_mean_square(_centred(had, mean), had.size, name)))
        make = _whitening if isotropy == "whiten" else _without_top
        transform = make(variances, axes, len(had), name)
    scale = _root_mean_square(_centred(had, mean, transform), had.size, name)
    return Standardisation(mean, scale, isotropy, transform)


def weighed(vectors: Sequence[np.ndarray], weights: Sequence[float]) -> np.ndarray:
    """Standardised modalities side by side, each scaled so that its total variance is its weight, whatever its width.

    Args:
        vectors: M arrays (N, D_m), of mean square 1 over the items that have the modality.
        weights: M, above 0.

    Returns:
        (N, sum of D_m) float32. Example: widths 4 and 1 with weights 1 and 1 -> the first modality's entries are
        halved, the second's stay.
    """
    factors = [np.float32(np.sqrt(weight / x.shape[1])) for x, weight in zip(vectors, weights, strict=True)]
    return np.concatenate([x * factor for x, factor in zip(vectors, factors, strict=True)], axis=1)


def _chosen(features: np.ndarray, present: np.ndarray | None, known: np.ndarray | None) -> np.ndarray:
    if known is not None:
        present = known if present is None else present & known
    return features if present is None else features[present]


def _centred(had: np.ndarray, mean: np.ndarray, transform: np.ndarray | None = None) -> Iterator[np.ndarray]:
    """Blocks of centred and transformed vectors, float64."""
    for start in range(0, len(had), BLOCK):
        block = had[start : start + BLOCK] - mean
        yield block if transform is None else block @ transform


def _root_mean_square(blocks: Iterator[np.ndarray], size: int, name: str) -> float:
    """Of ``size`` numbers in all.

    Raises:
        ValueError: if it is zero or not finite.
    """
    scale = float(np.sqrt(np.sum([(block**2).sum() for block in blocks]) / size))
    if not 0 < scale < np.inf:
        raise ValueError(f"modality {name!r} has no scale: {scale}")
    return scale


def _covariance(had: np.ndarray, mean: np.ndarray, scale: float) -> np.ndarray:
    """Covariance (D_m, D_m) of vectors divided by ``scale``."""
    total = np.zeros((had.shape[1], had.shape[1]))
    for block in _centred(had, mean):
        total += (block / scale).T @ (block / scale)
    return total / len(had)


def _whitening(variances: np.ndarray, axes: np.ndarray, n_items: int, name: str) -> np.ndarray:
    """The symmetric matrix that gives all axes the same variance.

    Source: Su et al. 2021, section 3.1, whose ``U diag(variance) ** -1/2`` differs from it by a rotation, which changes
    no distance; the symmetric one does not depend on the signs that a decomposition gives its axes.

    Raises:
        PlumError: if there are not more items than dimensions: then all items would be equally far apart.
    """
    if n_items <= len(variances):
        raise PlumError(
            f"modality {name!r} can't be whitened",
            f"{n_items:,} items, {len(variances):,} dimensions: all items would be equally far apart",
            f"set features.modalities.{name}.isotropy to centre",
        )
    kept = variances > FLAT * variances[-1]
    return (axes[:, kept] / np.sqrt(variances[kept])) @ axes[:, kept].T


def _without_top(variances: np.ndarray, axes: np.ndarray, n_items: int, name: str) -> np.ndarray:
    """The projection that removes the strongest axes (Mu and Viswanath 2018, algorithm 1).

    Raises:
        PlumError: if nothing is left.
    """
    n_top = max(1, round(len(variances) / PER_TOP_AXIS))
    if not (variances[:-n_top] > FLAT * variances[-1]).any():
        raise PlumError(
            f"modality {name!r} has nothing left without its strongest axis",
            f"{n_items:,} items, {len(variances):,} dimensions",
            f"set features.modalities.{name}.isotropy to centre",
        )
    top = axes[:, -n_top:]
    projection: np.ndarray = np.eye(len(variances)) - top @ top.T
    return projection
