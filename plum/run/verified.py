"""Reading a stage's files only as the stage wrote them: each is checked against the manifest of its folder.

A file outside the complete folder of a stage has no manifest, and is read as it is.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterable
from pathlib import Path

from plum.errors import PlumError
from plum.run.folders import MANIFEST, owner_of, remedy
from plum.run.hashes import remembered_sha256
from plum.run.manifest import Manifest, read_manifest
from plum.run.plain import read_plain

ATTEMPTS = 3
PAUSE_S = 0.05
"""A folder may be replaced by a stage while it is read: its manifest and its file are then looked at again."""


def verify(path: Path) -> None:
    """Check that a file still is what its stage wrote.

    Raises:
        PlumError: if it is not, is missing, or no file of the stage.
    """
    if (folder := owner_of(path)) is not None:
        _checked(folder, path, lambda: remembered_sha256(path, folder.parent))


def read_bytes(path: Path) -> bytes:
    """The bytes of a file, which are those that its stage wrote.

    Raises:
        PlumError: if they are not, or the file is no file of the stage.
        OSError: if a file outside the stages' folders can't be read.
    """
    if (folder := owner_of(path)) is None:
        return read_plain(path)
    read: list[bytes] = []

    def digest() -> str:
        read.append(read_plain(path))
        return hashlib.sha256(read[-1]).hexdigest()

    _checked(folder, path, digest)
    return read[-1]


def verify_outputs(folder: Path, manifest: Manifest, rest: str) -> dict[str, str]:
    """Check a file of a stage, or all files of a folder in it, such as a model's.

    Args:
        folder: of the stage.
        manifest: in it.
        rest: name of the file or folder there.

    Returns:
        Name in the run (``"cpt/model/config.json"``) -> SHA-256 of what was read.

    Raises:
        PlumError: if one is missing or changed, or a folder holds a file that the stage did not write.
    """
    names = [name for name in manifest.outputs if name == rest or name.startswith(f"{rest}/")]
    if not names:
        raise PlumError(f"{folder / rest} is missing", None, remedy(folder, force=True))
    _refuse_more(folder, rest, names)
    found = {}
    for name in names:
        path = folder / name
        digest = _checked(folder, path, lambda path=path: remembered_sha256(path, folder.parent))  # type: ignore[misc]
        found[f"{folder.name}/{name}"] = digest
    return found


def verify_folder(folder: Path) -> None:
    """Check all files of a folder in a stage's folder, such as a model's; see :func:`verify_outputs`.

    Raises:
        PlumError: if one is missing or changed, or there is one that the stage did not write.
    """
    if (owner := owner_of(folder)) is not None:
        verify_outputs(owner, read_manifest(owner), folder.relative_to(owner).as_posix())


def changed_outputs(folder: Path, manifest: Manifest) -> list[str]:
    """Names of the files of a stage that are missing or not as it wrote them."""
    return [name for name, digest in manifest.outputs.items() if _digest_of(folder, folder / name) != digest]


def _digest_of(folder: Path, path: Path) -> str | None:
    """SHA-256 of a file of a stage; None if it can't be read."""
    try:
        return remembered_sha256(path, folder.parent) if path.is_file() else None
    except OSError:
        return None


def _checked(folder: Path, path: Path, digest: Callable[[], str]) -> str:
    """The SHA-256 of a file of a stage, once it is the one in the manifest."""
    for _ in range(ATTEMPTS):
        manifest = read_manifest(folder)
        expected = manifest.outputs.get(path.relative_to(folder).as_posix())
        reason: OSError | None = None
        try:
            found = digest()
        except OSError as error:
            found, reason = "", error
        if found == expected:
            return found
        time.sleep(PAUSE_S)
        if reason is None and read_manifest(folder) == manifest:
            break
    raise _refusal(folder, path, expected, found, reason)


def _refusal(folder: Path, path: Path, expected: str | None, found: str, reason: OSError | None) -> PlumError:
    if reason is not None:
        missing = isinstance(reason, FileNotFoundError)
        what = f"{path} is missing" if missing else f"{path} can't be read"
        return PlumError(what, None if missing else str(reason), remedy(folder))
    if expected is None:
        return PlumError(f"stage {folder.name} did not write {path}", f"it is not in {MANIFEST}", f"remove {path}")
    told = f"SHA-256 {found[:12]}… now, {expected[:12]}… in its {MANIFEST}"
    return PlumError(f"{path} is not what stage {folder.name} wrote", told, remedy(folder))


def _refuse_more(folder: Path, rest: str, names: Iterable[str]) -> None:
    """Refuse files that a stage did not write in a folder of it: a library would read them with the others."""
    there = folder / rest
    if not there.is_dir():
        return
    known = {folder / name for name in names}
    for path in sorted(there.rglob("*")):
        hidden = any(part.startswith(".") for part in path.relative_to(there).parts)
        if not hidden and not path.is_dir() and path not in known:
            raise PlumError(f"stage {folder.name} did not write {path}", f"it is not in {MANIFEST}", f"remove {path}")
