"""`plum ablate`: every run of an ablation in its own process, then all results in one table."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import time
from collections import deque
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from plum.config.ablation import Ablation, Run
from plum.report.ablation_table import ablation_markdown
from plum.run import artifacts
from plum.run.writing import make_folder, write_errors, write_text
from plum.studies.ablated import FINISHED, Failure, is_finished, mark_finished, results

logger = logging.getLogger(__name__)

FILES = ("ablation.json", "ablation.md")
LOG = "run.log"
"""In a run's folder: its output."""
PROGRAM = (
    sys.executable,
    "-c",
    "import sys; sys.path = [path for path in sys.path if path]; from plum.cli.child import run; run()",
)
"""``plum.cli.child`` without the current folder, which ``-c`` and ``-m`` put first on the import path as ``""``."""
POLL_S = 0.1


def run_ablation(
    ablation: Ablation,
    chosen: Sequence[Run],
    jobs: int = 1,
    force: bool = False,
    program: Sequence[str] = PROGRAM,
) -> dict[str, Any]:
    """Run all unfinished runs; write ``ablation.json`` and ``ablation.md`` of the finished ones.

    A run is finished if it succeeded with the same configuration and version of plum, and none of its stages has run
    since. Changes of data outside the run are not detected.

    Args:
        ablation: of :func:`plum.config.ablation.read_ablation`.
        chosen: the runs to make; the others are shown if they are finished.
        jobs: parallel runs; with several, each has its share of the cores, unless OMP_NUM_THREADS is set.
        force: repeat finished runs.
        program: command that takes the arguments of plum; it must end when its standard input does.

    Returns:
        The result of :func:`plum.studies.ablated.results`.

    Raises:
        PlumError: if runs of a base have different test sets, or the folder can't be written.
    """
    waiting = [run for run in chosen if force or not is_finished(run)]
    if made_before := [run.name for run in waiting if (run.config.workdir / FINISHED).exists() and not force]:
        shown = ", ".join(made_before[:3]) + (", ..." if len(made_before) > 3 else "")
        logger.warning("ablate: settings or plum changed since %s ran; running again, in the same folders", shown)
    logger.info("ablate: %d of %d runs to do", len(waiting), len(chosen))
    failures = _run_all(waiting, jobs, force, program)
    result = results(ablation, failures)
    artifacts.write_json(ablation.workdir / FILES[0], result)
    write_text(ablation.workdir / FILES[1], ablation_markdown(result))
    return result


def _run_all(runs: Sequence[Run], jobs: int, force: bool, program: Sequence[str]) -> list[Failure]:
    """Run all in order, several at a time; a failure does not stop the others."""
    environment = dict(os.environ)
    if jobs > 1:
        environment.setdefault("OMP_NUM_THREADS", str(max(1, _cores() // jobs)))
    waiting, working = deque(enumerate(runs, 1)), list[_Process]()
    failures = []
    try:
        while waiting or working:
            while waiting and len(working) < jobs:
                place, run = waiting.popleft()
                logger.info("ablate: %d of %d, %s", place, len(runs), run.name)
                working.append(_Process(run, program, force, environment))
            for process in [process for process in working if process.ended]:
                working.remove(process)
                failure = process.failure()
                if failure is None:
                    mark_finished(process.run)
                    logger.info("ablate: %s took %.0f s", process.run.name, process.seconds)
                else:
                    failures.append(failure)
                    logger.warning("ablate: %s failed: %s; see %s", failure.run.name, failure.reason, failure.log)
            time.sleep(POLL_S if working else 0.0)
    finally:
        for process in working:
            process.stop()
    return failures


def _cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class _Process:
    """A running run; see :func:`run_ablation` for its arguments."""

    def __init__(self, run: Run, program: Sequence[str], force: bool, environment: Mapping[str, str]) -> None:
        self.run = run
        self._log = run.config.workdir / LOG
        self._started = time.monotonic()
        with write_errors(self._log):
            make_folder(self._log.parent)
        with write_errors(self._log), self._log.open("ab") as log:  # a resumed run keeps its earlier output
            self._log_start = log.tell()
            # Nothing is written to the pipe: it closes when this process ends, for any reason, and ends the run.
            self._process = subprocess.Popen(
                [*program, *run.command(force)], stdin=subprocess.PIPE, stdout=log, stderr=log, env=environment
            )

    @property
    def ended(self) -> bool:
        return self._process.poll() is not None

    @property
    def seconds(self) -> float:
        return time.monotonic() - self._started

    def failure(self) -> Failure | None:
        """Why it failed; None if it succeeded."""
        code = self._process.returncode
        self._close()
        return None if code == 0 else Failure(self.run, _reason(self._log, self._log_start, code), self._log)

    def stop(self) -> None:
        self._process.kill()  # stages resume from their checkpoints
        self._process.wait()
        self._close()

    def _close(self) -> None:
        if self._process.stdin is not None:
            self._process.stdin.close()


def _reason(log: Path, start: int, code: int) -> str:
    """One line on why a run ended with this code: its error message after byte ``start``, else its last line."""
    if code < 0:
        return f"killed by signal {-code}"
    lines = [
        line.strip() for line in log.read_bytes()[start:].decode("utf-8", errors="replace").splitlines() if line.strip()
    ]
    errors = [place for place, line in enumerate(lines) if line.startswith("Error: ")]
    if not errors:
        return lines[-1] if lines else f"exit code {code}"
    first, *rest = lines[errors[-1] :]
    found = next((line for line in rest if line.startswith("found: ") and line != "found:"), None)
    return first.removeprefix("Error: ") + (f" ({found.removeprefix('found: ')})" if found else "")
