"""Residual k-means: codebooks by clustering only (RQ-KMeans), and the initialisation of an RQ-VAE's codebooks.

It uses scikit-learn's k-means, which starts by k-means++. faiss's, often used for this, starts from random points:
``benchmarks/residual_kmeans.py`` compares the two.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from sklearn.cluster import KMeans
from threadpoolctl import threadpool_limits

from plum import runtime


def residual_kmeans(
    vectors: np.ndarray, sizes: Sequence[int], seed: int, max_points: int = 50_000
) -> tuple[list[np.ndarray], np.ndarray]:
    """Cluster vectors, then their residuals, level by level.

    Args:
        vectors: (N, D) float32.
        sizes: codes per level, L of them. A level with more codes than distinct residuals gets random spare codewords
            around the mean, so that every code exists.
        seed: of the initial centres and the sample.
        max_points: fit clusters on at most this many vectors, drawn by the seed.

    Returns:
        L codebooks (C, D) and codes (N, L) int64.
    """
    rng = np.random.default_rng(seed)
    residual = vectors.astype(np.float32, copy=True)
    codebooks, codes = [], []
    for level, size in enumerate(runtime.track(sizes, "clustering, level by level", after=0.0, alike=False)):
        codebook = _centres(residual, size, seed + level, rng, max_points)
        nearest = nearest_codes(residual, codebook)
        residual -= codebook[nearest]
        codebooks.append(codebook)
        codes.append(nearest)
    return codebooks, np.stack(codes, axis=1)


def codes_of(vectors: np.ndarray, codebooks: Sequence[np.ndarray]) -> np.ndarray:
    """Codes (N, L) int64 of vectors (N, D) float32: level by level the nearest codeword of L codebooks (C, D)."""
    residual = vectors.astype(np.float32, copy=True)
    codes = []
    for codebook in codebooks:
        nearest = nearest_codes(residual, codebook)
        residual -= codebook[nearest]
        codes.append(nearest)
    return np.stack(codes, axis=1)


def codewords_of(codes: np.ndarray, codebooks: Sequence[np.ndarray]) -> np.ndarray:
    """Sum (N, D) of the codewords of codes (N, L)."""
    return np.sum([book[codes[:, level]] for level, book in enumerate(codebooks)], axis=0)


def nearest_codes(vectors: np.ndarray, codebook: np.ndarray, block: int = 8192) -> np.ndarray:
    """Index (N,) of the nearest codeword of each vector (N, D), in blocks so that memory stays small."""
    norms = (codebook * codebook).sum(1)
    parts = [
        (norms - 2 * vectors[start : start + block] @ codebook.T).argmin(1) for start in range(0, len(vectors), block)
    ]
    return np.concatenate(parts) if parts else np.zeros(0, dtype=np.int64)


def _centres(residual: np.ndarray, size: int, seed: int, rng: np.random.Generator, max_points: int) -> np.ndarray:
    points = residual
    if len(points) > max_points:
        points = points[np.sort(rng.choice(len(points), max_points, replace=False))]
    distinct = np.unique(points, axis=0)
    if len(distinct) > size:
        # With three or more threads scikit-learn adds partial sums in the order in which threads finish, so that the
        # same seed would not give the same codebooks.
        with threadpool_limits(1, user_api="openmp"):
            fitted = KMeans(size, n_init=1, max_iter=50, random_state=seed).fit(points)
        return fitted.cluster_centers_.astype(np.float32)
    spread = residual.std() + 1e-6
    spare = rng.normal(residual.mean(0), spread, (size - len(distinct), residual.shape[1]))
    return np.concatenate([distinct, spare.astype(np.float32)])
