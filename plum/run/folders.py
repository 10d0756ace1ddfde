"""The folders of a run: one per stage, each with a manifest, and the command that makes each."""

from __future__ import annotations

import os
import time
from pathlib import Path

DATA, FEATURES, TOKENIZE, CPT, FINETUNE, DENSE, LEM, EVAL = (
    "data",
    "features",
    "tokenize",
    "cpt",
    "finetune",
    "dense",
    "lem",
    "eval",
)
COMMANDS = {
    DATA: "plum data prepare",
    FEATURES: "plum tokenize",
    TOKENIZE: "plum tokenize",
    CPT: "plum cpt",
    FINETUNE: "plum finetune",
    DENSE: "plum eval",
    LEM: "plum eval",
    EVAL: "plum eval",
}
ASSIGNED = "assigned"
"""The folder of `plum tokenize --assign`, beside those of the stages."""
MANIFEST = "manifest.json"
"""In the folder of every stage."""
PATIENCE_S = 0.5
"""For another process that is just putting a folder in its place; leftovers of a killed one look alike."""
DEEPEST = 3
"""Folders, at most, between a file of a stage and the run: ``cpt/model/config.json`` has two."""


def owner_of(path: Path) -> Path | None:
    """The complete folder of a stage that a file is of; None for any other file, such as one of a stage at work.

    A manifest is of no folder: it tells what the others are.
    """
    if path.name == MANIFEST:
        return None
    if os.path.lexists(path.parent / MANIFEST):  # whatever it is: what can't be read vouches for nothing
        return path.parent
    for folder in list(path.parents)[:DEEPEST]:
        if folder.name in COMMANDS:
            return folder if os.path.lexists(folder / MANIFEST) else None
    return None


def is_complete(folder: Path) -> bool:
    """Whether a stage's folder is there with its manifest; one that is just being replaced is waited for."""
    patience = time.monotonic() + PATIENCE_S
    while not (folder / MANIFEST).exists():
        real = Path(os.path.realpath(folder))
        hidden = (real.with_name(f".{real.name}.partial") / MANIFEST, real.with_name(f".{real.name}.retired"))
        if time.monotonic() > patience or not any(path.exists() for path in hidden):
            return (folder / MANIFEST).exists()  # it may have come between the two looks
        time.sleep(0.005)
    return True


def remedy(folder: Path, force: bool = False) -> str:
    """What makes the files of a stage's folder again, for a message.

    Args:
        folder: of the stage.
        force: whether the files are as the stage wrote them, so that it runs again only by force.
    """
    if folder.name not in COMMANDS:
        return "run `plum tokenize --assign` again with --force"
    run = folder.parent
    # The command of a baseline keeps it where another stage was made from it; the run as a whole does not.
    alone = None if folder.name in (DENSE, LEM) else COMMANDS[folder.name]
    if force:
        return f"run `{alone or 'plum run'} --workdir {run} --force`" + (", then `plum run`" if alone else "")
    if alone is None:
        return f"run `plum run --workdir {run}`, which makes again what has changed"
    return f"run `{alone} --workdir {run}`, which makes it again, or `plum run` for all that it feeds"
