"""Cross-entropy of an output head chunk by chunk: exact, and never with the logits of all positions.

The logits of a batch are the largest tensor of a step: 4,096 positions of a vocabulary of 49,152 are 805 MB, and their
softmax and gradient as much again. Here the logits of a chunk of positions, its loss and the gradients that follow from
it are computed before the next chunk begins.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from plum.lm.logits import Head
from plum.lm.rows import Columns

CHUNK_BYTES = 128 << 20
"""Most bytes of a chunk's logits in float32."""
POSITIONS_MULTIPLE = 64
"""The number of positions is padded to a multiple of this before logits are computed. oneDNN builds and keeps kernels
for every new number of positions, which fragments the heap: on a CPU, a step took half as long again after some hundred
of them."""


@dataclass(frozen=True)
class Labels:
    """What P positions should say: a distribution over a head's V tokens for each.

    Attributes:
        targets: (P,) int64, the observed tokens.
        own: (P,) the observed token's share of a label; None for all of it.
        taught: of L levels the rest of the labels: shares (P / L, C) of the head's tokens in these columns. Position p
            has those of level p % L.
    """

    targets: Tensor
    own: Tensor | None = None
    taught: tuple[tuple[Tensor, Columns], ...] = ()

    def mean(self, values: Tensor, start: int) -> Tensor:
        """Sum of the means of ``values`` (N, V) under the labels of positions ``start`` and following."""
        rows = slice(start, start + len(values))
        observed = values.gather(1, self.targets[rows, None])[:, 0]
        total = observed.sum() if self.own is None else (self.own[rows] * observed).sum()
        for shares, mine, columns in self._levels(start, len(values)):
            total = total + (shares * values[mine, columns]).sum()
        return total

    def subtract(self, values: Tensor, start: int) -> None:
        """Subtract the labels of positions ``start`` and following from ``values`` (N, V)."""
        rows = slice(start, start + len(values))
        own = torch.ones(len(values), 1, device=values.device) if self.own is None else self.own[rows, None]
        values.scatter_add_(1, self.targets[rows, None], -own.to(values.dtype))
        for shares, mine, columns in self._levels(start, len(values)):
            values[mine, columns] -= shares

    def _levels(self, start: int, n: int) -> list[tuple[Tensor, slice, Columns]]:
        """For each level its shares in ``n`` positions from ``start``, which of these are its own, and its columns."""
        n_levels = len(self.taught)
        found = []
        for level, (shares, columns) in enumerate(self.taught):
            first = (level - start) % n_levels
            begin = (start + first) // n_levels
            found.append((shares[begin : begin + len(range(first, n, n_levels))], slice(first, n, n_levels), columns))
        return found


class _Wanted(NamedTuple):
    """Whose gradients are wanted."""

    hidden: bool
    weight: bool
    bias: bool
    rows: bool


def summed_loss(head: Head, hidden: Tensor, labels: Labels) -> Tensor:
    """Sum of the cross-entropies of P positions, in nats.

    It equals ``torch.nn.functional.cross_entropy(logits, labels, reduction="sum")`` of the head's logits to rounding,
    as do its gradients. Matrix products have autocast's precision, softmax and sum are in float32.

    Args:
        head: of V tokens.
        hidden: (P, D).
        labels: of the P positions.

    Returns:
        A float32 scalar. Its backward pass can run once: all gradients are there already and are given away.
    """
    rows = None if head.rows is None else head.rows.weight
    given = (hidden, head.weight, head.bias, rows)
    on = torch.is_grad_enabled()
    wanted = _Wanted(*(on and tensor is not None and tensor.requires_grad for tensor in given))
    total: Tensor = _ChunkedLoss.apply(*given, head, labels, wanted)
    return total


