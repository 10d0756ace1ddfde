"""Where a stage writes: its folder, the hidden one beside it, and how the one takes the place of the other.

A folder that is a symbolic link is written through: the hidden one lies beside what the link leads to, so that large
models may lie on another disk.
"""

from __future__ import annotations

import json
import logging
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from plum.errors import PlumError
from plum.run.artifacts import CHECKPOINT, FINGERPRINT, MANIFEST, SCAFFOLD, write_json
from plum.run.lock import LOCK, locked
from plum.run.plain import read_plain
from plum.run.writing import make_folder, remove, sync_folder, sync_tree, write_errors
from plum.runtime import is_first

logger = logging.getLogger(__name__)

PATIENCE_S = 5.0
"""For another process that is just putting a folder in its place."""
_at_work: list[Place] = []


class Place:
    """The folder of a stage, and the hidden ones beside it.

    Args:
        workdir: the run folder.
        stage: the folder's name in it.

    Attributes:
        folder: as the run names it.
        partial: the hidden folder that is written.
    """

    def __init__(self, workdir: Path, stage: str) -> None:
        self.workdir, self.stage, self.folder = workdir, stage, workdir / stage
        self._real = Path(os.path.realpath(self.folder)) if self.folder.is_symlink() else self.folder
        self.partial = self._real.with_name(f".{self._real.name}.partial")
        self._retired = self._real.with_name(f".{self._real.name}.retired")

    def problem(self) -> PlumError | None:
        """Why the folder can't be written, as far as it can be told before the work; None if it can."""
        folder, real = self.folder, self._real
        if folder.is_symlink() and not real.exists():
            what = f"{folder} is a link to {folder.readlink()}, which is not there"
            return PlumError(what, None, f"make that folder (`mkdir -p {real}`), or remove the link")
        if not real.exists():
            return None
        if foreign := self.foreign():
            return foreign
        if real.is_mount() or real.stat().st_dev != real.parent.stat().st_dev:
            what = f"{folder} is a disk of its own, and would have to be replaced as a whole"
            return PlumError(what, f"a disk is mounted at {real}", "let it be a link to a folder on that disk")
        if not os.access(real.parent, os.W_OK | os.X_OK):
            what = f"{folder} can't be replaced: nothing may be written beside it"
            return PlumError(what, f"{real.parent}: permission denied", "give yourself the right to write there")
        return None

    def foreign(self) -> PlumError | None:
        """What to say if the folder holds what no stage wrote: with ``--workdir .`` it could be the user's data."""
        real = self._real
        if not real.exists() or (real.is_dir() and ((real / MANIFEST).exists() or not any(real.iterdir()))):
            return None
        found = f"no {MANIFEST} in it" if real.is_dir() else "it is a file"
        fix = "give another --workdir; or, if plum wrote it, remove it and run the same command again"
        return PlumError(f"{self.folder} exists, but is not a folder of a plum run", found, fix)

    def settle(self) -> None:
        """Finish a replacement that was interrupted, or wait for another process that is just at it."""
        if not is_first() or not ((self.partial / MANIFEST).exists() or self._retired.exists()):
            return
        try:
            with self._locked():
                self._restore()
        except PlumError:  # another process works here, or nothing may be written: this one may want to read only
            patience = time.monotonic() + PATIENCE_S
            while not (self.folder / MANIFEST).exists() and time.monotonic() < patience:
                time.sleep(0.01)

    @contextmanager
    def writing(self, fingerprint: Mapping[str, Any], force: bool) -> Iterator[None]:
        """Hold the lock and have the hidden folder ready: with an interrupted run's checkpoint if it is of this work.

        Args:
            fingerprint: what must agree for a checkpoint to be of this work; for JSON.
            force: discard the checkpoint.

        Raises:
            PlumError: if the folder can't be written.
        """
        if problem := self.problem():
            raise problem
        with self._locked():
            with write_errors(self.partial):
                self._open(json.loads(json.dumps(fingerprint)), force)
            _at_work.append(self)
            try:
                yield
            finally:
                _at_work.remove(self)

    def sync(self) -> None:
        """Wait until all files in the hidden folder are on the disk."""
        with write_errors(self.partial):
            sync_tree(self.partial)

    def put_in_place(self) -> None:
        """Let the hidden folder, which is complete and synced, take the folder's place."""
        with write_errors(self._real):
            for name in SCAFFOLD:
                remove(self.partial / name)
            if self._real.exists():
                remove(self._retired)
                self._real.replace(self._retired)
            self.partial.replace(self._real)
            sync_folder(self._real.parent)  # before the old folder goes for good
            self._forget_retired()

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """Hold the run's lock; if the folder is a link, also one beside what it leads to: other runs may link there."""
        with locked(self.workdir):
            if self._real == self.folder:
                yield
                return
            with locked(self._real.parent, f".{self._real.name}{LOCK}"):
                yield

    def _restore(self) -> None:
        if (self.partial / MANIFEST).exists():
            self.put_in_place()
        elif self._retired.exists() and not self._real.exists():
            with write_errors(self._real):
                self._retired.replace(self._real)
                sync_folder(self._real.parent)
        self._forget_retired()

    def _forget_retired(self) -> None:
        with suppress(OSError):
            remove(self._retired)

    def _open(self, fingerprint: Any, force: bool) -> None:
        mark = self.partial / FINGERPRINT
        if os.path.lexists(self.partial) and (force or not self._belongs(mark, fingerprint)):
            remove(self.partial)
        make_folder(self.partial)
        for path in self.partial.iterdir():
            if path.name not in SCAFFOLD:
                remove(path)
        if (self.partial / CHECKPOINT).exists():
            logger.info("%s: resuming from the checkpoint of an interrupted run", self.stage)
        write_json(mark, fingerprint)

    def _belongs(self, mark: Path, fingerprint: Any) -> bool:
        """Whether the hidden folder is of the same work; if not, says what is thrown away and why."""
        if self.partial.is_symlink() or not self.partial.is_dir():
            return False
        try:
            there = json.loads(read_plain(mark))
        except (OSError, ValueError, RecursionError):
            there = None
        if there == fingerprint:
            return True
        if (self.partial / CHECKPOINT).exists():
            why = "other settings, other inputs or another version of plum" if there else "unknown settings"
            damaged = "" if there else f": {FINGERPRINT}, which says them, is damaged or missing"
            logger.warning("%s: discarding the checkpoint of an interrupted run with %s%s", self.stage, why, damaged)
        return False


def at_work() -> Place | None:
    """Where this process is writing just now."""
    return _at_work[-1] if _at_work else None
