"""Time and memory of Semantic IDs: codes for a million items from a trained tokenizer, and the training of one;

    python benchmarks/semantic_ids.py [--json] [--items 1000000] [--train-items 100000] [--steps 1000] [--threads 2]
    python benchmarks/semantic_ids.py --data ml-100k Beauty Sports_and_Outdoors [--json] [--set KEY=VALUE]

and, with --data, what the tokenizer with its default settings and those of --set keeps of real items: stage tokenize on
vectors of texts (TF-IDF, 64 dimensions) and topics (64) of data sets in PLUM_DATA_HOME; one that is not there is left
out, with a message. Errors are means over modalities per dimension of the standardised vectors; residual k-means
(``method: rqkmeans``) and faiss's ResidualQuantizer (greedy training, beam of its default width) have codebooks of the
same sizes and quantise all modalities side by side, with equal variance each. ``reconstruction_ratio`` is the
tokenizer's error over that of residual k-means, ``lift`` says how much more often than by chance the items of
validation pairs share their first code, their first two, ..., and ``seconds`` are those of the stage with all it reads,
writes and measures.

The other parts use vectors of 384 float32 dimensions around 1,000 random centres, default settings, batches of 256
items and as many in pairs, and default codebook sizes. The model that assigns codes has random weights, which cost what
trained ones cost. Training is all of it: k-means, steps, resets of dead codes, validation on held-out items, and
300,000 random co-occurring pairs; the stage's reading and writing of files is left out. Each part runs in a process of
its own. ``assign_peak_mib`` is what assigning adds to the process's largest memory, with the input in memory before;
the codes that come out are part of it.
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
from typing import Any

import plum  # noqa: F401  (first: it tells OpenMP how to wait)

# isort: split
import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from plum.config.file import apply_setting, validate
from plum.errors import PlumError
from plum.run import artifacts
from plum.runtime import seed_everything
from plum.sid.codebooks import CodebookRules
from plum.sid.cooccurrence import Pairs
from plum.sid.fit import LossWeights, held_out_rows, rounds_of, train_rqvae
from plum.sid.frozen import Frozen, Modality, Rules, Shape
from plum.sid.reference import errors_of
from plum.sid.rqvae import RQVAE, Content
from plum.sid.standardise import fit_standardisation, weighed
from plum.sid.table import default_sizes
from plum.stages import features, prepare, tokenize
from plum.stages.tokenize import reading
from plum.training.loop import Recipe

WIDTH, CENTRES, PAIRS, BATCH = 384, 1_000, 300_000, 256
SHAPE = Shape(latent_dim=128, hidden_dim=256, ema=False)
PARTS = ("assign", "train")
SOURCES = {
    "ml-100k": {"kind": "movielens", "release": "ml-100k"},
    "ml-latest-small": {"kind": "movielens", "release": "ml-latest-small"},
    "Beauty": {"kind": "amazon-sequences", "name": "Beauty"},
    "Sports_and_Outdoors": {"kind": "amazon-sequences", "name": "Sports_and_Outdoors"},
}


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


def train(n_items: int, steps: int) -> dict[str, float]:
    """A whole training."""
    vectors = clustered(n_items)
    vectors = fit_standardisation(vectors, "content").apply(vectors)
    pairs = Pairs(np.random.default_rng(0).integers(0, n_items, (PAIRS, 2)))
    start = time.perf_counter()
    seed_everything(0)
    model = RQVAE([WIDTH], default_sizes(n_items), SHAPE.latent_dim, SHAPE.hidden_dim)
    recipe = Recipe(*rounds_of(steps), 3e-3)
    held_out = held_out_rows(n_items, 0.05, 0)
    content = Content([torch.from_numpy(vectors)])
    with tempfile.TemporaryDirectory() as folder:
        where = Path(folder) / "checkpoint"
        train_rqvae(model, content, pairs, recipe, LossWeights(), CodebookRules(), BATCH, 0, where, held_out)
    return {"train_s": time.perf_counter() - start}


def reconstruct(name: str, settings: list[str]) -> dict[str, Any] | None:
    """What the tokenizer keeps of a data set's items, beside its references; None if the data set is not there."""
    with tempfile.TemporaryDirectory() as folder:
        pipeline: dict[str, Any] = {
            "workdir": folder,
            "data": {"source": SOURCES[name]},
            "features": {
                "modalities": {
                    "text": {"encoder": "tfidf", "dimensions": 64},
                    "topics": {"encoder": "topics", "fields": ["topics"], "dimensions": 64},
                }
            },
        }
        for setting in settings:
            apply_setting(pipeline, setting)
        config = validate(pipeline, "the benchmark")
        try:
            prepare.run(config)
        except PlumError as error:
            print(f"{name} is left out: {error}", file=sys.stderr)
            return None
        features.run(config)
        start = time.perf_counter()
        quality = artifacts.read_json(tokenize.run(config) / "quality.json")
        seconds = time.perf_counter() - start
        ids = artifacts.read_table(config.workdir / artifacts.ITEMS, ["item_id"])["item_id"]
        content = reading.read_features(config.workdir, ids)
        sizes = reading.choose_sizes(config.tokenize, len(ids), 0)[0]
    return {
        "reconstruction_ratio": quality["reconstruction_ratio"],
        "without_quantiser": mean_of(quality["unquantised_by_modality"]),
        "with_quantiser": quality["reconstruction"],
        "residual_kmeans": mean_of(quality["reference_by_modality"]),
        "faiss": faiss_error(content, sizes),
        "usage": usage_of(quality, len(sizes)),
        "uniqueness": quality["uniqueness"],
        "lift": quality["cooccurrence_agreement"]["lift"],
        "steps": quality["training"]["steps"],
        "seconds": seconds,
    }


