"""Every instant at which a process or a machine can stop between two calls to the file system.

``Machine`` counts the calls that change files or sync them. At a chosen one it stops: nothing that follows reaches the
disk, so that cleaning up does not happen either. With ``power_cut`` what was never synced is lost as well: files are
cut short and filled with zeros, and renames are undone that no sync of their folder has followed.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

CALLS = ("replace", "rename", "fsync", "unlink", "remove", "mkdir", "rmdir")


class Stopped(BaseException):
    """Stands for the end of the process."""


class Machine:
    """A disk under ``root``, and when the machine stops: before call number ``at`` (from 1)."""

    def __init__(self, root: Path, at: int | None = None, power_cut: bool = False) -> None:
        self.root, self.at, self.power_cut = root, at, power_cut
        self.calls: list[tuple[str, str]] = []
        self.stopped = False
        self._synced = {self._id(path): self._state(path) for path in self._files()}
        self._renamed: list[tuple[Path, Path, Path | None]] = []
        self._backups = root.parent / f".{root.name}.backups"

    def patch(self, monkeypatch: pytest.MonkeyPatch) -> Machine:
        for name in CALLS:
            monkeypatch.setattr(os, name, self._counting(name, getattr(os, name)))
        return self

    def run(self, work: Callable[[], Any]) -> bool:
        """Do the work until the machine stops; whether it came to its end."""
        try:
            work()
        except Stopped:
            return False
        return True

    def _counting(self, name: str, true: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            if self.stopped:
                raise Stopped
            told = _told(name, arguments, options)
            if not Path(told).absolute().is_relative_to(self.root.absolute()):
                return true(*arguments, **options)
            self.calls.append((name, told))
            if self.at is not None and len(self.calls) >= self.at:
                if self.power_cut:
                    self._lose(true if name in ("replace", "rename") else None)
                self.stopped = True
                raise Stopped
            if name == "fsync":
                return self._sync(arguments[0], Path(told))  # noted, not done: it takes most of the time
            if name in ("replace", "rename"):
                self._note(Path(arguments[0]), Path(arguments[1]))
            return true(*arguments, **options)

        call.true = true  # type: ignore[attr-defined]
        return call

    def _files(self) -> list[Path]:
        return [path for path in self.root.rglob("*") if path.is_file() and not path.is_symlink()]

    @staticmethod
    def _id(path: Path) -> tuple[int, int]:
        return path.stat().st_dev, path.stat().st_ino

    @staticmethod
    def _state(path: Path) -> tuple[int, int]:
        return path.stat().st_size, path.stat().st_mtime_ns

    def _sync(self, number: int, path: Path) -> None:
        if path.is_dir():
            self._renamed = [entry for entry in self._renamed if entry[1].parent.absolute() != path.absolute()]
        else:
            self._synced[self._id(path)] = self._state(path)

    def _note(self, source: Path, target: Path) -> None:
        """Note a rename, with what it replaces, so that it can be undone."""
        backup = None
        if target.is_file():
            self._backups.mkdir(exist_ok=True)
            backup = self._backups / str(len(self.calls))
            os.link(target, backup)
        self._renamed.append((source, target, backup))

    def _lose(self, _: Any) -> None:
        """Lose what is not on the disk."""
        replace = os.replace.true  # type: ignore[attr-defined]
        for source, target, backup in reversed(self._renamed):
            if target.exists() and source.parent.exists():
                replace(target, source)
                if backup is not None:
                    replace(backup, target)
        for path in self._files():
            if path.name != ".lock" and self._synced.get(self._id(path)) != self._state(path):
                size = path.stat().st_size
                path.write_bytes(path.read_bytes()[: size // 2] + bytes(size // 4))


def _told(name: str, arguments: Any, options: Any) -> str:
    """The path that a call is about."""
    if name == "fsync":
        return str(Path(f"/proc/self/fd/{arguments[0]}").readlink())
    above = options.get("dir_fd")
    return str(Path("" if above is None else f"/proc/self/fd/{above}").resolve() / arguments[0])


def stops_everywhere(monkeypatch: pytest.MonkeyPatch, fresh: Callable[[], Path], work: Callable[[Path], Any]) -> int:
    """Stop before every call once with and once without a power cut, and start again; gives the number of stops.

    Args:
        monkeypatch: of the test.
        fresh: makes a folder as it is before the work.
        work: what is stopped and started again; it checks what it ends with.
    """
    stops = 0
    for power_cut in (False, True):
        at = 0
        while True:
            at += 1
            root = fresh()
            with monkeypatch.context() as patched:
                ended = Machine(root, at, power_cut).patch(patched).run(lambda root=root: work(root))
            shutil.rmtree(root.parent / f".{root.name}.backups", ignore_errors=True)
            if ended:
                break
            with monkeypatch.context() as patched:
                Machine(root).patch(patched).run(lambda root=root: work(root))
            shutil.rmtree(root)
            stops += 1
    return stops
