"""What a beam search misses of the exact top 10, on a finished run: by beam width, with time per user.

    python benchmarks/beam_against_exact.py runs/ml-100k [--users 200] [--json]

Test users of the run, spread evenly; seen items filtered, as in the headline. Exact lists come from best-first search.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from plum.config.file import load_config
from plum.stages import inputs
from plum.stages.trained import plum_retriever

WIDTHS = (1, 5, 10, 20, 50, 100, 200)
K = 10


def measure(workdir: Path, n_users: int) -> dict[str, Any]:
    """Share of the exact top K that each width finds, whole lists found, recall of the target, and times."""
    config = load_config(workdir / "config.yaml", workdir=workdir)
    data = inputs.read_prepared(workdir)
    _, histories, targets = data.histories.questions("test")
    places = np.linspace(0, len(histories) - 1, min(n_users, len(histories))).round().astype(int)
    histories, targets = [histories[place] for place in places], [targets[place] for place in places]

    def recall(items: np.ndarray) -> float:
        return float(np.mean([np.isin(wanted, found).mean() for found, wanted in zip(items, targets, strict=True)]))

    retriever = plum_retriever(config, data)
    retriever.exact(histories[:3], K, histories[:3])  # what is set up at the first call is not counted
    start = time.perf_counter()
    exact = retriever.exact(histories, K, histories).items
    rows: dict[str, Any] = {"exact": {"ms_per_user": _ms(start, len(places)), "recall@10": recall(exact)}}
    for width in WIDTHS:
        settings = config.model_copy(update={"eval": config.eval.model_copy(update={"beams": width})})
        retriever = plum_retriever(settings, data)
        start = time.perf_counter()
        # k beams at least are kept, so ask for no more than the width
        found = retriever.recommend(histories, min(K, width), histories).items
        found = np.pad(found, ((0, 0), (0, K - found.shape[1])), constant_values=-1)
        hits = [np.isin(right, ours).mean() for right, ours in zip(exact, found, strict=True)]
        rows[str(width)] = {
            "share_of_exact_top_10": float(np.mean(hits)),
            "share_of_users_with_the_exact_list": float((found == exact).all(1).mean()),
            "recall@10": recall(found),
            "ms_per_user": _ms(start, len(places)),
        }
    return {"users": len(places), "items": len(data.items), "rows": rows}


def _ms(start: float, n_users: int) -> float:
    return 1e3 * (time.perf_counter() - start) / n_users


def main() -> None:
    """Parse the options, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("workdir", type=Path, help="folder of a finished run")
    parser.add_argument("--users", type=int, default=200)
    parser.add_argument("--json", action="store_true", help="one JSON object")
    options = parser.parse_args()
    found = measure(options.workdir, options.users)
    if options.json:
        print(json.dumps(found, indent=2))
        return
    title = f"{options.workdir}: {found['users']} users, {found['items']:,} items"
    table = Table("beams", "of the exact top 10", "users with the exact list", "Recall@10", "ms per user", title=title)
    for width, row in found["rows"].items():
        shares = [row.get(key) for key in ("share_of_exact_top_10", "share_of_users_with_the_exact_list")]
        cells = ("" if share is None else f"{share:.1%}" for share in shares)
        table.add_row(width, *cells, f"{row['recall@10']:.4f}", f"{row['ms_per_user']:.1f}")
    Console().print(table)


if __name__ == "__main__":
    main()
