"""A program that disturbs runs of a tiny pipeline in every way it knows, and compares how they end with a whole one.

All runs are forked from one process that has loaded the libraries, so that many fit into a minute. It prints one JSON
object: by section, how often a run was disturbed and what was lost, which should be nothing.

    python tests/disturbed_runs.py FOLDER [--seed N] [--kills N] [--sections kills,points,starts,limits]
"""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import shutil
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

os.environ |= {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "COLUMNS": "200"}

import tiny_run

from plum.run.hashes import MEMORY

CALLS = ("replace", "rename", "fsync", "unlink", "mkdir", "rmdir", "open")
TIMED = ("eval/report.html", "eval/report.md", "eval/dense_search.json")
"""Files that hold times, and so differ between two runs."""
SLOWED = {
    "dense": {"epochs": 4, "checkpoint_steps": 2, "patience": 100, "search": {"dropout": [0.1, 0.3]}},
    "tokenize": {"max_steps": 12, "checkpoint_steps": 5},
    "cpt": {"epochs": 2, "checkpoint_steps": 4},
    "finetune": {"epochs": 3, "checkpoint_steps": 3, "history_dropout": 0.2, "patience": 100, "teacher_weight": 0.5},
}
Act = Callable[[], None]


class Ended(NamedTuple):
    """A run that has ended: its exit code, negative after a signal, and its standard error."""

    code: int
    err: str


def pipeline() -> dict[str, Any]:
    values = tiny_run.pipeline(Path("run"))
    values["eval"] |= {"resamples": 20, "examples": 2}
    for stage, settings in SLOWED.items():
        (values["eval"]["dense"] if stage == "dense" else values[stage]).update(settings)
    return values


def start(home: Path, before: Act, *arguments: str) -> tuple[int, int]:
    """Fork a ``plum run`` in a folder; gives its process and the end of its standard error."""
    inlet, outlet = os.pipe()
    process = os.fork()
    if process:
        os.close(outlet)
        return process, inlet
    try:
        os.chdir(home)
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        os.dup2(outlet, 2)
        sys.argv = ["plum", "run", "--config", "tiny.yaml", *arguments]
        before()
        from plum.cli.app import main

        main()
    except SystemExit as end:
        os._exit(int(end.code or 0))
    except BaseException:
        import traceback

        os.write(2, traceback.format_exc().encode())
    os._exit(1)


def wait(process: int, inlet: int, seconds: float | None = None) -> Ended:
    """Wait for a run, and kill it after some seconds."""
    if seconds is not None:
        end = time.monotonic() + seconds
        while time.monotonic() < end and not os.waitid(os.P_PID, process, os.WEXITED | os.WNOHANG | os.WNOWAIT):
            time.sleep(0.002)
        os.kill(process, signal.SIGKILL)
    with os.fdopen(inlet, encoding="utf-8", errors="replace") as pipe:
        err = pipe.read()
    return Ended(os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]), err)


def die_at(call: int) -> Act:
    """Kill the process at one of its calls that change files."""

    def patch() -> None:
        left = [call]

        def dying(true: Callable[..., Any]) -> Callable[..., Any]:
            def act(*arguments: Any, **options: Any) -> Any:
                if true is not os.open or (len(arguments) > 1 and arguments[1] & os.O_CREAT):
                    left[0] -= 1
                    if left[0] < 0:
                        os.kill(os.getpid(), signal.SIGKILL)
                return true(*arguments, **options)

            return act

        for name in CALLS:
            setattr(os, name, dying(getattr(os, name)))

    return patch


def limit_files(size: int) -> Act:
    return lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))


def nothing() -> None:
    """Disturb nothing."""


def contents(run: Path) -> dict[str, Any]:
    """All files of a run but what holds times; hidden ones by name only, and without the memory of hashes."""
    found: dict[str, Any] = {}
    for path in sorted(run.rglob("*")):
        name = str(path.relative_to(run))
        if name == MEMORY:
            continue
        if name.startswith("."):
            found[name.split("/")[0]] = None
        elif path.name == "manifest.json":
            manifest = json.loads(path.read_text())
            for key in ("started", "duration_s", "peak_memory_mib", "speed"):
                del manifest[key]
            for timed in TIMED:
                manifest["outputs"].pop(timed.partition("/")[2], None)
            found[name] = manifest
        elif path.is_file() and name not in TIMED:
            found[name] = path.read_bytes()
    return found


