"""What each way of removing common directions from vectors (``isotropy``) does to RQ-KMeans codes of a run's items.

    plum tokenize --config PIPELINE.yaml
    python benchmarks/isotropy.py RUN --modality NAME [--json] [--alone] [--weights 2 1] [--ways centre whiten]
        [--sizes 1024 512 256] [--seeds 3]

The modality NAME is prepared in each way, the others are centred; all weigh the same, unless --weights gives those of
NAME and of the others. With --alone it is the only modality. For each way, the mean over the seeds of:

- cosine: mean cosine of two items' vectors of NAME as they are quantised.
- error: what residual k-means leaves, mean squared, per dimension of the standardised vectors of NAME. Ways have
  different spaces: their errors can't be ranked.
- unique: share of items with codes of their own.
- used: share of the first level's codes that some item has, and their perplexity as a share.
- near: for each prefix length, the share of an item's 10 nearest items by cosine of the centred vectors of NAME that
  have its prefix.
- lift: for each prefix length, how much more often than by chance a user's last training items share a prefix with the
  first validation item (``cooccurrence_agreement``). The test set is not read.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any, get_args

import plum  # noqa: F401  (first: it tells OpenMP how to wait)

# isort: split
import numpy as np
from rich.console import Console
from rich.table import Table
from threadpoolctl import threadpool_limits

from plum.run import artifacts
from plum.sid.agreement import cooccurrence_agreement, heldout_pairs, neighbour_overlap
from plum.sid.methods import clustered
from plum.sid.quality import level_health, uniqueness
from plum.sid.standardise import Isotropy, fit_standardisation
from plum.sid.table import default_sizes
from plum.stages import inputs
from plum.vectors.spread import mean_cosine


def prepared(run: Path, names: list[str], ways: list[Isotropy]) -> tuple[list[np.ndarray], np.ndarray]:
    """Standardised vectors of modalities, each in its way, and which items have which (N, M)."""
    present = artifacts.read_table(run / artifacts.PRESENT, ["item_id", *names])[names].to_numpy(dtype=bool, copy=True)
    vectors = []
    for name, there, way in zip(names, present.T, ways, strict=True):
        found = inputs.read_vectors(run, name, len(present))
        vectors.append(fit_standardisation(found, name, there, way).apply(found, there))
    return vectors, present


def measured(
    run: Path, names: list[str], way: Isotropy, options: argparse.Namespace, pairs: np.ndarray
) -> dict[str, Any]:
    """The figures of one way; NAME is the first of ``names``."""
    rest: list[Isotropy] = ["centre"] * (len(names) - 1)
    vectors, present = prepared(run, names, [way, *rest])
    (centred,), _ = prepared(run, names[:1], ["centre"])
    sizes = options.sizes or default_sizes(len(present))
    rows = []
    for seed in range(options.seeds):
        found = clustered(vectors, present, sizes, seed, options.weights)
        first = level_health(found.codes, sizes)[0]
        near, agreed = (
            neighbour_overlap(found.codes, centred, present[:, 0]),
            cooccurrence_agreement(found.codes, pairs),
        )
        assert found.errors is not None
        assert near is not None
        assert agreed is not None
        rows.append(
            {
                "error": float(found.errors[0]),
                "unique": uniqueness(found.codes)["uniqueness"],
                "used": [first["usage"], first["perplexity"] / sizes[0]],
                "near": near["recall"],
                "lift": [np.nan if lift is None else lift for lift in agreed["lift"]],
            }
        )
    means = {key: np.mean([row[key] for row in rows], axis=0).tolist() for key in rows[0]}
    return {"cosine": mean_cosine(vectors[0], present[:, 0]), **means}


def main() -> None:
    """Parse the options, cluster each way, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="a run with features")
    parser.add_argument("--modality", default="text", metavar="NAME")
    parser.add_argument("--alone", action="store_true", help="leave the other modalities out")
    parser.add_argument("--weights", type=float, nargs="+", metavar="W", help="one per modality, NAME first")
    parser.add_argument("--ways", nargs="+", choices=get_args(Isotropy), default=get_args(Isotropy))
    parser.add_argument("--json", action="store_true", help="one JSON object")
    parser.add_argument("--sizes", type=int, nargs="+", metavar="C", help="by default those of the catalogue's size")
    parser.add_argument("--seeds", type=int, default=3)
    options = parser.parse_args()
    others = [name for name in inputs.read_modalities(options.run) if name != options.modality]
    names = [options.modality, *([] if options.alone else others)]
    pairs = heldout_pairs(inputs.read_prepared(options.run).histories)
    with threadpool_limits(1):
        found = {way: measured(options.run, names, way, options, pairs) for way in options.ways}
    if options.json:
        print(json.dumps(found, indent=2))
        return
    columns = list(next(iter(found.values())))
    table = Table("isotropy", *columns, title=f"{' + '.join(names)} of {options.run}")
    for way, figures in found.items():
        cells = [np.atleast_1d(np.array(figures[column], dtype=float)) for column in columns]
        table.add_row(way, *(" / ".join(f"{number:.3g}" for number in cell) for cell in cells))
    Console().print(table)


if __name__ == "__main__":
    main()
