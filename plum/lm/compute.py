"""How a language model's steps are computed: what trades memory, speed and rounding, but not what is learnt."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import torch
from transformers import PreTrainedModel

from plum.errors import PlumError

Weights = Literal["float32", "bfloat16"]
Parallel = Literal["auto", "ddp", "fsdp"]


@dataclass(frozen=True)
class Compute:
    """How steps are computed.

    Attributes:
        checkpoints: keep the activations at the blocks' borders only, and compute the others again in the backward
            pass (Chen et al. 2016): less memory for a third more work.
        weights: number format of weights, gradients and moments.
        compile: let ``torch.compile`` fuse the model's operations.
        parallel: how several processes share the work: each with the whole model (``ddp``), or with a shard of it
            (``fsdp``); ``auto`` is ``ddp``, unless ``accelerate launch --use_fsdp`` asks for the other.
    """

    checkpoints: bool = False
    weights: Weights = "float32"
    compile: bool = False
    parallel: Parallel = "auto"


def cast_weights(model: PreTrainedModel, weights: Weights) -> None:
    """Turn the parameters into a number format; buffers, such as the frequencies of positions, stay as they are."""
    kind = torch.bfloat16 if weights == "bfloat16" else torch.float32
    for parameter in model.parameters():
        if parameter.is_floating_point():
            parameter.data = parameter.data.to(kind)


@contextmanager
def checkpointed(model: PreTrainedModel, wanted: bool) -> Iterator[None]:
    """While open, the model computes activations again in the backward pass, if wanted.

    Raises:
        PlumError: if its architecture does not support that.
    """
    if not wanted:
        yield
        return
    # transformers is about to rename them.
    enable = getattr(model, "activation_checkpointing_enable", None) or model.gradient_checkpointing_enable
    disable = getattr(model, "activation_checkpointing_disable", None) or model.gradient_checkpointing_disable
    try:
        enable({"use_reentrant": False})
    except ValueError as error:
        what = f"gradient_checkpointing is not supported for models of type {model.config.model_type!r}"
        raise PlumError(what, str(error), "set gradient_checkpointing to false") from error
    try:
        yield
    finally:
        disable()


@contextmanager
def compiled(model: PreTrainedModel, wanted: bool) -> Iterator[None]:
    """While open, the model without its head is compiled, if wanted; its names and weights stay.

    Raises:
        PlumError: if the compiler fails, or is not there.
    """
    if not wanted:
        yield
        return
    from torch._dynamo.exc import TorchDynamoException

    base: Any = model.base_model
    base.compile()
    try:
        yield
    except TorchDynamoException as error:
        what = f"torch.compile can't compile models of type {model.config.model_type!r} here"
        raise PlumError(what, str(error).strip().splitlines()[0], "set compile to false") from error
    finally:
        base._compiled_call_impl = None
