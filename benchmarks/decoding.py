"""Speed of constrained decoding: beside `generate`, without a constraint, by size of the catalogue, on this machine.

    python benchmarks/decoding.py [--json] [--device cuda] [--users 32] [--beams 50] [--quick]

Everything is measured in one run, what is compared in turn, and medians are given. The model is a Llama of about one
million parameters with random weights, which costs what a trained one costs; users have 5 to 20 items of history.
What is measured, and the figures of one machine: docs/decoding.md.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import plum  # noqa: F401  (first: it tells OpenMP how to wait)

# isort: split
import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from transformers import LlamaConfig, LlamaForCausalLM

from plum.decoding.beam import Scoring, beam_search
from plum.decoding.constraint import AllCodes, DeviceTrie
from plum.decoding.tree import Tree
from plum.decoding.trie import Trie
from plum.runtime import peak_memory_mib
from plum.sid.codec import Codec

TEXT_TOKENS = 2_000
SIZES = (256, 256, 256, 8)
Following = dict[tuple[int, ...], list[int]]


@dataclass(frozen=True)
class Bench:
    """A random catalogue, a random model over it, and users."""

    model: LlamaForCausalLM
    index: DeviceTrie
    item_tokens: np.ndarray
    prompts: list[np.ndarray]
    rng: np.random.Generator

    @property
    def free(self) -> AllCodes:
        """The same codes without a catalogue."""
        return AllCodes(self.index.sizes, self.index.token_ids)


def random_codes(rng: np.random.Generator, n_items: int, sizes: Sequence[int]) -> np.ndarray:
    """Random Semantic IDs (N, L)."""
    return np.stack([rng.integers(0, size, n_items, dtype=np.int32) for size in sizes], axis=1)


def make(n_items: int, n_users: int, device: str, hidden: int = 128) -> Bench:
    """Catalogue, model and users; the same for the same arguments."""
    sizes = SIZES
    rng = np.random.default_rng(0)
    torch.manual_seed(0)
    codes = random_codes(rng, n_items, sizes)
    config = LlamaConfig(
        vocab_size=TEXT_TOKENS + sum(sizes),
        hidden_size=hidden,
        intermediate_size=2 * hidden,
        num_hidden_layers=4,
        num_attention_heads=4,
        max_position_embeddings=256,
        tie_word_embeddings=True,
        initializer_range=0.1,
    )
    model = LlamaForCausalLM(config).eval().to(device)
    codec = Codec(tuple(np.split(np.arange(TEXT_TOKENS, config.vocab_size), np.cumsum(sizes)[:-1])))
    index = DeviceTrie.put(Trie.build(codes, sizes), codec, model.device)
    tokens = codec.encode(codes)
    histories = [rng.integers(0, n_items, rng.integers(5, 21)) for _ in range(n_users)]
    return Bench(model, index, tokens, [tokens[history].reshape(-1) for history in histories], rng)


def seconds(run: Callable[[], Any], device: str) -> float:
    """Time of one call, all work on the device included."""
    _wait(device)
    start = time.perf_counter()
    run()
    _wait(device)
    return time.perf_counter() - start


def in_turn(runs: Sequence[Callable[[], Any]], repeats: int, device: str) -> list[list[float]]:
    """Times of several calls, taken in turn (A B A B ...) after one uncounted round."""
    for run in runs:
        run()
    rounds = [[seconds(run, device) for run in runs] for _ in range(repeats)]
    return [list(times) for times in zip(*rounds, strict=True)]


def _wait(device: str) -> None:
    if device.startswith("cuda"):
        torch.cuda.synchronize()


def generate(bench: Bench, n_beams: int, following: Following) -> torch.Tensor:
    """Token ids (B, K, L) by transformers' beam search, its constraint a look-up of the prefix in a dict."""
    prompts, levels = bench.prompts, len(bench.index.sizes)
    width = max(map(len, prompts))
    tokens = torch.zeros(len(prompts), width, dtype=torch.long)
    mask = torch.zeros_like(tokens)
    for row, prompt in enumerate(prompts):
        tokens[row, width - len(prompt) :] = torch.from_numpy(prompt)
        mask[row, width - len(prompt) :] = 1
    nothing = [0]  # generate wants at least one token, even for a beam that is dead
    found = bench.model.generate(
        tokens.to(bench.model.device),
        attention_mask=mask.to(bench.model.device),
        num_beams=n_beams,
        num_return_sequences=n_beams,
        do_sample=False,
        max_new_tokens=levels,
        length_penalty=0.0,
        prefix_allowed_tokens_fn=lambda _, sequence: following.get(tuple(sequence[width:].tolist()), nothing),
        eos_token_id=None,
        pad_token_id=0,
    )
    return found[:, width:].reshape(len(prompts), n_beams, levels)


