"""Results of several seeds: means, intervals and paired tests over both seeds and users.

Letters: S seeds, U users, J columns. Every system is trained S times and scored on the same U users, so
its values are (S, U), and two things vary: the sample of users and the seed of the training.

What each figure covers:

- ``ci95``: users and seeds. The interval over users of the values averaged over seeds
  (:mod:`plum.evaluation.intervals`), widened by the standard error over seeds. With one seed it is the interval over
  users alone. Two seeds say little about others, and the interval is then wide where seeds differ: use three or more.
- ``p_value``, ``p_holm``: users only, for the differences averaged over the given seeds. A small value means that these
  trained models would differ for other users too, not that other seeds would differ.
- ``seed_sd``, ``seed_means``: seeds only, for these users.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from plum.errors import PlumError
from plum.evaluation.intervals import difference_intervals, mean_intervals, widened
from plum.evaluation.significance import N_RESAMPLES, holm, sign_flip_p_values

PerSeed = Mapping[str, Mapping[str, np.ndarray]]
"""System -> metric -> float (S, U), users in one order for all; S may differ between systems."""


def summarise_seeds(values: PerSeed, metrics: Sequence[str]) -> dict[str, dict[str, dict[str, Any]]]:
    """Means over seeds and users, and their spread.

    Args:
        values: system -> metric -> (S, U).
        metrics: to summarise.

    Returns:
        system -> metric -> ``mean`` over seeds and users, ``ci95`` [low, high], ``seed_means`` (S values, means over
        users) and ``seed_sd``, their standard deviation (ddof 1): 0 for a system without randomness, None with one
        seed.

    Raises:
        PlumError: a metric that is not there.
        ValueError: values that are not (S, U) or not within 0 and 1, NaN, no users or seeds, different numbers of
            users, or different numbers of seeds between the metrics of a system.
    """
    tables = _tables(values, metrics)
    result: dict[str, dict[str, dict[str, Any]]] = {}
    for name, table in tables.items():
        by_user, by_seed = table.mean(axis=0), table.mean(axis=1)
        ends = np.clip(_over_both(by_user, mean_intervals(by_user), _parts(by_seed)), 0.0, 1.0)
        result[name] = {
            metric: {
                "mean": float(by_seed[:, column].mean()),
                "ci95": ends[column].tolist(),
                "seed_means": by_seed[:, column].tolist(),
                "seed_sd": _deviation(by_seed[:, column]),
            }
            for column, metric in enumerate(metrics)
        }
    return result


def compare_seeds(
    values: PerSeed,
    seeds: Mapping[str, Sequence[int]],
    metrics: Sequence[str],
    reference: str,
    n_resamples: int = N_RESAMPLES,
    seed: int = 0,
) -> list[dict[str, Any]]:
    """Paired differences between one system and each of the others, over users and seeds.

    Two systems trained with the same seeds are paired by seed, in the interval and in ``seed_sd``; otherwise their
    seeds vary independently. Users are always paired.

    Args:
        values: system -> metric -> (S, U).
        seeds: system -> the S seeds, unique, in the order of the values.
        metrics: to compare.
        reference: the system compared with all others.
        n_resamples: of the sign-flip test.
        seed: of the sign-flip test.

    Returns:
        One entry per metric and other system, in the given order: ``metric``, ``a`` (the reference), ``b``,
        ``difference`` (mean of a - b), ``ci95``, ``p_value``, ``p_holm`` (Holm's correction over all entries of this
        call), ``seeds_paired``, and ``seed_sd`` of the differences per seed, None if seeds are not paired or there is
        only one.

    Raises:
        PlumError: an unknown system or metric.
        ValueError: as :func:`summarise_seeds`, or seeds that don't fit the values.
    """
    others = _others(values, reference)
    if not others or not metrics:
        return []
    tables = _tables({name: _by_seed(name, seeds[name], values[name], metrics) for name in values}, metrics)
    differences, p_values = _over_users(tables, reference, n_resamples, seed)
    means = {name: table.mean(axis=1) for name, table in tables.items()}
    entries: list[dict[str, Any]] = []
    for name in others:
        paired = sorted(seeds[name]) == sorted(seeds[reference])
        parts = _parts(means[reference] - means[name]) if paired else _parts(means[reference]) + _parts(means[name])
        found = differences[name]
        ends = np.clip(_over_both(found, difference_intervals(found), parts), -1.0, 1.0)
        entries += [
            {
                "metric": metric,
                "a": reference,
                "b": name,
                "difference": float(found[:, column].mean()),
                "ci95": ends[column].tolist(),
                "p_value": float(p_values[name][column]),
                "seeds_paired": paired,
                "seed_sd": _deviation((means[reference] - means[name])[:, column]) if paired else None,
            }
            for column, metric in enumerate(metrics)
        ]
    entries.sort(key=lambda entry: metrics.index(entry["metric"]))  # stable: systems stay in their order
    adjusted = holm(np.array([entry["p_value"] for entry in entries]))
    return [entry | {"p_holm": float(p)} for entry, p in zip(entries, adjusted, strict=True)]


def _others(values: PerSeed, reference: str) -> list[str]:
    """All systems but the reference, which must be among them."""
    if reference not in values:
        raise PlumError(
            f"there are no results of {reference!r} to compare with",
            f"results of {', '.join(values) or 'no system'}",
            "name one of these as the reference",
        )
    return [name for name in values if name != reference]


def _over_users(
    tables: Mapping[str, np.ndarray], reference: str, n_resamples: int, seed: int
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """For each other system, averaged over seeds: differences (U, J) from the reference, and their p-values (J,)."""
    averaged = {name: table.mean(axis=0) for name, table in tables.items()}
    differences = {name: averaged[reference] - averaged[name] for name in tables if name != reference}
    # All in one call: drawing the signs is slower than multiplying by them.
    p_values = sign_flip_p_values(np.concatenate(list(differences.values()), axis=1), n_resamples, seed)
    by_system = p_values.reshape(len(differences), -1)
    return differences, dict(zip(differences, by_system, strict=True))


def _over_both(by_user: np.ndarray, ends: np.ndarray, parts: list[tuple[np.ndarray, int]]) -> np.ndarray:
    """Intervals (J, 2) over users, of values (U, J), widened by what seeds add."""
    return widened(by_user.mean(axis=0), ends, len(by_user), parts)


def _parts(by_seed: np.ndarray) -> list[tuple[np.ndarray, int]]:
    """The variance (J,) of the mean of S seeds' values (S, J), and S; none for a single seed, which says nothing."""
    n_seeds = len(by_seed)
    return [(by_seed.var(axis=0, ddof=1) / n_seeds, n_seeds)] if n_seeds > 1 else []


