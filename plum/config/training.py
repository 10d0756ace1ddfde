"""What the configurations of all trainings share."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from plum.config.base import Batch, Count, Rate, Section, Share, Weight


class OptimizerConfig(Section):
    """What every trained model and the tokenizer share."""

    batch_size: Batch
    """Examples per training step."""
    learning_rate: Rate
    """Peak learning rate of AdamW."""
    weight_decay: Weight = 0.01
    """AdamW's weight decay, on matrices only: not on biases and norms."""
    warmup_share: Share = 0.05
    """Share of all steps in which the learning rate rises linearly to its peak."""
    schedule: Literal["constant", "cosine"] = "cosine"
    """Learning rate after the warm-up: constant, or a cosine down to a tenth of the peak (dense and lem: to
    ``final_rate``)."""
    max_grad_norm: Annotated[float, Field(ge=1e-6, le=1e9)] = 1.0
    """Gradients with a larger norm are scaled down to it."""
    checkpoint_steps: Count = 200
    """Steps between checkpoints. A stage that was killed resumes from the last one."""


class TrainingConfig(OptimizerConfig):
    """What every trained model shares."""

    epochs: Count
    """Passes over the training data."""


class RetrieverTrainingConfig(TrainingConfig):
    """What the language model and the dense baselines share."""

    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """Number format of matrix products in training. auto: bfloat16 on CUDA, else float32. Try bfloat16 on CPUs that
    have instructions for it."""
