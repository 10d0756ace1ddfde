"""Training of a small English model from random weights on a stream of tokens."""

from __future__ import annotations

import copy
import statistics
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from transformers import PreTrainedModel

from plum.lm.examples import Batch
from plum.lm.texts import random_blocks
from plum.lm.train import train
from plum.lm.vocab import ScratchShape
from plum.runtime import Precision
from plum.training.loop import Progress, Recipe

SIZES = {
    "5m": ScratchShape(hidden_size=256, layers=4, heads=4, intermediate_size=688),
    "10m": ScratchShape(hidden_size=320, layers=6, heads=5, intermediate_size=864),
    "30m": ScratchShape(hidden_size=512, layers=8, heads=8, intermediate_size=1376),
}
"""Shapes by parameters with a vocabulary of 8,192 tokens; feed-forward layers of 8/3 of the width, as Llama's."""
RATES = {256: 2e-3, 320: 1.5e-3, 512: 1e-3}
"""Peak learning rates by the width up to which they hold; half the last one above."""
_TRIED, _SKIPPED = 8, 3


@dataclass(frozen=True)
class Optimisation:
    """How a stream of tokens is learnt.

    Attributes:
        steps: optimizer steps.
        context_length: T, tokens of a block.
        batch_size: B, blocks of a step.
        learning_rate: peak of a cosine that ends at a twentieth.
        precision: of the matrix products.
        seed: of the order of the blocks.
    """

    steps: int
    context_length: int
    batch_size: int
    learning_rate: float
    precision: Precision = "auto"
    seed: int = 0

    @property
    def recipe(self) -> Recipe:
        """All steps as one epoch: passes over the stream are of no concern to the loop."""
        return Recipe(
            epochs=1,
            steps_per_epoch=self.steps,
            learning_rate=self.learning_rate,
            weight_decay=0.1,
            final_rate=0.05,
            checkpoint_steps=100,
        )

    def batches(self, stream: np.ndarray) -> Iterator[Batch]:
        """The batches of all steps."""
        for block in islice(random_blocks(stream, self.context_length, self.batch_size, self.seed), self.steps):
            tokens = torch.from_numpy(block)
            yield Batch(tokens, tokens)


def default_rate(hidden_size: int) -> float:
    """A peak learning rate for a width: narrower models take larger ones."""
    return next((rate for width, rate in RATES.items() if hidden_size <= width), min(RATES.values()) / 2)


def pretrain(model: PreTrainedModel, stream: np.ndarray, how: Optimisation, checkpoint: Path) -> Progress:
    """Train a model in place; see ``plum.lm.train.train``.

    Args:
        model: on its device.
        stream: (N,) tokens, documents joined by the end token.
        how: the settings.
        checkpoint: folder for checkpoints; an existing one is resumed.
    """
    return train(
        model,
        how.recipe,
        lambda _: how.batches(stream),
        checkpoint=checkpoint,
        name="pretrain",
        precision=how.precision,
    )


def steps_in(seconds: float, model: PreTrainedModel, stream: np.ndarray, how: Optimisation) -> int:
    """How many steps a time allows, 10 at least: the median of a few steps of a copy of the model.

    Args:
        seconds: for all steps.
        model: stays as it is.
        stream: (N,) tokens.
        how: the settings; its ``steps`` are not used.
    """
    tried, begun = replace(how, steps=_TRIED), list[float]()

    def timed() -> Iterator[Batch]:
        for batch in tried.batches(stream):
            begun.append(time.monotonic())
            yield batch

    with tempfile.TemporaryDirectory(prefix="plum-") as folder:
        train(
            copy.deepcopy(model),
            tried.recipe,
            lambda _: timed(),
            checkpoint=Path(folder) / "checkpoint",
            name="timing a step",
            precision=how.precision,
        )
    took = [later - earlier for earlier, later in zip(begun[_SKIPPED:], begun[_SKIPPED + 1 :], strict=False)]
    return max(10, int(seconds / statistics.median(took)))
