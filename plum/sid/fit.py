"""Train the Semantic-ID tokenizer and read off every item's codes."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from plum.errors import PlumError
from plum.sid.kmeans import residual_kmeans
from plum.sid.rqvae import (
    RQVAE,
    contrastive_loss,
    quantization_loss,
    reconstruction_loss,
    squared_distances,
    straight_through,
)
from plum.training import Progress, Recipe, fit

logger = logging.getLogger(__name__)

RESET_UNTIL = 0.9
"""Dead codes are reset in the first nine tenths of the training, so that the codebooks settle."""

BLOCK = 8192
"""Items encoded or quantised at once where the whole catalogue is."""


@dataclass(frozen=True)
class LossWeights:
    """Weights and switches of the tokenizer's loss (PLUM section 2.1)."""

    beta: float = 0.25
    contrastive: float = 1.0
    progressive_masking: bool = True


def standardise(features: np.ndarray, name: str) -> np.ndarray:
    """Centre a modality (N, D_m) and scale it as a whole to unit mean square per dimension.

    One factor for all dimensions keeps their relative weight (a TF-IDF space has few strong axes and many weak ones).

    Raises:
        PlumError: if there are non-finite values, or all rows are the same.
    """
    bad = ~np.isfinite(features).all(axis=1)
    if bad.any():
        raise PlumError(
            f"features of modality {name!r} hold NaN or infinity",
            f"{bad.sum():,} rows, the first is row {int(bad.argmax())}",
            "mend the vectors",
        )
    if (features == features[0]).all():
        raise PlumError(
            f"modality {name!r} tells no items apart: all {len(features):,} rows are the same",
            None,
            "drop it from features.modalities, or give items text or topics",
        )
    centred = features - features.mean(0, dtype=np.float64)  # float64: single precision overflows and loses the mean
    return (centred / np.sqrt((centred**2).mean())).astype(np.float32)


def train_rqvae(
    model: RQVAE,
    modalities: Sequence[Tensor],
    pairs: np.ndarray,
    recipe: Recipe,
    weights: LossWeights,
    batch_size: int,
    seed: int,
    checkpoint: Path,
) -> Progress:
    """Train ``model`` in place on a catalogue.

    Args:
        model: on its device.
        modalities: M tensors (N, D_m), standardised, on the same device.
        pairs: (P, 2) rows of co-occurring items; may be empty, then the contrastive term is left out.
        recipe: how to optimise; ``steps_per_epoch`` must be ``batches_per_epoch(N, batch_size)``.
        weights: of the loss.
        batch_size: items per step; with pairs, as many items again that stand in pairs.
        seed: decides batches and the first codebooks. Masks and dead-code resets draw from torch's generator (see
            ``plum.runtime.seed_everything``).
        checkpoint: folder to resume from.
    """
    n_items = len(modalities[0])
    if not (checkpoint / "state.json").exists():
        _start_codebooks(model, modalities, seed)

    def batches(epoch: int) -> Iterator[ItemBatch]:
        rng = np.random.default_rng([seed, epoch])
        yield from _item_batches(n_items, pairs if weights.contrastive else pairs[:0], batch_size, rng)

    def loss(batch: ItemBatch) -> dict[str, Tensor]:
        return _losses(model, modalities, batch, weights)

    def reset(epoch: int) -> None:
        if epoch + 1 < RESET_UNTIL * recipe.epochs:
            _reset_dead_codes(model, modalities)

    return fit(model, recipe, batches, loss, checkpoint=checkpoint, name="tokenize", after_epoch=reset, log_every=20)


