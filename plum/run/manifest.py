"""Manifests: how the folder of a stage was made, and the SHA-256 of what it was made from and holds."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, Field

from plum.errors import PlumError
from plum.run.folders import MANIFEST, is_complete, remedy
from plum.run.plain import read_plain
from plum.run.typed import check, parse

Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Amount = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class Stored(BaseModel):
    """The shape of a manifest's file."""

    stage: str
    config: dict[str, Any]
    seed: Annotated[int, Field(ge=0, lt=2**31)]
    versions: dict[str, str]
    inputs: dict[str, Digest]
    outputs: dict[str, Digest]
    started: str
    duration_s: Amount
    peak_memory_mib: Amount
    speed: dict[str, Amount] = Field(default={})


@dataclass(frozen=True)
class Manifest:
    """How a folder was made: enough to repeat it, and to tell whether it is still up to date."""

    stage: str
    config: dict[str, Any]
    seed: int
    versions: dict[str, str]
    inputs: dict[str, str]
    outputs: dict[str, str] = field(default_factory=dict)
    started: str = ""
    duration_s: float = 0.0
    peak_memory_mib: float = 0.0
    speed: dict[str, float] = field(default_factory=dict)

    def fingerprint(self) -> dict[str, Any]:
        """What must agree for work to be reused: configuration, seed, inputs and plum's version."""
        config = json.loads(json.dumps(self.config, default=str))
        return {"config": config, "seed": self.seed, "inputs": self.inputs, "plum": self.versions.get("plum")}


def read_manifest(folder: Path) -> Manifest:
    """Read a folder's manifest.

    Raises:
        PlumError: if it is missing or invalid.
    """
    path, fix = folder / MANIFEST, remedy(folder)
    try:
        text = _bytes_of(folder)
    except FileNotFoundError:
        raise PlumError(f"{path} is missing", None, fix) from None
    except OSError as error:
        raise PlumError(f"{path} can't be read", str(error), fix) from None
    values = check(parse(text, str(path), fix), Stored, str(path), fix)
    return Manifest(**{name: values[name] for name in Stored.model_fields if name in values})


def _bytes_of(folder: Path) -> bytes:
    """The bytes of a folder's manifest, also if the folder is replaced at this moment."""
    while True:
        try:
            return read_plain(folder / MANIFEST)
        except FileNotFoundError:
            if not is_complete(folder):
                raise


def settings_of(folder: Path, shape: Any) -> dict[str, Any]:
    """The settings that a folder was made with, whatever they are now.

    Args:
        folder: of the stage.
        shape: a pydantic model that they must fit.

    Raises:
        PlumError: if the manifest is missing or invalid, or they don't fit.
    """
    path = folder / MANIFEST
    found: dict[str, Any] = check(read_manifest(folder).config, shape, f"{path}, config", remedy(folder, force=True))
    return found


def has_file(workdir: Path, name: str) -> bool:
    """Whether a completed run holds a file of this name (``"data/truth.safetensors"``)."""
    folder, _, rest = name.partition("/")
    return is_complete(workdir / folder) and rest in read_manifest(workdir / folder).outputs