def tokens_that_follow(item_tokens: np.ndarray) -> Following:
    """What users of `generate` write: the tokens that may follow, by prefix."""
    following: dict[tuple[int, ...], set[int]] = {}
    for tokens in item_tokens.tolist():
        for level, token in enumerate(tokens):
            following.setdefault(tuple(tokens[:level]), set()).add(token)
    return {prefix: sorted(tokens) for prefix, tokens in following.items()}


def against_generate(n_users: int, n_beams: int, repeats: int, device: str) -> dict[str, Any]:
    """Time per user, and whether both return the same items."""
    bench = make(12_000, n_users, device)
    following = tokens_that_follow(bench.item_tokens)
    scoring = Scoring("vocabulary")  # as generate scores; the default costs less
    theirs, ours, default = in_turn(
        [
            lambda: generate(bench, n_beams, following),
            lambda: beam_search(bench.model, bench.prompts, bench.index, n_beams, None, scoring),
            lambda: beam_search(bench.model, bench.prompts, bench.index, n_beams),
        ],
        repeats,
        device,
    )
    beams = beam_search(bench.model, bench.prompts, bench.index, n_beams, None, scoring)
    tokens = torch.stack([ids[beams.codes[..., level]] for level, ids in enumerate(bench.index.token_ids)], dim=2)
    same = (tokens == generate(bench, n_beams, following)).all(-1).float().mean()
    return {
        "speedup_vs_generate": statistics.median(a / b for a, b in zip(theirs, ours, strict=True)),
        "speedup_vs_generate_default_scores": statistics.median(a / b for a, b in zip(theirs, default, strict=True)),
        "generate_ms_per_user": 1e3 * statistics.median(theirs) / n_users,
        "plum_ms_per_user": 1e3 * statistics.median(ours) / n_users,
        "plum_default_scores_ms_per_user": 1e3 * statistics.median(default) / n_users,
        "share_of_equal_beams": float(same),
        "generate_peak_mib": peak_mib("generate", n_users, n_beams, device),
        "plum_peak_mib": peak_mib("plum", n_users, n_beams, device),
        "parameters": sum(weights.numel() for weights in bench.model.parameters()),
    }


def peak_mib(which: str, n_users: int, n_beams: int, device: str) -> float:
    """Memory that one decoding adds to the process's peak, in a process of its own."""
    command = [sys.executable, __file__, "--peak-of", which, "--users", str(n_users), "--beams", str(n_beams)]
    return float(subprocess.run([*command, "--device", device], check=True, capture_output=True, text=True).stdout)


def print_peak(which: str, n_users: int, n_beams: int, device: str) -> None:
    """The other side of ``peak_mib``: a short decoding first, so that what libraries load once is not counted."""
    bench = make(12_000, n_users, device)
    following = tokens_that_follow(bench.item_tokens)

    def decode(bench: Bench, n_beams: int) -> None:
        if which == "generate":
            generate(bench, n_beams, following)
        else:
            beam_search(bench.model, bench.prompts, bench.index, n_beams, None, Scoring("vocabulary"))

    decode(Bench(bench.model, bench.index, bench.item_tokens, bench.prompts[:1], bench.rng), 2)
    if device.startswith("cuda"):
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        decode(bench, n_beams)
        print((torch.cuda.max_memory_allocated() - before) / 2**20)
        return
    before = peak_memory_mib()
    decode(bench, n_beams)
    print(peak_memory_mib() - before)


