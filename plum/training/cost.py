"""What a retriever's training cost: examples, tokens and floating-point operations.

PLUM compares retrievers at equal training examples and at equal FLOPs (section 3), so both stand beside the recall.
Everything here is counted from the batches, which are a function of the epoch alone: a stage that was killed and went
on counts what an undisturbed one counts, and two runs with one seed count the same.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeVar

import torch
from torch import Tensor, nn

Batch = TypeVar("Batch")


class Size(NamedTuple):
    """How much training a batch is.

    Attributes:
        examples: targets that gave a loss, in the unit that retrievers share (items, not the tokens of an item).
        tokens: positions that hold something.
        positions: all of the batch, padding counted, though a model may leave some of that out.
    """

    examples: int
    tokens: int
    positions: int


@dataclass(frozen=True)
class Cost:
    """What a training cost, all steps counted, also those after the weights that were kept.

    Attributes:
        parameters: trained numbers.
        examples: targets that gave a loss, over all epochs.
        tokens: positions through the model that hold something, over all epochs.
        flops: floating-point operations forward and backward, a multiplication and an addition being two; the
            optimizer's own and those of no matrix product (norms, activations, look-ups, softmax) are left out.
        epochs: passes over the training part.
    """

    parameters: int
    examples: int
    tokens: int
    flops: int
    epochs: int


def measured_flops(step: Callable[[], Any]) -> int:
    """Floating-point operations of the matrix products in one call, backward included if it runs backward.

    Attention and torch's encoder layers run by their plain formulas meanwhile, since torch knows no count for some
    fused kernels. So a causal mask saves nothing: the whole square of positions counts.
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
    """Count what ``steps`` steps of training cost, without training.

    All batches are made again and their sizes added up. FLOPs are measured on a few batches, evenly spread over the
    first epoch, and taken per position, padding counted, times the positions of all steps. (A softmax over the items,
    of a baseline or a teacher, is of the targets alone, whose share of the positions varies a little.)

    Args:
        model: on its device; weights and mode are left as they are, gradients are cleared.
        batches: the batches of an epoch, as the training had them.
        size: how much training a batch is.
        loss: of a batch, as the training had it.
        steps: optimizer steps that were taken.
        steps_per_epoch: steps of one epoch.
        measured: batches on which FLOPs are measured.

    Raises:
        ValueError: if the steps are no whole, positive number of epochs, or the batches have not that many.
    """
    epochs, rest = divmod(steps, steps_per_epoch)
    if rest or not epochs:
        raise ValueError(f"{steps} steps are no whole number of epochs of {steps_per_epoch}")
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
    # Whole numbers throughout: the product exceeds what a float holds exactly.
    return Cost(parameters, examples, tokens, flops * positions // flop_positions, epochs)


def _step_flops(model: nn.Module, loss: Callable[[Batch], Tensor], batch: Batch) -> int:
    """FLOPs of one step's forward and backward pass."""
    was_training = model.training
    device = next(model.parameters()).device

    def step() -> None:
        # The precision changes no count; half of it fits wherever the training did.
        with torch.autocast(device.type, dtype=torch.bfloat16, enabled=device.type == "cuda"):
            value = loss(batch)
        value.backward()

    model.train()
    flops = measured_flops(step)
    model.zero_grad(set_to_none=True)
    model.train(was_training)
    return flops
