"""How a model is trained: how long, how fast, with which optimizer, and when it is looked at and saved."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from plum.training.schedule import Kind, Schedule

Optimizer = Literal["adamw", "adamw-8bit"]


@dataclass(frozen=True)
class Recipe:
    """How to optimise: AdamW, linear warm-up, then a rate by a schedule; see :mod:`plum.training.schedule`.

    Attributes:
        epochs: passes over the batches.
        steps_per_epoch: optimizer steps in one pass.
        learning_rate: peak rate.
        warmup_share: share of all steps in the warm-up.
        schedule: of the rate after the warm-up.
        final_rate: where the schedule ends, as a share of the peak rate; ``constant`` has none.
        checkpoint_steps: steps between checkpoints.
        patience: validations without improvement before stopping, or None.
        validate_every: epochs between validations; the last step always has one.
        max_steps: optimizer steps of the whole training, in place of ``epochs``; the last epoch may be a part of one.
        validate_steps: steps between validations, in place of ``validate_every``.
        decay_share, cooldown_share, plateau: of the schedule.
        optimizer: AdamW, with moments in float32 or in 8 bits.
        micro_batch: rows that are in memory at a time, or None for the whole batch; see :mod:`plum.training.micro`.
    """

    epochs: int
    steps_per_epoch: int
    learning_rate: float
    weight_decay: float = 0.01
    warmup_share: float = 0.05
    schedule: Kind = "cosine"
    final_rate: float = 0.1
    max_grad_norm: float = 1.0
    checkpoint_steps: int = 200
    patience: int | None = None
    validate_every: int = 1
    max_steps: int | None = None
    validate_steps: int | None = None
    decay_share: float = 0.2
    cooldown_share: float = 0.2
    plateau: float = 0.55
    optimizer: Optimizer = "adamw"
    micro_batch: int | None = None

    @property
    def total_steps(self) -> int:
        """Optimizer steps of the whole training; 0 if an epoch has none."""
        if self.max_steps is not None and self.steps_per_epoch:
            return self.max_steps
        return self.epochs * self.steps_per_epoch

    @property
    def total_epochs(self) -> int:
        """Epochs that are begun."""
        return -(-self.total_steps // self.steps_per_epoch)

    def ends_epoch(self, step: int) -> bool:
        """Whether an epoch is complete after ``step`` steps."""
        return step % self.steps_per_epoch == 0

    def is_validated(self, step: int) -> bool:
        """Whether a validation follows ``step`` steps."""
        if step >= self.total_steps:
            return True
        if self.validate_steps is not None:
            return step % self.validate_steps == 0
        return self.ends_epoch(step) and (step // self.steps_per_epoch) % self.validate_every == 0

    def is_saved(self, step: int) -> bool:
        """Whether a checkpoint follows ``step`` steps, if no validation does.

        At an epoch's end, one does if a multiple of ``checkpoint_steps`` was passed in the epoch.
        """
        if step >= self.total_steps:
            return True
        if not self.ends_epoch(step):
            return step % self.checkpoint_steps == 0
        return (step - self.steps_per_epoch) // self.checkpoint_steps != step // self.checkpoint_steps

    def rate(self, step: int) -> float:
        """Learning rate of step ``step``, counted from 0."""
        schedule = Schedule(
            self.schedule,
            self.warmup_share,
            self.final_rate,
            self.decay_share,
            self.cooldown_share,
            self.plateau,
        )
        return self.learning_rate * schedule.share(step, self.total_steps)
