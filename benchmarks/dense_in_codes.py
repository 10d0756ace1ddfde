"""How much of what a run's dense baseline knows its Semantic IDs can carry, and those of other runs of the same items.

    plum run --config pipelines/amazon-beauty.yaml
    plum tokenize --config pipelines/amazon-beauty-alone.yaml       # after `plum data prepare` with the same
    python benchmarks/dense_in_codes.py runs/amazon-beauty runs/amazon-beauty-alone [--json]

Every code gets a vector such that the sum of an item's comes nearest to the dense baseline's vector of the item (least
squares, hardly any ridge). Printed are the share of these vectors' variance that the sums have, and the Recall@10 on
all validation users, seen items filtered, if the sums take the vectors' place in the dense baseline. A language model
that scores an item by adding up logits of its codes begins there; what it finds beyond, it must learn of each item.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table
from scipy import sparse
from sklearn.linear_model import Ridge

from plum.config.file import load_config
from plum.evaluation.metrics import per_user_metrics
from plum.retrievers.dense import Dense
from plum.run import artifacts
from plum.stages import inputs, trained
from plum.vectors.nearest import largest_products

K = 10
RIDGE = 1e-4


def sums_of_codes(vectors: np.ndarray, codes: np.ndarray, sizes: tuple[int, ...]) -> np.ndarray:
    """The sums (N, D) of one vector per code that come nearest to vectors (N, D)."""
    columns = codes + np.r_[0, np.cumsum(sizes)[:-1]]
    rows = np.repeat(np.arange(len(codes)), codes.shape[1])
    one_hot = sparse.csr_matrix((np.ones(codes.size), (rows, columns.ravel())), shape=(len(codes), sum(sizes)))
    fitted = Ridge(alpha=RIDGE, solver="lsqr", tol=1e-6, max_iter=2000).fit(one_hot, vectors)
    return np.asarray(fitted.predict(one_hot), dtype=np.float32)


def recall(items: np.ndarray, queries: np.ndarray, seen: list[np.ndarray], targets: list[np.ndarray]) -> float:
    """Recall@10 of users' vectors (U, D) over items' (N, D)."""
    found = largest_products(items, queries, K, seen)
    return float(per_user_metrics(found.items, targets, [K])[f"recall@{K}"].mean())


def main() -> None:
    """Print a table, or JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path, help="a run with dense/")
    parser.add_argument("others", type=Path, nargs="*", help="further runs with tokenize/, of the same catalogue")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    config = load_config(options.run / "config.yaml", [], workdir=options.run)
    catalogue = inputs.read_prepared(options.run)
    known = inputs.read_known(options.run, catalogue.items["item_id"])
    data = catalogue.only(known)
    dense = Dense(trained.dense_model(config, artifacts.DENSE, len(data.items)))
    _, histories, targets = data.histories.questions("valid")
    queries, vectors = dense.vectors(histories), dense.item_vectors()
    found = {"dense": {"explained": 1.0, "recall@10": recall(vectors, queries, histories, targets)}}
    spread = ((vectors - vectors.mean(0)) ** 2).sum()
    for run in (options.run, *options.others):
        table = inputs.read_sid_table(run, catalogue.items).only(known)
        sums = sums_of_codes(vectors, table.codes, table.sizes)
        found[f"{run}: {' + '.join(f'{size:,}' for size in table.sizes)} codes"] = {
            "explained": float(1 - ((vectors - sums) ** 2).sum() / spread),
            "recall@10": recall(sums, queries, histories, targets),
        }
    if options.json:
        print(json.dumps(found))
        return
    shown = Table("items' vectors", "variance explained", "validation Recall@10")
    for name, figures in found.items():
        shown.add_row(name, f"{figures['explained']:.3f}", f"{figures['recall@10']:.4f}")
    Console().print(shown)


if __name__ == "__main__":
    main()
