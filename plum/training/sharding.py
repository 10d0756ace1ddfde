"""FSDP2: each process holds a shard of the weights, gradients and moments; layers are gathered as they are needed.

A whole copy of the model stays beside the sharded one. Before a validation or a checkpoint, and at the end, the shards
are gathered into it, so that whatever uses the model finds plain tensors.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Sharded:
    """How a model is sharded.

    Attributes:
        whole: a copy of the model in main memory, for the gathered weights; the first process's is on ``device`` while
            it validates, and at the end.
        device: of the shards.
        half: blocks compute in bfloat16; weights, and the sum of gradients, stay as they are.
    """

    whole: nn.Module
    device: torch.device
    half: bool = False


def is_wanted(parallel: str) -> bool:
    """Whether several processes share the weights: asked for, or by ``accelerate launch --use_fsdp``."""
    by_launcher = os.environ.get("ACCELERATE_USE_FSDP", "false").lower() in ("true", "1")
    return parallel == "fsdp" or (parallel == "auto" and by_launcher)


def shard(step: nn.Module, model: nn.Module, how: Sharded) -> nn.Module:
    """Shard a model's blocks one by one, then what is left; in place. Each goes to the device as its shard only.

    Args:
        step: the module whose forward pass uses the model.
        model: in ``step``, in main memory.
        how: it is done.
    """
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard

    mesh = init_device_mesh(how.device.type, (torch.distributed.get_world_size(),))
    kinds = MixedPrecisionPolicy(param_dtype=torch.bfloat16, reduce_dtype=torch.float32, cast_forward_inputs=False)
    policy = kinds if how.half else MixedPrecisionPolicy(cast_forward_inputs=False)
    for block in _blocks(model):
        fully_shard(block, mesh=mesh, mp_policy=policy)
    fully_shard(step, mesh=mesh, mp_policy=policy)
    return step


def _blocks(model: nn.Module) -> list[nn.Module]:
    """The largest pieces that are alike: of the list of modules with most parameters, its entries."""
    lists = [module for module in model.modules() if isinstance(module, nn.ModuleList)]
    sizes = [sum(parameter.numel() for parameter in module.parameters()) for module in lists]
    return list(lists[sizes.index(max(sizes))]) if lists else []


def whole(value: Tensor) -> Tensor:
    """A sharded tensor in one piece, which all processes must ask for; others as they are."""
    sharded: Any = value
    found: Tensor = sharded.full_tensor() if hasattr(sharded, "full_tensor") else value
    return found


@torch.no_grad()
def gather(sharded: nn.Module, plain: nn.Module) -> None:
    """Copy all weights and buffers of a sharded model into a plain one of the same kind."""
    targets = _named(plain)
    for name, value in _named(sharded).items():
        targets[name].copy_(whole(value))


@torch.no_grad()
def scatter(plain: nn.Module, sharded: nn.Module) -> None:
    """Copy a plain model's weights and buffers into the shards."""
    sources = _named(plain)
    for name, value in _named(sharded).items():
        value.copy_(like(sources[name], value))


def like(value: Tensor, sharded: Any) -> Tensor:
    """A plain tensor, sharded as another one is."""
    if not hasattr(sharded, "full_tensor") or value.shape != sharded.shape:
        return value.to(sharded.device)
    from torch.distributed.tensor import distribute_tensor

    return distribute_tensor(value.to(sharded.device), sharded.device_mesh, sharded.placements)


def _named(model: nn.Module) -> dict[str, Tensor]:
    return dict(model.named_parameters()) | dict(model.named_buffers())
