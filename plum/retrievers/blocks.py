"""Transformer blocks of the dense baselines: they share causal attention and differ in how a branch is added.

- pre-norm: x + f(norm(x)), and a norm after the last block.
- post-norm: norm(x + f(x)), and a norm of the blocks' input, as in the SASRec of RecBole.
- ligr: x + sigmoid(G x + b) * f(norm(x)), a gate of the residual stream on every branch, with SwiGLU feed-forward
  layers and a norm after the last block: LiGR blocks, in a sequential recommender as in eSASRec (arXiv 2508.06450).

The branches f are attention, then a feed-forward layer.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

KINDS = ("pre-norm", "post-norm", "ligr")
INITIAL_STD = 0.02
"""Standard deviation of initial weights: of the embeddings always, of the blocks' matrices if they are drawn alike."""


class Encoder(nn.Module):
    """Blocks with dropout before them and the norms that their kind has.

    Args:
        kind: one of ``KINDS``.
        width: D.
        layers: number of blocks.
        heads: attention heads, a divisor of D.
        inner: width of the feed-forward layers.
        dropout: of the input, attention and both branches.

    Raises:
        ValueError: for another kind.
    """

    def __init__(self, kind: str, width: int, layers: int, heads: int, inner: int, dropout: float) -> None:
        super().__init__()
        if kind not in KINDS:
            raise ValueError(f"kind must be one of {', '.join(KINDS)}, found {kind!r}")
        after = kind == "post-norm"
        self.first = nn.LayerNorm(width) if after else nn.Identity()
        self.dropout = Dropout(dropout)
        self.blocks = nn.ModuleList(Block(kind, width, heads, inner, dropout) for _ in range(layers))
        self.last = nn.Identity() if after else nn.LayerNorm(width)

    def forward(self, hidden: Tensor, blocked: Tensor) -> Tensor:
        """Hidden states (B, T, D); ``blocked`` (B, T, T) is true where a position (row) must not see another one."""
        hidden = self.dropout(self.first(hidden))
        for block in self.blocks:
            hidden = block(hidden, blocked[:, None])
        return self.last(hidden)

    @torch.no_grad()
    def draw_alike(self) -> None:
        """Draw all matrices from a normal distribution of ``INITIAL_STD``, biases 0, as BERT and RecBole do."""
        for name, parameter in self.named_parameters():
            if parameter.ndim >= 2:
                nn.init.normal_(parameter, std=INITIAL_STD)
            elif name.endswith("bias"):
                nn.init.zeros_(parameter)


class Block(nn.Module):
    """One block; see the module."""

    def __init__(self, kind: str, width: int, heads: int, inner: int, dropout: float) -> None:
        super().__init__()
        self.after = kind == "post-norm"
        self.attention = Attention(width, heads, dropout)
        feed_forward = SwiGLU if kind == "ligr" else FeedForward
        self.feed_forward = feed_forward(width, inner, dropout)
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(2))
        self.gates = nn.ModuleList(nn.Linear(width, width) for _ in range(2)) if kind == "ligr" else None
        self.dropout = Dropout(dropout)

    def forward(self, hidden: Tensor, blocked: Tensor) -> Tensor:
        """(B, T, D) to (B, T, D); ``blocked`` is (B, 1, T, T)."""
        normed = hidden if self.after else self.norms[0](hidden)
        hidden = self._add(0, hidden, self.attention(normed, blocked))
        normed = hidden if self.after else self.norms[1](hidden)
        return self._add(1, hidden, self.feed_forward(normed))

    def _add(self, place: int, hidden: Tensor, changed: Tensor) -> Tensor:
        """The residual stream after a branch gave ``changed``."""
        changed = self.dropout(changed)
        if self.gates is not None:
            changed = torch.sigmoid(self.gates[place](hidden)) * changed
        return self.norms[place](hidden + changed) if self.after else hidden + changed


class Attention(nn.Module):
    """Multi-head attention of a sequence to itself, with dropout of its weights."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.inputs, self.output = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.dropout = Dropout(dropout)

    def forward(self, hidden: Tensor, blocked: Tensor) -> Tensor:
        """(B, T, D) to (B, T, D); ``blocked`` is (B, 1, T, T)."""
        n, length, width = hidden.shape
        parts = self.inputs(hidden).view(n, length, 3, self.heads, width // self.heads)
        queries, keys, values = parts.permute(2, 0, 3, 1, 4)
        scores = queries @ keys.transpose(-2, -1) / math.sqrt(width // self.heads)
        weights = self.dropout(scores.masked_fill(blocked, -math.inf).softmax(dim=-1))
        return self.output((weights @ values.to(weights.dtype)).transpose(1, 2).reshape(n, length, width))


class FeedForward(nn.Sequential):
    """W2 gelu(W1 x + b1) + b2."""

    def __init__(self, width: int, inner: int, dropout: float) -> None:
        super().__init__(nn.Linear(width, inner), nn.GELU(), Dropout(dropout), nn.Linear(inner, width))


class SwiGLU(nn.Module):
    """W3 (silu(W1 x) * W2 x), without biases (Shazeer 2020)."""

    def __init__(self, width: int, inner: int, dropout: float) -> None:
        super().__init__()
        self.gate, self.up = nn.Linear(width, inner, bias=False), nn.Linear(width, inner, bias=False)
        self.down = nn.Linear(inner, width, bias=False)
        self.dropout = Dropout(dropout)

    def forward(self, hidden: Tensor) -> Tensor:
        """(..., D) to (..., D)."""
        return self.down(self.dropout(F.silu(self.gate(hidden)) * self.up(hidden)))


class Dropout(nn.Module):
    """Dropout that draws 16 bits an element on a CPU, where torch's own draws take a third of a training step.

    Args:
        rate: share of elements set to 0, rounded to a multiple of 2^-16; the others grow so that the mean stays.
    """

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate

    def forward(self, given: Tensor) -> Tensor:
        """The elements that stay, in training; else all."""
        if not self.training or not self.rate:
            return given
        if given.device.type != "cpu":
            return F.dropout(given, self.rate)
        dropped = min(round(self.rate * 2**16), 2**16 - 1)
        bits = torch.empty(-(-given.numel() // 4), dtype=torch.int64).random_(-(2**63), None).view(torch.int16)
        kept = (bits[: given.numel()] >= dropped - 2**15).view(given.shape)
        return given * kept.to(given.dtype).mul_(2**16 / (2**16 - dropped))
