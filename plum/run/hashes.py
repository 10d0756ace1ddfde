"""SHA-256 of files, remembered while a file's size, times, inode and device stay the same.

A run's memory is a hidden file in its folder. It is safe to delete, and files are hashed each time where it can't be
written. Small files are always hashed.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import time
from pathlib import Path

from plum.run.plain import open_plain, read_plain
from plum.runtime import is_first

MEMORY = ".verified.json"
"""In a run's folder."""
SMALL = 1 << 18
"""Bytes below which a file is always hashed."""
SETTLED_NS = 2_000_000_000
"""Age from which a file's times tell whether it has changed: some file systems count in whole seconds, some in two."""

Stamp = tuple[int, int, int, int, int]
"""Size, times of change of content and of inode in nanoseconds, inode, device."""

_DIGEST = re.compile(r"[0-9a-f]{64}")
_known: dict[str, tuple[Stamp, str]] = {}
"""Absolute path -> what this process has read of it."""


def sha256(path: Path) -> str:
    """SHA-256 of a file's bytes, in hexadecimal."""
    digest = hashlib.sha256()
    with open_plain(path) as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def remembered_sha256(path: Path, workdir: Path) -> str:
    """SHA-256 of a file, hashed only if it is small or may have changed since it was hashed last.

    Args:
        path: the file.
        workdir: the run whose memory is used.

    Raises:
        OSError: if the file can't be read.
    """
    stamp = _stamp(path)
    if stamp[0] < SMALL:
        return sha256(path)
    name = str(path.absolute())
    for known in (_known, _read_memory(workdir)):
        if name in known and known[name][0] == stamp:
            _known[name] = known[name]
            return known[name][1]
    settled = time.time_ns() - max(stamp[1], stamp[2]) > SETTLED_NS
    digest = sha256(path)
    if settled and _stamp(path) == stamp:
        _known[name] = stamp, digest
        if is_first():  # of several processes of a command, one writes
            _remember(workdir, name)
    return digest


def _stamp(path: Path) -> Stamp:
    found = path.stat()
    return found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino, found.st_dev


def _read_memory(workdir: Path) -> dict[str, tuple[Stamp, str]]:
    """The memory of a run, of its well-formed entries; empty if there is none."""
    try:
        stored = json.loads(read_plain(workdir / MEMORY))
    except (OSError, ValueError, RecursionError):
        return {}
    if not isinstance(stored, dict):
        return {}
    whole = {name: entry for name, entry in stored.items() if _is_entry(entry)}
    root = workdir.absolute()
    return {str(root / name): (tuple(entry["stamp"]), entry["sha256"]) for name, entry in whole.items()}


def _is_entry(entry: object) -> bool:
    if not (isinstance(entry, dict) and isinstance(entry.get("sha256"), str) and isinstance(entry.get("stamp"), list)):
        return False
    numbers = len(entry["stamp"]) == 5 and all(type(number) is int for number in entry["stamp"])
    return numbers and _DIGEST.fullmatch(entry["sha256"]) is not None


def _remember(workdir: Path, name: str) -> None:
    """Add what this process knows of a file to a run's memory, and drop files that are gone."""
    there = {other: entry for other, entry in _read_memory(workdir).items() if Path(other).exists()}
    there[name] = _known[name]
    inside = f"{workdir.absolute()}{os.sep}"
    values = {
        other.removeprefix(inside): {"stamp": list(stamp), "sha256": digest} for other, (stamp, digest) in there.items()
    }
    partial = workdir / f"{MEMORY}.partial"
    # Not synced: what a power cut leaves of it is no memory, or that of unchanged files.
    try:
        partial.unlink(missing_ok=True)  # it could be a pipe, which would be waited for
        partial.write_text(json.dumps(values, indent=1) + "\n", encoding="utf-8")
        partial.replace(workdir / MEMORY)
    except OSError:  # a run that can't be written is read all the same
        with contextlib.suppress(OSError):
            partial.unlink(missing_ok=True)
