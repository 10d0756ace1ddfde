"""Objects saved without pickle, in two files: settings as JSON with a version, arrays as safetensors."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file

from plum.errors import PlumError


def read_settings(path: Path, version: int, fix: str) -> dict[str, Any]:
    """Read a JSON object of the given ``version``.

    Args:
        path: the file.
        version: that this code reads.
        fix: what to do about an unusable file, for the message.

    Raises:
        PlumError: if the file is missing, unreadable, not JSON or of another version.
    """
    try:
        settings = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise PlumError(f"{path} is missing", None, fix) from None
    except (OSError, ValueError) as error:
        raise PlumError(f"{path} is not JSON", str(error), fix) from None
    if not isinstance(settings, dict) or settings.get("version") != version:
        raise PlumError(f"{path} was written in another format version", f"not version {version}", fix)
    return settings


def read_arrays(path: Path, what: str, fix: str) -> dict[str, np.ndarray]:
    """Read a safetensors file.

    Args:
        path: the file.
        what: its expected content, for the message.
        fix: what to do about an unusable file, for the message.

    Raises:
        PlumError: if the file is missing or damaged.
    """
    try:
        path.open("rb").close()  # safetensors' own error for a missing file differs between its versions
        return load_file(path)
    except FileNotFoundError:
        raise PlumError(f"{path} is missing", None, fix) from None
    except (SafetensorError, OSError) as error:
        raise PlumError(f"{path} can't be read as {what}", str(error), fix) from None
