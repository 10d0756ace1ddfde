"""The loss of every token of held-out documents, by what the token is: a code of some level, or text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from transformers import PreTrainedModel

from plum.lm.examples import pad_rows
from plum.lm.logits import length_border, max_positions, token_logits
from plum.runtime import evaluating
from plum.sid.codec import Codec

TEXT = -1
"""The level of a token that is no code."""
POSITIONS = 1024
"""Positions whose logits are in memory together."""


@dataclass(frozen=True)
class Tokens:
    """Documents as one stream.

    Attributes:
        ids: (P,) int64 token ids.
        levels: (P,) int64, the level of a code, ``TEXT`` for any other token.
        documents: (P,) int64, the number of each token's document.
    """

    ids: np.ndarray
    levels: np.ndarray
    documents: np.ndarray

    @property
    def predicted(self) -> np.ndarray:
        """Which tokens (P,) bool have one before them in their document: all but the first."""
        return np.r_[False, self.documents[1:] == self.documents[:-1]][: len(self.ids)]


def stream(documents: Sequence[np.ndarray], codec: Codec) -> Tokens:
    """The tokens of documents, one after the other."""
    ids = np.concatenate([np.zeros(0, dtype=np.int64), *documents])
    level_of = np.full(max(int(ids.max(initial=0)), *(int(row.max()) for row in codec.token_ids)) + 1, TEXT)
    for level, row in enumerate(codec.token_ids):
        level_of[row] = level
    return Tokens(ids, level_of[ids], np.repeat(np.arange(len(documents)), [len(row) for row in documents]))


def cut_to(model: PreTrainedModel, documents: Sequence[np.ndarray]) -> list[np.ndarray]:
    """The documents, each cut at the longest sequence that the model takes."""
    limit = max_positions(model)
    return [ids[:limit] for ids in documents]


@torch.no_grad()
def token_losses(model: PreTrainedModel, documents: Sequence[np.ndarray], batch_size: int, pad: int) -> np.ndarray:
    """The loss of every token that has one before it in its document, in the documents' order.

    Costs one pass of the model over the tokens. The logits of ``POSITIONS`` positions are in memory together.

    Args:
        model: on its device; dropout is off meanwhile.
        documents: token ids, none longer than the model takes (:func:`cut_to`).
        batch_size: documents computed together.
        pad: token id for padding.

    Returns:
        (P',) float32 nats, by the softmax over the whole vocabulary; P' counts the tokens but each document's first.
    """
    found: list[np.ndarray] = [np.zeros(0, dtype=np.float32)] * len(documents)
    with evaluating(model):
        for rows in _batches(model, documents, batch_size):
            own = [documents[row] for row in rows]
            tokens = pad_rows([(ids, ids) for ids in own], pad).tokens.to(model.device)
            base: Any = model.base_model
            hidden = base(input_ids=tokens, use_cache=False).last_hidden_state
            inside = torch.arange(tokens.shape[1])[None] < torch.tensor([len(ids) for ids in own])[:, None]
            kept = inside[:, 1:].flatten().nonzero()[:, 0].to(tokens.device)
            states, targets = hidden[:, :-1].flatten(0, 1)[kept], tokens[:, 1:].flatten()[kept]
            parts = [
                F.cross_entropy(token_logits(model, states[start : start + POSITIONS]), part, reduction="none").cpu()
                for start, part in zip(range(0, len(kept), POSITIONS), targets.split(POSITIONS), strict=True)
            ]
            losses = torch.cat([torch.zeros(0), *parts]).numpy()
            ends = np.cumsum([max(0, len(ids) - 1) for ids in own])
            for row, part in zip(rows, np.split(losses, ends[:-1]), strict=True):
                found[row] = part
    return np.concatenate([np.zeros(0, dtype=np.float32), *found])


def _batches(model: PreTrainedModel, documents: Sequence[np.ndarray], batch_size: int) -> list[list[int]]:
    """Numbers of documents of similar length, those beyond the length where positions turn otherwise by themselves."""
    lengths = np.array([len(ids) for ids in documents], dtype=np.int64)
    order = np.argsort(lengths, kind="stable")
    border = length_border(model)
    beyond = int((lengths > border).sum()) if border is not None else 0
    parts = [part for part in np.split(order, [len(order) - beyond]) if len(part)]
    return [part[start : start + batch_size].tolist() for part in parts for start in range(0, len(part), batch_size)]


def by_level(losses: np.ndarray, tokens: Tokens, n_levels: int) -> dict[str, Any]:
    """Mean losses of a set of documents.

    Args:
        losses: (P',), of the predicted tokens of ``tokens``.
        tokens: the documents.
        n_levels: L.

    Returns:
        ``tokens``: P'; ``loss``: nats per token; ``levels``: nats per code of each level, L of them; ``item``: nats per
        Semantic ID, their sum; ``text``: nats per token that is no code. Null where there is no such token.

    Example: losses 1, 2, 6 of a code of level 0, one of level 1 and a word -> loss 3, levels [1, 2], item 3, text 6.
    """
    kinds = tokens.levels[tokens.predicted]
    levels = [_mean(losses[kinds == level]) for level in range(n_levels)]
    whole = [value for value in levels if value is not None]
    return {
        "tokens": len(losses),
        "loss": _mean(losses),
        "levels": levels,
        "item": sum(whole) if len(whole) == n_levels else None,
        "text": _mean(losses[kinds == TEXT]),
    }


def _mean(values: np.ndarray) -> float | None:
    return float(values.mean(dtype=np.float64)) if len(values) else None
