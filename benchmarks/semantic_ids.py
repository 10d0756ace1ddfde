"""Time and memory of Semantic IDs: codes for a million items from a trained tokenizer, and the training of one.

    python benchmarks/semantic_ids.py [--json] [--items 1000000] [--train-items 100000] [--epochs 20] [--threads 2]

Items are vectors of 384 float32 dimensions around 1,000 random centres. The tokenizer has the default settings: latents
of 32 dimensions, hidden layers of 128, batches of 256 items and as many in pairs, default codebook sizes. The one that
assigns codes has random weights, which cost what trained ones cost. Training is all of it: k-means, each epoch with its
reset of dead codes, and 300,000 random co-occurring pairs; the stage's reading and writing of files is left out.
Each part runs in a process of its own. ``assign_peak_mib`` is what assigning adds to the process's largest memory, with
the input in memory before; the codes that come out are part of it.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import plum  # noqa: F401  (first: it tells OpenMP how to wait)

# isort: split
import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from plum.runtime import seed_everything
from plum.sid.codebooks import CodebookRules
from plum.sid.cooccurrence import Pairs
from plum.sid.fit import LossWeights, batches_per_epoch, train_rqvae
from plum.sid.frozen import Frozen, Modality, Rules, Shape
from plum.sid.rqvae import RQVAE, Content
from plum.sid.standardise import fit_standardisation
from plum.sid.table import default_sizes
from plum.training.loop import Recipe

WIDTH, CENTRES, PAIRS, BATCH = 384, 1_000, 300_000, 256
SHAPE = Shape(latent_dim=32, hidden_dim=128, ema=False)
PARTS = ("assign", "train")


def clustered(n_items: int) -> np.ndarray:
    """Vectors (N, 384) float32 around random centres, made in small blocks: the peak of memory is the vectors' own."""
    rng = np.random.default_rng(0)
    centres = rng.standard_normal((CENTRES, WIDTH), dtype=np.float32)
    vectors = np.empty((n_items, WIDTH), dtype=np.float32)
    for start in range(0, n_items, 1024):
        block = vectors[start : start + 1024]
        rng.standard_normal(dtype=np.float32, out=block)
        block *= 0.5
        block += centres[rng.integers(0, CENTRES, len(block))]
    return vectors


def peak_mib() -> float:
    """The largest memory of this process so far."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 2**20 if sys.platform == "darwin" else peak / 1024


def assign(n_items: int) -> dict[str, float]:
    """Codes of all items, streamed."""
    vectors = clustered(n_items)
    sizes = default_sizes(n_items)
    torch.manual_seed(0)
    model = RQVAE([WIDTH], sizes, SHAPE.latent_dim, SHAPE.hidden_dim).eval()
    books = [book.detach().numpy() for book in model.codebooks]
    modality = Modality("content", fit_standardisation(vectors[:1024], "content"), True)
    frozen = Frozen("rqvae", (modality,), books, Rules(0, "share", 1, tuple(sizes)), SHAPE, model)
    frozen.assign([vectors[:64]])  # what libraries load once is not counted
    before, start = peak_mib(), time.perf_counter()
    frozen.assign([vectors])
    seconds = time.perf_counter() - start
    return {"assign_items_per_s": n_items / seconds, "assign_peak_mib": peak_mib() - before, "assign_s": seconds}


def train(n_items: int, epochs: int) -> dict[str, float]:
    """A whole training."""
    vectors = clustered(n_items)
    vectors = fit_standardisation(vectors, "content").apply(vectors)
    pairs = Pairs(np.random.default_rng(0).integers(0, n_items, (PAIRS, 2)))
    start = time.perf_counter()
    seed_everything(0)
    model = RQVAE([WIDTH], default_sizes(n_items), SHAPE.latent_dim, SHAPE.hidden_dim)
    recipe = Recipe(epochs, batches_per_epoch(n_items, BATCH), 1e-3)
    content = Content([torch.from_numpy(vectors)])
    with tempfile.TemporaryDirectory() as folder:
        where = Path(folder) / "checkpoint"
        train_rqvae(model, content, pairs, recipe, LossWeights(), CodebookRules(), BATCH, 0, where)
    return {"train_s": time.perf_counter() - start}


def main() -> None:
    """Parse the options, run each part in its own process, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="one JSON object")
    parser.add_argument("--items", type=int, default=1_000_000, help="that get codes")
    parser.add_argument("--train-items", type=int, default=100_000)
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--part", choices=PARTS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.part:
        torch.set_num_threads(options.threads)
        found = assign(options.items) if options.part == "assign" else train(options.train_items, options.epochs)
        print(json.dumps(found))
        return
    found = {}
    for part in PARTS:
        command = [sys.executable, __file__, *sys.argv[1:], "--part", part]
        found |= json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
    if options.json:
        print(json.dumps({key: found[key] for key in ("assign_items_per_s", "assign_peak_mib", "train_s")}, indent=2))
        return
    table = Table(
        "", "seconds", "items/s", "MiB above the input", title=f"{WIDTH} dimensions, {options.threads} threads"
    )
    rate, peak = found["assign_items_per_s"], found["assign_peak_mib"]
    table.add_row(f"codes for {options.items:,} items", f"{found['assign_s']:.1f}", f"{rate:,.0f}", f"{peak:,.0f}")
    whole = f"training, {options.train_items:,} items, {options.epochs} epochs"
    passed = options.train_items * options.epochs / found["train_s"]
    table.add_row(whole, f"{found['train_s']:.1f}", f"{passed:,.0f}", "")
    Console().print(table)


if __name__ == "__main__":
    main()
