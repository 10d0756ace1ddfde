"""Train the Semantic-ID tokenizer and compute every item's codes."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from plum.sid.codebooks import BLOCK, CodebookRules, reset_dead_codes, start_codebooks, update_codebooks
from plum.sid.cooccurrence import Pairs
from plum.sid.rqvae import (
    RQVAE,
    Content,
    Quantized,
    contrastive_loss,
    quantization_loss,
    reconstruction_errors,
    straight_through,
)
from plum.training.loop import Progress, Recipe, fit

logger = logging.getLogger(__name__)

RESET_UNTIL = 0.9
"""Dead codes are reset only in the first nine tenths of the training, so that the codebooks then settle."""


@dataclass(frozen=True)
class LossWeights:
    """Weights and switches of the tokenizer's loss (PLUM section 2.1).

    ``modalities`` are factors of the M reconstruction errors; none for equal ones.
    """

    beta: float = 0.25
    contrastive: float = 1.0
    progressive_masking: bool = True
    modalities: tuple[float, ...] = ()


def train_rqvae(
    model: RQVAE,
    content: Content,
    pairs: Pairs,
    recipe: Recipe,
    weights: LossWeights,
    rules: CodebookRules,
    batch_size: int,
    seed: int,
    checkpoint: Path,
) -> Progress:
    """Train ``model`` in place on a catalogue.

    Args:
        model: on its device.
        content: of the catalogue, on the same device.
        pairs: co-occurring items; if empty, the contrastive term is left out.
        recipe: how to optimise; ``steps_per_epoch`` must be ``batches_per_epoch(N, batch_size)``.
        weights: of the loss.
        rules: initialisation, updates and resets of the codebooks.
        batch_size: items per step; with pairs, as many items of pairs in addition.
        seed: of batches and initial codebooks. Masks and dead-code resets draw from torch's generator (see
            ``plum.runtime.seed_everything``).
        checkpoint: folder to resume from.
    """
    if not (checkpoint / "state.json").exists():
        start_codebooks(model, content, seed, rules.kmeans_init)
    drawn = pairs if weights.contrastive else Pairs(pairs.rows[:0])

    def batches(epoch: int) -> Iterator[ItemBatch]:
        return _item_batches(content.n_items, drawn, batch_size, np.random.default_rng([seed, epoch]))

    def loss(batch: ItemBatch) -> dict[str, Tensor]:
        quantized, losses = _losses(model, content, batch, weights)
        if model.moving_averages:
            update_codebooks(model, quantized, rules.ema_decay)
        return losses

    def reset(epoch: int) -> None:
        if rules.reset_dead and epoch + 1 < RESET_UNTIL * recipe.epochs:
            reset_dead_codes(model, content)

    return fit(model, recipe, batches, loss, checkpoint=checkpoint, name="tokenize", after_epoch=reset, log_every=20)


def batches_per_epoch(n_items: int, batch_size: int) -> int:
    """Steps of one pass over the catalogue."""
    return max(1, n_items // batch_size)


@torch.no_grad()
def assign_codes(model: RQVAE, content: Content, block: int = BLOCK) -> tuple[np.ndarray, np.ndarray]:
    """Codes (N, L) int64 of all items, and the mean squared error per dimension (M,) of each modality.

    All levels are used; a modality's error is over the items that have it.
    """
    model.eval()
    codes: list[np.ndarray] = []
    errors = torch.zeros(len(content.modalities), dtype=torch.float64)
    items = torch.zeros_like(errors)
    for part in content.blocks(block):
        quantized = model.quantize(model.encode(*part))
        n_had = torch.full_like(items, part.n_items) if part.present is None else part.present.sum(0).cpu().double()
        found = reconstruction_errors(model, part.modalities, quantized, present=part.present)
        errors += found.cpu().double() * n_had
        items += n_had
        codes.append(quantized.codes.cpu().numpy())
    return np.concatenate(codes), (errors / items.clamp(min=1)).numpy()


class ItemBatch(NamedTuple):
    """The items of one step.

    Attributes:
        rows: (B,) int64 catalogue rows; of the first ``n_paired``, rows 2i and 2i + 1 are a co-occurring pair.
        n_paired: even.
    """

    rows: np.ndarray
    n_paired: int


def _item_batches(n_items: int, pairs: Pairs, batch_size: int, rng: np.random.Generator) -> Iterator[ItemBatch]:
    """Batches of an epoch: half of the rows co-occurring pairs, half items in random order; without pairs, items only.

    Pairs are drawn by weight, so popular items occur often; the uniform half ensures that every item counts.
    """
    order = rng.permutation(n_items)
    size = min(batch_size, n_items)
    for step in range(batches_per_epoch(n_items, batch_size)):
        rows = order[step * size : (step + 1) * size]
        drawn = np.zeros(0, dtype=np.int64)
        if len(pairs):
            drawn = pairs.draw(max(1, size // 2), rng).reshape(-1)
        yield ItemBatch(np.concatenate([drawn, rows]), len(drawn))


def _losses(
    model: RQVAE, content: Content, batch: ItemBatch, weights: LossWeights
) -> tuple[Quantized, dict[str, Tensor]]:
    """The quantised batch, and its loss with all terms."""
    rows = torch.from_numpy(batch.rows).to(content.modalities[0].device)
    part = content.rows(rows)
    quantized = model.quantize(model.encode(*part))
    n_rows, n_levels = quantized.codes.shape
    levels = None
    if weights.progressive_masking:
        levels = torch.randint(1, n_levels + 1, (1,)).to(rows.device).expand(n_rows)
    errors = reconstruction_errors(model, part.modalities, quantized, levels, part.present)
    if weights.modalities:
        errors = errors * errors.new_tensor(weights.modalities)
    losses = {
        "reconstruction": errors.sum(),
        "quantization": quantization_loss(quantized, weights.beta, codebook=not model.moving_averages),
    }
    total = losses["reconstruction"] + losses["quantization"]
    if batch.n_paired:
        projections = model.contrast(straight_through(quantized)[: batch.n_paired])
        losses["contrastive"] = contrastive_loss(projections, rows[: batch.n_paired])
        total = total + weights.contrastive * losses["contrastive"]
    return quantized, {"loss": total, **losses}
