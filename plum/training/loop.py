"""The training loop of the tokenizer, the language model and the dense baselines.

A checkpoint holds weights, optimizer state, the random generators' states and the log so far, as safetensors and JSON;
:mod:`plum.training.checkpoint` keeps the last two.
A run that is killed at any time and started again ends with the same weights and the same log as an uninterrupted one:
the batches of an epoch depend on the seed and the epoch only, and the log holds no times. (With several processes, the
dropout of all but the first is drawn anew.)
"""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from plum import runtime
from plum.errors import PlumError
from plum.run.writing import write_text
from plum.training import speed
from plum.training.ahead import prepared
from plum.training.cost import Size
from plum.training.engine import Engine, Loss
from plum.training.micro import Parts
from plum.training.optimizer import forget
from plum.training.progress import Progress
from plum.training.recipe import Recipe
from plum.training.saving import Saving
from plum.training.sharding import Sharded
from plum.training.step import Planned, Stepper
from plum.training.trackers import Report, Trackers

logger = logging.getLogger(__name__)
Batch = TypeVar("Batch")
Moved = Sequence[tuple[Tensor, Tensor]]


@dataclass(frozen=True)
class Watch:
    """How a model is looked at during its training.

    Attributes:
        validate: metrics of the weights as they are.
        monitor: the metric that picks the best weights; larger is better.
        falling: smaller is better for ``monitor``.
        start: validate before the first step too, so that the weights of the start can be the best.
    """

    validate: Callable[[], dict[str, float]]
    monitor: str
    falling: bool = False
    start: bool = False


@dataclass(frozen=True)
class _Told:
    """What messages call a training and its epochs, and the steps between entries of its log."""

    name: str
    unit: str
    log_every: int


def fit(
    model: nn.Module,
    recipe: Recipe,
    batches: Callable[[int], Iterable[Batch]],
    loss: Loss,
    *,
    checkpoint: Path,
    name: str,
    prepare: Callable[[Batch], Any] | None = None,
    parts: Parts[Batch] | None = None,
    size: Callable[[Batch], Size] | None = None,
    validate: Callable[[], dict[str, float]] | None = None,
    monitor: str | None = None,
    falling: bool = False,
    validate_start: bool = False,
    unit: str = "epoch",
    after_epoch: Callable[[int], Moved | None] | None = None,
    log_every: int = 10,
    look: tuple[int, Callable[[], dict[str, float]]] | None = None,
    sharded: Sharded | None = None,
    report: Report | None = None,
) -> Progress:
    """Train ``model`` in place; with ``validate``, it ends with the weights of its best validation.

    In a command of several processes (:mod:`plum.run.ranks`), all train together if a batch can be taken apart; else
    this process trains alone. Only the first one writes and validates, and has the best weights at the end.

    Args:
        model: on its device.
        recipe: how to optimise.
        batches: the batches of an epoch, a function of the epoch only, and the same in all processes.
        loss: the losses of a batch, or of the result of ``prepare`` for it; ``"loss"`` is minimised, the others are
            logged.
        checkpoint: folder for checkpoints; an existing one is resumed.
        name: of the training, in the progress bar and the log.
        prepare: work on a batch, or a part of it, that depends on no weights and draws no random numbers. It runs on
            another thread during the previous step, and not for batches that a resumed training skips. Its errors are
            raised.
        parts: how a batch is taken apart, for micro-batches and several processes; None if it can't be.
        size: of a batch; all sizes are summed, which gives the cost and the speed.
        validate: metrics of the weights as they are.
        monitor: the metric that picks the best weights; larger is better.
        falling: smaller is better for ``monitor``.
        validate_start: validate before the first step too, so that the weights of the start can be the best.
        unit: what messages call an epoch.
        after_epoch: called with the epoch's number before validation (dead-code reset, for example). It may return
            parameters and rows of them that it has set anew: the optimizer's moments of these rows become zero.
        log_every: steps between log entries.
        look: steps between measurements that choose no weights, and what measures; the last step has none. It may draw
            no random numbers.
        sharded: train ``model`` sharded over all processes (FSDP2), and gather its weights into a copy for validations
            and at the end. ``model`` is of no use afterwards.
        report: where to send the curve besides the log.

    Returns:
        The final state; ``log`` holds the training curve.

    Raises:
        PlumError: if there is nothing to train on, the loss or the monitored metric is not a finite number, memory does
            not suffice, or another process of the command is gone.
    """
    if not recipe.total_steps:
        raise PlumError(
            f"{name}: there is nothing to train on", "no batch", "look at the training set with `plum data describe`"
        )
    if validate and not monitor:
        raise ValueError("validate needs the name of the metric to monitor")
    watch = Watch(validate, str(monitor), falling, validate_start) if validate else None
    engine = Engine(model, loss, together=parts is not None, sharded=sharded)
    stepper = Stepper(engine, recipe, parts, prepare, name)
    saving = Saving(engine, stepper, checkpoint, name)
    with ExitStack() as stack:
        trackers = Trackers(report if report and runtime.is_first() else Report(), name)
        stack.callback(trackers.close)
        run = _Training(recipe, stepper, saving, watch, trackers, _Told(name, unit, log_every))
        run.train(batches, size, after_epoch, look)
    saving.end(best=watch is not None)
    engine.close()
    run.state.speed = run.speed.figures()
    return run.state


