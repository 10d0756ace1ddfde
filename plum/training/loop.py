"""The training loop of the tokenizer, the language model and the dense baselines.

A checkpoint holds weights, optimizer state, the random generators' states and the log so far, as safetensors and JSON;
:mod:`plum.training.checkpoint` keeps the last two.
A run that is killed at any time and started again ends with the same weights and the same log as an uninterrupted one:
the batches of an epoch depend on the seed and the epoch only, and the log holds no times.
"""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from plum import runtime
from plum.errors import PlumError
from plum.run.writing import write_text
from plum.training.checkpoint import Checkpoints

logger = logging.getLogger(__name__)
Batch = TypeVar("Batch")
Made = TypeVar("Made")


@dataclass(frozen=True)
class Recipe:
    """How to optimise: AdamW, linear warm-up, then a constant rate or a cosine down to a share of the peak.

    Attributes:
        epochs: passes over the batches.
        steps_per_epoch: optimizer steps in one pass.
        learning_rate: peak rate.
        warmup_share: share of all steps in the warm-up.
        schedule: ``"constant"`` or ``"cosine"``.
        final_rate: where the cosine ends, as a share of the peak rate.
        checkpoint_steps: steps between checkpoints.
        patience: validations without improvement before stopping, or None.
        validate_every: epochs between validations; the last epoch always has one.
    """

    epochs: int
    steps_per_epoch: int
    learning_rate: float
    weight_decay: float = 0.01
    warmup_share: float = 0.05
    schedule: str = "cosine"
    final_rate: float = 0.1
    max_grad_norm: float = 1.0
    checkpoint_steps: int = 200
    patience: int | None = None
    validate_every: int = 1

    @property
    def total_steps(self) -> int:
        """Optimizer steps of the whole training."""
        return self.epochs * self.steps_per_epoch

    def is_validated(self, epoch: int) -> bool:
        """Whether a validation follows epoch ``epoch``, counted from 0."""
        return (epoch + 1) % self.validate_every == 0 or epoch + 1 == self.epochs

    def rate(self, step: int) -> float:
        """Learning rate of step ``step``, counted from 0."""
        warmup = max(1, round(self.warmup_share * self.total_steps))
        if step < warmup:
            return self.learning_rate * (step + 1) / warmup
        if self.schedule == "constant":
            return self.learning_rate
        done = (step - warmup) / max(1, self.total_steps - warmup)
        share = self.final_rate + (1 - self.final_rate) * 0.5 * (1 + math.cos(math.pi * done))
        return self.learning_rate * share


@dataclass
class Progress:
    """Progress of a training: the content of a checkpoint besides tensors."""

    step: int = 0
    best_step: int | None = None
    best_value: float = -math.inf
    stale: int = 0
    stopped: bool = False
    log: list[dict[str, Any]] = field(default_factory=list)


