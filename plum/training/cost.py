"""The cost of a retriever's training: examples, tokens and floating-point operations.

PLUM compares retrievers at equal training examples and at equal FLOPs (section 3), so both are reported beside recall.
All is counted from the batches as they are trained on, by formulas, and kept in the checkpoint: resumed and
uninterrupted stages, and runs with the same seed, count the same, and nothing is left to do after the last step.

A product of a matrix with a vector costs two operations a number of the matrix, and twice as many again for the
gradients of both (Kaplan et al. 2020, section 2.1: 6 N a token); attention adds the products of queries with keys and
of weights with values (PaLM, appendix B). Recomputation by gradient checkpointing does not count.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from torch import nn


class Size(NamedTuple):
    """Size of a batch.

    Attributes:
        examples: targets in the loss, in the retrievers' common unit (items, not tokens of an item).
        tokens: positions without padding.
        positions: all positions including padding, though a model may skip some of it.
        flops: floating-point operations of the matrix products, forward and backward.
    """

    examples: int
    tokens: int
    positions: int
    flops: int = 0

    def plus(self, other: Size) -> Size:
        """Both together."""
        return Size(*(one + more for one, more in zip(self, other, strict=True)))


@dataclass(frozen=True)
class Cost:
    """Cost of a training: all steps count, including those after the weights that were kept.

    Attributes:
        parameters: number of trained parameters.
        examples: targets in the loss, over all epochs.
        tokens: positions without padding, over all epochs.
        flops: floating-point operations of the matrix products, forward and backward; a multiplication and an addition
            count as two. The optimizer, norms, activations, look-ups and softmax are left out.
        epochs: passes over the training set; the last one may be a part of one.
    """

    parameters: int
    examples: int
    tokens: int
    flops: int
    epochs: float


def training_cost(model: nn.Module, spent: Size, steps: int, steps_per_epoch: int) -> Cost:
    """The cost of ``steps`` training steps.

    Args:
        model: that was trained.
        spent: sum of all batches' sizes.
        steps: optimizer steps of the training.
        steps_per_epoch: steps of one epoch.
    """
    epochs, rest = divmod(steps, steps_per_epoch)
    passes = round(steps / steps_per_epoch, 3) if rest else epochs
    parameters = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
    return Cost(parameters, spent.examples, spent.tokens, spent.flops, passes)


def matrix_numbers(*modules: nn.Module) -> tuple[int, int]:
    """Numbers in the matrices that every position is multiplied with: of trained ones, and of frozen ones.

    Look-up tables are no such matrices, nor are vectors.
    """
    trained, frozen = 0, 0
    for module in modules:
        tables = {p for part in module.modules() if isinstance(part, nn.Embedding) for p in part.parameters(False)}
        matrices = [parameter for parameter in module.parameters() if parameter.ndim == 2 and parameter not in tables]
        trained += sum(matrix.numel() for matrix in matrices if matrix.requires_grad)
        frozen += sum(matrix.numel() for matrix in matrices if not matrix.requires_grad)
    return trained, frozen


def training_flops(numbers: tuple[int, int], positions: int) -> int:
    """FLOPs of positions times matrices, forward and backward; a frozen matrix has no gradient of its own."""
    trained, frozen = numbers
    return positions * (6 * trained + 4 * frozen)


def attention_flops(rows: int, width: int, heads_width: int, layers: int) -> int:
    """FLOPs of attention in a forward pass, over the whole square of positions: a causal mask saves nothing.

    Args:
        rows: B.
        width: T.
        heads_width: all heads together.
        layers: number of blocks.
    """
    return 2 * 2 * rows * width**2 * heads_width * layers