def mean_of(errors: dict[str, float]) -> float:
    """The mean over modalities."""
    return float(np.mean(list(errors.values())))


def usage_of(quality: dict[str, Any], n_levels: int) -> list[float]:
    """The share of codes in use of each level, without the disambiguation code."""
    return [level["usage"] for level in quality["levels"][:n_levels]]


def faiss_error(content: reading.Features, sizes: list[int]) -> float:
    """Error of faiss's residual quantiser of all modalities side by side, the mean over modalities per dimension."""
    import faiss

    widths = [x.shape[1] for x in content.vectors]
    joined = np.ascontiguousarray(weighed(content.vectors, content.weights))
    bits = faiss.UInt64Vector()
    for size in sizes:
        bits.push_back(size.bit_length() - 1)
    quantiser = faiss.ResidualQuantizer(joined.shape[1], bits)
    quantiser.train(joined)
    left = joined - quantiser.decode(quantiser.compute_codes(joined))
    return float((errors_of(left**2, widths, content.gaps) * np.array(widths) / np.array(content.weights)).mean())


def shown(found: dict[str, dict[str, Any]]) -> Table:
    """The table of ``--data``."""
    errors = ("without quantiser", "with it", "residual k-means", "faiss")
    columns = (*errors, "ratio", "usage", "unique", "lift", "steps", "s")
    table = Table("", *columns, title="Mean squared error per dimension")
    for name, entry in found.items():
        figures = ("without_quantiser", "with_quantiser", "residual_kmeans", "faiss", "reconstruction_ratio")
        usage = " ".join(f"{share:.0%}" for share in entry["usage"])
        lift = " ".join(f"{lift:.1f}" for lift in entry["lift"])
        rest = [f"{entry['uniqueness']:.3f}", lift, str(entry["steps"]), f"{entry['seconds']:.0f}"]
        table.add_row(name, *[f"{entry[key]:.4f}" for key in figures], usage, *rest)
    return table


def main() -> None:
    """Parse the options, run each part in its own process, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="one JSON object")
    parser.add_argument("--items", type=int, default=1_000_000, help="that get codes")
    parser.add_argument("--train-items", type=int, default=100_000)
    parser.add_argument("--steps", type=int, default=1_000)
    parser.add_argument("--data", nargs="+", choices=SOURCES, help="data sets to reconstruct, instead of the rest")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="of the pipeline of --data")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--part", choices=PARTS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.part:
        torch.set_num_threads(options.threads)
        found = assign(options.items) if options.part == "assign" else train(options.train_items, options.steps)
        print(json.dumps(found))
        return
    if options.data:
        torch.set_num_threads(options.threads)
        measured = {name: entry for name in options.data if (entry := reconstruct(name, options.set))}
        Console().print(shown(measured)) if not options.json else print(json.dumps(measured, indent=2))
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
    whole = f"training, {options.train_items:,} items, {options.steps:,} steps"
    passed = BATCH * options.steps / found["train_s"]
    table.add_row(whole, f"{found['train_s']:.1f}", f"{passed:,.0f}", "")
    Console().print(table)


if __name__ == "__main__":
    main()
