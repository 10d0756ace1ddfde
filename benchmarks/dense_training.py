"""A training step of the dense baseline on the CPU, with and without what spares it time.

    python benchmarks/dense_training.py [--json] [--items 12101] [--batch 256] [--steps 5] [--threads 1]
                                        [--precision bfloat16]

Made-up histories whose lengths are spread as those of shopping logs are (1 item and a geometric number more, 7 in the
mean, 20 at most), full softmax. "blocks": the softmax of a few positions at a time, near the
processor. "length groups": the rows of a batch in groups of like length, which spares padding. All ways take turns,
five rounds; the median of a round counts.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from unittest import mock

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from plum.lm.examples import Window
from plum.retrievers import dense, softmax
from plum.retrievers.dense import DenseBatch, ItemTransformer, dense_batches, dense_loss
from plum.runtime import Precision, autocast

MAX_HISTORY = 20
MEAN_LENGTH = 7
ROUNDS = 5
ALL_AT_ONCE = 1 << 62
WAYS = {
    "neither": (ALL_AT_ONCE, 1),
    "blocks": (softmax.CACHED_SCORES, 1),
    "length groups": (ALL_AT_ONCE, dense.LENGTH_GROUPS),
    "both, as plum does": (softmax.CACHED_SCORES, dense.LENGTH_GROUPS),
}
"""Name -> scores of a block, groups of a batch."""


def made_up(n_items: int, batch_size: int, n_batches: int) -> list[DenseBatch]:
    """Batches of random histories."""
    rng = np.random.default_rng(0)
    lengths = 1 + np.minimum(rng.geometric(1 / MEAN_LENGTH, batch_size * n_batches), MAX_HISTORY)
    cut = [Window(rng.integers(0, n_items, length), 0) for length in lengths]
    return list(dense_batches(cut, MAX_HISTORY, batch_size, seed=0, epoch=0))


def seconds(model: ItemTransformer, batches: list[DenseBatch], precision: Precision, scores: int, groups: int) -> float:
    """Mean time of a forward and backward pass."""
    with mock.patch.object(softmax, "CACHED_SCORES", scores), mock.patch.object(dense, "LENGTH_GROUPS", groups):
        began = time.perf_counter()
        for batch in batches:
            model.zero_grad(set_to_none=True)
            with autocast(torch.device("cpu"), precision):
                loss = dense_loss(model, batch)
            loss.backward()
        return (time.perf_counter() - began) / len(batches)


def measure(options: argparse.Namespace, hidden_size: int) -> dict[str, float]:
    """Seconds of a step, each way."""
    torch.manual_seed(0)
    model = ItemTransformer(options.items, MAX_HISTORY, hidden_size, layers=2, heads=2, dropout=0.5)
    batches = made_up(options.items, options.batch, options.steps)
    rounds = [
        {name: seconds(model, batches, options.precision, *way) for name, way in WAYS.items()} for _ in range(ROUNDS)
    ]
    return {name: statistics.median(one[name] for one in rounds) for name in WAYS}


def main() -> None:
    """Parse the options, measure two widths, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="one JSON object")
    parser.add_argument("--items", type=int, default=12_101)
    parser.add_argument("--batch", type=int, default=256, help="histories of a batch")
    parser.add_argument("--steps", type=int, default=5, help="batches of a round")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--precision", choices=["bfloat16", "float32"], default="bfloat16")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    found = {width: measure(options, width) for width in (64, 128)}
    if options.json:
        print(json.dumps(found, indent=2))
        return
    title = (
        f"{options.items:,} items, {options.batch} histories a step, {options.precision}, {options.threads} thread(s)"
    )
    table = Table("hidden size", *(f"{name}, s" for name in WAYS), title=title)
    for width, times in found.items():
        own = times["neither"]
        table.add_row(str(width), *(f"{value:.3f} ({own / value:.2f} x)" for value in times.values()))
    Console().print(table)


if __name__ == "__main__":
    main()
