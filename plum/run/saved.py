"""Objects saved without pickle: settings as JSON with a version, arrays as safetensors or npy.

Files of a complete stage are read only if they are as the stage wrote them (:mod:`plum.run.verified`).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file

from plum.errors import PlumError
from plum.run import typed, verified
from plum.run.plain import open_plain

SHOWN = 3
"""Arrays that a message names."""


def read_settings(path: Path, version: int, fix: str, shape: Any = None) -> dict[str, Any]:
    """Read a JSON object of the given ``version``.

    Args:
        path: the file.
        version: that this code reads.
        fix: what to do about an unusable file, for the message.
        shape: a pydantic model or type that it must fit; None for any.

    Raises:
        PlumError: if the file is missing, unreadable, not JSON, of another version or of another shape.
    """
    try:
        text = verified.read_bytes(path)
    except FileNotFoundError:
        raise PlumError(f"{path} is missing", None, fix) from None
    except OSError as error:
        raise PlumError(f"{path} can't be read", str(error), fix) from None
    settings = typed.parse(text, str(path), fix)
    if not isinstance(settings, dict) or settings.get("version") != version:
        raise PlumError(f"{path} was written in another format version", f"not version {version}", fix)
    checked: dict[str, Any] = settings if shape is None else typed.check(settings, shape, str(path), fix)
    return checked


def read_arrays(path: Path, what: str, fix: str) -> dict[str, np.ndarray]:
    """Read a safetensors file.

    Args:
        path: the file.
        what: its expected content, for the message.
        fix: what to do about an unusable file, for the message.

    Raises:
        PlumError: if the file is missing, damaged, or holds numbers that are not finite.
    """
    _refuse_unreadable(path, fix)
    try:
        arrays = load_file(path)
    except (SafetensorError, OSError, KeyError, TypeError, ValueError) as error:
        raise PlumError(f"{path} can't be read as {what}", str(error), fix) from None
    odd = [name for name, array in arrays.items() if array.dtype.kind == "f" and not np.isfinite(array).all()]
    if odd:
        raise PlumError(f"{path} holds NaN or infinity", f"in {_named(odd)}", fix)
    return arrays


def refuse_other_shapes(
    path: Path, arrays: Mapping[str, np.ndarray], shapes: Mapping[str, tuple[int, ...]], fix: str
) -> None:
    """Refuse arrays with other names or shapes than a model of the run's settings has.

    Args:
        path: their file, for the message.
        arrays: by name.
        shapes: those that are needed, by name.
        fix: what to do about it, for the message.

    Raises:
        PlumError: naming the first arrays that are missing, superfluous or of another shape.
    """
    lacking, more = sorted(shapes.keys() - arrays.keys()), sorted(arrays.keys() - shapes.keys())
    if lacking or more:
        found = [f"it lacks {_named(lacking)}"] if lacking else []
        found += [f"it has {_named(more)} besides"] if more else []
        raise PlumError(f"{path} holds the weights of another model", "; ".join(found), fix)
    for name, shape in shapes.items():
        if arrays[name].shape != tuple(shape):
            found_shape = f"{name} has shape {arrays[name].shape}, not {tuple(shape)}"
            raise PlumError(f"{path} holds the weights of another model", found_shape, fix)


def read_vectors(path: Path, n_rows: int, fix: str, mapped: bool = False) -> np.ndarray:
    """Read an npy file of vectors, (N, D) float32.

    Args:
        path: the file.
        n_rows: N.
        fix: what to do about an unusable file, for the message.
        mapped: map it into memory instead of loading it.

    Raises:
        PlumError: if it is missing, damaged, or holds anything else.
    """
    _refuse_unreadable(path, fix)
    try:
        found = np.load(path, mmap_mode="r" if mapped else None, allow_pickle=False)
    except (OSError, ValueError, EOFError, SyntaxError, MemoryError, BadZipFile) as error:
        raise PlumError(f"{path} can't be read as vectors", str(error), fix) from None
    if not isinstance(found, np.ndarray) or found.ndim != 2 or found.dtype != np.float32 or len(found) != n_rows:
        told = f"{found.dtype} of shape {found.shape}" if isinstance(found, np.ndarray) else "several arrays"
        raise PlumError(f"{path} does not fit the catalogue", f"{told}, {n_rows:,} items", fix)
    return found


def _refuse_unreadable(path: Path, fix: str) -> None:
    """Check that a file is there, can be opened, and is as its stage wrote it."""
    try:
        open_plain(path).close()  # safetensors' own error for a missing file differs between its versions
    except FileNotFoundError:
        raise PlumError(f"{path} is missing", None, fix) from None
    except OSError as error:
        raise PlumError(f"{path} can't be read", str(error), fix) from None
    verified.verify(path)


def _named(names: list[str]) -> str:
    return ", ".join(names[:SHOWN]) + (f" and {len(names) - SHOWN:,} more" if len(names) > SHOWN else "")
