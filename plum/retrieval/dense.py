"""The dense baseline: a SASRec-type transformer over item embeddings, trained with full-softmax cross-entropy.

Architecture: Kang and McAuley 2018. The loss is the full softmax over the catalogue at every position, which makes this
model markedly stronger than the published SASRec figures (binary cross-entropy with one sampled negative).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from plum.lm.examples import IGNORED, Window
from plum.retrieval.interface import NO_ITEM, Recommendations
from plum.retrieval.nearest import largest_products


class DenseBatch(NamedTuple):
    """Histories padded on the left, and the next item at every position.

    Attributes:
        items: (B, T) int64 item rows plus 1; 0 is padding.
        targets: (B, T) int64 item rows, ``IGNORED`` where there is none.
    """

    items: Tensor
    targets: Tensor


class SASRec(nn.Module):
    """Causal self-attention over a history; scores are dot products with the item embeddings.

    Args:
        n_items: N.
        max_history: T, items of history.
        hidden_size: D.
        layers: transformer layers.
        heads: attention heads.
        dropout: of embeddings, attention and feed-forward layers.
    """

    def __init__(
        self, n_items: int, max_history: int, hidden_size: int, layers: int, heads: int, dropout: float
    ) -> None:
        super().__init__()
        self.max_history, self.heads = max_history, heads
        self.items = nn.Embedding(n_items + 1, hidden_size, padding_idx=0)
        self.positions = nn.Embedding(max_history, hidden_size)
        self.dropout = nn.Dropout(dropout)
        layer = nn.TransformerEncoderLayer(
            hidden_size, heads, 4 * hidden_size, dropout, activation="gelu", batch_first=True, norm_first=True
        )
        self.encoder = nn.TransformerEncoder(layer, layers, nn.LayerNorm(hidden_size), enable_nested_tensor=False)
        nn.init.normal_(self.items.weight, std=0.02)
        nn.init.normal_(self.positions.weight, std=0.02)

    def forward(self, items: Tensor) -> Tensor:
        """Hidden states (B, T, D) of histories (B, T), padded on the left with 0."""
        width = items.shape[1]
        # The newest item has the last position, whatever the length.
        positions = torch.arange(self.max_history - width, self.max_history, device=items.device)
        hidden = self.dropout(self.items(items) + self.positions(positions))
        future = torch.ones(width, width, dtype=torch.bool, device=items.device).triu(1)
        # Padding may attend to itself, else its rows would be all -inf.
        blocked = future | ((items == 0)[:, None] & ~torch.eye(width, dtype=torch.bool, device=items.device))
        return self.encoder(hidden, mask=blocked.repeat_interleave(self.heads, dim=0))

    def item_vectors(self) -> Tensor:
        """Embeddings (N, D) of the catalogue."""
        return self.items.weight[1:]


def dense_loss(model: SASRec, batch: DenseBatch) -> Tensor:
    """Cross-entropy over the whole catalogue at every position that has a next item."""
    device = model.items.weight.device
    items, targets = batch.items.to(device), batch.targets.to(device)
    counted = targets != IGNORED
    hidden = model(items)[counted]
    return F.cross_entropy(hidden @ model.item_vectors().T, targets[counted])


def dense_batches(
    windows: Sequence[Window], max_history: int, batch_size: int, seed: int, epoch: int
) -> Iterator[DenseBatch]:
    """Batches of one epoch in random order.

    Args:
        windows: of 2 up to ``max_history`` + 1 items.
        max_history: T, items of input.
        batch_size: B.
        seed: decides the order, together with ``epoch``.
        epoch: number of the pass.
    """
    order = np.random.default_rng([seed, epoch]).permutation(len(windows))
    for start in range(0, len(order), batch_size):
        chosen = [windows[i] for i in order[start : start + batch_size]]
        width = min(max_history, max(len(window.items) for window in chosen) - 1)
        items = np.zeros((len(chosen), width), dtype=np.int64)
        targets = np.full((len(chosen), width), IGNORED, dtype=np.int64)
        for row, window in enumerate(chosen):
            inputs, nexts = window.items[:-1], window.items[1:].copy()
            nexts[: max(0, window.n_context - 1)] = IGNORED
            items[row, width - len(inputs) :] = inputs + 1
            targets[row, width - len(nexts) :] = nexts
        yield DenseBatch(torch.from_numpy(items), torch.from_numpy(targets))


class Dense:
    """Retrieval by inner product between a history's vector and all items."""

    name = "dense"

    def __init__(self, model: SASRec, batch_size: int = 256) -> None:
        self._model = model
        self._batch_size = batch_size

    def recommend(self, histories: Sequence[np.ndarray], k: int, seen: Sequence[np.ndarray] | None) -> Recommendations:
        """The K items nearest to each history's vector; see ``plum.retrieval.interface.Retriever``.

        An empty history gives an empty list: there is nothing to rank by.
        """
        found = largest_products(self._model.item_vectors().detach().cpu().numpy(), self.vectors(histories), k, seen)
        empty = np.array([len(history) == 0 for history in histories], dtype=bool)
        found.items[empty], found.scores[empty] = NO_ITEM, -np.inf
        return found

    @torch.no_grad()
    def vectors(self, histories: Sequence[np.ndarray]) -> np.ndarray:
        """Vectors (U, D) float32 of histories; the zero vector for an empty one."""
        was_training = self._model.training
        self._model.eval()
        device = self._model.items.weight.device
        out = np.zeros((len(histories), self._model.items.weight.shape[1]), dtype=np.float32)
        rows = np.flatnonzero([len(history) > 0 for history in histories])
        for start in range(0, len(rows), self._batch_size):
            chosen = rows[start : start + self._batch_size]
            recent = [histories[row][-self._model.max_history :] for row in chosen]
            width = max(len(items) for items in recent)
            padded = np.zeros((len(chosen), width), dtype=np.int64)
            for place, items in enumerate(recent):
                padded[place, width - len(items) :] = items + 1
            out[chosen] = self._model(torch.from_numpy(padded).to(device))[:, -1].float().cpu().numpy()
        self._model.train(was_training)
        return out
