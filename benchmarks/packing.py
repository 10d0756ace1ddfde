"""A step of pre-training on packed documents: with the mask between them, without it, and with a row per document.

    python benchmarks/packing.py [--json] [--context 128] [--steps 12] [--threads 1] [--bfloat16]

The model and the lengths of documents are those of ``pipelines/amazon-beauty.yaml``, tokens are random. Without
the mask documents would see each other: it is there to tell what the mask costs. Processor time counts, so that other
programs matter little; the ways take turns, and the median of their steps counts.
"""

from __future__ import annotations

import argparse
import itertools
import json
import statistics
import time

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from transformers import LlamaConfig, LlamaForCausalLM

from plum.corpus.documents import Document
from plum.corpus.mixture import Mixture, apart
from plum.lm.examples import IGNORED
from plum.lm.loss import next_token_loss
from plum.runtime import autocast

WAYS = {"packed": lambda batch: batch, "no mask": lambda batch: batch._replace(positions=None), "apart": apart}
BATCH, VOCABULARY, HEAD, LEVELS = 16, 6200, 5, 2


class Drawn:
    """Documents of random tokens; see ``plum.corpus.shards.Documents``."""

    def __init__(self, lengths: np.ndarray, are_histories: bool, rng: np.random.Generator) -> None:
        self.lengths, self.are_histories = lengths.astype(np.int32), are_histories
        self.ids = [rng.integers(3, VOCABULARY, length).astype(np.int32) for length in self.lengths]

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, number: int) -> Document:
        ids = self.ids[number]
        cuts = np.arange(HEAD + LEVELS, len(ids), LEVELS) if self.are_histories else np.zeros(0, np.int64)
        return Document(ids, cuts, HEAD, number)

    def tokens(self, number: int) -> np.ndarray:
        return self.ids[number]


def measure(context: int, steps: int, half: bool) -> dict[str, float]:
    """Labelled tokens per second of each way, and how full blocks are."""
    rng = np.random.default_rng(0)
    histories = HEAD + LEVELS * np.minimum(20, 3 + rng.geometric(0.15, 4000))
    documents = {"behaviour": Drawn(histories, True, rng), "metadata": Drawn(rng.integers(10, 40, 6000), False, rng)}
    mixture = Mixture(documents, {"behaviour": 0.7, "metadata": 0.3}, context, BATCH, 1, seed=0)
    shape = {"hidden_size": 128, "num_hidden_layers": 4, "num_attention_heads": 4, "intermediate_size": 512}
    model = LlamaForCausalLM(LlamaConfig(vocab_size=VOCABULARY, **shape, tie_word_embeddings=True)).train()
    if half:
        model.set_attn_implementation("eager")  # as plum trains in bfloat16 on CPUs
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, fused=True)
    taken: dict[str, list[float]] = {name: [] for name in WAYS}
    for batch, (name, way) in itertools.product(itertools.islice(mixture.batches(0), steps + 2), WAYS.items()):
        start = time.process_time()
        with autocast(torch.device("cpu"), "bfloat16" if half else "float32"):
            loss = next_token_loss(model, way(batch))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        taken[name].append((time.process_time() - start) / int((batch.labels != IGNORED).sum()))
    speeds = {name: round(1 / statistics.median(each[2:]), 1) for name, each in taken.items()}
    return {**speeds, "packing_efficiency": round(mixture.packing_efficiency, 4), "cuts_per_block": mixture.cut_share}


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--context", type=int, default=128)
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--bfloat16", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    found = measure(options.context, options.steps, options.bfloat16)
    if options.json:
        print(json.dumps(found))
        return
    table = Table("way", "labelled tokens per second of processor time", title=f"context {options.context}")
    for name in WAYS:
        table.add_row(name, f"{found[name]:,.0f}")
    Console().print(table)
    print(f"blocks {found['packing_efficiency']:.1%} full, {found['cuts_per_block']:.2f} documents cut per block")


if __name__ == "__main__":
    main()
