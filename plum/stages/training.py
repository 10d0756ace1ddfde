"""A stage's training settings in the form that :mod:`plum.training` takes."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from plum.config.models import OptimizerConfig, TrainingConfig
from plum.runtime import pick_device

if TYPE_CHECKING:  # torch takes seconds to import: recommend refuses a mistaken rule before that
    from torch import nn

    from plum.training.loop import Recipe


def move(model: nn.Module, device: str) -> None:
    """Move a model to ``auto``, ``cpu``, ``cuda`` or ``mps``."""
    model.to(pick_device(device))


def recipe(
    config: OptimizerConfig,
    steps_per_epoch: int,
    patience: int | None = None,
    validate_every: int = 1,
    final_rate: float = 0.1,
    epochs: int | None = None,
) -> Recipe:
    """The training recipe of a stage's configuration, with the ``epochs`` it names, or those given."""
    from plum.training.loop import Recipe

    return Recipe(
        epochs=epochs or cast("TrainingConfig", config).epochs,
        steps_per_epoch=steps_per_epoch,
        learning_rate=config.learning_rate,
        weight_decay=config.weight_decay,
        warmup_share=config.warmup_share,
        schedule=config.schedule,
        final_rate=final_rate,
        max_grad_norm=config.max_grad_norm,
        checkpoint_steps=config.checkpoint_steps,
        patience=patience,
        validate_every=validate_every,
    )
