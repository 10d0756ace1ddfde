"""What the trials of a run's dense baseline find together, by their mean score of an item: the teacher `trials`.

    python benchmarks/mean_of_trials.py runs/amazon-beauty [--json]

Of a run with `eval.dense.keep_trials`. Recall@10 of each trial and of their mean, over all users, seen items filtered;
the test figures choose nothing. A language model taught by the trials should be read beside their mean, too.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from rich.console import Console
from rich.table import Table

from plum.config.file import load_config
from plum.retrievers.dense import MeanDense
from plum.run import artifacts
from plum.stages import inputs, trained

PARTS = ("valid", "test")


def main() -> None:
    """Print a table, or JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path, help="a run with dense/trials/")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    config = load_config(options.run / "config.yaml", [], workdir=options.run)
    data = inputs.read_prepared(options.run)
    models = trained.dense_trials(config, len(data.items))
    trials = artifacts.read_json(options.run / artifacts.DENSE_TRIALS)
    asked = {part: data.histories.questions(part)[1:] for part in PARTS}
    systems = {json.dumps(trial["settings"]): [model] for trial, model in zip(trials, models, strict=True)}
    systems["their mean"] = models
    found = {
        name: {
            part: inputs.validation_metrics(MeanDense(some), *asked[part], filter_seen=True)["recall@10"]
            for part in PARTS
        }
        for name, some in systems.items()
    }
    if options.json:
        print(json.dumps(found))
        return
    shown = Table("trial", "validation Recall@10", "test Recall@10")
    for name, figures in found.items():
        shown.add_row(name, *(f"{figures[part]:.4f}" for part in PARTS))
    Console().print(shown)


if __name__ == "__main__":
    main()
