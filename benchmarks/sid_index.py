"""Time and memory of the index of Semantic IDs: build, verify, save, load, prune.

    python benchmarks/sid_index.py [--json] [--items 20000000] [--levels 5] [--codes 256]

Random Semantic IDs; each step in a process of its own, so that its peak memory is its own (the codes, which the caller
holds as int32, are part of it).
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from plum.decoding.trie import Trie, fingerprint
from plum.runtime import peak_memory_mib

STEPS = ("codes alone", "build, verify, save", "load", "load, prune")


def step(name: str, n_items: int, n_levels: int, n_codes: int, path: Path) -> dict[str, float]:
    """Run one step and return its times in seconds and the process's peak memory."""
    times: dict[str, float] = {}

    def timed(what: str, run: Callable[[], Any]) -> Any:
        start = time.perf_counter()
        result = run()
        times[what + "_s"] = time.perf_counter() - start
        return result

    rng = np.random.default_rng(0)
    sizes = (n_codes,) * n_levels
    if name in STEPS[:2]:
        codes = rng.integers(0, n_codes, (n_items, n_levels), dtype=np.int32)
    if name == "build, verify, save":
        trie = timed("build", lambda: Trie.build(codes, sizes))
        timed("verify", lambda: trie.verify(codes))
        timed("save", lambda: trie.save(path, fingerprint(codes, sizes)))
    elif name.startswith("load"):
        trie = timed("load", lambda: Trie.load(path))
    if name == "load, prune":
        import torch

        from plum.decoding.constraint import DeviceTrie
        from plum.sid.codec import Codec

        codec = Codec(tuple(np.arange(level * n_codes, (level + 1) * n_codes) for level in range(n_levels)))
        index = timed("put", lambda: DeviceTrie.put(trie, codec, torch.device("cpu")))
        mask = rng.random(n_items) < 0.5
        index.prune(mask)
        timed("prune", lambda: index.prune(mask))
    return {**times, "peak_mib": peak_memory_mib()}


def main() -> None:
    """Parse the options, run every step in its own process, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="one JSON object")
    parser.add_argument("--items", type=int, default=20_000_000)
    parser.add_argument("--levels", type=int, default=5)
    parser.add_argument("--codes", type=int, default=256)
    parser.add_argument("--step", choices=STEPS, help=argparse.SUPPRESS)
    parser.add_argument("--file", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.step:
        print(json.dumps(step(options.step, options.items, options.levels, options.codes, options.file)))
        return
    with tempfile.TemporaryDirectory() as folder:
        size = ["--items", str(options.items), "--levels", str(options.levels), "--codes", str(options.codes)]
        command = [sys.executable, __file__, *size, "--file", str(Path(folder) / "index.safetensors")]
        found = {
            name: json.loads(subprocess.run([*command, "--step", name], check=True, capture_output=True).stdout)
            for name in STEPS
        }
    if options.json:
        print(json.dumps(found, indent=2))
        return
    title = f"{options.items:,} items, {options.levels} levels of {options.codes}"
    table = Table("", "seconds", "peak MiB", title=title)
    for name, row in found.items():
        times = ", ".join(f"{what.removesuffix('_s')} {value:.2f}" for what, value in row.items() if what != "peak_mib")
        table.add_row(name, times, f"{row['peak_mib']:,.0f}")
    Console().print(table)


if __name__ == "__main__":
    main()