def chunk_positions(n_tokens: int, n_positions: int) -> int:
    """Positions of a chunk for a head of ``n_tokens``: a multiple of ``POSITIONS_MULTIPLE``."""
    most = max(1, CHUNK_BYTES // (4 * n_tokens) // POSITIONS_MULTIPLE) * POSITIONS_MULTIPLE
    return min(most, max(1, -(-n_positions // POSITIONS_MULTIPLE)) * POSITIONS_MULTIPLE)


class _ChunkedLoss(torch.autograd.Function):
    """The loss, whose forward pass computes the gradients too, since only then the logits are there."""

    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        rows: Tensor | None,
        head: Head,
        labels: Labels,
        wanted: _Wanted,
    ) -> Tensor:
        """See ``summed_loss``; ``rows`` (N, D) are the head's trained ones."""
        kind = hidden.device.type
        dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else weight.dtype
        cast = replace(head, weight=weight.to(dtype), bias=None if bias is None else bias.to(dtype))
        gradients = _Gradients(hidden, weight, bias, rows, wanted)
        length = chunk_positions(len(weight), len(hidden))
        with torch.autocast(kind, enabled=False):
            starts = range(0, max(1, len(hidden)), length)  # no positions are a chunk too, of zeros
            losses = [_chunk(cast, hidden[start : start + length], labels, start, gradients) for start in starts]
        ctx.gradients = gradients
        return torch.stack(losses).sum()

    @staticmethod
    def backward(ctx: Any, outer: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        """The gradients, times that of the sum."""
        gradients: _Gradients = ctx.gradients
        ctx.gradients = None
        return (*gradients.times(outer), None, None, None)


def _chunk(head: Head, hidden: Tensor, labels: Labels, start: int, gradients: _Gradients) -> Tensor:
    """The summed loss of a chunk, a scalar; its gradients are added. Nothing else of it outlives the call."""
    part, n = hidden.to(head.weight.dtype), len(hidden)
    part = F.pad(part, (0, 0, 0, -n % POSITIONS_MULTIPLE))
    logits = head.finish(F.linear(part, head.weight, head.bias))
    chances = logits.log_softmax(1)
    loss = -labels.mean(chances[:n], start)
    if any(gradients.wanted):
        slope = chances.exp_()
        labels.subtract(slope[:n], start)
        slope[n:] = 0
        gradients.add(start, n, head.slope(slope, logits).to(part.dtype), part, head)
    return loss


class _Gradients:
    """Gradients of hidden states and head, summed over chunks."""

    def __init__(
        self, hidden: Tensor, weight: Tensor, bias: Tensor | None, rows: Tensor | None, wanted: _Wanted
    ) -> None:
        self.wanted = wanted
        self.dtypes = [None if tensor is None else tensor.dtype for tensor in (hidden, weight, bias, rows)]
        self.hidden = torch.empty_like(hidden, memory_format=torch.contiguous_format) if wanted.hidden else None
        self.weight: Tensor | None = None
        self.bias: Tensor | None = None
        self.rows: Tensor | None = None

    def add(self, start: int, n: int, slope: Tensor, part: Tensor, head: Head) -> None:
        """Add what follows from a chunk.

        Args:
            start: its first position.
            n: its positions; further rows are padding.
            slope: (N, V) the loss's gradient at what the matrix product gave.
            part: (N, D) hidden states.
            head: in the precision of both; its trained rows, if it has any, are columns of ``slope``.
        """
        if self.hidden is not None:
            self.hidden[start : start + n] = (slope @ head.weight)[:n]
        if self.wanted.weight:
            self.weight = _plus_product(self.weight, slope, part)
        if self.wanted.rows and head.rows is not None:
            self.rows = _plus_product(self.rows, slope[:, head.rows.columns], part)
        if self.wanted.bias:
            summed = slope.sum(0, dtype=torch.float32)
            self.bias = summed if self.bias is None else self.bias + summed

    def times(self, outer: Tensor) -> list[Tensor | None]:
        """All of them, in the dtypes of what they belong to, times a scalar."""
        found = [self.hidden, self.weight, self.bias, self.rows]
        return [
            None if gradient is None else gradient.mul_(outer).to(dtype)
            for gradient, dtype in zip(found, self.dtypes, strict=True)
        ]


def _plus_product(total: Tensor | None, slope: Tensor, part: Tensor) -> Tensor:
    """``total + slope.T @ part``, in float32."""
    if total is None:
        return (slope.T @ part).float()
    if slope.dtype == torch.float32:
        return total.addmm_(slope.T, part)
    return total.add_(slope.T @ part)
