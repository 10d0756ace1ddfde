"""Training settings that follow from the model: its size, and whether it is pre-trained.

Sources: PLUM section 3 for the rates of pre-trained models (constant, 1e-4 to 2e-5 from 110M to 3B activated
parameters) and for fine-tuning at a constant rate; Ibrahim et al. 2024 for continued pre-training: warm up again, decay
again. Those of a model from scratch were measured for this project.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np

from plum.runtime import Precision

Stage = Literal["cpt", "finetune"]
Schedule = Literal["constant", "cosine"]

PLUM_RATES = {110e6: 1e-4, 370e6: 7e-5, 900e6: 5e-5, 3e9: 2e-5}
"""Parameters -> peak learning rate (PLUM section 3)."""
SCRATCH_RATES: dict[Stage, float] = {"cpt": 2e-3, "finetune": 1e-3}
LORA_FACTOR = 10.0
"""An adapter's rate over that of all weights."""
HIGHEST_RATE = 5e-3
FAR = 10.0
"""A rate this many times off is warned of."""


@dataclass(frozen=True)
class Defaults:
    """What is trained with where nothing else is said; see ``plum.training.loop.Recipe`` and ``plum.runtime``."""

    learning_rate: float
    schedule: Schedule
    precision: Precision


def defaults_of(
    stage: Stage, n_parameters: int, pretrained: bool, lora: bool = False, half_products: bool = False
) -> Defaults:
    """The defaults for a model.

    Args:
        stage: what it is trained for.
        n_parameters: of the whole model.
        pretrained: whether the run began with a given model.
        lora: whether adapters are trained.
        half_products: whether the processor has instructions for products in bfloat16.
    """
    rate = pretrained_rate(n_parameters) if pretrained else SCRATCH_RATES[stage]
    if lora:
        rate = min(LORA_FACTOR * rate, HIGHEST_RATE)
    constant = pretrained and stage == "finetune"
    return Defaults(rate, "constant" if constant else "cosine", "bfloat16" if pretrained and half_products else "auto")


def pretrained_rate(n_parameters: int) -> float:
    """Learning rate of a pre-trained model: PLUM's, log-linear in the parameters between and beyond its four sizes.

    Example:
        >>> pretrained_rate(110_000_000), pretrained_rate(3_000_000_000)
        (0.0001, 2e-05)
    """
    sizes, rates = np.log(list(PLUM_RATES)), np.log(list(PLUM_RATES.values()))
    slope = (rates[-1] - rates[0]) / (sizes[-1] - sizes[0])
    size = math.log(max(1, n_parameters))
    inside = min(max(size, sizes[0]), sizes[-1])
    rate = math.exp(np.interp(inside, sizes, rates) + slope * (size - inside))
    return float(f"{min(rate, SCRATCH_RATES['finetune']):.2g}")


def far_off(given: float, default: float) -> str | None:
    """What is said of a rate more than ``FAR`` times off the default; None for any other.

    Args:
        given: by the configuration.
        default: for this model.
    """
    if default / FAR <= given <= default * FAR or math.isclose(given, default * FAR):
        return None
    ratio = given / default
    told = f"{ratio:,.3g} times" if ratio > 1 else f"1/{1 / ratio:,.3g} of"
    return f"learning rate {given:g} is {told} the default for this model, {default:g}"
