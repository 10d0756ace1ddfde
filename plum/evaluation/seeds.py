"""Results of several seeds: means, intervals and paired tests that resample both seeds and users.

Letters: S seeds, U users, R resamples, J columns. Every system is trained S times and scored on the same U users, so
its values are (S, U), and two things vary: the sample of users and the seed of the training.

What each figure covers:

- ``ci95``: users and seeds, by a two-way bootstrap (the pigeonhole bootstrap, Owen 2007): users drawn with replacement,
  the same for all seeds and systems, and seeds drawn with replacement. With one seed it is the usual interval over
  users. It is too wide because it counts the interaction of user and seed more than once, and with few seeds it
  underestimates their variance by the factor (S - 1) / S: use three seeds or more, and read ``seed_sd`` too.
- ``p_value``, ``p_holm``: users only, for the differences averaged over the given seeds. A small value means that these
  trained models would differ for other users too, not that other seeds would differ.
- ``seed_sd``, ``seed_means``: seeds only, for these users.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from plum.errors import PlumError
from plum.evaluation.significance import N_RESAMPLES, holm, resampled_means, sign_flip_p_values

PerSeed = Mapping[str, Mapping[str, np.ndarray]]
"""System -> metric -> float (S, U), users in one order for all; S may differ between systems."""

_LEVEL = 0.95
_FIRST, _SECOND = 1, 2  # random streams of seed draws, separate from user draws


def summarise_seeds(
    values: PerSeed, metrics: Sequence[str], n_resamples: int = N_RESAMPLES, seed: int = 0
) -> dict[str, dict[str, dict[str, Any]]]:
    """Means over seeds and users, and their spread.

    Args:
        values: system -> metric -> (S, U).
        metrics: to summarise.
        n_resamples: of the two-way bootstrap.
        seed: of the bootstrap.

    Returns:
        system -> metric -> ``mean`` over seeds and users, ``ci95`` [low, high], ``seed_means`` (S values, means over
        users) and ``seed_sd``, their standard deviation (ddof 1): 0 for a system without randomness, None with one
        seed.

    Raises:
        PlumError: a metric that is not there.
        ValueError: values that are not (S, U), NaN, no users or seeds, different numbers of users, or different numbers
            of seeds between the metrics of a system.
    """
    drawn = _Drawn(values, metrics, n_resamples, seed)
    result: dict[str, dict[str, dict[str, Any]]] = {}
    for name in values:
        ends = _ends(drawn.means(name, _FIRST))
        result[name] = {}
        for column, metric in enumerate(metrics):
            by_seed = np.asarray(values[name][metric], dtype=np.float64).mean(axis=1)
            result[name][metric] = {
                "mean": float(by_seed.mean()),
                "ci95": ends[column].tolist(),
                "seed_means": by_seed.tolist(),
                "seed_sd": _deviation(by_seed),
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

    Two systems trained with the same seeds are paired by seed, in resampling and in ``seed_sd``; otherwise their seeds
    are drawn independently. Users are always paired.

    Args:
        values: system -> metric -> (S, U).
        seeds: system -> the S seeds, unique, in the order of the values.
        metrics: to compare.
        reference: the system compared with all others.
        n_resamples: of the two-way bootstrap and of the sign-flip test.
        seed: of both.

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
    ordered = {name: _by_seed(name, seeds[name], values[name], metrics) for name in values}
    drawn = _Drawn(ordered, metrics, n_resamples, seed)
    differences, p_values = _over_users(ordered, metrics, reference, n_resamples, seed)
    mine = drawn.means(reference, _FIRST)
    paired = {name: sorted(seeds[name]) == sorted(seeds[reference]) for name in others}
    ends = {name: _ends(mine - drawn.means(name, _FIRST if paired[name] else _SECOND)) for name in others}
    entries: list[dict[str, Any]] = []
    for column, metric in enumerate(metrics):
        for name in others:
            by_seed = [ordered[one][metric].mean(axis=1) for one in (reference, name)]
            entry = {
                "metric": metric,
                "a": reference,
                "b": name,
                "difference": float(differences[name][:, column].mean()),
                "ci95": ends[name][column].tolist(),
                "p_value": float(p_values[name][column]),
                "seeds_paired": paired[name],
                "seed_sd": _deviation(by_seed[0] - by_seed[1]) if paired[name] else None,
            }
            entries.append(entry)
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
    values: PerSeed, metrics: Sequence[str], reference: str, n_resamples: int, seed: int
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """For each other system, averaged over seeds: differences (U, J) from the reference, and their p-values (J,)."""
    averaged = {name: np.stack([values[name][metric].mean(axis=0) for metric in metrics], axis=1) for name in values}
    differences = {name: averaged[reference] - averaged[name] for name in values if name != reference}
    # All in one call: drawing the signs is slower than multiplying by them.
    p_values = sign_flip_p_values(np.concatenate(list(differences.values()), axis=1), n_resamples, seed)
    by_system = p_values.reshape(len(differences), len(metrics))
    return differences, dict(zip(differences, by_system, strict=True))


class _Drawn:
    """The resampled means of all systems, with the same draws of users.

    Args:
        values: system -> metric -> (S, U).
        metrics: J names, the columns.
        n_resamples: R.
        seed: of the draws.
    """

    def __init__(self, values: PerSeed, metrics: Sequence[str], n_resamples: int, seed: int) -> None:
        tables = {name: _table(name, values[name], metrics) for name in values}
        users = {table.shape[1] for table in tables.values()}
        if len(users) > 1:
            raise ValueError(f"systems were scored on different numbers of users: {sorted(users)}")
        self._n_resamples, self._seed, self._n_metrics = n_resamples, seed, len(metrics)
        self._n_seeds = {name: len(table) for name, table in tables.items()}
        self._columns: dict[str, np.ndarray] = {}
        if not tables or not metrics:
            return
        # (S, U, J) as U rows of S * J columns, all systems side by side: one draw of users serves all.
        rows = [table.transpose(1, 0, 2).reshape(table.shape[1], -1) for table in tables.values()]
        means = resampled_means(np.concatenate(rows, axis=1), n_resamples, seed)
        widths = np.cumsum([row.shape[1] for row in rows])[:-1]
        self._columns = dict(zip(tables, np.split(means, widths, axis=1), strict=True))

    def means(self, name: str, stream: int) -> np.ndarray:
        """Means (R, J) of a system over drawn users and seeds; equal streams and seed counts give equal draws."""
        if not self._columns:
            return np.zeros((self._n_resamples, 0))
        n_seeds = self._n_seeds[name]
        by_seed = self._columns[name].reshape(self._n_resamples, n_seeds, self._n_metrics)
        rng = np.random.default_rng([self._seed, stream])
        times = rng.multinomial(n_seeds, np.full(n_seeds, 1.0 / n_seeds), size=self._n_resamples)
        return np.einsum("rs,rsj->rj", times / n_seeds, by_seed)


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


def _ends(means: np.ndarray) -> np.ndarray:
    """Lower and upper ends (J, 2) of the percentile intervals of resampled means (R, J)."""
    tail = (1.0 - _LEVEL) / 2.0
    return np.quantile(means, [tail, 1.0 - tail], axis=0).T


def _deviation(by_seed: np.ndarray) -> float | None:
    """Standard deviation over seeds; exactly 0 if they agree, None for a single one."""
    if len(by_seed) < 2:
        return None
    return float(by_seed.std(ddof=1)) if np.ptp(by_seed) else 0.0
