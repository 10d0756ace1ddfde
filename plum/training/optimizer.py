"""AdamW, its groups of parameters, and its state as named tensors."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from plum.errors import PlumError
from plum.training.recipe import Recipe


def make_optimizer(model: nn.Module, recipe: Recipe) -> torch.optim.Optimizer:
    """AdamW of the trained parameters, on their device.

    Raises:
        PlumError: if its moments shall have 8 bits, and bitsandbytes is not installed or the parameters are sharded.
    """
    parts = groups(model, recipe.weight_decay)
    if recipe.optimizer == "adamw":
        return torch.optim.AdamW(parts, lr=recipe.learning_rate, fused=True)
    if any(hasattr(parameter, "full_tensor") for parameter in model.parameters()):
        what = "optimizer: adamw-8bit can't train a sharded model"
        raise PlumError(what, "parallel: fsdp", "set optimizer to adamw, or parallel to ddp")
    try:
        from bitsandbytes.optim import AdamW8bit
    except ImportError as error:
        raise PlumError(
            "optimizer: adamw-8bit needs the package bitsandbytes",
            str(error),
            "install it with `pip install 'plum-recommender[eight-bit]'`, or set optimizer to adamw",
        ) from error
    made: torch.optim.Optimizer = AdamW8bit(parts, lr=recipe.learning_rate)
    return made


def groups(model: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Parameter groups with weight decay for matrices only, not for biases, norms or other vectors."""
    trained = [p for p in model.parameters() if p.requires_grad]
    return [
        {"params": [p for p in trained if p.ndim >= 2], "weight_decay": weight_decay},
        {"params": [p for p in trained if p.ndim < 2], "weight_decay": 0.0},
    ]


def state_tensors(model: nn.Module, optimizer: torch.optim.Optimizer) -> Iterator[tuple[str, Tensor]]:
    """The optimizer's state: ``<parameter>:<key>`` and its value, whatever the order and sharding of parameters."""
    names: dict[Tensor, str] = {parameter: name for name, parameter in model.named_parameters()}
    for parameter, entry in optimizer.state.items():
        for key, value in entry.items():
            yield f"{names[parameter]}:{key}", torch.as_tensor(value)


def load_state(model: nn.Module, optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor]) -> None:
    """Take over what :func:`state_tensors` gave, each value as it lies on its parameter's device.

    Raises:
        KeyError: if a tensor is of a parameter that the model has not.
    """
    known = dict(model.named_parameters())
    place = {id(p): number for number, p in enumerate(p for g in optimizer.param_groups for p in g["params"])}
    entries: dict[int, dict[str, Any]] = {}
    for name, value in tensors.items():
        parameter, _, key = name.rpartition(":")
        is_number = value.ndim == 0 and not value.is_floating_point()  # the steps of an optimizer of 8 bits
        entries.setdefault(place[id(known[parameter])], {})[key] = int(value) if is_number else value
    optimizer.load_state_dict({"state": entries, "param_groups": optimizer.state_dict()["param_groups"]})


@torch.no_grad()
def forget(optimizer: torch.optim.Optimizer, parameter: Tensor, rows: Tensor) -> None:
    """Set the moments of some rows of a parameter to zero."""
    for key, value in optimizer.state.get(parameter, {}).items():
        if key != "step":  # it is of the whole parameter
            value[rows] = 0
