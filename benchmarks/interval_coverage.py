"""How often 95% intervals hold the true mean: percentile bootstrap of the users against the score intervals of plum.

Made-up samples of users with a known mean: hits at a given rate (hit rate, or recall of one target), their NDCG with
places drawn evenly from the first ten, and paired differences of both between two systems that agree on most users.

    python benchmarks/interval_coverage.py [--samples 2000]
"""

from __future__ import annotations

import argparse
from collections.abc import Callable

import numpy as np

from plum.evaluation.intervals import difference_intervals, mean_intervals

USERS = (27, 100, 1000)
RATES = (0.02, 0.1, 0.5)
PLACES = 1.0 / np.log2(1.0 + np.arange(1, 11))
AGREE = 0.6
"""Share of the users for whom both systems hit or miss alike; for the others, the second hits 1.5 times as often."""
RESAMPLES = 1000


def percentile(values: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Percentile bootstrap intervals (J, 2) of values (U, J), users drawn with replacement."""
    n = len(values)
    times = rng.multinomial(n, np.full(n, 1.0 / n), size=RESAMPLES)
    return np.quantile(times @ values / n, [0.025, 0.975], axis=0).T


def samples(n: int, rate: float, size: int, rng: np.random.Generator) -> dict[str, tuple[np.ndarray, float]]:
    """Kind of metric -> values (n, size) of as many samples, and their true mean."""
    one = rng.random((n, size)) < rate
    two = np.where(rng.random((n, size)) < AGREE, one, rng.random((n, size)) < 1.5 * rate)
    first, second = (hits * rng.choice(PLACES, hits.shape) for hits in (one, two))
    truth = rate * (1 - AGREE) * (1 - 1.5)
    return {
        "hit": (one.astype(np.float64), rate),
        "NDCG": (first, rate * PLACES.mean()),
        "difference of hits": (one * 1.0 - two, truth),
        "difference of NDCG": (first - second, truth * PLACES.mean()),
    }


def main() -> None:
    """Print one row per kind of metric, number of users and rate."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--samples", type=int, default=2000, help="made-up samples behind each figure")
    size = parser.parse_args().samples
    rng = np.random.default_rng(0)
    print("| metric | users | hit rate | bootstrap covers | plum covers | bootstrap width | plum width |")
    print("|---|---:|---:|---:|---:|---:|---:|")
    rows: dict[str, list[str]] = {}
    for n in USERS:
        for rate in RATES:
            for kind, (values, truth) in samples(n, rate, size, rng).items():
                ours: Callable[[np.ndarray], np.ndarray] = (
                    difference_intervals if kind.startswith("difference") else mean_intervals
                )
                found = [percentile(values, rng), ours(values)]
                covered = [np.mean((ends[:, 0] <= truth) & (truth <= ends[:, 1])) for ends in found]
                widths = [np.mean(np.ptp(ends, axis=1)) for ends in found]
                cells = [kind, f"{n:,}", f"{rate:g}", *(f"{x:.1%}" for x in covered), *(f"{x:.3f}" for x in widths)]
                rows.setdefault(kind, []).append(f"| {' | '.join(cells)} |")
    for lines in rows.values():
        print("\n".join(lines))


if __name__ == "__main__":
    main()
