"""Residual k-means of a run's content vectors: this project's (scikit-learn, k-means++) beside faiss's (random starts).

    plum tokenize --config pipelines/amazon-beauty-alone.yaml
    python benchmarks/residual_kmeans.py runs/amazon-beauty-alone [--json] [--sizes 512 128] [--seeds 3]

Error is the mean squared distance of a vector to the sum of its codewords, per dimension, after all levels; vectors are
standardised and stand side by side with equal weights, as for ``tokenize.method: rqkmeans``. faiss is run with one
start and with three, of which it keeps the best. One thread; times are processor time. Each figure is the mean over the
seeds.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path

import plum  # noqa: F401  (first: it tells OpenMP how to wait)

# isort: split
import faiss
import numpy as np
from rich.console import Console
from rich.table import Table
from threadpoolctl import threadpool_limits

from plum.run import artifacts
from plum.sid.kmeans import codes_of, codewords_of, residual_kmeans
from plum.sid.standardise import weighed
from plum.stages.tokenize.reading import read_features

FAISS = {"faiss": 1, "faiss, best of 3 starts": 3}
"""Starts. More iterations than these change nothing: it stops by itself before."""
ITERATIONS = 50


def with_faiss(vectors: np.ndarray, sizes: list[int], seed: int, starts: int) -> list[np.ndarray]:
    """Codebooks (C, D) by faiss's k-means, level by level, of all vectors (N, D)."""
    codebooks: list[np.ndarray] = []
    residual = vectors.copy()
    for level, size in enumerate(sizes):
        options = {"niter": ITERATIONS, "nredo": starts, "seed": seed + level + 1}
        options |= {"min_points_per_centroid": 1, "max_points_per_centroid": len(residual)}  # all, without complaint
        kmeans = faiss.Kmeans(residual.shape[1], size, **options)
        kmeans.train(residual)
        residual -= kmeans.centroids[codes_of(residual, [kmeans.centroids])[:, 0]]
        codebooks.append(kmeans.centroids)
    return codebooks


def measured(make: Callable[[int], list[np.ndarray]], vectors: np.ndarray, seeds: int) -> dict[str, float]:
    """Error and seconds of codebooks that ``make`` gives for each seed."""
    errors, seconds = [], []
    for seed in range(seeds):
        start = time.process_time()
        codebooks = make(seed)
        seconds.append(time.process_time() - start)
        errors.append(((vectors - codewords_of(codes_of(vectors, codebooks), codebooks)) ** 2).mean())
    return {"error": float(np.mean(errors)), "seconds": float(np.mean(seconds))}


def main() -> None:
    """Parse the options, cluster each way, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="a run with features")
    parser.add_argument("--json", action="store_true", help="one JSON object")
    parser.add_argument("--sizes", type=int, nargs="+", default=[512, 128], metavar="C")
    parser.add_argument("--seeds", type=int, default=3)
    options = parser.parse_args()
    item_ids = artifacts.read_table(options.run / artifacts.ITEMS, ["item_id"])["item_id"]
    features = read_features(options.run, item_ids)
    vectors = weighed(features.vectors, features.weights)
    ways: dict[str, Callable[[int], list[np.ndarray]]] = {
        "scikit-learn, k-means++": lambda seed: residual_kmeans(vectors, options.sizes, seed)[0]
    }
    for name, starts in FAISS.items():
        ways[name] = lambda seed, starts=starts: with_faiss(vectors, options.sizes, seed, starts)
    faiss.omp_set_num_threads(1)
    with threadpool_limits(1):
        found = {name: measured(make, vectors, options.seeds) for name, make in ways.items()}
    if options.json:
        print(json.dumps(found, indent=2))
        return
    ours = next(iter(found.values()))["error"]
    table = Table("", "error", "beside ours", "seconds", title=f"{vectors.shape} vectors, {options.sizes} codes")
    for name, figures in found.items():
        error = figures["error"]
        table.add_row(name, f"{error:.4f}", f"{error / ours - 1:+.1%}", f"{figures['seconds']:.1f}")
    Console().print(table)


if __name__ == "__main__":
    main()
