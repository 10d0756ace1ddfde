"""Retrievers side by side, on the same users: means with intervals, and paired differences."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from plum.errors import PlumError
from plum.evaluation.intervals import difference_intervals, mean_intervals
from plum.evaluation.significance import N_RESAMPLES, holm, sign_flip_p_values

PerUser = Mapping[str, Mapping[str, np.ndarray]]


def compare(
    per_user: PerUser,
    metrics: Sequence[str],
    reference: str = "plum",
    n_resamples: int = N_RESAMPLES,
    seed: int = 0,
) -> list[dict[str, Any]]:
    """Paired differences between one retriever and each of the others.

    ``p_holm`` is corrected by Holm's method for multiple tests: all metrics and rivals of one call are one family.
    ``p_value`` and ``ci95`` are not corrected.

    Args:
        per_user: retriever -> metric -> (U,), users in one order for all.
        metrics: to compare.
        reference: the retriever compared with all others.
        n_resamples: of the sign-flip test.
        seed: of the sign-flip test.

    Returns:
        One entry per metric and other retriever, in the given order:
        ``{"metric", "a": reference, "b": other, "difference": mean of a - b, "ci95": [low, high], "p_value",
        "p_holm"}``.

    Raises:
        PlumError: an unknown retriever or metric.
        ValueError: different numbers of users, or values outside 0 to 1.
    """
    _require(per_user, metrics)
    if reference not in per_user:
        raise PlumError(
            f"there are no results of {reference!r} to compare with",
            f"results of {', '.join(per_user) or 'no retriever'}",
            "evaluate it too, or name one of these as the reference",
        )
    pairs = [(metric, other) for metric in metrics for other in per_user if other != reference]
    if not pairs:
        return []
    differences = np.stack(
        [np.subtract(per_user[reference][m], per_user[other][m], dtype=np.float64) for m, other in pairs], axis=1
    )
    intervals = difference_intervals(differences)
    p_values = sign_flip_p_values(differences, n_resamples, seed)
    adjusted = holm(p_values)
    return [
        {
            "metric": metric,
            "a": reference,
            "b": other,
            "difference": float(differences[:, column].mean()),
            "ci95": intervals[column].tolist(),
            "p_value": float(p_values[column]),
            "p_holm": float(adjusted[column]),
        }
        for column, (metric, other) in enumerate(pairs)
    ]


def summarise(
    per_user: PerUser, metrics: Sequence[str] | None = None
) -> tuple[dict[str, dict[str, float]], dict[str, dict[str, list[float]]]]:
    """Means over users and their 95% intervals.

    Args:
        per_user: retriever -> metric -> (U,), users in one order for all.
        metrics: which to summarise; None for all.

    Returns:
        means: retriever -> metric -> mean.
        intervals: retriever -> metric -> [low, high].

    Raises:
        PlumError: an unknown metric.
        ValueError: different numbers of users, no users, NaN, or values outside 0 to 1.
    """
    names = list(metrics if metrics is not None else next(iter(per_user.values()), {}))
    _require(per_user, names)
    if not names:
        return {retriever: {} for retriever in per_user}, {retriever: {} for retriever in per_user}
    means: dict[str, dict[str, float]] = {}
    intervals: dict[str, dict[str, list[float]]] = {}
    for retriever, values in per_user.items():
        columns = np.stack([np.asarray(values[name], dtype=np.float64) for name in names], axis=1)
        means[retriever] = dict(zip(names, columns.mean(axis=0).tolist(), strict=True))
        ends = mean_intervals(columns)
        intervals[retriever] = dict(zip(names, ends.tolist(), strict=True))
    return means, intervals


def _require(per_user: PerUser, metrics: Sequence[str]) -> None:
    """Check that every retriever has every metric, all for the same number of users."""
    for retriever, values in per_user.items():
        missing = [name for name in metrics if name not in values]
        if missing:
            raise PlumError(
                f"{retriever!r} lacks the metrics {', '.join(missing)}",
                f"it has {', '.join(values) or 'none'}",
                "compute them for every retriever, or leave them out",
            )
    lengths = {len(values[name]) for values in per_user.values() for name in metrics}
    if len(lengths) > 1:
        raise ValueError(f"retrievers were scored on different numbers of users: {sorted(lengths)}")
