"""A training step of the language model by the engine, beside a bare PyTorch loop over the same model and batches.

    python benchmarks/training.py [--json] [--hidden 256] [--layers 4] [--vocabulary 4000] [--batch 8] [--length 256]
                                  [--steps 6] [--rounds 5] [--micro N] [--precision bfloat16]

Both loops train copies of one Llama-type model with random weights on the same made-up blocks, in turn; the median over
the rounds of a step's time counts. "throughput_ratio": tokens per second of the engine over those of the bare loop:
forward pass, cross-entropy of all logits, backward pass, clipping, fused AdamW. "peak_mib": most memory of the process
while the engine trains, before the bare loop has begun.
"""

from __future__ import annotations

import argparse
import copy
import json
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import torch
import torch.nn.functional as F
from rich.console import Console
from rich.table import Table
from transformers import LlamaConfig, LlamaForCausalLM

from plum.lm.examples import Batch
from plum.lm.train import train
from plum.runtime import autocast, peak_memory_mib, pick_device, reset_peak_memory, seed_everything
from plum.training.recipe import Recipe

WARM = 2
"""Steps at the start of a round that don't count."""


def new_model(options: argparse.Namespace) -> LlamaForCausalLM:
    """A small model with random weights."""
    seed_everything(0)
    shape = LlamaConfig(
        vocab_size=options.vocabulary,
        hidden_size=options.hidden,
        intermediate_size=3 * options.hidden,
        num_hidden_layers=options.layers,
        num_attention_heads=max(1, options.hidden // 64),
        tie_word_embeddings=True,
    )
    return LlamaForCausalLM(shape).to(pick_device("auto"))


def blocks(options: argparse.Namespace) -> list[torch.Tensor]:
    """Token ids (B, T) of the steps of a round."""
    generator = torch.Generator().manual_seed(1)
    size = (options.batch, options.length)
    return [torch.randint(0, options.vocabulary, size, generator=generator) for _ in range(WARM + options.steps)]


def by_engine(model: LlamaForCausalLM, options: argparse.Namespace) -> float:
    """Seconds of a step of the engine."""
    asked: list[float] = []

    def batches(_: int) -> Iterator[Batch]:
        for tokens in blocks(options):
            asked.append(time.perf_counter())
            yield Batch(tokens, tokens)
        asked.append(time.perf_counter())

    recipe = Recipe(1, WARM + options.steps, 1e-4, micro_batch=options.micro, checkpoint_steps=10**9)
    with tempfile.TemporaryDirectory() as folder:
        train(model, recipe, batches, checkpoint=Path(folder) / "c", name="engine", precision=options.precision)
    return (asked[-1] - asked[WARM]) / options.steps


def bare(model: LlamaForCausalLM, options: argparse.Namespace) -> float:
    """Seconds of a step of a bare loop."""
    device = model.device
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True)
    model.train()
    begun = 0.0
    for number, tokens in enumerate(blocks(options)):
        if number == WARM:
            begun = time.perf_counter()
        there = tokens.to(device)
        with autocast(device, options.precision):
            logits = model(input_ids=there, use_cache=False).logits
        loss = F.cross_entropy(logits[:, :-1].flatten(0, 1).float(), there[:, 1:].flatten())
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        loss.item()  # as a loop does that watches for a loss that is no number
    return (time.perf_counter() - begun) / options.steps


def measure(options: argparse.Namespace) -> dict[str, float]:
    """Both loops in turn."""
    model = new_model(options)
    reset_peak_memory()
    by_engine(model, options)
    peak = peak_memory_mib()
    other = copy.deepcopy(model)
    pairs = [(by_engine(model, options), bare(other, options)) for _ in range(options.rounds)]
    ratio = statistics.median(theirs / ours for ours, theirs in pairs)
    step = statistics.median(ours for ours, _ in pairs)
    return {
        "throughput_ratio": round(ratio, 3),
        "tokens_per_second": round(options.batch * options.length / step, 1),
        "peak_mib": round(peak, 1),
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="one JSON object")
    parser.add_argument("--hidden", type=int, default=256)
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--vocabulary", type=int, default=4000)
    parser.add_argument("--batch", type=int, default=8, help="rows of a step")
    parser.add_argument("--length", type=int, default=256, help="tokens of a row")
    parser.add_argument("--steps", type=int, default=6, help="that count in a round")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--micro", type=int, help="rows of a step in memory at a time, for the engine")
    parser.add_argument("--precision", choices=("auto", "float32", "bfloat16"), default="auto")
    found = measure(parser.parse_args())
    if parser.parse_args().json:
        print(json.dumps(found, indent=2))
        return
    table = Table("", "")
    for name, value in found.items():
        table.add_row(name, f"{value:,}")
    Console().print(table)


if __name__ == "__main__":
    main()
