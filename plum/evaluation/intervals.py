"""Confidence intervals of means over users, which hold for few users and rare hits.

A percentile bootstrap knows only what the sample holds: without a hit among 27 users its interval is [0, 0], and it
covers a true recall of 0.02 in 41% of samples instead of 95%. The intervals here ask which true means would make the
observed one likely, with the spread that the values would have under that mean (Wilson 1927). For hit rates that is
Wilson's score interval; for NDCG, MRR and recall of several targets the spread follows from the values' first four
moments. Student's t stands in place of the normal quantile. ``benchmarks/interval_coverage.py`` measures the coverage.

Letters: U users, J columns.
"""

from __future__ import annotations

import numpy as np
from scipy import stats

LEVEL = 0.95
_CAUTION = 5
"""How often the variance over seeds counts in the degrees of freedom. Counted once, as Satterthwaite (1946) has it, a
variance that two seeds showed too small by chance also gets too many degrees of freedom: down to 87% of such intervals
held the true mean."""
_SLACK = 1e-9
"""How far rounding may take a value out of its range."""


def mean_intervals(values: np.ndarray, level: float = LEVEL) -> np.ndarray:
    """Score intervals of the means of several columns.

    Args:
        values: (U, J), each within 0 and 1, one row per user.
        level: how often intervals made like this one hold the true mean.

    Returns:
        float64 (J, 2): lower and upper ends, within 0 and 1; never of width 0, since users yet unseen may differ.

    Raises:
        ValueError: no users, NaN, values outside 0 to 1, or a level outside 0 to 1.

    Example:
        >>> mean_intervals(np.zeros((27, 1))).round(3).tolist()
        [[0.0, 0.135]]
    """
    return _ends(_checked(values, 0.0, level), level)


def difference_intervals(differences: np.ndarray, level: float = LEVEL) -> np.ndarray:
    """Intervals of the means of paired differences.

    Gains and losses get a score interval each. Both are put together by the distances of their ends (MOVER: Newcombe
    1998, Zou & Donner 2008), with the correlation that follows from no user having both.

    Args:
        differences: (U, J), each within -1 and 1, one row per user.
        level: as for :func:`mean_intervals`.

    Returns:
        float64 (J, 2), within -1 and 1; never of width 0.

    Raises:
        ValueError: as :func:`mean_intervals`, with values outside -1 to 1.

    Example:
        >>> difference_intervals(np.zeros((1000, 1))).round(4).tolist()
        [[-0.0038, 0.0038]]
    """
    values = _checked(differences, -1.0, level)
    gains, losses = np.maximum(values, 0.0), np.maximum(-values, 0.0)
    gain, loss = gains.mean(axis=0), losses.mean(axis=0)
    spread = gains.std(axis=0) * losses.std(axis=0)
    correlation = -np.divide(gain * loss, spread, out=np.zeros_like(gain), where=spread > 0)
    of_gains, of_losses = _ends(gains, level), _ends(losses, level)

    def together(first: np.ndarray, second: np.ndarray) -> np.ndarray:
        return np.sqrt(np.maximum(first**2 + second**2 - 2 * correlation * first * second, 0.0))

    low = together(gain - of_gains[:, 0], of_losses[:, 1] - loss)
    high = together(of_gains[:, 1] - gain, loss - of_losses[:, 0])
    mean = values.mean(axis=0)
    return np.stack([np.maximum(mean - low, -1.0), np.minimum(mean + high, 1.0)], axis=1)


def _checked(values: np.ndarray, lowest: float, level: float) -> np.ndarray:
    """The values as float64 (U, J) within their range; raises ValueError if they can't have an interval."""
    values = np.asarray(values, dtype=np.float64)
    if not 0 < level < 1:
        raise ValueError(f"level must lie between 0 and 1, found {level}")
    if values.ndim != 2 or not len(values):
        raise ValueError(f"values must have one row per user and at least one user, found shape {values.shape}")
    if np.isnan(values).any():
        raise ValueError("values hold NaN: leave users without a value out, for every retriever")
    smallest, largest = values.min(initial=0.0), values.max(initial=0.0)
    if smallest < lowest - _SLACK or largest > 1.0 + _SLACK:
        raise ValueError(f"values must lie between {lowest:g} and 1, found {smallest} to {largest}")
    return np.clip(values, lowest, 1.0)


