"""Search of a dense retriever's vectors: exact, HNSW and IVF-PQ.

    python benchmarks/dense_search.py [--json] [--sizes 10000 100000 1000000] [--k 10]

Made-up vectors of width 64 on one thread: clusters of about 100 items around random centres, of different lengths, as
item embeddings are. 1,000 queries, each near a centre, searched all together. Times are processor time; recall is the
share of the exact lists' places that are filled as well.
"""

from __future__ import annotations

import argparse
import json
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from plum.vectors.nearest import search_report

WIDTH = 64
PER_CLUSTER = 100
SPREAD = 0.7  # of a cluster, where centres lie 1 apart from 0 in each dimension
LENGTHS = 0.3  # standard deviation of the logarithm of a vector's length


def made_up(n_items: int, n_queries: int) -> tuple[np.ndarray, np.ndarray]:
    """Items (N, D) and queries (U, D), float32."""
    rng = np.random.default_rng(0)
    centres = rng.standard_normal((max(1, n_items // PER_CLUSTER), WIDTH), dtype=np.float32)

    def around(n: int) -> np.ndarray:
        noise = rng.standard_normal((n, WIDTH), dtype=np.float32)
        return centres[rng.integers(0, len(centres), n)] + np.float32(SPREAD) * noise

    lengths = np.exp(LENGTHS * rng.standard_normal((n_items, 1), dtype=np.float32))
    return around(n_items) * lengths, around(n_queries)


def main() -> None:
    """Parse the options, measure each size, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="one JSON object")
    parser.add_argument("--sizes", type=int, nargs="+", default=[10_000, 100_000, 1_000_000], metavar="N")
    parser.add_argument("--queries", type=int, default=1_000)
    parser.add_argument("--k", type=int, default=10)
    options = parser.parse_args()
    found: dict[int, list[dict[str, Any]]] = {
        n_items: search_report(*made_up(n_items, options.queries), options.k, None) for n_items in options.sizes
    }
    if options.json:
        print(json.dumps(found, indent=2))
        return
    for n_items, rows in found.items():
        columns = ("index", "parameters", "build, s", "ms per query", "MiB", f"recall@{options.k}")
        table = Table(*columns, title=f"{n_items:,} items, {options.queries:,} queries, one thread")
        for row in rows:
            table.add_row(
                row["index"],
                "\n".join(f"{name} {value}" for name, value in row["parameters"].items()),
                f"{row['build_s']:.2f}",
                f"{row['ms_per_query']:.3f}",
                f"{row['mib']:.1f}",
                f"{row[f'recall_of_exact@{options.k}']:.4f}",
            )
        Console().print(table)


if __name__ == "__main__":
    main()
