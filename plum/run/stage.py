"""One stage at work in a run folder: manifests, lineage, locks and complete folders.

A stage writes into a hidden sibling of its folder, ``.<stage>.partial``, and renames it when complete. The sibling
keeps the stage's training checkpoint, from which a killed stage resumes; it is discarded if the stage's configuration
or inputs have changed.
"""

from __future__ import annotations

import importlib.metadata
import logging
import platform
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import plum
from plum import runtime
from plum.errors import PlumError
from plum.run import ranks
from plum.run.artifacts import CHECKPOINT, COMMANDS, MANIFEST, SCAFFOLD, write_json
from plum.run.folders import is_complete
from plum.run.hashes import remembered_sha256, sha256
from plum.run.lineage import refuse_mixed
from plum.run.manifest import Manifest, read_manifest
from plum.run.place import Place
from plum.run.verified import changed_outputs, verify_outputs

logger = logging.getLogger(__name__)

LIBRARIES = ("torch", "transformers", "accelerate", "tokenizers", "numpy", "pandas", "scikit-learn", "faiss-cpu")
"""Packages whose versions a manifest records."""


class StageRun:
    """One stage at work in a run folder: whether it is up to date, where it writes, what it records.

    Args:
        workdir: the run folder.
        stage: the stage's folder in it.
        config: settings that the stage's result depends on.
        seed: the run's seed.
        inputs: names of the run's files that the stage reads (``"data/items.parquet"``).
        sources: files outside the run that it reads; recorded by name.

    Attributes:
        speed: figures of a training, for the manifest: tokens per second and the like.

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
        hashes = _input_hashes(workdir, stage, inputs) | _source_hashes(workdir, stage, sources)
        self.manifest = Manifest(stage, dict(config), seed, _versions(), hashes)
        self.speed: dict[str, float] = {}
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
        """Whether the folder was made with this configuration, seed and inputs, and its files are unchanged.

        The first process of a command says so for all.
        """
        return ranks.shared(self._is_complete)

    def _is_complete(self) -> bool:
        if not (self.folder / MANIFEST).exists():
            return False
        try:
            there = read_manifest(self.folder)
        except PlumError as error:
            logger.warning("%s; running stage %s again", error.what, self.stage)
            return False
        if there.fingerprint() != self.manifest.fingerprint():
            return False
        changed = changed_outputs(self.folder, there)
        if changed:
            logger.warning(
                "%s/: %s changed since the stage wrote it; running the stage again", self.stage, ", ".join(changed)
            )
        return not changed

    @contextmanager
    def writing(self, force: bool = False) -> Iterator[Path]:
        """Open the hidden folder for writing; on success write the manifest and rename the folder.

        The other processes of a command may read in the folder; they go on when the first has renamed it.

        Args:
            force: discard the checkpoint of an interrupted run.
        """
        if not runtime.is_first():
            ranks.shared(_done)
            yield self.partial
            ranks.shared(_done)
            return
        with self._place.writing(self.manifest.fingerprint(), force):
            ranks.shared(_done)
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
                    "speed": self.speed,
                }
            )
            write_json(self.partial / MANIFEST, asdict(manifest))
            self._place.put_in_place()
        ranks.shared(_done)


def _done() -> None:
    """Nothing: that this point is reached is what the other processes wait for."""


def _versions() -> dict[str, str]:
    versions = {"plum": plum.__version__, "python": platform.python_version(), "processor": runtime.processor()}
    for name in LIBRARIES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            versions[name] = "not installed"
    return versions


def _input_hashes(workdir: Path, stage: str, inputs: Sequence[str]) -> dict[str, str]:
    """Hashes of the inputs as they are now, after checking that they are what their stages wrote, of one origin.

    A folder made from another split or SID table than the run's current one is refused.
    """
    manifests: dict[str, Manifest] = {}
    for folder in dict.fromkeys(name.split("/")[0] for name in inputs):
        if not is_complete(workdir / folder):
            if foreign := Place(workdir, folder).foreign():
                raise foreign
            raise PlumError(
                f"{stage} needs {workdir / folder}/, which is not there",
                None,
                f"run `{COMMANDS[folder]}` first, or `plum run` for all stages",
            )
        manifests[folder] = read_manifest(workdir / folder)
    refuse_mixed(workdir, manifests)
    hashes: dict[str, str] = {}
    for name in inputs:
        folder, _, rest = name.partition("/")
        hashes |= verify_outputs(workdir / folder, manifests[folder], rest)
    return hashes


def _source_hashes(workdir: Path, stage: str, sources: Sequence[Path]) -> dict[str, str]:
    """Hashes of files outside the run, by name, so that they may move; by path if two have the same name."""
    names = [path.name for path in sources]
    hashes = {}
    for path in sources:
        if not path.is_file():
            raise PlumError(f"{stage} needs {path}, which is not there", None, "fix the path in the configuration")
        hashes[f"source/{path.name if names.count(path.name) == 1 else path}"] = remembered_sha256(path, workdir)
    return hashes
