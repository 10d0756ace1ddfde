"""Next-token training of a decoder-only language model, for pre-training and fine-tuning."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import PreTrainedModel

from plum.lm.compute import Compute, cast_weights, checkpointed, compiled
from plum.lm.dropout import residual_dropout
from plum.lm.examples import IGNORED, Batch, pad_rows
from plum.lm.logits import check_length, length_border, max_positions, token_logits
from plum.lm.parts import ROWS
from plum.run import ranks
from plum.runtime import Precision, autocast, is_half, n_processes
from plum.training.cost import Size
from plum.training.loop import Progress, Recipe, fit
from plum.training.sharding import Sharded, is_wanted
from plum.training.trackers import Report

POSITIONS_MULTIPLE = 64
"""The number of positions is padded to a multiple of this before logits are computed. oneDNN builds and keeps kernels
for every new number of positions, which fragments the heap: on a CPU, a step took half as long again after some hundred
of them."""


def next_token_loss(model: PreTrainedModel, batch: Batch) -> Tensor:
    """Mean cross-entropy of the labelled tokens.

    Raises:
        PlumError: if the sequences are longer than the model takes.
    """
    return F.cross_entropy(*labelled_logits(model, batch))


def labelled_logits(model: PreTrainedModel, batch: Batch) -> tuple[Tensor, Tensor]:
    """Logits (P, V) that predict the P labelled positions, row by row, and the labels (P,).

    Padding is on the right, so causal attention never sees it and needs no mask. Logits are computed at labelled
    positions only, because they are the largest tensor of a small model's step.

    Raises:
        PlumError: if the sequences are longer than the model takes.
    """
    check_length(model, batch.tokens.shape[1])
    device = next(model.parameters()).device
    tokens, labels = batch.tokens.to(device), batch.labels.to(device)
    hidden = _hidden_states(model, tokens, labels)[:, :-1]
    targets = labels[:, 1:].flatten()
    places = (targets != IGNORED).nonzero()[:, 0]
    filled = F.pad(places, (0, -len(places) % POSITIONS_MULTIPLE))
    return token_logits(model, hidden.flatten(0, 1)[filled])[: len(places)], targets[places]


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


def train(
    model: PreTrainedModel,
    recipe: Recipe,
    batches: Callable[[int], Iterable[Batch]],
    *,
    checkpoint: Path,
    name: str,
    batch_loss: Callable[[PreTrainedModel, Any], Tensor] = next_token_loss,
    prepare: Callable[[Batch], Any] | None = None,
    size: Callable[[Batch], Size] | None = None,
    validate: Callable[[], dict[str, float]] | None = None,
    monitor: str | None = None,
    dropout: float = 0.0,
    precision: Precision = "auto",
    look: tuple[int, Callable[[], dict[str, float]]] | None = None,
    compute: Compute = Compute(),  # noqa: B008 - immutable
    report: Report | None = None,
) -> Progress:
    """Train a language model in place; see ``plum.training.loop.fit`` for what is not listed here.

    Several processes of a command train together, each on its rows of every batch.

    Args:
        model: on its device. With ``compute.parallel`` set to ``fsdp``, a sharded copy is trained.
        recipe, batches, checkpoint, name, prepare, size, validate, monitor, look, report: as for ``fit``.
        batch_loss: the loss of a batch, or of the result of ``prepare`` for it; a mean over labelled tokens.
        dropout: see ``plum.lm.dropout``.
        precision: of the matrix products; see ``plum.runtime.is_half``.
        compute: how the steps are computed; see :class:`plum.lm.compute.Compute`.

    Raises:
        PlumError: as ``fit``, or if the model can't do what ``compute`` asks for.
    """
    device = next(model.parameters()).device
    half = is_half(device, precision)
    cast_weights(model, compute.weights)
    together = n_processes() > 1 and not ranks.is_alone()
    sharded = Sharded(model, device, half) if together and is_wanted(compute.parallel) else None
    trained = copy.deepcopy(nn.Module.to(model, "cpu")) if sharded else model

    def loss(batch: Any) -> dict[str, Tensor]:
        with _plain_attention(trained, half and device.type == "cpu"), autocast(device, precision):
            return {"loss": batch_loss(trained, batch)}

    with (
        residual_dropout(trained, dropout),
        checkpointed(trained, compute.checkpoints),
        compiled(trained, compute.compile),
    ):
        return fit(
            trained,
            recipe,
            batches,
            loss,
            checkpoint=checkpoint,
            name=name,
            prepare=prepare,
            parts=ROWS,
            size=size,
            validate=validate,
            monitor=monitor,
            look=look,
            sharded=sharded,
            report=report,
        )


@contextmanager
def _plain_attention(model: PreTrainedModel, wanted: bool) -> Iterator[None]:
    """Attention as two matrix products while open: on CPUs the fused kernel takes twice as long in bfloat16."""
    before = model.config._attn_implementation
    if not wanted or before == "eager":
        yield
        return
    model.set_attn_implementation("eager")
    try:
        yield
    finally:
        model.set_attn_implementation(before)


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
def labelled_loss(model: PreTrainedModel, batches: Iterable[Batch]) -> float:
    """Mean cross-entropy in nats per labelled token over batches, without dropout; NaN if there are none."""
    was_training = model.training
    model.eval()
    total, tokens = 0.0, 0
    for batch in batches:
        counted = int((batch.labels[:, 1:] != IGNORED).sum())
        if counted:
            total += next_token_loss(model, batch).item() * counted
            tokens += counted
    model.train(was_training)
    return total / tokens if tokens else float("nan")
