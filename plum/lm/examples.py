"""Fine-tuning examples: windows of a history in which every item is a target, and batches of them.

Source: PLUM section 2.3. All positions of a sequence are targets (a choice of this project): one example per target
would cost several times the compute for the same signal. The first item is a target too, from which the model learns
what to recommend to new users.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

IGNORED = -100
"""Label of positions without loss (the value that torch's cross-entropy ignores)."""


class History(NamedTuple):
    """The items of a batch of windows, padded on the right.

    Attributes:
        items: (B, T) int64 item rows plus 1; 0 is padding.
        targets: (B, T) bool, whether an item is a target.
    """

    items: Tensor
    targets: Tensor


class Batch(NamedTuple):
    """A batch of token sequences, padded on the right.

    Attributes:
        tokens: (B, T) int64.
        labels: (B, T) int64; the token itself if it is a target, else ``IGNORED``. Not shifted.
        history: the items of the tokens, if the tokens are Semantic IDs.
        positions: (B, T) int64 place of each token in its document, if rows hold several: each document begins at 0,
            and sees no other.
        ids: what each row was made of, in words, for messages; may be empty.
    """

    tokens: Tensor
    labels: Tensor
    history: History | None = None
    positions: Tensor | None = None
    ids: Sequence[str] = ()


@dataclass(frozen=True)
class Window:
    """Part of a user's training history.

    Attributes:
        items: item rows, oldest first.
        n_context: number of first items that are context only; they are targets of another window.
        history: number of the history that it is of.
    """

    items: np.ndarray
    n_context: int
    history: int = 0


def windows(histories: Sequence[np.ndarray], max_history: int) -> list[Window]:
    """Cut histories so that every item is a target once, with at least half a window of context if it exists.

    Example: 7 items, max_history 4 -> items 0..3 (0 context), 2..5 (2 context), 4..6 (2 context).
    """
    stride = max(1, max_history // 2)
    cut = []
    for number, history in enumerate(histories):
        if len(history) == 0:
            continue
        cut.append(Window(history[:max_history], 0, number))
        done = min(len(history), max_history)
        while done < len(history):
            end = min(len(history), done + stride)
            start = max(0, end - max_history)
            cut.append(Window(history[start:end], done - start, number))
            done = end
    return cut


def next_item_windows(histories: Sequence[np.ndarray], targets: Sequence[np.ndarray], max_history: int) -> list[Window]:
    """Each history's last items and the first item after it, which alone is a target: to validate on.

    Example: history 0..6, targets 7, 8, max_history 4 -> items 3..7, of which 7 is the target.
    """
    return [
        Window(np.append(history[-max_history:], target[0]), min(len(history), max_history))
        for history, target in zip(histories, targets, strict=True)
    ]


def batches(
    cut: Sequence[Window],
    item_tokens: np.ndarray,
    prefix: np.ndarray,
    batch_size: int,
    history_dropout: float,
    pad: int,
    seed: int,
    epoch: int,
) -> Iterator[Batch]:
    """Batches of one epoch; windows of similar length are batched together to reduce padding.

    Args:
        cut: from ``windows``.
        item_tokens: (N, L) token ids of each item's Semantic ID.
        prefix: token ids before the first item.
        batch_size: B.
        history_dropout: probability of dropping an item from its window, as context and as target. A window that would
            lose all targets is kept whole.
        pad: token id for padding.
        seed: of order and dropout, together with ``epoch``.
        epoch: number of the pass.
    """
    rng = np.random.default_rng([seed, epoch])
    lengths = np.array([len(window.items) for window in cut]) + rng.uniform(0, 8, len(cut))
    order = np.argsort(lengths, kind="stable")
    groups = [order[start : start + batch_size] for start in range(0, len(order), batch_size)]
    for number in rng.permutation(len(groups)):
        kept = [_thinned(cut[i], history_dropout, rng) for i in groups[number]]
        batch = pad_rows([_tokens(items, target, item_tokens, prefix) for items, target in kept], pad)
        ids = [f"history {cut[i].history}" for i in groups[number]]
        yield batch._replace(history=_history(kept), ids=ids)


def n_batches(cut: Sequence[Window], batch_size: int) -> int:
    """Batches of one epoch."""
    return -(-len(cut) // batch_size)


def _thinned(window: Window, dropout: float, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """A window's items after dropout, and whether each is a target."""
    target = np.arange(len(window.items)) >= window.n_context
    if dropout:
        kept = rng.random(len(window.items)) >= dropout
        if (kept & target).any():  # a window must keep a target
            return window.items[kept], target[kept]
    return window.items, target


def _tokens(
    items: np.ndarray, target: np.ndarray, item_tokens: np.ndarray, prefix: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    sids = item_tokens[items]
    labels = np.where(target[:, None], sids, IGNORED)
    tokens = np.concatenate([prefix, sids.reshape(-1)])
    return tokens, np.concatenate([np.full(len(prefix), IGNORED), labels.reshape(-1)])


def _history(rows: Sequence[tuple[np.ndarray, np.ndarray]]) -> History:
    """The items of (items, target) rows."""
    width = max(len(items) for items, _ in rows)
    padded = np.zeros((len(rows), width), dtype=np.int64)
    targets = np.zeros((len(rows), width), dtype=bool)
    for row, (items, target) in enumerate(rows):
        padded[row, : len(items)] = items + 1
        targets[row, : len(items)] = target
    return History(torch.from_numpy(padded), torch.from_numpy(targets))


def pad_rows(rows: Sequence[tuple[np.ndarray, np.ndarray]], pad: int) -> Batch:
    """Batch of (tokens, labels) rows of different length, padded on the right."""
    width = max(len(tokens) for tokens, _ in rows)
    tokens = np.full((len(rows), width), pad, dtype=np.int64)
    labels = np.full((len(rows), width), IGNORED, dtype=np.int64)
    for row, (row_tokens, row_labels) in enumerate(rows):
        tokens[row, : len(row_tokens)] = row_tokens
        labels[row, : len(row_labels)] = row_labels
    return Batch(torch.from_numpy(tokens), torch.from_numpy(labels))
