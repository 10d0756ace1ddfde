"""What a training leaves and takes up: checkpoints, the best weights, measurements; with one process or several."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch

from plum.errors import PlumError
from plum.run import ranks
from plum.training import sharding, speed
from plum.training.checkpoint import Checkpoints, Loaded
from plum.training.engine import Engine
from plum.training.optimizer import load_state, state_tensors
from plum.training.progress import Progress
from plum.training.rng import rng_state, set_rng_state
from plum.training.step import Stepper


class Saving:
    """The checkpoints of a training, which the first process writes and all read.

    Args:
        engine: with the model.
        stepper: with the optimizer.
        folder: for checkpoints.
        name: of the training.
    """

    def __init__(self, engine: Engine, stepper: Stepper, folder: Path, name: str) -> None:
        self._engine, self._stepper, self._name = engine, stepper, name
        self._whole = engine.sharded.whole if engine.sharded else engine.model  # in plain tensors
        self._checkpoints = Checkpoints(folder, name)
        self._first = engine.rank == 0

    def peak_flops(self) -> float | None:
        """FLOP/s of all devices together; None if unknown."""
        peak = speed.peak_flops(self._engine.device)
        return None if peak is None else peak * self._engine.size

    def resume(self) -> Progress:
        """The progress of the last whole checkpoint, its tensors loaded; at the start if there is none."""
        found = self._find()
        self._engine.reseed(0 if found is None else found.state["step"])
        if found is None:
            return Progress()
        state = Progress(**found.state)
        tensors = self._checkpoints.load(found, self._whole)
        states = {name: tensors.pop(name) for name in list(tensors) if name.startswith("rng.")}
        model = self._engine.model
        if self._engine.sharded:
            sharding.scatter(self._whole, model)
            targets = dict(model.named_parameters())
            tensors = {name: sharding.like(value, targets[name.rpartition(":")[0]]) for name, value in tensors.items()}
        if self._first:
            set_rng_state(states)
        try:
            load_state(model, self._stepper.optimizer, tensors)
        except KeyError as error:
            what = f"{self._name}: the checkpoint in {found.folder} does not fit the optimizer"
            raise PlumError(what, str(error), "start the stage anew with --force") from error
        self._stepper.found = state.micro
        return state

    def _find(self) -> Loaded | None:
        """The last whole checkpoint; the first process says which it is, and removes what is damaged."""
        if self._engine.size == 1:
            return self._checkpoints.find()

        def find() -> list[object] | None:
            found = self._checkpoints.find()
            return None if found is None else [found.state, str(found.folder)]

        answer = ranks.shared(find)
        return None if answer is None else Loaded(answer[0], Path(str(answer[1])))  # type: ignore[arg-type]

    def save(self, state: Progress) -> None:
        """Write a checkpoint; all processes must call it."""
        optimizer = state_tensors(self._engine.model, self._stepper.optimizer)
        if self._engine.sharded:
            self._gather()
            optimizer = ((name, sharding.whole(value)) for name, value in optimizer)
        tensors = {name: value.contiguous() for name, value in optimizer}
        if self._first:
            self._checkpoints.save(state.__dict__, self._whole, tensors | rng_state())

    def save_best(self, step: int) -> None:
        """Keep the weights that :meth:`measured` has seen just before."""
        if self._first:
            self._checkpoints.save_best(step, self._whole)

    def measured(self, validate: Callable[[], dict[str, float]]) -> dict[str, float]:
        """Metrics of the weights, by the first process; the others wait for them."""
        if self._engine.sharded:
            self._gather()
            if self._first:
                self._whole.to(self._engine.device)
        self._engine.model.eval()
        self._whole.eval()
        with torch.no_grad():
            found = validate() if self._engine.size == 1 else ranks.shared(validate)
        if self._engine.sharded:
            self._whole.to("cpu")
        return found

    def end(self, best: bool) -> None:
        """Let the plain model have the last weights or, in the first process, the best ones."""
        if self._engine.sharded:
            self._gather()
        if best and self._first:
            self._checkpoints.load_best(self._whole)
        if self._engine.sharded and self._first:
            self._whole.to(self._engine.device)

    def _gather(self) -> None:
        sharding.gather(self._engine.model, self._whole)
