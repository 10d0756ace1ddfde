"""Statistical tests: a paired one between two retrievers, and Holm's correction for many of them.

The test permutes users, which are the independent units; the same seed gives the same figures.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from plum import runtime
from plum.evaluation.intervals import LEVEL, difference_intervals

N_RESAMPLES = 2000

# Signs drawn at a time: 1M are 8 MiB, for any number of users and resamples.
_BLOCK_ENTRIES = 1 << 20


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
    for start, stop in _blocks(n_resamples, n_users):
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
    a: np.ndarray, b: np.ndarray, n_resamples: int = N_RESAMPLES, seed: int = 0, level: float = LEVEL
) -> dict[str, Any]:
    """The mean difference of a and b over the same users, with interval and p-value.

    Args:
        a: (U,), one metric of one retriever.
        b: (U,), the same metric and users of another.
        n_resamples: of the test.
        seed: of the test.
        level: of the interval.

    Returns:
        ``difference``: mean of a - b; ``ci95``: [low, high], its interval (at ``level``); ``p_value``: of the
        sign-flip test.

    Raises:
        ValueError: different numbers of users, no users, NaN, or a difference outside -1 to 1.
    """
    a, b = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    if a.shape != b.shape:
        raise ValueError(f"a and b must hold the same users, found {a.shape} and {b.shape}")
    difference = a - b
    return {
        "difference": float(difference.mean()),
        "ci95": difference_intervals(difference[:, None], level)[0].tolist(),
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


def _blocks(n_resamples: int, n_users: int) -> Iterator[tuple[int, int]]:
    """Ranges of resamples whose draws fit into one block; shows how far the test is."""
    size = max(1, _BLOCK_ENTRIES // n_users)
    with runtime.progress("sign-flip test", n_resamples, after=runtime.SOON) as show:
        for start in range(0, n_resamples, size):
            show(start)
            yield start, min(start + size, n_resamples)
