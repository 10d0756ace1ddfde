"""What interrupted commands have left in a run folder, in words."""

from __future__ import annotations

import json
import logging
import shlex
import time
from pathlib import Path

from plum.run.artifacts import ASSIGNED, CHECKPOINT, COMMANDS
from plum.run.place import Place
from plum.run.plain import read_plain

logger = logging.getLogger(__name__)

_UNITS = ((86400, "days"), (3600, "hours"), (60, "minutes"))


def tell_leftovers(workdir: Path) -> None:
    """Say which hidden folders a finished command has had no use for, how old they are and what to do with them."""
    for stage in (*COMMANDS, ASSIGNED):
        partial = Place(workdir, stage).partial
        if not partial.is_dir():
            continue
        logger.warning(
            "%s is left from an interrupted %s (%s, %s old): start that with the same settings to go on with it, or "
            "remove it with `rm -r %s`",
            *(partial, stage, checkpoint_told(partial), _age(partial), shlex.quote(str(partial))),
        )


def checkpoint_told(partial: Path) -> str:
    """How far the checkpoint in a hidden folder is: ``a checkpoint of step 40``."""
    steps = [step for path in (partial / CHECKPOINT).rglob("state.json") if (step := _step(path)) is not None]
    trials = len(list((partial / CHECKPOINT).rglob("trial-*.json")))
    found = [
        *([f"{trials} finished {'trial' if trials == 1 else 'trials'}"] if trials else []),
        *([f"a checkpoint of step {max(steps)}"] if steps else []),
    ]
    return " and ".join(found) or "no checkpoint yet"


def _step(path: Path) -> int | None:
    try:
        return int(json.loads(read_plain(path))["step"])
    except (OSError, ValueError, TypeError, LookupError, RecursionError):
        return None


def _age(folder: Path) -> str:
    """Time since anything in the folder was written: ``3 hours``."""
    times = [folder.stat().st_mtime]
    for path in folder.rglob("*"):
        try:
            times.append(path.lstat().st_mtime)
        except OSError:  # removed meanwhile
            continue
    seconds = max(0.0, time.time() - max(times))
    size, unit = next(((size, unit) for size, unit in _UNITS if seconds >= 2 * size), (1, "seconds"))
    return f"{seconds / size:.0f} {unit}"