def constraint_overhead(n_users: int, n_beams: int, repeats: int, device: str) -> dict[str, Any]:
    """Share of time that the catalogue, and a rule on top of it, add to the same search over all codes.

    The share can be below zero: the search over all codes has more children to rank. So the look-ups are also given by
    themselves.
    """
    found = {}
    for n_items in (12_000, 1_000_000):
        bench = make(n_items, n_users, device)
        rule = bench.index.prune(bench.rng.random(n_items) < 0.3)
        seen = [bench.rng.integers(0, n_items, 100) for _ in bench.prompts]
        mask = bench.rng.random(n_items) < 0.5

        def search(index: Any, legal: Any = None, bench: Bench = bench) -> None:
            beam_search(bench.model, bench.prompts, index, n_beams, legal)

        def ruled(bench: Bench = bench, rule: Any = rule, seen: list[np.ndarray] = seen) -> None:
            search(bench.index, bench.index.legal([rule] * len(bench.prompts), seen), bench)

        free, catalogue, with_rule = in_turn(
            [lambda b=bench: search(b.free, None, b), lambda b=bench: search(b.index, None, b), ruled], repeats, device
        )
        walk = look_up(bench.index, n_users, n_beams, None, device)
        fifty = [items[:50] for items in seen]

        def allowed(bench: Bench = bench, rule: Any = rule, fifty: list[np.ndarray] = fifty) -> Any:
            return bench.index.legal([rule] * n_users, fifty)

        ruled_walk = look_up(bench.index, n_users, n_beams, allowed, device)
        prune, lookups, ruled_lookups = in_turn(
            [lambda b=bench, m=mask: b.index.prune(m), walk, ruled_walk], repeats, device
        )
        found[str(n_items)] = {
            "catalogue": statistics.median(a / b for a, b in zip(catalogue, free, strict=True)) - 1,
            "catalogue_rule_and_100_seen": statistics.median(a / b for a, b in zip(with_rule, free, strict=True)) - 1,
            "look_ups": statistics.median(lookups) / statistics.median(catalogue),
            "look_ups_rule_and_50_seen": statistics.median(ruled_lookups) / statistics.median(catalogue),
            "unconstrained_ms": 1e3 * statistics.median(free),
            "prune_ms": 1e3 * statistics.median(prune),
        }
    return found


def look_up(index: DeviceTrie, n_users: int, n_beams: int, legal: Any, device: str) -> Callable[[], None]:
    """A call that finds the children of B x K random beams of every level; ``legal`` may be made by a call."""
    beams = [torch.randint(0, len(first), (n_users, n_beams), device=device) for first in index.child_start]
    beams[0] = beams[0][:, :1]  # a search starts with one

    def walk() -> None:
        allowed = legal() if callable(legal) else legal
        for level, nodes in enumerate(beams):
            index.children(level, nodes, allowed)

    return walk


