"""What a temporal split asks of items that were not known before validation began, and who finds them without training.

    plum tokenize --config pipelines/ml-latest-small.yaml --set data.split.protocol=temporal --workdir runs/temporal
    python benchmarks/later_items.py runs/temporal [--json]

Recall@10 of popularity, recencypop, itemknn and textknn on the test part, seen items filtered as the run says, of all
targets and of those targets that were not known; settings are chosen on validation users as stage eval does.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from rich.console import Console
from rich.table import Table

from plum.config.file import load_config
from plum.evaluation.metrics import per_user_metrics
from plum.evaluation.rankings import NO_ITEM
from plum.stages import inputs
from plum.stages.eval.untrained import all_untrained

K = 10


def measure(run: Path) -> dict[str, dict[str, float]]:
    """Retriever -> its figures."""
    config = load_config(run / "config.yaml", workdir=run)
    data = inputs.read_prepared(run)
    _, histories, targets = data.histories.questions("test")
    known = inputs.read_known(run, data.items["item_id"])
    later = [rows[~known[rows]] for rows in targets]
    asked = [user for user, rows in enumerate(later) if len(rows)]
    figures = {}
    for name, made in all_untrained(config, data).items():
        if isinstance(made, str):
            continue
        seen = histories if config.eval.filter_seen else None
        items = made.retriever.recommend(histories, K, seen).items
        of_later = per_user_metrics(items[asked], [later[user] for user in asked], [K])["recall@10"]
        figures[name] = {
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
