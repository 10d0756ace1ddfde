"""How much the order of interactions with equal timestamps moves Recall@10 under leave-one-out.

    python benchmarks/tie_sensitivity.py [ml-100k | ml-latest-small]

Prints popularity and ItemKNN, which need no training, for several tie rules on the same ratings. `order_interactions`
with ties="keep" leaves tied rows in the order of its input, so each rule is a sort of the input.
"""

from __future__ import annotations

import logging
import sys

import numpy as np
import pandas as pd

from plum.data import fetch, movielens, splits
from plum.data.histories import Histories
from plum.evaluation.metrics import per_user_metrics
from plum.retrievers.itemknn import ItemKNN
from plum.retrievers.popularity import Popularity
from plum.stages.prepare import data_home


def recalls(ordered: pd.DataFrame, item_ids: pd.Series) -> tuple[float, float]:
    """Recall@10 of popularity and ItemKNN, seen items filtered."""
    histories = Histories.from_split(splits.leave_one_out(ordered), item_ids)
    _, past, targets = histories.questions("test")
    users = np.repeat(np.arange(len(histories.train)), [len(rows) for rows in histories.train])
    retrievers = (
        Popularity(histories.popularity(len(item_ids))),
        ItemKNN(users, np.concatenate(histories.train), len(item_ids)),
    )
    found = [per_user_metrics(r.recommend(past, 10, past).items, targets, [10])["recall@10"] for r in retrievers]
    return float(found[0].mean()), float(found[1].mean())


def main(release: str) -> None:
    """Print the table of one release."""
    logging.disable(logging.WARNING)
    tables = movielens.load_movielens(fetch.locate(release, data_home()), release)
    log, item_ids = tables.interactions, tables.items["item_id"]
    number = log["item_id"].astype(int)
    inputs = {
        "as in the file": log,
        "ascending item id": log.iloc[np.argsort(number, kind="stable")],
        "descending item id": log.iloc[np.argsort(-number, kind="stable")],
    }
    rows = {name: splits.order_interactions(table, "keep")[0] for name, table in inputs.items()}
    rows |= {f"seeded shuffle, seed {seed}": splits.order_interactions(log, "shuffle", seed)[0] for seed in range(3)}
    print(f"{release}: Recall@10 by the order of interactions that tie in time\n")
    print("| tie rule | popularity | itemknn |\n|---|---|---|")
    for name, ordered in rows.items():
        popularity, knn = recalls(ordered, item_ids)
        print(f"| {name} | {popularity:.4f} | {knn:.4f} |")


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "ml-100k")
