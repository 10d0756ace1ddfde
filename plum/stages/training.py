"""A stage's training settings in the form that :mod:`plum.training` takes."""

from __future__ import annotations

import logging
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, TypeVar, cast

from plum.config.language_model import LanguageModelConfig
from plum.config.training import OptimizerConfig, TrainingConfig
from plum.lm.defaults import Stage, defaults_of, far_off
from plum.runtime import has_half_products, pick_device

if TYPE_CHECKING:  # torch takes seconds to import: recommend refuses a mistaken rule before that
    from pathlib import Path

    import numpy as np
    from torch import nn
    from transformers import PreTrainedModel

    from plum.config.lora import LoraConfig
    from plum.lm.compute import Compute
    from plum.lm.lora import Adapter
    from plum.training.loop import Recipe
    from plum.training.trackers import Report

TRACKING = "tracking"
"""Folder of a run for the files of trackers."""


logger = logging.getLogger(__name__)


def move(model: nn.Module, device: str) -> None:
    """Move a model to ``auto``, ``cpu``, ``cuda`` or ``mps``."""
    model.to(pick_device(device))


def adapter(model: PreTrainedModel, settings: LoraConfig | None, token_ids: np.ndarray, base: str) -> Adapter | None:
    """The adapter that is trained in place of a model's weights; None if these are.

    Args:
        model: on its device.
        settings: of the adapter.
        token_ids: (N,) of tokens whose rows are trained in full.
        base: the model's name.

    Raises:
        PlumError: if peft is not installed, or the model lacks a target.
    """
    if settings is None:
        return None
    from plum.lm.lora import Adaptation, Adapter

    shape = Adaptation(settings.r, settings.alpha, settings.dropout, settings.targets)
    return Adapter(model, shape, token_ids.tolist(), base)


LanguageModel = TypeVar("LanguageModel", bound=LanguageModelConfig)


def settled(
    settings: LanguageModel, stage: Stage, n_parameters: int, pretrained: bool
) -> tuple[LanguageModel, dict[str, Any]]:
    """The settings of a stage with nothing left open, and for ``metrics.json`` what follows from the model.

    Says what was chosen, and warns of a rate that is far off the default.

    Args:
        settings: of the stage.
        stage: its name.
        n_parameters: of its model.
        pretrained: whether the run began with a given model.
    """
    lora = settings.lora is not None
    defaults = asdict(defaults_of(stage, n_parameters, pretrained, lora, has_half_products()))
    chosen = {name: value for name, value in defaults.items() if getattr(settings, name) is None}
    model = f"{'a pre-trained model' if pretrained else 'a model from scratch'} of {n_parameters:,} parameters"
    if chosen and pretrained:
        told = ", ".join(f"{name} {value}" for name, value in chosen.items())
        logger.info("%s: %s, for %s%s", stage, told, model, " with lora" if lora else "")
    if settings.learning_rate and (far := far_off(settings.learning_rate, defaults["learning_rate"])):
        fix = f"leave {stage}.learning_rate out for the default"
        logger.warning("%s: %s (%s%s); %s", stage, far, model, ", with lora" if lora else "", fix)
    complete = settings.model_copy(update=chosen)
    return complete, {name: getattr(complete, name) for name in defaults}


def recorded(values: dict[str, Any], stage: str, scratch: bool) -> dict[str, Any]:
    """The settings of a stage as its manifest holds them.

    What came later and changes nothing by default is left out. What the configuration leaves open is as it is trained
    with if it does not depend on the model, which is among the inputs of the stage.

    Args:
        values: of the configuration's section.
        stage: its name.
        scratch: whether the run begins with no model.
    """
    later = {"lora": None, "loss_over": "vocabulary"}
    kept = {name: value for name, value in values.items() if name not in later or value != later[name]}
    if scratch:
        chosen = asdict(defaults_of(cast("Stage", stage), 0, pretrained=False, lora="lora" in kept))
        kept |= {name: value for name, value in chosen.items() if kept[name] is None}
    return kept


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

    if config.learning_rate is None or config.schedule is None:
        raise ValueError("what follows from the model must be settled before")
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
