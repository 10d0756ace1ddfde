"""accelerate around a model in training: one process, or several that each take a part of every batch.

Several either hold the whole model each (DDP), or a shard of it (FSDP2). The loss is computed inside of a module of its
own, so that it may use any part of the model, such as the head's weights, while the hooks of DDP and FSDP2 see it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from plum.run import ranks
from plum.runtime import n_processes, rank
from plum.training.rng import rng_state, set_rng_state
from plum.training.sharding import Sharded, shard

if TYPE_CHECKING:
    from accelerate import Accelerator

Loss = Callable[[Any], dict[str, Tensor]]
_LOST = ("closed by peer", "reset by peer", "Broken pipe", "gloo", "NCCL", "ProcessGroup", "Timed out", "refused")


class Engine:
    """A model with its loss, ready for steps.

    Args:
        model: on its device.
        loss: of a batch.
        together: with all processes of the command; else this one trains alone, whatever the others do.
        sharded: how ``model`` is sharded, in place; needs ``together``.

    Attributes:
        size: processes.
        rank: of this one.
    """

    def __init__(self, model: nn.Module, loss: Loss, together: bool, sharded: Sharded | None = None) -> None:
        self.model, self._loss, self.sharded = model, loss, sharded
        self.size, self.rank = (n_processes(), rank()) if together and not ranks.is_alone() else (1, 0)
        self.device = sharded.device if sharded else next(model.parameters()).device
        draws = rng_state()
        self._accelerator = _accelerator(self.device, self.size > 1)
        set_rng_state(draws)  # libraries that are imported for the first time draw numbers of their own
        self._module: Any = None
        self._seed = torch.initial_seed()
        if self.size > 1:
            step = _Step(model, loss)
            self._module = shard(step, model, sharded) if sharded else self._accelerator.prepare_model(step)

    def reseed(self, step: int) -> None:
        """Let processes but the first draw other dropout than it; the first one's state is the checkpoint's."""
        if self.rank:
            torch.manual_seed((self._seed + 7919 * self.rank + 104729 * step) % 2**63)

    def losses(self, batch: Any) -> dict[str, Tensor]:
        """The losses of a batch."""
        found: dict[str, Tensor] = self._loss(batch) if self._module is None else self._module(batch)
        return found

    def backward(self, loss: Tensor) -> None:
        """Add a loss's gradients."""
        self._accelerator.backward(loss)

    def collecting(self, last: bool) -> AbstractContextManager[Any]:
        """While open, gradients stay with their process, unless it is the ``last`` part of a step."""
        if self._module is None or self.sharded or last:  # whole gradients would take the memory that shards save
            return nullcontext()
        return self._accelerator.no_sync(self._module)

    def clip(self, most: float) -> Tensor:
        """Scale gradients down to a norm of at most ``most``; gives the norm before."""
        norm: Any = nn.utils.clip_grad_norm_(self.model.parameters(), most)
        return norm.full_tensor() if hasattr(norm, "full_tensor") else norm

    def together(self, values: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Means of scalars over all processes."""
        if self.size == 1:
            return dict(values)
        stacked = torch.stack([value.float() for value in values.values()]) / self.size
        torch.distributed.all_reduce(stacked)
        return dict(zip(values, stacked, strict=True))

    def close(self) -> None:
        """Let the model be as it was without the engine; what hooks DDP had are gone with it."""
        self._module = None


class _Step(nn.Module):
    """A model and its loss as one module."""

    def __init__(self, model: nn.Module, loss: Loss) -> None:
        super().__init__()
        self.model, self._loss = model, loss

    def forward(self, batch: Any) -> dict[str, Tensor]:
        return self._loss(batch)


def _accelerator(device: torch.device, together: bool) -> Accelerator:
    """A new one: trainings of one process follow each other, on any device, alone or together."""
    from accelerate import Accelerator
    from accelerate.state import AcceleratorState
    from accelerate.utils import patch_environment

    AcceleratorState._reset_state(reset_partial_state=True)
    # FSDP2 is set up by plum.training.sharding, also on CPUs, which accelerate leaves out. Precision is the loss's own
    # affair (plum.runtime.autocast), so that it is the same in a training and outside of it.
    settings: dict[str, Any] = {"accelerate_use_fsdp": "false"}
    if together:
        join(device)
    else:
        settings |= {"rank": "0", "world_size": "1", "local_rank": "-1"}
    with patch_environment(**settings):
        return Accelerator(cpu=device.type == "cpu", mixed_precision="no")


def join(device: torch.device) -> None:
    """Open the process group of all processes of the command, if it is not open yet."""
    from torch.distributed import PrefixStore, init_process_group, is_initialized

    if not is_initialized():
        backend = "gloo" if device.type == "cpu" else "cpu:gloo,cuda:nccl"
        store = PrefixStore("group", ranks.store())
        init_process_group(backend, store=store, rank=rank(), world_size=n_processes())


def is_lost(error: BaseException) -> bool:
    """Whether an error of torch says that another process is gone."""
    from torch.distributed import DistError

    return isinstance(error, DistError) or any(word in str(error) for word in _LOST)
