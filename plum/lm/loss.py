"""Losses of a language model, at labelled positions only and never with the logits of all of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedModel

from plum.lm.cross_entropy import Labels, summed_loss
from plum.lm.examples import IGNORED, Batch, pad_rows
from plum.lm.logits import Head, check_length, head_of, length_border, max_positions
from plum.lm.packed import packed_states
from plum.lm.rows import Columns, columns_of

BatchLoss = Callable[[PreTrainedModel, Batch], Tensor]
"""The mean loss, a scalar, of a batch's labelled tokens."""


@dataclass(frozen=True)
class Levels:
    """The tokens of the codes of L levels.

    Attributes:
        token_ids: for each level (C,) int64.
        columns: for each level the same as an index of the vocabulary.
        codes: (V',) the code of each token, -1 for other tokens; V' is above all of them.
    """

    token_ids: tuple[Tensor, ...]
    columns: tuple[Columns, ...]
    codes: Tensor

    @classmethod
    def of(cls, token_ids: Sequence[np.ndarray], device: torch.device) -> Levels:
        """The levels of a codec's ``token_ids``, on a model's device."""
        codes = np.full(1 + max(int(ids.max()) for ids in token_ids), -1, dtype=np.int64)
        for ids in token_ids:
            codes[ids] = np.arange(len(ids))
        tensors = tuple(torch.from_numpy(ids).to(device) for ids in token_ids)
        return cls(tensors, tuple(map(columns_of, tensors)), torch.from_numpy(codes).to(device))

    def heads(self, head: Head) -> list[Head]:
        """The output head of each level's codes alone."""
        sizes = [len(ids) for ids in self.token_ids]
        every = head.only(torch.cat(self.token_ids))  # at once: each selection has a gradient of the whole head
        biases = [None] * len(sizes) if every.bias is None else every.bias.split(sizes)
        weights = every.weight.split(sizes)
        return [replace(every, weight=weight, bias=bias) for weight, bias in zip(weights, biases, strict=True)]


def next_token_loss(model: PreTrainedModel, batch: Batch) -> Tensor:
    """Mean cross-entropy of the labelled tokens over the whole vocabulary; NaN without any.

    Raises:
        PlumError: if the sequences are longer than the model takes.
    """
    hidden, targets = labelled_states(model, batch)
    return summed_loss(head_of(model), hidden, Labels(targets)) / len(targets)


def level_loss(model: PreTrainedModel, batch: Batch, levels: Levels) -> Tensor:
    """Mean cross-entropy of the labelled tokens over the codes of their level; NaN without any.

    No other token has logits. It is what constrained decoding ranks by (``plum.decoding.beam.Scoring``, over codes).

    Args:
        model: whose vocabulary has the codes.
        batch: labels are whole items, L tokens each.
        levels: the tokens of the codes.

    Raises:
        PlumError: if the sequences are longer than the model takes.
    """
    hidden, targets = labelled_states(model, batch)
    codes, n_levels = levels.codes[targets], len(levels.token_ids)
    parts = [
        summed_loss(head, hidden[level::n_levels], Labels(codes[level::n_levels]))
        for level, head in enumerate(levels.heads(head_of(model)))
    ]
    return torch.stack(parts).sum() / len(targets)


def labelled_states(model: PreTrainedModel, batch: Batch) -> tuple[Tensor, Tensor]:
    """Hidden states (P, D) that predict the P labelled positions, row by row, and the labels (P,).

    Padding is on the right, so causal attention never sees it and needs no mask. Documents that share a row don't see
    each other.

    Raises:
        PlumError: if the sequences are longer than the model takes.
    """
    check_length(model, batch.tokens.shape[1])
    device = next(model.parameters()).device
    tokens, labels = batch.tokens.to(device), batch.labels.to(device)
    if batch.positions is None:
        hidden = _hidden_states(model, tokens, labels)[:, :-1]
    else:
        hidden = packed_states(model, tokens, batch.positions.to(device))[:, :-1]
    targets = labels[:, 1:].flatten()
    places = (targets != IGNORED).nonzero()[:, 0]
    return hidden.flatten(0, 1)[places], targets[places]


def _hidden_states(model: PreTrainedModel, tokens: Tensor, labels: Tensor) -> Tensor:
    """Hidden states (B, T, D), for each row those that it has alone; undefined after its last label."""
    base: Any = model.base_model
    border, width = length_border(model), tokens.shape[1]
    if border is None or width <= border:
        hidden: Tensor = base(input_ids=tokens, use_cache=False).last_hidden_state
        return hidden
    lengths = ((labels != IGNORED) * torch.arange(1, width + 1, device=labels.device)).amax(dim=1)
    parts = ((rows, most) for rows, most in ((lengths > border, width), (lengths <= border, border)) if rows.any())
    found = [(rows, base(input_ids=tokens[rows, :most], use_cache=False).last_hidden_state) for rows, most in parts]
    first = found[0][1]
    hidden = first.new_zeros(*tokens.shape, first.shape[2])
    for rows, states in found:
        hidden[rows, : states.shape[1]] = states
    return hidden


def mean_loss(model: PreTrainedModel, documents: Sequence[np.ndarray], batch_size: int, pad: int) -> float:
    """Mean cross-entropy in nats per token over documents of token ids; NaN if there are none.

    Documents longer than the model supports are truncated.
    """
    limit = max_positions(model)
    ordered = sorted((ids[:limit] for ids in documents), key=len)
    starts = range(0, len(ordered), batch_size)
    return labelled_loss(
        model, (pad_rows([(ids, ids) for ids in ordered[start : start + batch_size]], pad) for start in starts)
    )


@torch.no_grad()
def labelled_loss(model: PreTrainedModel, batches: Iterable[Batch], loss: BatchLoss = next_token_loss) -> float:
    """Mean loss in nats per labelled token over batches, without dropout; NaN if there are none."""
    was_training = model.training
    model.eval()
    total, tokens = 0.0, 0
    for batch in batches:
        counted = int((batch.labels[:, 1:] != IGNORED).sum())
        if counted:
            total += loss(model, batch).item() * counted
            tokens += counted
    model.train(was_training)
    return total / tokens if tokens else float("nan")
