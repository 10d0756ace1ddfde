"""Data and dense baseline of a pipeline alone: what a recipe finds, without training the language model.

    python benchmarks/dense_recipe.py PIPELINE [--json] [--set eval.dense.block=ligr ...] [--kind dense] [--threads 1]

Runs the stages data and dense (or lem) as `plum run` does, in the pipeline's folder: give it one of its own with
`--set workdir=...`. Prints validation Recall@10 of every trial, and Recall@10 and NDCG@10 on the test part, seen items
as the pipeline treats them: for all users, for those whose test item occurs in training or validation ("item known"),
and for those whose item occurs in training, whom RecTools reports. Look at the test part when the settings are chosen.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from rich.console import Console

from plum.config.file import load_config
from plum.config.run import RunConfig
from plum.evaluation.metrics import per_user_metrics
from plum.retrievers.dense import MeanDense
from plum.retrievers.protocol import Retriever
from plum.run import artifacts
from plum.runtime import setup_logging
from plum.stages import dense, inputs, prepare, trained


def retrievers_of(config: RunConfig, kind: str, items: pd.DataFrame) -> dict[str, Retriever]:
    """The trained baseline, and the mean of dense's trials if they are kept."""
    found: dict[str, Retriever] = {kind: trained.dense_retriever(config, kind, items)}
    if kind == artifacts.DENSE and config.eval.dense.n_kept:
        found[MeanDense.name] = trained.mean_of_trials(config, items)
    return found


def tested(retriever: Retriever, data: inputs.Prepared, filter_seen: bool) -> dict[str, float]:
    """Test figures for all users, and for those whose items are all known from training and validation, or training."""
    _, histories, targets = data.histories.questions("test")
    found = per_user_metrics(
        retriever.recommend(histories, 10, histories if filter_seen else None).items, targets, [10]
    )
    train = np.concatenate(data.histories.train)
    parts = {"item known": np.concatenate([train, *data.histories.valid]), "item in training": train}
    groups = {"all": np.ones(len(targets), dtype=bool)}
    groups |= {name: np.array([np.isin(rows, part).all() for rows in targets]) for name, part in parts.items()}
    figures: dict[str, float] = {}
    for name, users in groups.items():
        figures[f"users, {name}"] = int(users.sum())
        for metric in ("recall@10", "ndcg@10"):
            figures[f"{metric}, {name}"] = float(found[metric][users].mean())
    return figures


def main() -> None:
    """Parse the options, train, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pipeline", type=Path, metavar="PIPELINE")
    parser.add_argument("--json", action="store_true", help="one JSON object")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="as for plum run; repeatable")
    parser.add_argument("--kind", choices=[artifacts.DENSE, artifacts.LEM], default=artifacts.DENSE)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    setup_logging()
    config = load_config(options.pipeline, options.set)
    prepare.run(config)
    if options.kind == artifacts.DENSE:
        dense.run(config)
    else:
        dense.run_lem(config)
    data = inputs.read_prepared(config.workdir)
    trials = artifacts.read_json(config.workdir / options.kind / artifacts.TRIALS)
    found = {
        "trials": [{name: trial[name] for name in ("settings", "valid_recall@10", "best_step")} for trial in trials],
        "test": {
            name: tested(retriever, data, config.eval.filter_seen)
            for name, retriever in retrievers_of(config, options.kind, data.items).items()
        },
    }
    if options.json:
        print(json.dumps(found, indent=2))
        return
    Console().print(found)


if __name__ == "__main__":
    main()