def _ends(values: np.ndarray, level: float) -> np.ndarray:
    """Score intervals (J, 2) of values (U, J) within 0 and 1.

    The variance under another mean m is v + s (m - mean) - c (m - mean)^2. In the exponential family through the
    sample, s is the third central moment over the variance, and c follows from the fourth: for a hit rate p they give
    p (1 - p), whose interval is Wilson's.
    """
    n = len(values)
    mean = values.mean(axis=0)
    second, third, fourth = (((values - mean) ** power).mean(axis=0) for power in (2, 3, 4))
    varied = second > _SLACK**2
    known = np.where(varied, second, 1.0)
    slope = np.where(varied, third / known, 0.0)
    bend = np.where(varied, np.clip((third**2 - (fourth - 3 * known**2) * known) / (2 * known**3), 0.0, 1.0), 1.0)
    k = _quantile(level, n - 1) ** 2 / n

    def reach(slope: np.ndarray) -> np.ndarray:
        """The distance d to the end, on the side that the slope is counted towards: d^2 = k (v + s d - c d^2)."""
        scaled = 1.0 + bend * k
        return (k * slope + np.sqrt((k * slope) ** 2 + 4 * scaled * k * second)) / (2 * scaled)

    # Few users have not shown the tails: the next one may have the highest or the lowest value.
    up = np.maximum(slope, np.where(varied, _slope_with(1.0 - mean, n, second, third), 1.0 - mean))
    down = np.maximum(-slope, np.where(varied, -_slope_with(-mean, n, second, third), mean))
    return np.stack([np.maximum(mean - reach(down), 0.0), np.minimum(mean + reach(up), 1.0)], axis=1)


def _slope_with(offset: np.ndarray, n: int, second: np.ndarray, third: np.ndarray) -> np.ndarray:
    """Third moment over variance of a sample with one more value, ``offset`` from its mean."""
    shift = offset / (n + 1)
    raw_second, raw_third = (n * second + offset**2) / (n + 1), (n * third + offset**3) / (n + 1)
    variance = raw_second - shift**2
    return (raw_third - 3 * shift * raw_second + 2 * shift**3) / np.where(variance > 0, variance, 1.0)


def _quantile(level: float, freedom: float | np.ndarray) -> np.ndarray:
    """Student's two-sided quantile; one user counts as two, who at least could differ."""
    return np.asarray(stats.t.ppf(0.5 + level / 2.0, np.maximum(freedom, 1.0)))


def widened(
    mean: np.ndarray,
    ends: np.ndarray,
    n_users: int,
    of_seeds: list[tuple[np.ndarray, int]],
    level: float = LEVEL,
) -> np.ndarray:
    """Intervals over users, widened by what other seeds of the training would have given.

    The distances to both ends and the seeds' standard error add as squares, with Student's quantile for the degrees of
    freedom of the sum: Satterthwaite's (1946), in which the few seeds weigh more.

    Args:
        mean: (J,), over users and seeds.
        ends: (J, 2), the intervals over users.
        n_users: U.
        of_seeds: for each system whose seeds vary, the variance (J,) of its mean over seeds, and the number of seeds.
        level: as for :func:`mean_intervals`.

    Returns:
        float64 (J, 2); ``ends`` without seeds.
    """
    if not of_seeds:
        return ends
    usual = _quantile(level, n_users - 1)
    of_users = np.square(np.ptp(ends, axis=1) / 2.0 / usual)
    added = np.sum([variance for variance, _ in of_seeds], axis=0)
    parts = [(of_users, n_users), *((_CAUTION * variance, n) for variance, n in of_seeds)]
    shares = np.sum([np.square(variance) / max(n - 1, 1) for variance, n in parts], axis=0)
    squared = np.square(of_users + _CAUTION * added)
    freedom = np.divide(squared, shares, out=np.full_like(mean, n_users - 1.0), where=shares > 0)
    quantile = _quantile(level, freedom)
    sides = np.abs(ends - mean[:, None]) * (quantile / usual)[:, None]
    distances = np.hypot(sides, (quantile * np.sqrt(added))[:, None])
    return np.stack([mean - distances[:, 0], mean + distances[:, 1]], axis=1)
