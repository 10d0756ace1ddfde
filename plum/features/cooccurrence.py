"""Training histories -> item vectors: which items occur in the same histories."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import sparse
from sklearn.decomposition import TruncatedSVD

from plum.errors import PlumError
from plum.features.by_id import BehaviourEncoder

CONTEXT_POWER = 0.75
"""Context counts are raised to this power, to weaken rare contexts (Levy, Goldberg & Dagan 2015, section 3.2)."""
NOTHING = 1e-6
"""Singular values and vector lengths below this share of the largest are rounding errors."""


class CooccurrenceEncoder(BehaviourEncoder):
    """Co-occurrence vectors of the catalogue."""

    kind = "cooccurrence"


def fit_cooccurrence(
    histories: Sequence[np.ndarray], item_ids: Sequence[str], dimensions: int, seed: int, window: int | None = None
) -> CooccurrenceEncoder:
    """Fit :func:`cooccurrence_vectors` of a catalogue with N ids; items with a zero vector lack the modality.

    Raises:
        PlumError: if no history holds two different items.
    """
    vectors = cooccurrence_vectors(histories, len(item_ids), dimensions, seed, window)
    return CooccurrenceEncoder.of_rows(vectors, np.flatnonzero(vectors.any(axis=1)), item_ids)


def cooccurrence_vectors(
    histories: Sequence[np.ndarray], n_items: int, dimensions: int, seed: int, window: int | None = None
) -> np.ndarray:
    """Vectors of items by positive pointwise mutual information and SVD (Levy, Goldberg & Dagan 2015).

    PLUM uses co-occurrence to guide the quantiser and keeps it out of the content, so that a shift in popularity needs
    no new Semantic IDs (section 2.1). As content it helps where the catalogue has little text. Items without training
    interactions get no vector.

    Args:
        histories: item rows of each user's training interactions, oldest first.
        n_items: N.
        dimensions: D; fewer if the catalogue has fewer items.
        seed: of the randomised SVD.
        window: items at most this many places apart count as a pair; None for any two items of a history.

    Returns:
        (N, D) float32, rows of unit length; zero for items without a partner, and for items orthogonal to the D
        strongest axes.

    Raises:
        PlumError: if no history holds two different items.
    """
    counts = _pair_counts(histories, n_items, window)
    if not counts.nnz:
        raise PlumError(
            "no two items occur together in a training history",
            f"{len(histories):,} histories",
            "drop the cooccurrence modality from features.modalities",
        )
    information = _positive_pmi(counts)
    width = min(dimensions, n_items - 1)
    svd = TruncatedSVD(width, random_state=seed)
    vectors = svd.fit_transform(information)
    # Square roots of singular values: at full weight, the few strongest axes would dominate.
    # Beyond the rank the axes are arbitrary, and a division by nearly zero would inflate them.
    real = svd.singular_values_ > NOTHING * svd.singular_values_[0]
    vectors = vectors / np.where(real, np.sqrt(svd.singular_values_), np.inf)
    # Unit length: otherwise, items with many partners are far from the origin and get most of the codes.
    length = np.linalg.norm(vectors, axis=1, keepdims=True)
    return (vectors / np.where(length > NOTHING * length.max(), length, np.inf)).astype(np.float32)


def _pair_counts(histories: Sequence[np.ndarray], n_items: int, window: int | None) -> sparse.csr_array:
    """How often two different items co-occur, (N, N) symmetric, float64."""
    if window is None:  # all pairs of a history: a matrix product counts them without listing them
        owner = np.repeat(np.arange(len(histories)), [len(history) for history in histories])
        items = np.concatenate([np.zeros(0, dtype=np.int64), *histories])
        taken = sparse.coo_array((np.ones(len(items)), (owner, items)), shape=(len(histories), n_items)).tocsr()
        counts = (taken.T @ taken).tocsr()
    else:
        pairs = [
            np.stack([history[:-gap], history[gap:]])
            for gap in range(1, window + 1)
            for history in histories
            if len(history) > gap
        ]
        row, column = np.concatenate([np.zeros((2, 0), dtype=np.int64), *pairs], axis=1)
        half = sparse.coo_array((np.ones(len(row)), (row, column)), shape=(n_items, n_items)).tocsr()
        counts = (half + half.T).tocsr()
    counts.setdiag(0)
    counts.eliminate_zeros()
    return counts


def _positive_pmi(counts: sparse.csr_array) -> sparse.csr_array:
    """max(0, log(p(i, j) / (p(i) p_context(j)))), contexts smoothed; symmetric: the mean of (i, j) and (j, i)."""
    totals = np.asarray(counts.sum(axis=0), dtype=np.float64)
    context = totals**CONTEXT_POWER
    context /= context.sum()
    pairs = counts.tocoo()
    values = np.log(pairs.data / (totals[pairs.row] * context[pairs.col]))
    positive = sparse.coo_array((np.maximum(values, 0.0), (pairs.row, pairs.col)), shape=counts.shape).tocsr()
    symmetric = ((positive + positive.T) / 2).tocsr()
    symmetric.eliminate_zeros()
    return symmetric