def fit(
    model: nn.Module,
    recipe: Recipe,
    batches: Callable[[int], Iterable[Batch]],
    loss: Callable[[Any], dict[str, Tensor]],
    *,
    checkpoint: Path,
    name: str,
    prepare: Callable[[Batch], Any] | None = None,
    validate: Callable[[], dict[str, float]] | None = None,
    monitor: str | None = None,
    falling: bool = False,
    validate_start: bool = False,
    unit: str = "epoch",
    after_epoch: Callable[[int], Sequence[tuple[Tensor, Tensor]] | None] | None = None,
    log_every: int = 10,
    look: tuple[int, Callable[[], dict[str, float]]] | None = None,
) -> Progress:
    """Train ``model`` in place; with ``validate``, it ends with the weights of its best validation.

    Args:
        model: on its device.
        recipe: how to optimise.
        batches: the batches of an epoch, a function of the epoch only.
        loss: the losses of a batch, or of the result of ``prepare`` for it; ``"loss"`` is minimised, the others are
            logged.
        checkpoint: folder for checkpoints; an existing one is resumed.
        name: of the training, in the progress bar and the log.
        prepare: work on a batch that depends on no weights and draws no random numbers. It runs on another thread
            during the previous step, and not for batches that a resumed training skips. Its errors are raised.
        validate: metrics after an epoch.
        monitor: the metric that picks the best weights; larger is better.
        falling: smaller is better for ``monitor``.
        validate_start: validate before the first step too, so that the weights of the start can be the best.
        unit: what messages call an epoch.
        after_epoch: called with the epoch's number before validation (dead-code reset, for example). It may return
            parameters and rows of them that it has set anew: the optimizer's moments of these rows become zero.
        log_every: steps between log entries.
        look: steps between measurements that choose no weights, and what measures; the last step has none. It may draw
            no random numbers.

    Returns:
        The final state; ``log`` holds the training curve.

    Raises:
        PlumError: if there is nothing to train on, or the loss or the monitored metric is not a finite number.
    """
    _check_steps(recipe, name)
    if validate and not monitor:
        raise ValueError("validate needs the name of the metric to monitor")
    run = _Training(model, recipe, checkpoint, name, log_every, falling, unit)
    run.look = look
    state = run.state
    if validate and validate_start and not state.step:
        run.validate(-1, validate, str(monitor))
    with runtime.progress(name, recipe.total_steps, state.step) as show:
        while state.step < recipe.total_steps and not state.stopped:
            epoch = state.step // recipe.steps_per_epoch
            with closing(run.rest_of_epoch(epoch, batches(epoch), prepare)) as rest:
                last = run.steps(epoch, rest, loss, show)
            if after_epoch:
                run.forget(after_epoch(epoch) or [])
            due = validate is not None and recipe.is_validated(epoch)
            if validate and due:
                run.validate(epoch, validate, str(monitor))
            elif not validate and (epoch + 1) % max(1, recipe.epochs // 5) == 0:
                logger.info("%s: %s %d of %d, loss %.4f", name, unit, epoch + 1, recipe.epochs, float(last))
            if due or epoch + 1 == recipe.epochs or _every(epoch, recipe):
                run.save()
    if validate:
        run.checkpoints.load_best(model)
    return state


def _check_steps(recipe: Recipe, name: str) -> None:
    if not recipe.total_steps:
        raise PlumError(
            f"{name}: there is nothing to train on", "no batch", "look at the training set with `plum data describe`"
        )


def _prepared(batches: Iterable[Batch], prepare: Callable[[Batch], Made]) -> Generator[Made, None, None]:
    """Prepare each batch one step ahead, on another thread.

    That thread and the caller's share torch's threads; with more threads than cores, they would wait for each other.
    """

    def make(rest: Iterator[Batch]) -> tuple[Made] | None:
        for batch in rest:
            return (prepare(batch),)
        return None

    rest, threads = iter(batches), torch.get_num_threads()
    share = max(1, threads // 2)
    try:
        torch.set_num_threads(max(1, threads - share))  # first: a new thread starts with the value set last
        with ThreadPoolExecutor(1, "prepare", torch.set_num_threads, (share,)) as thread:
            coming = thread.submit(make, rest)
            while made := coming.result():
                coming = thread.submit(make, rest)
                yield made[0]
    finally:
        torch.set_num_threads(threads)  # for this thread and later ones


def measured(step: int, epoch: int, figures: Mapping[str, float]) -> dict[str, Any]:
    """An entry of the log."""
    return {"step": step, "epoch": epoch, **{key: round(value, 6) for key, value in figures.items()}}


def write_log(path: Path, state: Progress) -> None:
    """Write the training curve, one JSON object per line."""
    write_text(path, "".join(json.dumps(entry) + "\n" for entry in state.log))


def _every(epoch: int, recipe: Recipe) -> bool:
    """Whether a checkpoint is due at an epoch's end: a multiple of ``checkpoint_steps`` was passed in the epoch."""
    before, after = epoch * recipe.steps_per_epoch, (epoch + 1) * recipe.steps_per_epoch
    return before // recipe.checkpoint_steps != after // recipe.checkpoint_steps


def _groups(model: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Parameter groups with weight decay for matrices only, not for biases, norms or other vectors."""
    trained = [p for p in model.parameters() if p.requires_grad]
    return [
        {"params": [p for p in trained if p.ndim >= 2], "weight_decay": weight_decay},
        {"params": [p for p in trained if p.ndim < 2], "weight_decay": 0.0},
    ]


class _Training:
    """A model in training, with its optimizer and checkpoint."""

    def __init__(
        self, model: nn.Module, recipe: Recipe, checkpoint: Path, name: str, log_every: int, falling: bool, unit: str
    ) -> None:
        self.model, self.recipe, self.checkpoints = model, recipe, Checkpoints(checkpoint, name)
        self.name, self.log_every, self.sign, self.unit = name, log_every, -1 if falling else 1, unit
        self.optimizer = torch.optim.AdamW(_groups(model, recipe.weight_decay), lr=recipe.learning_rate, fused=True)
        self.look: tuple[int, Callable[[], dict[str, float]]] | None = None
        self.state = self._resume()

    def rest_of_epoch(
        self, epoch: int, batches: Iterable[Batch], prepare: Callable[[Batch], Any] | None
    ) -> Generator[Any, None, None]:
        """The remaining batches of an epoch, prepared."""
        rest = islice(batches, self.state.step - epoch * self.recipe.steps_per_epoch, None)
        yield from rest if prepare is None else _prepared(rest, prepare)

    def steps(
        self,
        epoch: int,
        batches: Iterable[Batch],
        loss: Callable[[Batch], dict[str, Tensor]],
        show: Callable[[int], None],
    ) -> Tensor:
        """Make the remaining steps of an epoch; returns the last one's loss.

        Args:
            epoch: its number.
            batches: the remaining ones.
            loss: of a batch.
            show: called with the number of steps so far.

        Raises:
            RuntimeError: if there were more or fewer batches than the recipe has steps.
        """
        start, end = epoch * self.recipe.steps_per_epoch, (epoch + 1) * self.recipe.steps_per_epoch
        last = torch.tensor(math.nan)
        for batch in batches:
            last = self.step(loss, batch)
            if self.look and self.state.step % self.look[0] == 0 and self.state.step < self.recipe.total_steps:
                self.state.log.append(measured(self.state.step, epoch, self.look[1]()))
            show(self.state.step)
            if self.state.step % self.recipe.checkpoint_steps == 0 and self.state.step < end:
                self.save()
        if self.state.step != end:
            raise RuntimeError(f"{self.name}: an epoch gave {self.state.step - start} steps, not {end - start}")
        return last

    def step(self, loss: Callable[[Batch], dict[str, Tensor]], batch: Batch) -> Tensor:
        """One optimizer step; returns the loss."""
        self.model.train()
        state = self.state
        rate = self.recipe.rate(state.step)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        losses = loss(batch)
        self.optimizer.zero_grad(set_to_none=True)
        losses["loss"].backward()
        norm = nn.utils.clip_grad_norm_(self.model.parameters(), self.recipe.max_grad_norm)
        if not torch.isfinite(norm + losses["loss"].detach()):  # one device synchronisation, not two
            raise PlumError(
                f"{self.name}: the loss or its gradient is not finite at step {state.step}",
                f"loss {losses['loss'].item()}, gradient norm {norm.item()}",
                "lower the learning rate, and look for extreme values in the features",
            )
        self.optimizer.step()
        if state.step % self.log_every == 0:
            values = {key: round(value.item(), 6) for key, value in losses.items()}
            epoch = state.step // self.recipe.steps_per_epoch
            state.log.append({"step": state.step, "epoch": epoch, "lr": rate, **values})
        state.step += 1
        return losses["loss"].detach()

    def validate(self, epoch: int, validate: Callable[[], dict[str, float]], monitor: str) -> None:
        """Measure the weights; keep them if they are the best so far."""
        self.model.eval()
        with torch.no_grad():
            metrics = validate()
        self._record(epoch, metrics, monitor)
        if self.state.best_step == self.state.step:
            self.checkpoints.save_best(self.state.step, self.model)

    def _record(self, epoch: int, metrics: dict[str, float], monitor: str) -> None:
        state = self.state
        state.log.append(measured(state.step, max(0, epoch), metrics))
        shown = ", ".join(f"{key} {value:.4f}" for key, value in metrics.items())
        logger.info("%s: %s %d, %s", self.name, self.unit, epoch + 1, shown)
        if not math.isfinite(metrics[monitor]):
            raise PlumError(
                f"{self.name}: {monitor} on the validation set is {metrics[monitor]}",
                None,
                "check with `plum data describe` that the split has validation users with a history",
            )
        value = self.sign * metrics[monitor]
        if value > state.best_value:
            state.best_step, state.best_value, state.stale = state.step, value, 0
            return
        state.stale += 1
        if self.recipe.patience is not None and state.stale >= self.recipe.patience:
            state.stopped = True
            logger.info("%s: stopping, no better %s in %d validations", self.name, monitor, state.stale)

    @torch.no_grad()
    def forget(self, moved: Sequence[tuple[Tensor, Tensor]]) -> None:
        """Set the optimizer's moments of some rows of parameters to zero."""
        for parameter, rows in moved:
            for key, value in self.optimizer.state.get(parameter, {}).items():
                if key != "step":  # it is of the whole parameter
                    value[rows] = 0

    def save(self) -> None:
        """Write a checkpoint."""
        tensors = {
            f"{index}.{key}": value.contiguous()
            for index, entry in self.optimizer.state_dict()["state"].items()
            for key, value in entry.items()
        }
        tensors["rng.cpu"] = torch.get_rng_state()
        if torch.cuda.is_available():
            tensors["rng.cuda"] = torch.cuda.get_rng_state()
        self.checkpoints.save(self.state.__dict__, self.model, tensors)

    def _resume(self) -> Progress:
        """The progress of the last whole checkpoint, its tensors loaded; at the start if there is none."""
        found = self.checkpoints.find()
        if found is None:
            return Progress()
        tensors = self.checkpoints.load(found, self.model)
        torch.set_rng_state(tensors.pop("rng.cpu"))
        if (cuda := tensors.pop("rng.cuda", None)) is not None and torch.cuda.is_available():
            torch.cuda.set_rng_state(cuda)
        entries: dict[int, dict[str, Tensor]] = {}
        for key, value in tensors.items():
            index, _, part = key.partition(".")
            entries.setdefault(int(index), {})[part] = value
        groups = self.optimizer.state_dict()["param_groups"]
        self.optimizer.load_state_dict({"state": entries, "param_groups": groups})
        return Progress(**found.state)
