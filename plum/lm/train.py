"""Next-token training of a decoder-only language model: the one entry for pre-training and fine-tuning."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import PreTrainedModel

from plum.lm.examples import IGNORED, Batch, pad_rows
from plum.lm.logits import check_length, max_positions, token_logits
from plum.training import Progress, Recipe, fit


def next_token_loss(model: PreTrainedModel, batch: Batch) -> Tensor:
    """Mean cross-entropy of the labelled tokens.

    Padding stands on the right, so causal attention never sees it and needs no mask. The vocabulary's logits are
    computed at labelled positions only: they are the largest tensor of a small model's step.

    Raises:
        PlumError: if the sequences are longer than the model takes.
    """
    check_length(model, batch.tokens.shape[1])
    device = next(model.parameters()).device
    tokens, labels = batch.tokens.to(device), batch.labels.to(device)
    base: Any = model.base_model
    hidden = base(input_ids=tokens, use_cache=False).last_hidden_state[:, :-1]
    targets = labels[:, 1:]
    counted = targets != IGNORED
    return F.cross_entropy(token_logits(model, hidden[counted]), targets[counted])


def train(
    model: PreTrainedModel,
    recipe: Recipe,
    batches: Callable[[int], Iterable[Batch]],
    *,
    checkpoint: Path,
    name: str,
    validate: Callable[[], dict[str, float]] | None = None,
    monitor: str | None = None,
) -> Progress:
    """Train a language model in place; see ``plum.training.fit``. On CUDA the forward pass runs in bfloat16."""
    device = next(model.parameters()).device

    def loss(batch: Batch) -> dict[str, Tensor]:
        with torch.autocast(device.type, dtype=torch.bfloat16, enabled=device.type == "cuda"):
            return {"loss": next_token_loss(model, batch)}

    return fit(model, recipe, batches, loss, checkpoint=checkpoint, name=name, validate=validate, monitor=monitor)


@torch.no_grad()
def mean_loss(model: PreTrainedModel, documents: Sequence[np.ndarray], batch_size: int, pad: int) -> float:
    """Mean cross-entropy in nats per token over documents of token ids; NaN if there are none.

    Of a document longer than the model takes, the first tokens count.
    """
    was_training = model.training
    model.eval()
    total, tokens = 0.0, 0
    limit = max_positions(model)
    ordered = sorted((ids[:limit] for ids in documents), key=len)
    for start in range(0, len(ordered), batch_size):
        batch = pad_rows([(ids, ids) for ids in ordered[start : start + batch_size]], pad)
        counted = int((batch.labels[:, 1:] != IGNORED).sum())
        if counted:
            total += next_token_loss(model, batch).item() * counted
            tokens += counted
    model.train(was_training)
    return total / tokens if tokens else float("nan")
