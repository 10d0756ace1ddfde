"""What a temporal split asks of items that were not known before validation began, and who finds them without training.

    plum tokenize --config pipelines/ml-latest-small.yaml --set data.split.protocol=temporal --workdir runs/temporal
    python benchmarks/later_items.py runs/temporal [--json]

Recall@10 of popularity, itemknn and textknn on the test part, seen items filtered, of all targets and of those targets
that were not known; settings are chosen on validation users. With the vectors of a run of an earlier version, which
fitted its encoders on the whole catalogue, textknn shows what that changes.
"""

from __future__ import annotations

import argparse
import json
from functools import partial
from pathlib import Path

import numpy as np
from plum.retrievers.simple import ItemKNN, Popularity
from rich.console import Console
from rich.table import Table

from plum.evaluation.metrics import per_user_metrics
from plum.evaluation.rankings import NO_ITEM
from plum.retrievers.choose import choose
from plum.retrievers.content import choose_decay
from plum.retrievers.protocol import Retriever
from plum.stages import inputs
from plum.stages.eval.field import NEIGHBOURS, SHRINKAGES

K = 10


def untrained(run: Path, data: inputs.Prepared) -> list[Retriever]:
    """The retrievers that train nothing, with settings chosen as stage eval does."""
    _, histories, targets = data.histories.questions("valid")
    train = data.histories.train
    items, users = np.concatenate(train), np.repeat(np.arange(len(train)), [len(rows) for rows in train])
    options = [
        ({"neighbours": n, "shrinkage": s}, partial(ItemKNN, users, items, len(data.items), n, s))
        for n in NEIGHBOURS
        for s in SHRINKAGES
    ]
    found: list[Retriever] = [Popularity(data.popularity), choose(options, histories, targets, histories)[0]]
    vectors = inputs.content_vectors(run)
    return found if vectors is None else [*found, choose_decay(vectors, histories, targets, histories)[0]]


def measure(run: Path) -> dict[str, dict[str, float]]:
    """Retriever -> its figures."""
    data = inputs.read_prepared(run)
    _, histories, targets = data.histories.questions("test")
    known = data.popularity > 0  # so an earlier version's run can be read too
    later = [rows[~known[rows]] for rows in targets]
    asked = [user for user, rows in enumerate(later) if len(rows)]
    figures = {}
    for retriever in untrained(run, data):
        items = retriever.recommend(histories, K, histories).items
        of_later = per_user_metrics(items[asked], [later[user] for user in asked], [K])["recall@10"]
        figures[retriever.name] = {
            "users": len(targets),
            "recall@10": float(per_user_metrics(items, targets, [K])["recall@10"].mean()),
            "users_with_later_targets": len(asked),
            "later_recall@10": float(of_later.mean()) if asked else 0.0,
            "later_share_of_lists": float((~known[items[items != NO_ITEM]]).mean()),
        }
    return figures


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="a run under the temporal protocol with features")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    given = parser.parse_args()
    figures = measure(given.run)
    if given.json:
        print(json.dumps(figures))
        return
    table = Table("retriever", *next(iter(figures.values())))
    for name, values in figures.items():
        table.add_row(name, *(f"{value:,}" if isinstance(value, int) else f"{value:.4f}" for value in values.values()))
    Console().print(table)


if __name__ == "__main__":
    main()
