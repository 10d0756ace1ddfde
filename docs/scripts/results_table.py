"""Print the results of finished runs as the Markdown tables of docs/results.md.

    python docs/scripts/results_table.py runs/amazon-beauty [runs/amazon-sports ...]

Each run gives one table, best retriever first: Recall@10 with its interval, NDCG@10, Recall@10 under the other rule on
seen items, and what plum has more than each of the others, with the interval of the difference and its p-value.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

HEADLINE, SECOND, REFERENCE = "recall@10", "ndcg@10", "plum"


def table(run: Path) -> str:
    """The table of one run with a line above that says what was run, when, and by which version.

    Args:
        run: a run folder with ``eval/metrics.json`` and ``eval/manifest.json``.

    Raises:
        FileNotFoundError: if ``plum eval`` has not finished in this folder.
    """
    metrics, manifest = (
        json.loads((run / "eval" / name).read_text("utf-8")) for name in ("metrics.json", "manifest.json")
    )
    other = next(name for name in ("seen_kept", "seen_filtered") if name in metrics)
    retrievers = metrics["retrievers"]
    about = (
        f"{run.name}: {metrics['n_users']:,} users, {metrics['protocol']['split']}, seen items "
        f"{metrics['protocol']['seen']}, seed {manifest['seed']}; plum {manifest['versions']['plum']}, "
        f"{manifest['started'][:10]}"
    )
    lines = [
        about,
        "",
        f"| retriever | Recall@10 | NDCG@10 | Recall@10, seen items {other.removeprefix('seen_')} | "
        f"{REFERENCE} minus it, Recall@10 |",
        "|---|---|---|---|---|",
    ]
    for name in sorted(retrievers, key=lambda name: -retrievers[name][HEADLINE]):
        low, high = metrics["intervals"][name][HEADLINE]
        cells = [
            name,
            f"{retrievers[name][HEADLINE]:.4f} [{low:.3f}, {high:.3f}]",
            f"{retrievers[name][SECOND]:.4f}",
            f"{metrics[other][name][HEADLINE]:.4f}" if name in metrics[other] else "",
            _difference(metrics, name),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _difference(metrics: Mapping[str, Any], name: str) -> str:
    """What plum has more than a retriever; empty for plum itself and for what it is not compared with."""
    for entry in metrics["comparisons"]:
        if entry["metric"] == HEADLINE and {entry["a"], entry["b"]} == {REFERENCE, name}:
            sign = 1 if entry["a"] == REFERENCE else -1
            low, high = sorted(sign * end for end in entry["ci95"])
            p_value = entry.get("p_holm", entry["p_value"])
            return f"{sign * entry['difference']:+.4f} [{low:+.4f}, {high:+.4f}], p = {p_value:.3f}"
    return ""


def main() -> None:
    """Print the tables to standard output."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("runs", type=Path, nargs="+", help="run folders")
    for run in parser.parse_args().runs:
        sys.stdout.write(table(run) + "\n\n")


if __name__ == "__main__":
    main()