class Trials:
    """Disturbed runs beside a whole one."""

    def __init__(self, home: Path, seed: int) -> None:
        self.home, self.random = home, random.Random(seed)
        self._number = 0
        whole = self.fresh()
        begun = time.monotonic()
        ended = wait(*start(whole, nothing))
        assert ended.code == 0, ended.err
        self.seconds = time.monotonic() - begun
        self.whole, self.expected = whole / "run", contents(whole / "run")

    def fresh(self) -> Path:
        self._number += 1
        folder = self.home / str(self._number)
        folder.mkdir(parents=True)
        tiny_run.write(folder / "tiny.yaml", pipeline())
        return folder

    def compare(self, folder: Path, how: str) -> list[str]:
        """What differs from the whole run."""
        found = contents(folder / "run")
        names = [name for name in found.keys() | self.expected.keys() if found.get(name) != self.expected.get(name)]
        shutil.rmtree(folder)
        return [f"{how}: {name} differs" for name in sorted(names)]

    def kills(self, n: int) -> dict[str, Any]:
        """Killed at random moments, started again until complete."""
        return self._killed(n, "killed", lambda: (nothing, self.seconds * self.random.uniform(0.01, 0.4)))

    def points(self, n: int) -> dict[str, Any]:
        """Killed at a call that changes files or syncs them."""
        return self._killed(n, "killed at a call", lambda: (die_at(self.random.randrange(250)), None))

    def _killed(self, n: int, how: str, draw: Callable[[], tuple[Act, float | None]]) -> dict[str, Any]:
        count, resumed, losses = 0, 0, []
        while count < n:
            folder, here = self.fresh(), 0
            while True:
                before, seconds = draw() if count < n else (nothing, None)
                ended = wait(*start(folder, before), seconds)
                resumed += "resuming from the checkpoint" in ended.err
                if ended.code == 0:
                    break
                if ended.code != -signal.SIGKILL or "Traceback" in ended.err:
                    losses.append(f"{how}: exit {ended.code}, {ended.err[-2000:]}")
                    break
                count, here = count + 1, here + 1
            losses += self.compare(folder, f"{how} {here} times")
        return {"runs": count, "resumed": resumed, "losses": losses}

    def starts(self, n: int) -> dict[str, Any]:
        """Started twice at once, the second time with another seed."""
        losses = []
        for _ in range(n):
            folder = self.fresh()
            first = start(folder, nothing)
            patience = time.monotonic() + 60
            while not (folder / "run/config.yaml").exists() and time.monotonic() < patience:
                time.sleep(0.002)
            time.sleep(self.seconds * self.random.uniform(0, 0.6))
            second = wait(*start(folder, nothing, "--seed", "7"))
            if second.code != 2 or f"process {first[0]} on" not in second.err:
                losses.append(f"second start: exit {second.code}, {second.err[-2000:]}")
            if (ended := wait(*first)).code != 0:
                losses.append(f"first start: exit {ended.code}, {ended.err[-2000:]}")
            losses += self.compare(folder, "started twice")
        return {"runs": n, "losses": losses}

    def limits(self) -> dict[str, Any]:
        """No file may become as large as the largest one of a stage, as on a full disk; then without the limit.

        The limit is a tenth below it: a report is some bytes shorter where it tells of fewer seconds.
        """
        runs, losses = 0, []
        for stage in tiny_run.STAGES:
            largest = max(path.stat().st_size for path in (self.whole / stage).rglob("*") if path.is_file())
            for size in (largest * 9 // 10, largest // 3):
                folder = self.fresh()
                shutil.copytree(self.whole, folder / "run")
                shutil.rmtree(folder / "run" / stage)
                ended = wait(*start(folder, limit_files(size)))
                told = "can't write" in ended.err and "ulimit -f unlimited" in ended.err
                if ended.code != 2 or not told or "Traceback" in ended.err:
                    losses.append(f"{stage} limited: exit {ended.code}, {ended.err[-2000:]}")
                again = wait(*start(folder, nothing))
                if again.code != 0:
                    losses.append(f"{stage} after its limit: exit {again.code}, {again.err[-2000:]}")
                losses += self.compare(folder, f"{stage} limited to {size:,} bytes")
                runs += 1
        return {"runs": runs, "losses": losses}


def load() -> None:
    """Load all that a run needs."""
    import torch

    import plum.cli.app
    from plum.report import page
    from plum.stages import checks, cpt, dense, eval, features, finetune, pipeline, prepare, tokenize

    torch.set_num_threads(1)
    assert all((plum, page, checks, cpt, dense, eval, features, finetune, pipeline, prepare, tokenize))


def main() -> None:
    asked = argparse.ArgumentParser()
    asked.add_argument("folder", type=Path)
    asked.add_argument("--seed", type=int, default=0)
    asked.add_argument("--kills", type=int, default=30, help="at random moments, and as many at calls")
    asked.add_argument("--sections", default="kills,points,starts,limits")
    given = asked.parse_args()
    load()
    trials = Trials(given.folder, given.seed)
    arguments = {"kills": (given.kills,), "points": (given.kills,), "starts": (2,), "limits": ()}
    result = {}
    for name in given.sections.split(","):
        begun = time.monotonic()
        result[name] = getattr(trials, name)(*arguments[name])
        result[name]["seconds"] = round(time.monotonic() - begun, 1)
    sys.stdout.write(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
