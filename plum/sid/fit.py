"""Train the Semantic-ID tokenizer and read off every item's codes."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from plum.errors import PlumError
from plum.sid.kmeans import residual_kmeans
from plum.sid.rqvae import RQVAE, contrastive_loss, quantization_loss, reconstruction_loss
from plum.training import Progress, Recipe, fit

logger = logging.getLogger(__name__)

RESET_UNTIL = 0.9
"""Dead codes are reset in the first nine tenths of the training, so that the codebooks settle."""


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
    centred = features - features.mean(0)
    scale = np.sqrt((centred**2).mean())
    if scale < 1e-8:
        raise PlumError(
            f"modality {name!r} tells no items apart: all {len(features):,} rows are the same",
            None,
            "drop it from features.modalities, or give items text or topics",
        )
    return (centred / scale).astype(np.float32)


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
        batch_size: items per step.
        seed: decides batches, k-means and masks.
        checkpoint: folder to resume from.
    """
    n_items = len(modalities[0])
    if not (checkpoint / "state.json").exists():
        _start_codebooks(model, modalities, seed)

    def batches(epoch: int) -> Iterator[np.ndarray]:
        rng = np.random.default_rng([seed, epoch])
        yield from _item_batches(n_items, pairs if weights.contrastive else pairs[:0], batch_size, rng)

    def loss(rows: np.ndarray) -> dict[str, Tensor]:
        return _losses(model, [x[rows] for x in modalities], torch.from_numpy(rows), weights, len(pairs) > 0)

    def reset(epoch: int) -> None:
        if epoch + 1 < RESET_UNTIL * recipe.epochs:
            _reset_dead_codes(model, modalities)

    return fit(model, recipe, batches, loss, checkpoint=checkpoint, name="tokenize", after_epoch=reset, log_every=20)


def batches_per_epoch(n_items: int, batch_size: int) -> int:
    """Steps of one pass over the catalogue."""
    return max(1, n_items // batch_size)


@torch.no_grad()
def assign_codes(model: RQVAE, modalities: Sequence[Tensor], block: int = 8192) -> tuple[np.ndarray, float]:
    """Codes (N, L) int64 of all items, and the mean squared reconstruction error per dimension, all levels used."""
    model.eval()
    codes, error = [], 0.0
    n_items, n_levels = len(modalities[0]), len(model.codebooks)
    for start in range(0, n_items, block):
        part = [x[start : start + block] for x in modalities]
        quantized = model.quantize(model.encode(part))
        everything = torch.full((len(part[0]),), n_levels, device=part[0].device)
        loss = reconstruction_loss(model, part, quantized, everything)
        error += loss.item() * len(part[0]) / len(modalities)
        codes.append(quantized.codes.cpu().numpy())
    return np.concatenate(codes), error / n_items


def _item_batches(n_items: int, pairs: np.ndarray, batch_size: int, rng: np.random.Generator) -> Iterator[np.ndarray]:
    """Rows of a step: half of them items in random order, half co-occurring pairs; without pairs, items alone.

    Pairs are drawn by their count, so popular items come often; the uniform half sees to it that every item counts.
    """
    order = rng.permutation(n_items)
    size = min(batch_size, n_items)
    for step in range(batches_per_epoch(n_items, batch_size)):
        rows = order[step * size : (step + 1) * size]
        if len(pairs):
            drawn = pairs[rng.integers(0, len(pairs), size // 2)].reshape(-1)
            rows = np.concatenate([drawn, rows])
        yield rows


def _losses(
    model: RQVAE, modalities: list[Tensor], rows: Tensor, weights: LossWeights, paired: bool
) -> dict[str, Tensor]:
    latents = model.encode(modalities)
    quantized = model.quantize(latents)
    n_rows, n_levels = quantized.codes.shape
    levels = torch.full((n_rows,), n_levels, device=latents.device)
    if weights.progressive_masking:
        levels = torch.randint(1, n_levels + 1, (1,)).to(latents.device).expand(n_rows)
    losses = {
        "reconstruction": reconstruction_loss(model, modalities, quantized, levels),
        "quantization": quantization_loss(quantized, weights.beta),
    }
    total = losses["reconstruction"] + losses["quantization"]
    if paired and weights.contrastive:
        approximation = latents + (quantized.codewords.sum(1) - latents).detach()
        n_paired = 2 * (n_rows // 4)
        losses["contrastive"] = contrastive_loss(model.contrast(approximation[:n_paired]), rows[:n_paired].to(latents.device))
        total = total + weights.contrastive * losses["contrastive"]
    return {"loss": total, **losses}


@torch.no_grad()
def _start_codebooks(model: RQVAE, modalities: Sequence[Tensor], seed: int) -> None:
    latents = model.encode(modalities).cpu().numpy()
    sizes = [len(book) for book in model.codebooks]
    for book, centres in zip(model.codebooks, residual_kmeans(latents, sizes, seed)[0], strict=True):
        book.copy_(torch.from_numpy(centres))


@torch.no_grad()
def _reset_dead_codes(model: RQVAE, modalities: Sequence[Tensor]) -> None:
    """Move codes that no item has onto residuals of random items."""
    for level, codebook in enumerate(model.codebooks):
        # Quantised anew for each level: a reset level changes the residuals of the next.
        quantized = model.quantize(model.encode(modalities))
        dead = (torch.bincount(quantized.codes[:, level], minlength=len(codebook)) == 0).nonzero().reshape(-1)
        if len(dead):
            chosen = torch.randint(0, len(quantized.codes), (len(dead),)).to(dead.device)
            codebook[dead] = quantized.residuals[chosen, level]
