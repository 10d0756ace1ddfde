"""Run folders whose files a test has changed, with manifests that vouch for them as they are now."""

from __future__ import annotations

import json
from pathlib import Path

from plum.run import artifacts
from plum.run.hashes import sha256


def seal(workdir: Path) -> Path:
    """Write the present SHA-256 of every file into the manifests, so that nothing looks changed; gives the run."""
    for stage in (*artifacts.COMMANDS, artifacts.ASSIGNED):
        path = workdir / stage / artifacts.MANIFEST
        if not path.exists():
            continue
        values = json.loads(path.read_text(encoding="utf-8"))
        values["outputs"] = {
            name: sha256(path.parent / name) for name in values["outputs"] if (path.parent / name).exists()
        }
        values["inputs"] = {
            name: sha256(workdir / name) if (workdir / name).exists() else digest
            for name, digest in values["inputs"].items()
        }
        artifacts.write_json(path, values)
    return workdir
