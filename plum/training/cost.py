"""The cost of a retriever's training: examples, tokens and floating-point operations.

PLUM compares retrievers at equal training examples and at equal FLOPs (section 3), so both are reported beside recall.
All is counted from the batches, which depend on the epoch only: resumed and uninterrupted stages, and runs with the
same seed, count the same.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeVar

import torch
from torch import Tensor, nn

Batch = TypeVar("Batch")


class Size(NamedTuple):
    """Size of a batch.

    Attributes:
        examples: targets in the loss, in the retrievers' common unit (items, not tokens of an item).
        tokens: positions without padding.
        positions: all positions including padding, though a model may skip some of it.
    """

    examples: int
    tokens: int
    positions: int


@dataclass(frozen=True)
class Cost:
    """Cost of a training: all steps count, including those after the weights that were kept.

    Attributes:
        parameters: number of trained parameters.
        examples: targets in the loss, over all epochs.
        tokens: positions without padding, over all epochs.
        flops: floating-point operations of the matrix products, forward and backward; a multiplication and an addition
            count as two. The optimizer, norms, activations, look-ups and softmax are left out.
        epochs: passes over the training set.
    """

    parameters: int
    examples: int
    tokens: int
    flops: int
    epochs: int


def measured_flops(step: Callable[[], Any]) -> int:
    """Floating-point operations of the matrix products in one call, including the backward pass if it has one.

    Attention and torch's encoder layers run unfused during the call, because torch can't count some fused kernels. So a
    causal mask saves nothing: the whole square of positions counts.
    """
    from torch.nn.attention import SDPBackend, sdpa_kernel
    from torch.utils.flop_counter import FlopCounterMode

    counter = FlopCounterMode(display=False)
    fused = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with sdpa_kernel(SDPBackend.MATH), counter:
            step()
    finally:
        torch.backends.mha.set_fastpath_enabled(fused)
    return int(counter.get_total_flops())


def training_cost(
    model: nn.Module,
    batches: Callable[[int], Iterable[Batch]],
    size: Callable[[Batch], Size],
    loss: Callable[[Batch], Tensor],
    *,
    steps: int,
    steps_per_epoch: int,
    measured: int = 3,
) -> Cost:
    """Compute the cost of ``steps`` training steps, without training.

    All batches are made again and their sizes summed. FLOPs per position (including padding) are measured on a few
    batches, evenly spread over the first epoch, and multiplied by the positions of all steps. (The softmax over items
    of a baseline or a teacher runs at targets only, whose share of the positions varies a little.)

    Args:
        model: on its device; weights and mode are unchanged, gradients are cleared.
        batches: the batches of an epoch, as in the training.
        size: of a batch.
        loss: of a batch, as in the training.
        steps: optimizer steps of the training.
        steps_per_epoch: steps of one epoch.
        measured: number of batches on which FLOPs are measured.

    Raises:
        ValueError: if the steps are not a positive whole number of epochs, or differ from the number of batches.
    """
    epochs, rest = divmod(steps, steps_per_epoch)
    if rest or not epochs:
        raise ValueError(f"{steps} steps are not a whole number of epochs of {steps_per_epoch}")
    chosen = {number * steps_per_epoch // measured for number in range(measured)}
    examples, tokens, positions, counted, flops, flop_positions = 0, 0, 0, 0, 0, 0
    for epoch in range(epochs):
        for number, batch in enumerate(batches(epoch)):
            one = size(batch)
            examples, tokens, positions = examples + one.examples, tokens + one.tokens, positions + one.positions
            counted += 1
            if epoch == 0 and number in chosen:
                flops += _step_flops(model, loss, batch)
                flop_positions += one.positions
    if counted != steps:
        raise ValueError(f"the batches of {epochs} epochs are {counted}, not {steps}")
    parameters = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
    # Integers throughout: the product exceeds the exact range of a float.
    return Cost(parameters, examples, tokens, flops * positions // flop_positions, epochs)


def _step_flops(model: nn.Module, loss: Callable[[Batch], Tensor], batch: Batch) -> int:
    """FLOPs of one step's forward and backward pass."""
    was_training = model.training
    device = next(model.parameters()).device

    def step() -> None:
        # The precision does not change the count; bfloat16 fits in memory wherever the training did.
        with torch.autocast(device.type, dtype=torch.bfloat16, enabled=device.type == "cuda"):
            value = loss(batch)
        value.backward()

    model.train()
    flops = measured_flops(step)
    model.zero_grad(set_to_none=True)
    model.train(was_training)
    return flops
