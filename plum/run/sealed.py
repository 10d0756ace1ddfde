"""JSON that tells whether it is whole: it holds the SHA-256 of its own content and of the files it speaks for."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from plum.run.hashes import sha256
from plum.run.writing import write_text

_SEAL, _FILES = "sha256", "files"
_LARGEST = 1 << 28  # bytes: no file of this kind comes near


class Damaged(Exception):
    """A file is not as it was written; says which and why."""


def write_sealed(path: Path, content: Mapping[str, Any], files: Mapping[str, str] | None = None) -> str:
    """Write JSON whole or not at all; gives its text.

    Args:
        path: of the file.
        content: for JSON.
        files: names, relative to the file's folder, of what it speaks for, with their SHA-256.
    """
    whole = {**content, _FILES: dict(files or {})}
    text = json.dumps({**whole, _SEAL: _digest(whole)}) + "\n"
    write_text(path, text)
    return text


def read_sealed(path: Path) -> tuple[dict[str, Any], dict[str, str], str]:
    """Read what :func:`write_sealed` wrote, and check it and all its files.

    Returns:
        The content, the files' names with their SHA-256, and the text.

    Raises:
        Damaged: if it or one of its files is missing, or is not as it was written.
    """
    try:
        if not path.is_file() or path.stat().st_size > _LARGEST:
            raise Damaged(f"{path.name} is {'no plain file' if path.exists() else 'missing'}")
        text = path.read_text(encoding="utf-8")
        whole = json.loads(text)
        seal = whole.pop(_SEAL)
        is_whole = seal == _digest(whole)
        files = dict(whole.pop(_FILES))
    except (OSError, ValueError, RecursionError, LookupError, TypeError, AttributeError) as error:
        raise Damaged(f"{path.name} can't be read") from error
    if not is_whole:
        raise Damaged(f"{path.name} has changed since it was written")
    check_files(path.parent, files.items())
    return whole, files, text


def check_files(folder: Path, files: Iterable[tuple[str, str]]) -> None:
    """Compare files with their SHA-256.

    Raises:
        Damaged: naming the first one that is missing or has changed.
    """
    for name, digest in files:
        path = folder / name
        try:
            if not path.is_file():
                raise Damaged(f"{name} is missing")
            if sha256(path) != digest:
                raise Damaged(f"{name} has changed since it was written")
        except OSError as error:
            raise Damaged(f"{name} can't be read ({error.strerror})") from error


def _digest(content: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