def batches_per_epoch(n_items: int, batch_size: int) -> int:
    """Steps of one pass over the catalogue."""
    return max(1, n_items // batch_size)


@torch.no_grad()
def assign_codes(model: RQVAE, modalities: Sequence[Tensor], block: int = BLOCK) -> tuple[np.ndarray, float]:
    """Codes (N, L) int64 of all items, and the mean squared reconstruction error per dimension, all levels used."""
    model.eval()
    codes, error = [], 0.0
    n_items = len(modalities[0])
    for start in range(0, n_items, block):
        part = [x[start : start + block] for x in modalities]
        quantized = model.quantize(model.encode(part))
        loss = reconstruction_loss(model, part, quantized)
        error += loss.item() * len(part[0]) / len(modalities)
        codes.append(quantized.codes.cpu().numpy())
    return np.concatenate(codes), error / n_items


class ItemBatch(NamedTuple):
    """The items of one step.

    Attributes:
        rows: (B,) int64 catalogue rows; of the first ``n_paired``, rows 2i and 2i + 1 are a co-occurring pair.
        n_paired: even.
    """

    rows: np.ndarray
    n_paired: int


def _item_batches(n_items: int, pairs: np.ndarray, batch_size: int, rng: np.random.Generator) -> Iterator[ItemBatch]:
    """Batches of an epoch: half of the rows co-occurring pairs, half items in random order; without pairs, items alone.

    Pairs are drawn by their count, so popular items come often; the uniform half sees to it that every item counts.
    """
    order = rng.permutation(n_items)
    size = min(batch_size, n_items)
    for step in range(batches_per_epoch(n_items, batch_size)):
        rows = order[step * size : (step + 1) * size]
        drawn = np.zeros(0, dtype=np.int64)
        if len(pairs):
            drawn = pairs[rng.integers(0, len(pairs), max(1, size // 2))].reshape(-1)
        yield ItemBatch(np.concatenate([drawn, rows]), len(drawn))


def _losses(model: RQVAE, modalities: Sequence[Tensor], batch: ItemBatch, weights: LossWeights) -> dict[str, Tensor]:
    rows = torch.from_numpy(batch.rows).to(modalities[0].device)
    contents = [x[rows] for x in modalities]
    quantized = model.quantize(model.encode(contents))
    n_rows, n_levels = quantized.codes.shape
    levels = None
    if weights.progressive_masking:
        levels = torch.randint(1, n_levels + 1, (1,)).to(rows.device).expand(n_rows)
    losses = {
        "reconstruction": reconstruction_loss(model, contents, quantized, levels),
        "quantization": quantization_loss(quantized, weights.beta),
    }
    total = losses["reconstruction"] + losses["quantization"]
    if batch.n_paired:
        projections = model.contrast(straight_through(quantized)[: batch.n_paired])
        losses["contrastive"] = contrastive_loss(projections, rows[: batch.n_paired])
        total = total + weights.contrastive * losses["contrastive"]
    return {"loss": total, **losses}


@torch.no_grad()
def _start_codebooks(model: RQVAE, modalities: Sequence[Tensor], seed: int) -> None:
    latents = encode_all(model, modalities).cpu().numpy()
    sizes = [len(book) for book in model.codebooks]
    for book, centres in zip(model.codebooks, residual_kmeans(latents, sizes, seed)[0], strict=True):
        book.copy_(torch.from_numpy(centres))


@torch.no_grad()
def _reset_dead_codes(model: RQVAE, modalities: Sequence[Tensor]) -> None:
    """Move codes that no item has onto residuals of random items."""
    residual = encode_all(model, modalities)
    for codebook in model.codebooks:
        codes = _nearest(residual, codebook)
        dead = (torch.bincount(codes, minlength=len(codebook)) == 0).nonzero().reshape(-1)
        if len(dead):
            chosen = torch.randint(0, len(residual), (len(dead),)).to(dead.device)
            codebook[dead] = residual[chosen]
            codes = _nearest(residual, codebook)
        residual = residual - codebook[codes]


@torch.no_grad()
def encode_all(model: RQVAE, modalities: Sequence[Tensor]) -> Tensor:
    """Latents (N, D) of the catalogue, in blocks so that memory stays small."""
    starts = range(0, len(modalities[0]), BLOCK)
    return torch.cat([model.encode([x[start : start + BLOCK] for x in modalities]) for start in starts])


def _nearest(vectors: Tensor, codebook: Tensor) -> Tensor:
    """Index (N,) of the nearest codeword of each vector (N, D), in blocks so that memory stays small."""
    return torch.cat([squared_distances(part, codebook).argmin(dim=1) for part in vectors.split(BLOCK)])
