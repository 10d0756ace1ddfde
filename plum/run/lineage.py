"""Whether the folders of a run belong together: each was made from files that are still the run's."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from plum.errors import PlumError
from plum.run.folders import COMMANDS, is_complete
from plum.run.manifest import Manifest, read_manifest


def refuse_mixed(workdir: Path, manifests: Mapping[str, Manifest], fix: str | None = None) -> None:
    """Refuse a folder made from other files than those now in the run, such as another split.

    Args:
        workdir: the run.
        manifests: folder -> its manifest; a folder that the run no longer has can't be compared, and may be missing.
        fix: what to do about it; None for the command of the folder.

    Raises:
        PlumError: naming the first such folder and file.
    """
    owners: dict[str, Manifest | None] = {}
    for folder, manifest in manifests.items():
        for name, made_from in manifest.inputs.items():
            owner, _, rest = name.partition("/")
            if owner not in owners:
                there = owner != "source" and is_complete(workdir / owner)
                owners[owner] = read_manifest(workdir / owner) if there else None
            if (present := owners[owner]) is None:
                continue
            now = present.outputs.get(rest)
            if now != made_from:
                raise PlumError(
                    f"{workdir / folder}/ was made from another {name} than the one now in the run",
                    f"SHA-256 {made_from[:12]}… then, {(now or 'missing')[:12]}… now",
                    fix or f"run `{COMMANDS[folder]} --workdir {workdir}`, or `plum run` for all that is out of date",
                )


def ancestry(workdir: Path, folder: str) -> dict[str, Manifest]:
    """The manifests of a folder of a run and of all that it was made from, directly or not."""
    found: dict[str, Manifest] = {}
    waiting = [folder]
    while waiting:
        one = waiting.pop(0)
        if one in found or one not in COMMANDS or not is_complete(workdir / one):
            continue
        found[one] = read_manifest(workdir / one)
        waiting += list(dict.fromkeys(name.partition("/")[0] for name in found[one].inputs))
    return found
