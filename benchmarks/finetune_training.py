"""A step of fine-tuning on the CPU, with and without what spares it time, as it begins and after some hundred steps.

    python benchmarks/finetune_training.py runs/amazon-beauty [--json] [--steps 600] [--last 100]

Of a finished run with a teacher; nothing in it is changed. "multiples": the head is asked for multiples of so many
positions, else for any number, for each of which oneDNN keeps kernels that break up the heap. "teacher ahead": it is
asked on another thread during the step before. Every way trains in a process of its own, on the run's own batches, one
after the other; the median of the first and of the last steps counts.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any
from unittest import mock

from rich.console import Console
from rich.table import Table

from plum.config.file import load_config
from plum.lm import cross_entropy
from plum.run import artifacts
from plum.runtime import peak_memory_mib
from plum.stages import finetune
from plum.training import step

WAYS = {
    "neither": (1, False),
    "multiples": (cross_entropy.POSITIONS_MULTIPLE, False),
    "teacher ahead": (1, True),
    "both, as plum does": (cross_entropy.POSITIONS_MULTIPLE, True),
}
"""Name -> positions whose multiples the head is asked for, whether the teacher is asked ahead."""


class Enough(BaseException):
    """Ends a training that needs no result."""


def _in_the_step(*arguments: Any) -> finetune._Lesson:
    """A lesson whose teacher is asked when its answer is needed."""
    lesson = LESSON(*arguments)
    ask = lesson.prepare or (lambda batch: batch)
    return finetune._Lesson(lambda model, batch: lesson.loss(model, ask(batch)))


LESSON = finetune._lesson
STEP = step.Stepper.step


def train_one_way(run: Path, name: str, n_steps: int) -> list[float]:
    """Seconds between the ends of the steps of a new training on a run's results, in a folder that is thrown away."""
    ends = []

    def timed(*arguments: Any) -> Any:
        last = STEP(*arguments)
        ends.append(time.perf_counter())
        if len(ends) > n_steps:
            raise Enough
        return last

    multiple, ahead = WAYS[name]
    with (
        tempfile.TemporaryDirectory() as folder,
        mock.patch.object(cross_entropy, "POSITIONS_MULTIPLE", multiple),
        mock.patch.object(finetune, "_lesson", LESSON if ahead else _in_the_step),
        mock.patch.object(step.Stepper, "step", timed),
    ):
        for path in run.resolve().iterdir():
            if path.is_dir() and not path.name.startswith(".") and path.name != artifacts.FINETUNE:
                (Path(folder) / path.name).symlink_to(path)
        settings = [f"finetune.epochs={n_steps + 1}", "finetune.validate_every=1000000"]
        with contextlib.suppress(Enough):
            finetune.run(load_config(run / "config.yaml", settings, workdir=Path(folder)))
    return [end - start for start, end in itertools.pairwise(ends)]


def measure(options: argparse.Namespace, name: str) -> dict[str, float]:
    """Run this file in a fresh process for one way."""
    command = [sys.executable, __file__, str(options.run), "--way", name]
    command += ["--steps", str(options.steps), "--last", str(options.last)]
    found: dict[str, float] = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
    return found


def main() -> None:
    """Measure all ways, or the one given, and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="a run whose fine-tuning had a teacher")
    parser.add_argument("--json", action="store_true", help="one JSON object")
    parser.add_argument("--steps", type=int, default=600, help="of each way")
    parser.add_argument("--last", type=int, default=100, help="steps at the beginning and the end that count")
    parser.add_argument("--way", choices=WAYS, help="this one alone, as JSON")
    options = parser.parse_args()
    if options.way:
        times = train_one_way(options.run, options.way, options.steps)
        first, last = (statistics.median(part) for part in (times[: options.last], times[-options.last :]))
        print(json.dumps({"first_s": first, "last_s": last, "peak_mib": peak_memory_mib()}))
        return
    found = {name: measure(options, name) for name in WAYS}
    if options.json:
        print(json.dumps(found, indent=2))
        return
    title = f"{options.steps} steps; medians of the first and last {options.last}"
    table = Table("way", "first steps, s", "last steps, s", "peak memory, MiB", title=title)
    for name, one in found.items():
        table.add_row(name, f"{one['first_s']:.3f}", f"{one['last_s']:.3f}", f"{one['peak_mib']:,.0f}")
    Console().print(table)


if __name__ == "__main__":
    main()
