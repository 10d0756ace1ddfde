"""An RQ-VAE's codebooks: initialisation, moving-average updates, and resets of dead codes."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from plum.sid.kmeans import residual_kmeans
from plum.sid.rqvae import RQVAE, Content, Quantized, nearest_codewords

BLOCK = 8192
"""Items encoded or quantised at a time in passes over the whole catalogue."""

SMOOTHING = 1e-5
"""Laplace smoothing of the moving averages' counts, so that unused codes don't divide by zero."""


@dataclass(frozen=True)
class CodebookRules:
    """How codebooks are trained, apart from gradients.

    Attributes:
        kmeans_init: initialise by residual k-means of the catalogue's latents; else keep the model's codebooks.
        reset_dead: move unused codes onto items, at regular intervals except in the last tenth of the training.
        ema_decay: of the moving averages, if the model has them.
    """

    kmeans_init: bool = True
    reset_dead: bool = True
    ema_decay: float = 0.99


@torch.no_grad()
def start_codebooks(model: RQVAE, content: Content, seed: int, kmeans: bool) -> None:
    """Initialise the codebooks by residual k-means over the catalogue, or keep them; then restart moving averages."""
    if kmeans:
        latents = encode_all(model, content).cpu().numpy()
        sizes = [len(book) for book in model.codebooks]
        for book, centres in zip(model.codebooks, residual_kmeans(latents, sizes, seed)[0], strict=True):
            book.copy_(torch.from_numpy(centres))
    for book, average in zip(model.codebooks, model.moving_averages, strict=False):
        average.restart(book)


@torch.no_grad()
def update_codebooks(model: RQVAE, quantized: Quantized, decay: float) -> None:
    """Move codewords to the moving average of the residuals that they quantise.

    Source: van den Oord et al. 2017, appendix A.1, with the Laplace smoothing of their code (Sonnet).
    ``N <- decay N + (1 - decay) n``, ``m <- decay m + (1 - decay) sum r`` over the n residuals of a batch nearest to a
    codeword, which becomes ``m / N``, N smoothed over the codebook: ``(N + e) / (sum N + C e) * sum N``.

    Args:
        model: with moving averages.
        quantized: a batch, quantised by the current codebooks.
        decay: between 0 and 1.
    """
    for level, (book, average) in enumerate(zip(model.codebooks, model.moving_averages, strict=True)):
        codes, residuals = quantized.codes[:, level], quantized.residuals[:, level].detach()
        average.counts.lerp_(torch.bincount(codes, minlength=len(book)).to(book.dtype), 1 - decay)
        average.sums.lerp_(torch.zeros_like(book).index_add_(0, codes, residuals), 1 - decay)
        total = average.counts.sum()
        smoothed = (average.counts + SMOOTHING) / (total + len(book) * SMOOTHING) * total
        book.copy_(average.sums / smoothed[:, None])


@torch.no_grad()
def reset_dead_codes(model: RQVAE, content: Content) -> list[tuple[Tensor, Tensor]]:
    """Move codes that no item has onto residuals of random items.

    Returns:
        For each codebook with such codes, the codebook (C, D) and the moved rows: what an optimizer knows of their old
        places does not hold for the new ones.
    """
    moved: list[tuple[Tensor, Tensor]] = []
    residual = encode_all(model, content)
    for level, codebook in enumerate(model.codebooks):
        codes = nearest_of_all(residual, codebook)
        dead = (torch.bincount(codes, minlength=len(codebook)) == 0).nonzero().reshape(-1)
        if len(dead):
            chosen = torch.randint(0, len(residual), (len(dead),)).to(dead.device)
            codebook[dead] = residual[chosen]
            if model.moving_averages:
                model.moving_averages[level].restart(codebook, dead)
            moved.append((codebook, dead))
            codes = nearest_of_all(residual, codebook)
        residual = residual - codebook[codes]
    return moved


@torch.no_grad()
def encode_all(model: RQVAE, content: Content) -> Tensor:
    """Latents (N, D) of the catalogue, in blocks so that memory stays small."""
    return torch.cat([model.encode(*part) for part in content.blocks(BLOCK)])


def nearest_of_all(vectors: Tensor, codebook: Tensor) -> Tensor:
    """Index (N,) of the nearest codeword of each vector (N, D), in blocks so that memory stays small."""
    return torch.cat([nearest_codewords(part, codebook) for part in vectors.split(BLOCK)])