def measured(step: int, epoch: int, figures: Mapping[str, float]) -> dict[str, Any]:
    """An entry of the log."""
    return {"step": step, "epoch": epoch, **{key: round(value, 6) for key, value in figures.items()}}


def write_log(path: Path, state: Progress) -> None:
    """Write the training curve, one JSON object per line."""
    write_text(path, "".join(json.dumps(entry) + "\n" for entry in state.log))


class _Training:
    """A model in training."""

    def __init__(
        self,
        recipe: Recipe,
        stepper: Stepper,
        saving: Saving,
        watch: Watch | None,
        trackers: Trackers,
        told: _Told,
    ) -> None:
        self.recipe, self.stepper, self.saving, self.watch, self.trackers = recipe, stepper, saving, watch, trackers
        self.told, self.name = told, told.name
        self.state = saving.resume()
        self.last = torch.tensor(math.nan)
        self.speed = speed.Speed(saving.peak_flops())

    def train(
        self,
        batches: Callable[[int], Iterable[Any]],
        size: Callable[[Any], Size] | None,
        after_epoch: Callable[[int], Moved | None] | None,
        look: tuple[int, Callable[[], dict[str, float]]] | None,
    ) -> None:
        """Make all steps that are left, with all that lies between them; see :func:`fit`."""
        self.size, self.after_epoch, self.look = size, after_epoch, look
        if self.watch and self.watch.start and not self.state.step:
            self._validate()
        with runtime.progress(self.name, self.recipe.total_steps, self.state.step) as show:
            while self.state.step < self.recipe.total_steps and not self.state.stopped:
                self._epoch(batches, show)

    def _epoch(self, batches: Callable[[int], Iterable[Any]], show: Callable[[int], None]) -> None:
        """Make the remaining steps of an epoch.

        Raises:
            RuntimeError: if there were more or fewer batches than the recipe has steps.
        """
        per_epoch = self.recipe.steps_per_epoch
        epoch = self.state.step // per_epoch
        start, end = epoch * per_epoch, min((epoch + 1) * per_epoch, self.recipe.total_steps)
        with closing(self._planned(batches(epoch), self.state.step - start)) as rest:
            self.speed.start()
            for planned in rest:
                if self.state.step == end:
                    if not self.recipe.ends_epoch(end):
                        break
                    raise RuntimeError(f"{self.name}: an epoch gave more than {per_epoch} steps")
                self._step(planned, epoch)
                show(self.state.step)
                if self.state.step < end:
                    self._between(epoch)
                    if self.state.stopped:
                        return
                self.speed.start()
        if self.state.step != end:
            raise RuntimeError(f"{self.name}: an epoch gave {self.state.step - start} steps, not {per_epoch}")
        self._between(epoch)

    def _planned(self, batches: Iterable[Any], skipped: int) -> Generator[Planned, None, None]:
        """The remaining batches of an epoch, taken apart and prepared."""
        rest = islice(batches, skipped, None)
        if self.stepper.prepares:
            yield from prepared(rest, self.stepper.plan)
        else:
            yield from map(self.stepper.plan, rest)

    def _step(self, planned: Planned, epoch: int) -> None:
        state = self.state
        losses = self.stepper.step(planned, state.step)
        self.last = losses["loss"]
        state.micro = self.stepper.found
        size = self.size(planned.batch) if self.size else Size(0, 0, 0)
        state.spent = list(state.size.plus(size))
        if state.step % self.told.log_every == 0:
            values = {key: round(value.item(), 6) for key, value in losses.items()}
            state.log.append({"step": state.step, "epoch": epoch, "lr": self.recipe.rate(state.step), **values})
            self.trackers.log({**values, "lr": self.recipe.rate(state.step), **self.speed.figures()}, state.step)
        state.step += 1
        self.speed.stop(size.tokens, size.flops)

    def _between(self, epoch: int) -> None:
        """What is due after a step: an epoch's end, a validation, a line of the log, a checkpoint."""
        step, ends_epoch = self.state.step, self.recipe.ends_epoch(self.state.step)
        if ends_epoch and self.after_epoch:
            for parameter, rows in self.after_epoch(epoch) or []:
                forget(self.stepper.optimizer, parameter, rows)
        if self.look and step % self.look[0] == 0 and step < self.recipe.total_steps:
            self._note(epoch, self.saving.measured(self.look[1]))
        due = self.watch is not None and self.recipe.is_validated(step)
        if due:
            self._validate()
        self._tell(epoch, ends_epoch)
        if due or self.recipe.is_saved(step):
            self.saving.save(self.state)

    def _tell(self, epoch: int, ends_epoch: bool) -> None:
        """A line of the log now and then: at some epochs' ends if there are no validations, and once a minute."""
        total = self.recipe.total_epochs
        if ends_epoch and not self.watch and (epoch + 1) % max(1, total // 5) == 0:
            logger.info("%s: %s %d of %d, loss %.4f", self.name, self.told.unit, epoch + 1, total, float(self.last))
        left = self.speed.seconds_left(self.recipe.total_steps - self.state.step)
        if left is not None and self.speed.is_due():
            shown = ", ".join(f"{key.replace('_', ' ')} {value:,}" for key, value in self.speed.figures().items())
            logger.info(
                "%s: step %d of %d, loss %.4f, %s%s left",
                *(self.name, self.state.step, self.recipe.total_steps, float(self.last)),
                *(f"{shown}, " if shown else "", speed.told(left)),
            )

    def _validate(self) -> None:
        """Measure the weights; keep them if they are the best so far."""
        if self.watch is None:
            return
        metrics = self.saving.measured(self.watch.validate)
        self._record(metrics, self.watch)
        if self.state.best_step == self.state.step:
            self.saving.save_best(self.state.step)

    def _note(self, epoch: int, figures: Mapping[str, float]) -> None:
        self.state.log.append(measured(self.state.step, epoch, figures))
        self.trackers.log(figures, self.state.step)

    def _record(self, metrics: dict[str, float], watch: Watch) -> None:
        state, monitor = self.state, watch.monitor
        epoch = -(-state.step // self.recipe.steps_per_epoch)  # begun so far
        self._note(max(0, epoch - 1), metrics)
        shown = ", ".join(f"{key} {value:.4f}" for key, value in metrics.items())
        at = f"{self.told.unit} {epoch}" if self.recipe.ends_epoch(state.step) else f"step {state.step}"
        logger.info("%s: %s, %s", self.name, at, shown)
        if not math.isfinite(metrics[monitor]):
            raise PlumError(
                f"{self.name}: {monitor} on the validation set is {metrics[monitor]}",
                None,
                "check with `plum data describe` that the split has validation users with a history",
            )
        value = (-1 if watch.falling else 1) * metrics[monitor]
        if value > state.best_value:
            state.best_step, state.best_value, state.stale = state.step, value, 0
            return
        state.stale += 1
        if self.recipe.patience is not None and state.stale >= self.recipe.patience:
            state.stopped = True
            logger.info("%s: stopping, no better %s in %d validations", self.name, monitor, state.stale)
