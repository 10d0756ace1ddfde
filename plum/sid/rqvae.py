"""The residual-quantised autoencoder that turns item content into codes.

Source: PLUM section 2.1 ("SID-v2"); RQ-VAE: Zeghidour et al. 2021, Lee et al. 2022; for items: TIGER section 3.1.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Quantized(NamedTuple):
    """A batch of latents and their codes.

    Attributes:
        codes: (B, L) int64.
        codewords: (B, L, D), the codeword of each level.
        residuals: (B, L, D), what each level had to quantise: residuals[:, 0] is the latent itself.
    """

    codes: Tensor
    codewords: Tensor
    residuals: Tensor


class RQVAE(nn.Module):
    """Fused multi-modal encoder, residual codebooks of any sizes, one decoder per modality.

    Args:
        modality_dims: width of each modality's vectors, M of them.
        codebook_sizes: codes per level, L of them.
        latent_dim: D, width of latents and codewords.
        hidden_dim: width of the hidden layer of every encoder and decoder.
    """

    def __init__(
        self, modality_dims: Sequence[int], codebook_sizes: Sequence[int], latent_dim: int, hidden_dim: int
    ) -> None:
        super().__init__()
        self.encoders = nn.ModuleList(_mlp(width, hidden_dim, latent_dim) for width in modality_dims)
        self.projection = nn.Linear(latent_dim * len(modality_dims), latent_dim)
        self.decoders = nn.ModuleList(_mlp(latent_dim, hidden_dim, width) for width in modality_dims)
        self.codebooks = nn.ParameterList(torch.randn(size, latent_dim) for size in codebook_sizes)
        # The contrastive term compares items after a projection of its own, so that it guides the codes without
        # forcing the latents themselves to be collaborative (PLUM section 2.1).
        self.contrast = _mlp(latent_dim, hidden_dim, latent_dim)

    def encode(self, modalities: Sequence[Tensor]) -> Tensor:
        """Latents (B, D) of items given as M tensors (B, D_m)."""
        encoded = [encoder(x) for encoder, x in zip(self.encoders, modalities, strict=True)]
        return self.projection(torch.cat(encoded, dim=-1))

    def quantize(self, latents: Tensor) -> Quantized:
        """Greedy residual quantisation of latents (B, D): each level takes its nearest codeword."""
        residual = latents
        codes, codewords, residuals = [], [], []
        for codebook in self.codebooks:
            nearest = squared_distances(residual.detach(), codebook.detach()).argmin(dim=1)
            codeword = codebook[nearest]
            codes.append(nearest)
            codewords.append(codeword)
            residuals.append(residual)
            residual = residual - codeword.detach()
        return Quantized(torch.stack(codes, 1), torch.stack(codewords, 1), torch.stack(residuals, 1))

    def decode(self, latents: Tensor) -> list[Tensor]:
        """Reconstructions, M tensors (B, D_m), of latents (B, D)."""
        return [decoder(latents) for decoder in self.decoders]


def squared_distances(vectors: Tensor, codebook: Tensor) -> Tensor:
    """Squared Euclidean distances, (B, C), less the vectors' own norms, which do not change the nearest code."""
    return (codebook * codebook).sum(1) - 2 * vectors @ codebook.T


def straight_through(quantized: Quantized, levels: Tensor | None = None) -> Tensor:
    """Sum of the codewords (B, D), of all levels or of the first ``levels`` (B,); its gradient goes to the latents."""
    codewords = quantized.codewords
    if levels is not None:
        kept = torch.arange(codewords.shape[1], device=levels.device) < levels[:, None]
        codewords = codewords * kept.unsqueeze(-1)
    latents = quantized.residuals[:, 0]
    return latents + (codewords.sum(1) - latents).detach()


def reconstruction_loss(
    model: RQVAE, modalities: Sequence[Tensor], quantized: Quantized, levels: Tensor | None = None
) -> Tensor:
    """Mean squared error of each modality, summed over modalities, from all or the first ``levels`` (B,) codewords.

    With ``levels`` drawn uniformly from 1..L this is PLUM's progressive masking. Gradients pass straight through the
    quantiser to the encoder.
    """
    # PLUM sums squared errors over dimensions; the mean keeps the terms' balance independent of the width.
    decoded = model.decode(straight_through(quantized, levels))
    return torch.stack([F.mse_loss(out, x) for out, x in zip(decoded, modalities, strict=True)]).sum()


def quantization_loss(quantized: Quantized, beta: float) -> Tensor:
    """Codebook and commitment terms, summed over levels: ``beta * |r - sg(e)|^2 + |sg(r) - e|^2`` (PLUM section 2.1).

    Like the reconstruction, squared errors are means over dimensions.
    """
    r, e = quantized.residuals, quantized.codewords
    commitment = (r - e.detach()).pow(2).mean(-1)
    codebook = (r.detach() - e).pow(2).mean(-1)
    return (beta * commitment + codebook).sum(1).mean()


def contrastive_loss(projections: Tensor, items: Tensor) -> Tensor:
    """In-batch softmax over co-occurring pairs (PLUM section 2.1).

    Args:
        projections: (B, D) with B even; rows 2i and 2i + 1 are a positive pair.
        items: (B,) which item each row is. The item itself or its partner, drawn again in the batch, is no negative.

    Returns:
        Mean over the B items of ``-log(exp(s(i, i+)) / sum_{j != i} exp(s(i, j)))`` with dot products s of unit vectors
        at temperature 0.1. Example: with one pair the loss is 0, the partner being the only candidate.
    """
    unit = F.normalize(projections, dim=-1)
    scores = unit @ unit.T / 0.1
    partner = torch.arange(len(scores), device=scores.device) ^ 1
    no_negative = (items == items[:, None]) | (items == items[partner][:, None])
    no_negative[torch.arange(len(scores)), partner] = False
    return F.cross_entropy(scores.masked_fill(no_negative, -torch.inf), partner)


def _mlp(inputs: int, hidden: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(inputs, hidden), nn.GELU(), nn.Linear(hidden, outputs))
