"""The state of torch's random generators, as tensors."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor


def rng_state() -> dict[str, Tensor]:
    """States by device: ``rng.cpu``, and ``rng.cuda`` where there is one."""
    states = {"rng.cpu": torch.get_rng_state()}
    if torch.cuda.is_available():
        states["rng.cuda"] = torch.cuda.get_rng_state()
    return states


def set_rng_state(states: Mapping[str, Tensor]) -> None:
    """Go back to states of :func:`rng_state`; a device that is not there any more is left out."""
    torch.set_rng_state(states["rng.cpu"])
    if "rng.cuda" in states and torch.cuda.is_available():
        torch.cuda.set_rng_state(states["rng.cuda"])
