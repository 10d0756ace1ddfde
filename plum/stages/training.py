"""A stage's training settings in the form that :mod:`plum.training` takes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from plum.config.models import LanguageModelConfig, OptimizerConfig, TrainingConfig
from plum.runtime import pick_device

if TYPE_CHECKING:  # torch takes seconds to import: recommend refuses a mistaken rule before that
    from pathlib import Path

    from torch import nn

    from plum.lm.compute import Compute
    from plum.training.loop import Recipe
    from plum.training.trackers import Report

TRACKING = "tracking"
"""Folder of a run for the files of trackers."""


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

    further: dict[str, Any] = {}
    if isinstance(config, LanguageModelConfig):
        final_rate = config.final_rate
        further = {
            "max_steps": config.max_steps,
            "validate_steps": config.validate_steps,
            "optimizer": config.optimizer,
            "micro_batch": config.micro_batch_size,
            "decay_share": config.decay_share,
            "cooldown_share": config.cooldown_share,
            "plateau": config.plateau,
        }
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
        **further,
    )


def compute(config: LanguageModelConfig) -> Compute:
    """How the steps of a language model's stage are computed."""
    from plum.lm.compute import Compute

    return Compute(config.gradient_checkpointing, config.weights, config.compile, config.parallel)


def report(config: LanguageModelConfig, workdir: Path, stage: str) -> Report:
    """Where the curve of a stage goes besides its log.

    Raises:
        PlumError: if a tracker is not installed.
    """
    from plum.training.trackers import Report

    made = Report(config.report_to, workdir / TRACKING / stage, config.model_dump(mode="json"))
    made.check()
    return made