def lookup(n_users: int, n_beams: int, repeats: int, device: str) -> dict[str, dict[str, float]]:
    """Milliseconds to find the legal children of all beams, per level, by size of the catalogue.

    Two kinds of catalogue. Ten children per prefix, out of 256 codes, and a level more for ten times the items: the
    same answer each time, so what grows is the catalogue alone; no level has a dense table. Four levels of 256 random
    codes: the number of children grows, and with it the answer, until it is all 256 codes.
    """
    results: dict[str, dict[str, float]] = {"ten_children": {}, "four_levels_of_256": {}}
    rng = np.random.default_rng(0)
    for power in range(3, 8):
        n_items = 10**power
        numbers = np.arange(n_items, dtype=np.int64)
        digits = np.stack([(numbers // 10**place % 10 * 25).astype(np.int16) for place in range(power)], axis=1)
        for kind, codes in (
            ("ten_children", digits),
            ("four_levels_of_256", random_codes(rng, n_items, (256,) * 4)),
        ):
            index = _index(codes, (256,) * codes.shape[1], device)
            legal = index.legal([index.prune(rng.random(n_items) < 0.5)] * n_users, None)
            times = in_turn([look_up(index, n_users, n_beams, legal, device)], repeats, device)[0]
            results[kind][str(n_items)] = 1e3 * statistics.median(times) / codes.shape[1]
    return results


def _index(codes: np.ndarray, sizes: Sequence[int], device: str) -> DeviceTrie:
    codec = Codec(tuple(np.split(np.arange(sum(sizes)), np.cumsum(sizes)[:-1])))
    return DeviceTrie.put(Trie.build(codes, sizes), codec, torch.device(device))


def flops_share(n_users: int, n_beams: int, repeats: int, device: str, hidden: int) -> dict[str, float]:
    """Floating-point operations per second of prefill and beam steps, as a share of a plain matrix product's."""
    bench = make(12_000, n_users, device, hidden)
    levels = len(bench.index.sizes)
    square = torch.randn(2048, 2048, device=device)
    matmul, prefill, whole = (
        statistics.median(times)
        for times in in_turn(
            [
                lambda: square @ square,
                lambda: Tree(bench.model, bench.prompts, levels, 3 * n_beams),
                lambda: beam_search(bench.model, bench.prompts, bench.index, n_beams),
            ],
            repeats,
            device,
        )
    )
    peak = 2 * 2048**3 / matmul
    lengths = np.array([len(prompt) for prompt in bench.prompts])
    once = sum(operations(bench.model.config, length, length * (length + 1) / 2) for length in lengths)
    grown = sum(
        operations(bench.model.config, n_beams, n_beams * (length + level))
        for length in lengths
        for level in range(1, levels)
    )
    return {
        "prefill": once / prefill / peak,
        "beam_steps": grown / (whole - prefill) / peak,
        "matrix_product_gflops": peak / 1e9,
        "prefill_ms": 1e3 * prefill,
        "beam_steps_ms": 1e3 * (whole - prefill),
    }


def operations(config: LlamaConfig, n_tokens: int, n_pairs: float) -> float:
    """Multiplications and additions of the layers, for n tokens that attend to n pairs of (token, earlier token)."""
    weights = 4 * config.hidden_size**2 + 3 * config.hidden_size * config.intermediate_size
    return config.num_hidden_layers * (2 * weights * n_tokens + 4 * config.hidden_size * n_pairs)


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Everything, as one JSON object."""
    users, beams, device = options.users, options.beams, options.device
    few, many = (2, 3) if options.quick else (5, 31)
    lookups = lookup(users, beams, many, device)
    return {
        **against_generate(users, beams, few, device),
        "constraint_overhead": constraint_overhead(users, beams, many, device),
        "lookup_ms": lookups["ten_children"],
        "lookup_ms_four_levels_of_256": lookups["four_levels_of_256"],
        "flops_share": flops_share(users, beams, many, device, hidden=128),
        "flops_share_hidden_512": flops_share(users, beams, few, device, hidden=512),
        "users": users,
        "beams": beams,
        "device": torch.cuda.get_device_name() if device.startswith("cuda") else f"{torch.get_num_threads()} CPU cores",
        "versions": {"torch": torch.__version__, "python": platform.python_version()},
    }


def show(found: dict[str, Any]) -> None:
    """The figures as tables."""
    console = Console()
    title = f"{found['users']} users, {found['beams']} beams, {found['parameters']:,} parameters, {found['device']}"
    table = Table("", "generate", "plum", title=title)
    ours = f"{found['plum_ms_per_user']:.1f} ({found['plum_default_scores_ms_per_user']:.1f})"
    table.add_row("ms per user (with plum's default scores)", f"{found['generate_ms_per_user']:.1f}", ours)
    table.add_row("added memory, MiB", f"{found['generate_peak_mib']:.0f}", f"{found['plum_peak_mib']:.0f}")
    faster = f"{found['speedup_vs_generate']:.1f} ({found['speedup_vs_generate_default_scores']:.1f})"
    table.add_row("times faster", "1", faster)
    table.add_row("beams equal to generate's, same scores", "", f"{found['share_of_equal_beams']:.2%}")
    console.print(table)
    table = Table("items", "catalogue", "of it look-ups", "with a rule and 50 seen", title="added time")
    table.add_column("search with a rule and 100 seen items")
    table.add_column("pruning for a rule, ms")
    for items, row in found["constraint_overhead"].items():
        keys = ("catalogue", "look_ups", "look_ups_rule_and_50_seen", "catalogue_rule_and_100_seen")
        shares = (f"{row[key]:+.1%}" for key in keys)
        table.add_row(f"{int(items):,}", *shares, f"{row['prune_ms']:.1f}")
    console.print(table)
    table = Table(
        "items", "ten children a prefix", "four levels of 256 codes", title="ms per step to find legal children"
    )
    for items, ms in found["lookup_ms"].items():
        table.add_row(f"{int(items):,}", f"{ms:.3f}", f"{found['lookup_ms_four_levels_of_256'][items]:.3f}")
    console.print(table)
    small, wide = found["flops_share"], found["flops_share_hidden_512"]
    title = f"FLOP/s, as a share of a matrix product's {small['matrix_product_gflops']:.0f} GFLOP/s"
    table = Table("", "this model", "four times as wide", title=title)
    for part in ("prefill", "beam_steps"):
        cells = (f"{share[part]:.0%}, {share[part + '_ms']:.0f} ms" for share in (small, wide))
        table.add_row(part.replace("_", " "), *cells)
    console.print(table)


def main() -> None:
    """Parse the options, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="one JSON object")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--users", type=int, default=32, help="decoded together")
    parser.add_argument("--beams", type=int, default=50)
    parser.add_argument("--quick", action="store_true", help="fewer repetitions")
    parser.add_argument("--peak-of", choices=["generate", "plum"], help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.peak_of:
        print_peak(options.peak_of, options.users, options.beams, options.device)
        return
    found = measure(options)
    if options.json:
        print(json.dumps(found, indent=2))
    else:
        show(found)


if __name__ == "__main__":
    main()
