"""One stage at work in a run folder: manifests, lineage, locks and complete folders.

A stage writes into a hidden sibling of its folder, ``.<stage>.partial``, and renames it when complete. The sibling
keeps the stage's training checkpoint, from which a killed stage resumes; it is discarded if the stage's configuration
or inputs have changed.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import logging
import platform
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import plum
from plum import runtime
from plum.errors import PlumError
from plum.run.artifacts import CHECKPOINT, COMMANDS, MANIFEST, SCAFFOLD, read_json, write_json
from plum.run.place import Place

logger = logging.getLogger(__name__)

LIBRARIES = ("torch", "transformers", "tokenizers", "numpy", "pandas", "scikit-learn", "faiss-cpu")
"""Packages whose versions a manifest records."""


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

    def fingerprint(self) -> dict[str, Any]:
        """What must agree for work to be reused: configuration, seed, inputs and plum's version."""
        config = json.loads(json.dumps(self.config, default=str))
        return {"config": config, "seed": self.seed, "inputs": self.inputs, "plum": self.versions.get("plum")}


def sha256(path: Path) -> str:
    """SHA-256 of a file's bytes, in hexadecimal."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


class StageRun:
    """One stage at work in a run folder: whether it is up to date, where it writes, what it records.

    Args:
        workdir: the run folder.
        stage: the stage's folder in it.
        config: settings that the stage's result depends on.
        seed: the run's seed.
        inputs: names of the run's files that the stage reads (``"data/items.parquet"``).
        sources: files outside the run that it reads; recorded by name.

    Raises:
        PlumError: if an input or source is missing, inputs were made from different versions of the same file, or the
            stage's folder holds files that no stage wrote.
    """

    def __init__(
        self,
        workdir: Path,
        stage: str,
        config: Mapping[str, Any],
        seed: int,
        inputs: Sequence[str],
        sources: Sequence[Path] = (),
    ) -> None:
        self.workdir = workdir
        self.stage = stage
        self._place = Place(workdir, stage)
        self.folder, self.partial = self._place.folder, self._place.partial
        self._place.settle()
        if foreign := self._place.foreign():
            raise foreign
        hashes = _input_hashes(workdir, stage, inputs) | _source_hashes(stage, sources)
        self.manifest = Manifest(stage, dict(config), seed, _versions(), hashes)
        # A stage reads and computes before it opens its folder, so time and memory count from here.
        self._started, self._clock = datetime.now(timezone.utc), time.monotonic()
        runtime.reset_peak_memory()

    @property
    def checkpoint(self) -> Path:
        """Folder of the training's checkpoint until the stage is complete."""
        return self.partial / CHECKPOINT

    def spent(self) -> dict[str, float]:
        """Seconds since the stage began and peak memory in MiB so far, as recorded in the manifest at the end."""
        return {
            "duration_s": round(time.monotonic() - self._clock, 3),
            "peak_memory_mib": round(runtime.peak_memory_mib(), 1),
        }

    def is_complete(self) -> bool:
        """Whether the folder was made with this configuration, seed and inputs, and its files are unchanged."""
        if not (self.folder / MANIFEST).exists():
            return False
        try:
            there = read_manifest(self.folder)
        except PlumError as error:
            logger.warning("%s; running stage %s again", error.what, self.stage)
            return False
        if there.fingerprint() != self.manifest.fingerprint():
            return False
        changed = [
            n for n, h in there.outputs.items() if not (self.folder / n).is_file() or sha256(self.folder / n) != h
        ]
        if changed:
            logger.warning(
                "%s/: %s changed since the stage wrote it; running the stage again", self.stage, ", ".join(changed)
            )
        return not changed

    @contextmanager
    def writing(self, force: bool = False) -> Iterator[Path]:
        """Open the hidden folder for writing; on success write the manifest and rename the folder.

        Args:
            force: discard the checkpoint of an interrupted run.
        """
        with self._place.writing(self.manifest.fingerprint(), force):
            yield self.partial
            self._place.sync()
            manifest = Manifest(
                **{
                    **self.manifest.__dict__,
                    "outputs": {
                        str(path.relative_to(self.partial)): sha256(path)
                        for path in sorted(self.partial.rglob("*"))
                        if path.is_file() and path.relative_to(self.partial).parts[0] not in SCAFFOLD
                    },
                    "started": self._started.isoformat(timespec="seconds"),
                    **self.spent(),
                }
            )
            write_json(self.partial / MANIFEST, asdict(manifest))
            self._place.put_in_place()


def read_manifest(folder: Path) -> Manifest:
    """Read a folder's manifest.

    Raises:
        PlumError: if it is missing or invalid.
    """
    values = read_json(folder / MANIFEST)
    try:
        return Manifest(**values)
    except TypeError as error:
        raise PlumError(f"{folder / MANIFEST} is not a manifest", str(error), "run the stage with --force") from None


def has_file(workdir: Path, name: str) -> bool:
    """Whether a completed run holds a file of this name (``"data/truth.safetensors"``)."""
    folder, _, rest = name.partition("/")
    return (workdir / folder / MANIFEST).exists() and rest in read_manifest(workdir / folder).outputs


def _versions() -> dict[str, str]:
    versions = {"plum": plum.__version__, "python": platform.python_version(), "processor": runtime.processor()}
    for name in LIBRARIES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            versions[name] = "not installed"
    return versions


def _input_hashes(workdir: Path, stage: str, inputs: Sequence[str]) -> dict[str, str]:
    """Hashes of the inputs, after checking that they belong together.

    A folder made from another split or SID table than the run's current one is refused.
    """
    manifests: dict[str, Manifest] = {}
    for folder in dict.fromkeys(name.split("/")[0] for name in inputs):
        if not (workdir / folder / MANIFEST).exists():
            raise PlumError(
                f"{stage} needs {workdir / folder}/, which is not there",
                None,
                f"run `{COMMANDS[folder]}` first, or `plum run` for all stages",
            )
        manifests[folder] = read_manifest(workdir / folder)
    for folder, manifest in manifests.items():
        for name, made_from in manifest.inputs.items():
            owner, _, rest = name.partition("/")
            if owner == "source" or not (workdir / owner / MANIFEST).exists():
                continue
            now = read_manifest(workdir / owner).outputs.get(rest)
            if now != made_from:
                raise PlumError(
                    f"{workdir / folder}/ was made from another {name} than the one now in the run",
                    f"SHA-256 {made_from[:12]}… then, {(now or 'missing')[:12]}… now",
                    f"run `{COMMANDS[folder]}` again, or `plum run`, which runs what is out of date",
                )
    hashes = {}
    for name in inputs:
        folder, _, rest = name.partition("/")
        outputs = manifests[folder].outputs
        matches = {f"{folder}/{n}": h for n, h in outputs.items() if n == rest or n.startswith(rest + "/")}
        if not matches:
            raise PlumError(f"{workdir / name} is missing", None, f"run `{COMMANDS[folder]} --force`")
        hashes.update(matches)
    return hashes


def _source_hashes(stage: str, sources: Sequence[Path]) -> dict[str, str]:
    """Hashes of files outside the run, by name, so that they may move; by path if two have the same name."""
    names = [path.name for path in sources]
    hashes = {}
    for path in sources:
        if not path.is_file():
            raise PlumError(f"{stage} needs {path}, which is not there", None, "fix the path in the configuration")
        hashes[f"source/{path.name if names.count(path.name) == 1 else path}"] = sha256(path)
    return hashes