def _tables(values: PerSeed, metrics: Sequence[str]) -> dict[str, np.ndarray]:
    """All systems' values, float64 (S, U, J) each, of the same users."""
    tables = {name: _table(name, values[name], metrics) for name in values}
    users = {table.shape[1] for table in tables.values()}
    if len(users) > 1:
        raise ValueError(f"systems were scored on different numbers of users: {sorted(users)}")
    return tables


def _table(name: str, values: Mapping[str, np.ndarray], metrics: Sequence[str]) -> np.ndarray:
    """One system's values as float64 (S, U, J)."""
    missing = [metric for metric in metrics if metric not in values]
    if missing:
        raise PlumError(
            f"{name!r} lacks the metrics {', '.join(missing)}",
            f"it has {', '.join(values) or 'none'}",
            "compute them for every system, or leave them out",
        )
    shapes = {np.shape(values[metric]) for metric in metrics}
    if len(shapes) > 1 or any(len(shape) != 2 or not shape[0] for shape in shapes):
        raise ValueError(f"every metric of {name!r} must be (S, U) with at least one seed, found {sorted(shapes)}")
    if not metrics:
        return np.zeros((1, 1, 0))
    return np.stack([np.asarray(values[metric], dtype=np.float64) for metric in metrics], axis=2)


def _by_seed(
    name: str, seeds: Sequence[int], values: Mapping[str, np.ndarray], metrics: Sequence[str]
) -> dict[str, np.ndarray]:
    """One system's values (S, U) in ascending order of seed, so that equal sets of seeds are aligned."""
    table = _table(name, values, metrics)
    if len(seeds) != len(table) or len(set(seeds)) != len(seeds):
        raise ValueError(f"{name!r} has values of {len(table)} seeds, but seeds {list(seeds)}: give each its own seed")
    order = np.argsort(np.asarray(seeds), kind="stable")
    return {metric: table[order, :, column] for column, metric in enumerate(metrics)}


def _deviation(by_seed: np.ndarray) -> float | None:
    """Standard deviation over seeds; exactly 0 if they agree, None for a single one."""
    if len(by_seed) < 2:
        return None
    return float(by_seed.std(ddof=1)) if np.ptp(by_seed) else 0.0
