"""The checkpoints of a training: the last two, each with the SHA-256 of all its files.

A folder holds ``state.json`` (the last one) and ``previous.json`` (the one before), each sealed, the weights and the
optimizer of both in ``step-N/``, and the best weights that they name. The state is written when its files are on the
disk, so that a kill or a power cut at any instant leaves at least the one before.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any, NamedTuple

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from plum.errors import PlumError
from plum.run.hashes import sha256
from plum.run.sealed import Damaged, check_files, read_sealed, write_sealed
from plum.run.writing import remove, write_tensors, write_text
from plum.training import weights

logger = logging.getLogger(__name__)

STATE, PREVIOUS = "state.json", "previous.json"
_MODEL, _OPTIMIZER = "model", "optimizer.safetensors"


class Loaded(NamedTuple):
    """A checkpoint that is whole.

    Attributes:
        state: what was saved of the training's progress.
        folder: of its tensors.
    """

    state: dict[str, Any]
    folder: Path


class Checkpoints:
    """The last two checkpoints of a training.

    Args:
        folder: of nothing else.
        name: of the training, for messages.
    """

    def __init__(self, folder: Path, name: str) -> None:
        self.folder, self.name = folder, name
        self._last: str | None = None  # the text of state.json, once it is known to be whole
        self._kept: dict[str, str] = {}  # the files it speaks for
        self._best: dict[str, str] = {}

    def find(self) -> Loaded | None:
        """The last checkpoint that is whole; if there is none, the folder is emptied.

        Says which files are damaged, and where the training goes on.
        """
        if self.folder.is_symlink() or not self.folder.is_dir():
            remove(self.folder)
            return None
        there = [name for name in (STATE, PREVIOUS) if (self.folder / name).exists()]
        damaged = [f"{STATE} is missing"] if there == [PREVIOUS] else []
        for name in there:
            try:
                state, files, self._last = read_sealed(self.folder / name)
            except Damaged as error:
                damaged.append(str(error))
                remove(self.folder / name)
                continue
            self._kept = files
            self._best = {file: digest for file, digest in files.items() if file.startswith("best-")}
            if damaged:
                logger.warning(
                    "%s: the last checkpoint is damaged (%s); going on from the one before, of step %d",
                    *(self.name, damaged[0], state["step"]),
                )
            return Loaded(state, self.folder / f"step-{state['step']}")
        if damaged:  # else it was stopped before the first one was complete
            logger.warning("%s: no checkpoint is whole (%s); beginning anew", self.name, "; ".join(damaged))
        remove(self.folder)
        return None

    def load(self, found: Loaded, model: nn.Module) -> dict[str, Tensor]:
        """Load a checkpoint's weights into the model; gives the other tensors.

        Raises:
            PlumError: if they are of another model.
        """
        try:
            weights.load(model, sorted(found.folder.glob(f"{_MODEL}*.safetensors")))
            return load_file(found.folder / _OPTIMIZER)
        except (SafetensorError, weights.Unfit, OSError) as error:
            what = f"{self.name}: the checkpoint in {found.folder} does not fit the model"
            raise PlumError(what, str(error).splitlines()[0], "start the stage anew with --force") from error

    def save(self, state: dict[str, Any], model: nn.Module, tensors: dict[str, Tensor]) -> None:
        """Write a checkpoint, then make it the last one; the one before is kept, older ones are removed.

        Args:
            state: with ``step``, for JSON.
            model: its weights are saved.
            tensors: all others.

        Raises:
            PlumError: if it can't be written. The last one is as it was then, and nothing of the new one is left.
        """
        folder = self.folder / f"step-{state['step']}"
        remove(folder)
        try:
            names = weights.write(folder, _MODEL, model)
            write_tensors(folder / _OPTIMIZER, tensors)  # syncs the entries of both
        except PlumError:  # on a full disk, half a checkpoint would leave no room for anything else
            remove(folder)
            raise
        files = {f"{folder.name}/{name}": sha256(folder / name) for name in (*names, _OPTIMIZER)} | self._best
        if self._last is not None:
            write_text(self.folder / PREVIOUS, self._last, sync_entry=False)  # the state's sync is this one's
        before, self._kept = self._kept, files
        self._last = write_sealed(self.folder / STATE, state, files)
        self._tidy({name.split("/")[0] for name in (*before, *files)})

    def save_best(self, step: int, model: nn.Module) -> None:
        """Keep the best weights so far; they become part of the next checkpoint."""
        names = weights.write(self.folder, f"best-{step}", model)  # the next checkpoint's sync is this one's
        self._best = {name: sha256(self.folder / name) for name in names}

    def load_best(self, model: nn.Module) -> None:
        """Load the best weights.

        Raises:
            PlumError: if they have been damaged meanwhile.
        """
        try:
            check_files(self.folder, self._best.items())
        except Damaged as error:
            what = f"{self.name}: the best weights in {self.folder} are damaged"
            raise PlumError(what, str(error), "run the same command again: it trains again what is lost") from error
        weights.load(model, [self.folder / name for name in self._best])

    def _tidy(self, needed: set[str]) -> None:
        for old in self.folder.iterdir():
            if old.name.startswith(("step-", "best-")) and old.name not in needed:
                remove(old)
