"""Next-item losses over a catalogue: the full softmax, and a sampled one for catalogues too large for it.

The sampled softmax estimates the softmax's denominator by importance sampling (Bengio and Senécal 2008): of S items
drawn with replacement from q, item j adds exp(s_j) / (S q_j), which in logits is the log-Q correction s_j - log(S q_j)
(Yi et al. 2019). The target's own term is always present, so its correction is 0; draws of the target are masked, so
that it does not count twice. The estimate of the denominator is then unbiased, and loss and gradient approach those of
the full softmax as S grows. (Yi et al. correct the target by its q as well, because there the targets of a batch are
the sample; with masked draws that would not approach the full softmax.)
"""

from __future__ import annotations

import math

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

FULL_SOFTMAX_ITEMS = 100_000
SAMPLED_NEGATIVES = 8192
CACHED_SCORES = 1 << 20
"""Scores of a block on the CPU: few enough to stay in its cache during the softmax's passes."""
FEWEST_POSITIONS = 64
"""Smallest block for a large catalogue: every block adds a gradient of all item vectors, which costs more than the
cache saves."""


def n_negatives(asked: int | None, n_items: int) -> int | None:
    """Negatives S to draw, None for the full softmax.

    Args:
        asked: S; None chooses by the size of the catalogue: the full softmax up to ``FULL_SOFTMAX_ITEMS`` items,
            ``SAMPLED_NEGATIVES`` above.
        n_items: N. No more negatives than items are drawn: they would only repeat.
    """
    if asked is None and n_items > FULL_SOFTMAX_ITEMS:
        return SAMPLED_NEGATIVES
    return asked if asked is None else min(asked, n_items)


def full_softmax_loss(hidden: Tensor, vectors: Tensor, targets: Tensor) -> Tensor:
    """Mean cross-entropy over the whole catalogue.

    Args:
        hidden: (P, D), one row per position with a target.
        vectors: (N, D) of all items.
        targets: (P,) int64 item rows.
    """
    size = max(FEWEST_POSITIONS, CACHED_SCORES // len(vectors)) if hidden.device.type == "cpu" else max(1, len(hidden))
    blocks = zip(hidden.split(size), targets.split(size), strict=True)
    parts = [F.cross_entropy(states @ vectors.T, rows, reduction="sum") for states, rows in blocks]
    return torch.stack(parts).sum() / len(targets)


class Negatives:
    """Items drawn with replacement from the unigram distribution of training targets raised to a power.

    Args:
        counts: (N,) how often each item is a target in training. Items that never are count once: without draws, their
            scores would rise unchecked.
        n: S, items of a draw.
        power: 1 draws items by their counts, 0 uniformly.

    Raises:
        ValueError: for counts that are not (N,) or below 0, or n below 1.
    """

    def __init__(self, counts: np.ndarray, n: int, power: float) -> None:
        if counts.ndim != 1 or not len(counts) or counts.min() < 0:
            raise ValueError(f"counts must be (N,), none below 0, found shape {counts.shape}")
        if n < 1:
            raise ValueError(f"n must be at least 1, found {n}")
        weights = np.maximum(counts, 1).astype(np.float64) ** power
        self.n = n
        self.log_q = torch.from_numpy(np.log(weights / weights.sum())).float()
        # Drawn by bisection of the running total: torch.multinomial takes at most 2^24 items.
        self._total = torch.from_numpy(np.cumsum(weights / weights.sum()))

    def draw(self) -> Tensor:
        """S item rows (S,) int64, from torch's CPU generator, whose state checkpoints hold."""
        places = torch.rand(self.n, dtype=torch.float64) * self._total[-1]
        # Rounding may give the total itself, which is past the last item.
        return torch.searchsorted(self._total, places, right=True).clamp(max=len(self._total) - 1)


def sampled_softmax_loss(
    target_scores: Tensor, negative_scores: Tensor, targets: Tensor, negatives: Tensor, negative_log_q: Tensor
) -> Tensor:
    """Mean cross-entropy with the denominator estimated from a sample that all positions share.

    Args:
        target_scores: (P,) score of each position's target.
        negative_scores: (P, S) scores of the drawn items.
        targets: (P,) int64 item rows.
        negatives: (S,) int64 item rows, drawn with replacement.
        negative_log_q: (S,) log-probability of each in one draw.
    """
    corrected = negative_scores - (negative_log_q + math.log(len(negatives)))
    corrected = corrected.masked_fill(targets[:, None] == negatives, -math.inf)
    logits = torch.cat([target_scores[:, None], corrected], dim=1)
    return F.cross_entropy(logits, torch.zeros_like(targets))
