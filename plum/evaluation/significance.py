"""Statistical uncertainty: bootstrap intervals over users, a paired test between two retrievers, Holm's correction.

Intervals and test resample users, which are the independent units; the same seed gives the same figures.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from plum import runtime

N_RESAMPLES = 2000

# Numbers drawn at a time: 1M user indices are 8 MiB, for any number of users and resamples.
_BLOCK_ENTRIES = 1 << 20


def bootstrap_intervals(
    values: np.ndarray, n_resamples: int = N_RESAMPLES, seed: int = 0, level: float = 0.95
) -> np.ndarray:
    """Percentile bootstrap intervals (Efron 1979) of the mean of several columns, users drawn with replacement.

    All columns share the draws, so many metrics cost about as much as one.

    Args:
        values: (U, J), one row per user, no NaN.
        n_resamples: draws of U users.
        seed: of the draws.
        level: share of the resampled means inside the interval.

    Returns:
        float64 (J, 2): lower and upper ends.

    Raises:
        ValueError: no users, NaN, n_resamples < 1 or a level outside 0 to 1.
    """
    if not 0 < level < 1:
        raise ValueError(f"level must lie between 0 and 1, found {level}")
    means = resampled_means(values, n_resamples, seed)
    tail = (1.0 - level) / 2.0
    return np.quantile(means, [tail, 1.0 - tail], axis=0).T


def resampled_means(values: np.ndarray, n_resamples: int = N_RESAMPLES, seed: int = 0) -> np.ndarray:
    """Means of several columns over users drawn with replacement, the same users for all columns.

    Args:
        values: (U, J), one row per user, no NaN.
        n_resamples: draws of U users (R).
        seed: of the draws; equal seeds and numbers of users give equal draws.

    Returns:
        float64 (R, J).

    Raises:
        ValueError: no users, NaN, or n_resamples < 1.
    """
    values = _checked(values, n_resamples)
    n_users, n_columns = values.shape
    rng = np.random.default_rng(seed)
    means = np.empty((n_resamples, n_columns))
    for start, stop in _blocks(n_resamples, n_users, "bootstrap"):
        size = stop - start
        drawn = rng.integers(0, n_users, size=(size, n_users))
        # Counts of draws per user: the resampled sums of all columns are then one matrix product.
        cells = (drawn + np.arange(size)[:, None] * n_users).ravel()
        times = np.bincount(cells, minlength=size * n_users).reshape(size, n_users)
        means[start:stop] = times.astype(np.float64) @ values / n_users
    return means


def bootstrap_interval(
    values: np.ndarray, n_resamples: int = N_RESAMPLES, seed: int = 0, level: float = 0.95
) -> tuple[float, float]:
    """Interval of the mean of one metric: :func:`bootstrap_intervals` for one column.

    Args:
        values: (U,), one entry per user.
        n_resamples: draws of U users.
        seed: of the draws.
        level: share of the resampled means inside the interval.

    Returns:
        Lower and upper end.

    Raises:
        ValueError: as :func:`bootstrap_intervals`.
    """
    low, high = bootstrap_intervals(np.asarray(values)[:, None], n_resamples, seed, level)[0]
    return float(low), float(high)


def sign_flip_p_values(differences: np.ndarray, n_resamples: int = N_RESAMPLES, seed: int = 0) -> np.ndarray:
    """Two-sided p-values of paired sign-flip permutation tests, one per column.

    If two retrievers are equally good, both signs of a user's difference are equally likely. p is the share of random
    sign assignments, including the observed one, whose mean is at least as far from 0: (1 + count) / (1 + n), which is
    never 0 (Phipson & Smyth 2010).

    Args:
        differences: (U, J), one row per user, no NaN.
        n_resamples: random sign assignments.
        seed: of the signs.

    Returns:
        float64 (J,), within 1 / (1 + n_resamples) and 1.

    Raises:
        ValueError: no users, NaN, or n_resamples < 1.
    """
    differences = _checked(differences, n_resamples)
    n_users, n_columns = differences.shape
    # Sums of the same numbers in another order differ in their last digits; they are ties, which count.
    bound = np.abs(differences.sum(axis=0)) - 1e-9 * np.abs(differences).sum(axis=0)
    rng = np.random.default_rng(seed)
    count = np.zeros(n_columns, dtype=np.int64)
    for start, stop in _blocks(n_resamples, n_users, "sign-flip test"):
        signs = rng.integers(0, 2, size=(stop - start, n_users), dtype=np.int8) * 2.0 - 1.0
        count += (np.abs(signs @ differences) >= bound).sum(axis=0)
    return (1 + count) / (1 + n_resamples)


def holm(p_values: np.ndarray) -> np.ndarray:
    """Adjust the p-values of a family of tests: at .05, the probability of any false positive is at most 5%.

    Step-down (Holm 1979, "A simple sequentially rejective multiple test procedure"): the smallest of m is multiplied
    by m, the next by m - 1, and so on; none may fall below one before it, none exceeds 1. The tests may depend on each
    other in any way.

    Args:
        p_values: (m,), each within 0 and 1, in any order.

    Returns:
        float64 (m,), adjusted, in the given order.

    Raises:
        ValueError: another shape, NaN, or a value outside 0 to 1.

    Example:
        >>> holm(np.array([0.01, 0.04, 0.03])).round(3).tolist()
        [0.03, 0.06, 0.06]
    """
    p_values = np.asarray(p_values, dtype=np.float64)
    if p_values.ndim != 1:
        raise ValueError(f"p_values must be (m,), found shape {p_values.shape}")
    if not ((p_values >= 0) & (p_values <= 1)).all():
        raise ValueError("p-values must lie between 0 and 1, and none may be NaN")
    order = np.argsort(p_values, kind="stable")
    adjusted = np.empty_like(p_values)
    adjusted[order] = np.maximum.accumulate(p_values[order] * np.arange(len(p_values), 0, -1))
    return np.minimum(adjusted, 1.0)


def paired_difference(
    a: np.ndarray, b: np.ndarray, n_resamples: int = N_RESAMPLES, seed: int = 0, level: float = 0.95
) -> dict[str, Any]:
    """The mean difference of a and b over the same users, with interval and p-value.

    Args:
        a: (U,), one metric of one retriever.
        b: (U,), the same metric and users of another.
        n_resamples: of both the bootstrap and the test.
        seed: of both.
        level: of the interval.

    Returns:
        ``difference``: mean of a - b; ``ci95``: [low, high], its bootstrap interval (at ``level``); ``p_value``: of
        the sign-flip test.

    Raises:
        ValueError: different numbers of users, no users, or NaN.
    """
    a, b = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    if a.shape != b.shape:
        raise ValueError(f"a and b must hold the same users, found {a.shape} and {b.shape}")
    difference = a - b
    return {
        "difference": float(difference.mean()),
        "ci95": list(bootstrap_interval(difference, n_resamples, seed, level)),
        "p_value": float(sign_flip_p_values(difference[:, None], n_resamples, seed)[0]),
    }


def _checked(values: np.ndarray, n_resamples: int) -> np.ndarray:
    """The values as float64 (U, J); raises ValueError if they can't be resampled."""
    values = np.asarray(values, dtype=np.float64)
    if values.ndim != 2 or not len(values):
        raise ValueError(f"values must have one row per user and at least one user, found shape {values.shape}")
    if np.isnan(values).any():
        raise ValueError("values hold NaN: leave users without a value out, for every retriever")
    if n_resamples < 1:
        raise ValueError(f"n_resamples must be at least 1, found {n_resamples}")
    return values


def _blocks(n_resamples: int, n_users: int, name: str) -> Iterator[tuple[int, int]]:
    """Ranges of resamples whose draws fit into one block; shows how far the work ``name`` is."""
    size = max(1, _BLOCK_ENTRIES // n_users)
    with runtime.progress(name, n_resamples, after=runtime.SOON) as show:
        for start in range(0, n_resamples, size):
            show(start)
            yield start, min(start + size, n_resamples)
