"""The dense baselines: a transformer over item embeddings, trained with softmax cross-entropy at every position.

- SASRec (Kang and McAuley 2018): item vectors as wide as the transformer, the same at input and output. The loss is
  the softmax over the catalogue, which makes this model markedly stronger than the published SASRec figures (binary
  cross-entropy with one sampled negative).
- LEM, the large embedding model that PLUM is compared with (PLUM table 2): nearly all parameters lie in wide tables of
  item-ID embeddings, one for the input and one for the output, around a small transformer.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from plum.evaluation.rankings import NO_ITEM, Recommendations
from plum.lm.examples import IGNORED, Window
from plum.retrievers import blocks
from plum.retrievers.softmax import Negatives, full_softmax_loss, sampled_softmax_loss
from plum.training.cost import Size, attention_flops, matrix_numbers, training_flops
from plum.vectors.nearest import largest_products

LENGTH_GROUPS = 4
"""Groups by length into which a batch is divided on a CPU: more groups save padding but make smaller products."""


class DenseBatch(NamedTuple):
    """Histories padded on the left, and the next item at every position.

    Attributes:
        items: (B, T) int64 item rows plus 1; 0 is padding.
        targets: (B, T) int64 item rows, ``IGNORED`` if there is no next item.
    """

    items: Tensor
    targets: Tensor


class ItemTransformer(nn.Module):
    """Causal self-attention over a history; scores are dot products with item vectors.

    A table whose width differs from the transformer's is projected linearly, so that scores are always products of D
    dimensions.

    Args:
        n_items: N.
        max_history: T, items of history.
        hidden_size: D.
        layers: transformer layers.
        heads: attention heads.
        dropout: of embeddings, attention and feed-forward layers.
        embedding_size: width E of the tables of item-ID embeddings; None for D.
        tied: whether input and output share one table.
        block: ``"pre-norm"``, ``"post-norm"`` or ``"ligr"``; see ``plum.retrievers.blocks``.
        feed_forward: width of the feed-forward layers over D.
        scaled: multiply input item vectors by sqrt(D) (Vaswani et al. 2017, section 3.4), so that small initial
            vectors weigh more than the positions.
        initial: of the blocks' matrices: ``"torch"`` as torch draws them, ``"normal"`` as embeddings are drawn.
    """

    def __init__(
        self,
        n_items: int,
        max_history: int,
        hidden_size: int,
        layers: int,
        heads: int,
        dropout: float,
        embedding_size: int | None = None,
        tied: bool = True,
        block: str = "pre-norm",
        feed_forward: float = 4.0,
        scaled: bool = False,
        initial: str = "torch",
    ) -> None:
        super().__init__()
        width = embedding_size or hidden_size
        self.max_history = max_history
        self.scale = math.sqrt(hidden_size) if scaled else 1.0
        self.items = nn.Embedding(n_items + 1, width, padding_idx=0)
        self.positions = nn.Embedding(max_history, hidden_size)
        inner = max(1, round(feed_forward * hidden_size))
        self.encoder = blocks.Encoder(block, hidden_size, layers, heads, inner, dropout)
        if initial == "normal":
            self.encoder.draw_alike()
        self.project = _projection(width, hidden_size)
        self.outputs = None if tied else nn.Embedding(n_items + 1, width, padding_idx=0)
        self.project_outputs = None if tied else _projection(width, hidden_size)
        nn.init.normal_(self.items.weight, std=blocks.INITIAL_STD)
        nn.init.normal_(self.positions.weight, std=blocks.INITIAL_STD)
        if self.outputs is not None:
            nn.init.normal_(self.outputs.weight, std=blocks.INITIAL_STD)

    def forward(self, items: Tensor, vectors: Tensor | None = None) -> Tensor:
        """Hidden states (B, T, D) of histories (B, T), padded on the left with 0.

        Args:
            items: item rows plus 1.
            vectors: (B, T, E) of these items, if they are looked up already.
        """
        width = items.shape[1]
        # The newest item has the last position for every length.
        positions = torch.arange(self.max_history - width, self.max_history, device=items.device)
        vectors = self.items(items) if vectors is None else vectors
        hidden = self.scale * self.project(vectors) + self.positions(positions)
        future = torch.ones(width, width, dtype=torch.bool, device=items.device).triu(1)
        # Padding may attend to itself; otherwise its rows would be all -inf.
        blocked = future | ((items == 0)[:, None] & ~torch.eye(width, dtype=torch.bool, device=items.device))
        return self.encoder(hidden, blocked)

    def item_vectors(self, rows: Tensor | None = None) -> Tensor:
        """Output vectors (N, D) of the catalogue, or (R, D) of the item rows (R,) given."""
        table = self.items.weight if self.outputs is None else self.outputs.weight
        project = self.project if self.project_outputs is None else self.project_outputs
        return project(table[1:] if rows is None else F.embedding(rows + 1, table))

    @property
    def hidden_size(self) -> int:
        """D, the width of histories' and items' vectors."""
        return self.positions.embedding_dim

    @property
    def n_layers(self) -> int:
        """Transformer blocks."""
        return len(self.encoder.blocks)

    @property
    def table_share(self) -> float:
        """Share of the parameters in tables of item-ID embeddings."""
        in_tables = self.items.weight.numel() * (1 if self.outputs is None else 2)
        return in_tables / sum(parameter.numel() for parameter in self.parameters())


def _projection(width: int, hidden_size: int) -> nn.Module:
    if width == hidden_size:
        return nn.Identity()
    linear = nn.Linear(width, hidden_size, bias=False)
    nn.init.normal_(linear.weight, std=width**-0.5)  # projected vectors are as long as those of a table of width D
    return linear


def dense_loss(model: ItemTransformer, batch: DenseBatch, negatives: Negatives | None = None) -> Tensor:
    """Cross-entropy over the catalogue at every position that has a next item.

    Args:
        model: in training.
        batch: histories and next items.
        negatives: draws the sample that estimates the softmax; None for the full softmax.
    """
    device = model.items.weight.device
    groups = [DenseBatch(items.to(device), targets.to(device)) for items, targets in _parts_of(model, batch)]
    # One look-up for all groups: each has a gradient of the whole table.
    looked_up = model.items(torch.cat([items.reshape(-1) for items, _ in groups]))
    vectors = looked_up.split([items.numel() for items, _ in groups])
    hidden = torch.cat(
        [
            model(items, found.view(*items.shape, -1))[targets != IGNORED]
            for (items, targets), found in zip(groups, vectors, strict=True)
        ]
    )
    targets = torch.cat([targets[targets != IGNORED] for _, targets in groups])
    if negatives is None:
        return full_softmax_loss(hidden, model.item_vectors(), targets)
    drawn = negatives.draw()
    log_q, drawn = negatives.log_q[drawn].to(device), drawn.to(device)
    found = model.item_vectors(torch.cat([targets, drawn]))
    target_scores = (hidden * found[: len(targets)]).sum(dim=1)
    return sampled_softmax_loss(target_scores, hidden @ found[len(targets) :].T, targets, drawn, log_q)


@torch.no_grad()
def next_item_loss(model: ItemTransformer, batches: Iterable[DenseBatch]) -> float:
    """Mean cross-entropy over the whole catalogue in nats per next item, without dropout; NaN if there are none."""
    was_training = model.training
    model.eval()
    total, items = 0.0, 0
    for batch in batches:
        counted = int((batch.targets != IGNORED).sum())
        total += dense_loss(model, batch).item() * counted
        items += counted
    model.train(was_training)
    return total / items if items else float("nan")


def _parts_of(model: ItemTransformer, batch: DenseBatch) -> list[DenseBatch]:
    """A batch as it goes through the model: on a CPU in groups of alike length."""
    return _by_length(batch, LENGTH_GROUPS) if model.items.weight.device.type == "cpu" else [batch]


def _by_length(batch: DenseBatch, n: int) -> list[DenseBatch]:
    """The rows of a batch in up to ``n`` groups by length, short ones first, each without all-padding columns."""
    lengths = (batch.items != 0).sum(dim=1)
    groups = []
    for rows in lengths.argsort(stable=True).chunk(n):
        width = max(1, int(lengths[rows].max()))
        groups.append(DenseBatch(batch.items[rows, -width:], batch.targets[rows, -width:]))
    return groups


def sizes(model: ItemTransformer, negatives: Negatives | None) -> Callable[[DenseBatch], Size]:
    """Size of a batch: next items in the loss, input items, positions including padding, FLOPs as in ``dense_loss``."""
    blocks_numbers = matrix_numbers(model.encoder, model.project)
    output_numbers = matrix_numbers(model.project if model.project_outputs is None else model.project_outputs)

    def size(batch: DenseBatch) -> Size:
        examples, tokens = int((batch.targets != IGNORED).sum()), int((batch.items != 0).sum())
        shapes = [(len(items), items.shape[1]) for items, _ in _parts_of(model, batch)]
        vectors = examples + negatives.n if negatives else len(model.items.weight) - 1
        scored = negatives.n if negatives else vectors  # a target's own product is taken elementwise
        flops = training_flops(blocks_numbers, sum(rows * width for rows, width in shapes))
        flops += 3 * sum(attention_flops(rows, width, model.hidden_size, model.n_layers) for rows, width in shapes)
        flops += training_flops(output_numbers, vectors) + 6 * examples * scored * model.hidden_size
        return Size(examples, tokens, batch.items.numel(), flops)

    return size


def answer_flops(model: ItemTransformer, rows: int, width: int) -> int:
    """FLOPs in which the states of histories (B, T) are computed, without a backward pass."""
    numbers = sum(matrix_numbers(model.encoder, model.project))
    return 2 * numbers * rows * width + attention_flops(rows, width, model.hidden_size, model.n_layers)


def target_counts(windows: Sequence[Window], n_items: int) -> np.ndarray:
    """How often (N,) each item is a target in one epoch of ``dense_batches``."""
    targets = [window.items[max(1, window.n_context) :] for window in windows]
    return np.bincount(np.concatenate(targets) if targets else [], minlength=n_items)


def dense_batches(
    windows: Sequence[Window], max_history: int, batch_size: int, seed: int, epoch: int
) -> Iterator[DenseBatch]:
    """Batches of one epoch in random order.

    Args:
        windows: of 2 up to ``max_history`` + 1 items.
        max_history: T, items of input.
        batch_size: B.
        seed: of the order, together with ``epoch``.
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
    """Retrieval by inner product between a history's vector and all items.

    Args:
        model: trained.
        name: of the retriever in comparisons.
        batch_size: histories per forward pass.
        known: (N,) bool, the items of the catalogue that are the model's, in its order; None for all. The others are
            never recommended, and left out of histories.
    """

    def __init__(
        self,
        model: ItemTransformer,
        name: str = "dense",
        batch_size: int = 256,
        known: np.ndarray | None = None,
    ) -> None:
        self.name = name
        self._model = model
        self._batch_size = batch_size
        self._known = known

    def recommend(self, histories: Sequence[np.ndarray], k: int, seen: Sequence[np.ndarray] | None) -> Recommendations:
        """The K items nearest to each history's vector; see ``plum.retrievers.protocol.Retriever``.

        A history without known items gives an empty list.
        """
        seen = None if seen is None else self.placed(seen)
        found = largest_products(self.item_vectors(), self.vectors(histories), k, seen)
        empty = np.array([len(history) == 0 for history in self.placed(histories)], dtype=bool)
        found.items[empty], found.scores[empty] = NO_ITEM, -np.inf
        if self._known is not None:
            there = found.items != NO_ITEM
            found.items[there] = np.flatnonzero(self._known)[found.items[there]]
        return found

    def placed(self, histories: Sequence[np.ndarray]) -> Sequence[np.ndarray]:
        """Item rows of the catalogue as rows of :meth:`item_vectors`, without items that are not known."""
        if self._known is None:
            return histories
        places = np.cumsum(self._known) - 1
        return [places[rows[self._known[rows]]] for rows in histories]

    @torch.no_grad()
    def item_vectors(self) -> np.ndarray:
        """Vectors (M, D) float32 of the M known items, whose products with a history's vector are the scores."""
        return self._model.item_vectors().float().cpu().numpy()

    @torch.no_grad()
    def vectors(self, histories: Sequence[np.ndarray]) -> np.ndarray:
        """Vectors (U, D) float32 of histories of catalogue rows; the zero vector for one without known items."""
        histories = self.placed(histories)
        was_training = self._model.training
        self._model.eval()
        device = self._model.items.weight.device
        out = np.zeros((len(histories), self._model.hidden_size), dtype=np.float32)
        lengths = np.array([min(len(history), self._model.max_history) for history in histories], dtype=np.int64)
        rows = np.argsort(lengths, kind="stable")[np.count_nonzero(lengths == 0) :]  # by length, for less padding
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


class MeanDense(Dense):
    """Several models as one: retrieval by their mean score of an item.

    Args:
        models: trained, of the same items; they may be of different widths.
        batch_size: as for ``Dense``.
        known: as for ``Dense``.
    """

    name = "dense-mean"

    def __init__(
        self, models: Sequence[ItemTransformer], batch_size: int = 256, known: np.ndarray | None = None
    ) -> None:
        self._known = known
        self._parts = [Dense(model, batch_size=batch_size, known=known) for model in models]

    def item_vectors(self) -> np.ndarray:
        """Vectors (M, D) float32 of the known items, all models' concatenated, so that products sum the scores."""
        return np.concatenate([part.item_vectors() for part in self._parts], axis=1) / np.float32(len(self._parts))

    def vectors(self, histories: Sequence[np.ndarray]) -> np.ndarray:
        """Vectors (U, D) float32 of histories; see ``Dense``."""
        return np.concatenate([part.vectors(histories) for part in self._parts], axis=1)
