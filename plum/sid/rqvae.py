"""The residual-quantised autoencoder that turns item content into codes.

Source: PLUM section 2.1 ("SID-v2"); RQ-VAE: Zeghidour et al. 2021, Lee et al. 2022; for items: TIGER section 3.1.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

CHUNK = 512
"""Vectors compared with a codebook at a time on a CPU, so that the distances stay in the cache."""


class Content(NamedTuple):
    """Standardised content of items.

    Attributes:
        modalities: M tensors (N, D_m).
        present: (N, M) bool, which items have which modality; None if all have all.
    """

    modalities: Sequence[Tensor]
    present: Tensor | None = None

    @property
    def n_items(self) -> int:
        """N."""
        return len(self.modalities[0])

    def rows(self, rows: Tensor | slice) -> Content:
        """The content of some items."""
        return Content([x[rows] for x in self.modalities], None if self.present is None else self.present[rows])

    def blocks(self, size: int) -> Iterator[Content]:
        """The content in consecutive blocks of ``size`` items."""
        return (self.rows(slice(start, start + size)) for start in range(0, self.n_items, size))


class Quantized(NamedTuple):
    """A batch of latents and their codes.

    Attributes:
        codes: (B, L) int64.
        codewords: (B, L, D), the codeword of each level.
        residuals: (B, L, D), the input of each level: residuals[:, 0] is the latent itself.
    """

    codes: Tensor
    codewords: Tensor
    residuals: Tensor


class Layers(nn.Module):
    """A linear map with a network of one hidden layer added; the network begins at zero, so that the map begins alone.

    The linear path can be started at the solution of a linear problem (:mod:`plum.sid.start`), from which the network
    then learns what is not linear.
    """

    def __init__(self, inputs: int, hidden: int, outputs: int) -> None:
        super().__init__()
        self.linear = nn.Linear(inputs, outputs)
        self.network = _mlp(inputs, hidden, outputs)
        self.restart()

    @torch.no_grad()
    def restart(self) -> None:
        """Set the network's last layer to zero."""
        last = cast("nn.Linear", self.network[-1])
        last.weight.zero_()
        last.bias.zero_()

    def forward(self, x: Tensor) -> Tensor:
        """Outputs (B, outputs) of inputs (B, inputs)."""
        return self.linear(x) + self.network(x)


class RQVAE(nn.Module):
    """Fused multi-modal encoder, residual codebooks of any sizes, one decoder per modality.

    If an item lacks a modality, a learned vector replaces its encoding.

    Args:
        modality_dims: width of each modality's vectors, M of them.
        codebook_sizes: codes per level, L of them.
        latent_dim: D, width of latents and codewords.
        hidden_dim: width of the hidden layer of every encoder and decoder.
        ema: whether codewords are moving averages of the residuals they quantise
            (``plum.sid.codebooks.update_codebooks``); else they are trained by gradients.
    """

    def __init__(
        self,
        modality_dims: Sequence[int],
        codebook_sizes: Sequence[int],
        latent_dim: int,
        hidden_dim: int,
        ema: bool = False,
    ) -> None:
        super().__init__()
        self.encoders = nn.ModuleList(Layers(width, hidden_dim, latent_dim) for width in modality_dims)
        self.projection = nn.Linear(latent_dim * len(modality_dims), latent_dim)
        self.decoders = nn.ModuleList(Layers(latent_dim, hidden_dim, width) for width in modality_dims)
        self.codebooks = nn.ParameterList(torch.randn(size, latent_dim) for size in codebook_sizes)
        # The contrastive term compares items after a projection of its own, so that it guides the codes without
        # forcing the latents themselves to be collaborative (PLUM section 2.1).
        self.contrast = _mlp(latent_dim, hidden_dim, latent_dim)
        self.absent = nn.ParameterList(torch.zeros(latent_dim) for _ in modality_dims)
        self.averages = nn.ModuleList(Averages(book) for book in self.codebooks if ema)
        self.codebooks.requires_grad_(not ema)

    @property
    def moving_averages(self) -> list[Averages]:
        """One per level; none if codewords are trained by gradients."""
        return cast("list[Averages]", list(self.averages))

    def encode(self, modalities: Sequence[Tensor], present: Tensor | None = None) -> Tensor:
        """Latents (B, D) of items given as M tensors (B, D_m).

        Args:
            modalities: M tensors (B, D_m).
            present: (B, M) bool, which items have which modality; None if all have all.
        """
        encoded = [encoder(x) for encoder, x in zip(self.encoders, modalities, strict=True)]
        if present is not None:
            encoded = [
                torch.where(there[:, None], z, vector)
                for z, there, vector in zip(encoded, present.T, self.absent, strict=True)
            ]
        return self.projection(torch.cat(encoded, dim=-1))

    def quantize(self, latents: Tensor) -> Quantized:
        """Greedy residual quantisation of latents (B, D): each level takes its nearest codeword."""
        residual = latents
        codes, codewords, residuals = [], [], []
        for codebook in self.codebooks:
            nearest = nearest_codewords(residual.detach(), codebook.detach())
            codeword = codebook[nearest]
            codes.append(nearest)
            codewords.append(codeword)
            residuals.append(residual)
            residual = residual - codeword.detach()
        return Quantized(torch.stack(codes, 1), torch.stack(codewords, 1), torch.stack(residuals, 1))

    def decode(self, latents: Tensor) -> list[Tensor]:
        """Reconstructions, M tensors (B, D_m), of latents (B, D)."""
        return [decoder(latents) for decoder in self.decoders]


class Averages(nn.Module):
    """Moving averages of the number and the sum of the vectors that a codeword quantises, as buffers in checkpoints.

    Attributes:
        counts: (C,).
        sums: (C, D).
    """

    counts: Tensor
    sums: Tensor

    def __init__(self, codebook: Tensor) -> None:
        super().__init__()
        self.register_buffer("counts", torch.ones(len(codebook)))
        self.register_buffer("sums", codebook.detach().clone())

    @torch.no_grad()
    def restart(self, codebook: Tensor, rows: Tensor | slice = slice(None)) -> None:
        """Restart the averages of some codewords (C, D) from the codewords, with the weight of one vector."""
        self.counts[rows] = 1.0
        self.sums[rows] = codebook[rows]


@torch.no_grad()
def nearest_codewords(vectors: Tensor, codebook: Tensor) -> Tensor:
    """Index (B,) of the nearest codeword (C, D) of each vector (B, D), by squared Euclidean distance."""
    norms = (codebook * codebook).sum(1)  # the vectors' own norms don't change which is nearest
    if vectors.device.type != "cpu":
        return torch.addmm(norms, vectors, codebook.T, alpha=-2).argmin(dim=1)
    nearest = torch.empty(len(vectors), dtype=torch.int64)
    distances = torch.empty(min(CHUNK, len(vectors)), len(codebook), dtype=codebook.dtype)
    for part, found in zip(vectors.split(CHUNK), nearest.split(CHUNK), strict=True):
        here = torch.addmm(norms, part, codebook.T, alpha=-2, out=distances[: len(part)])
        found.copy_(torch.from_numpy(here.numpy().argmin(1)))  # six times as fast as torch's argmin
    return nearest


def straight_through(quantized: Quantized, levels: Tensor | None = None, codewords: bool = False) -> Tensor:
    """Sum of the codewords (B, D), of all levels or of the first ``levels`` (B,); its gradient goes to the latents.

    With ``codewords`` it goes to the codewords as well, where it is exact.
    """
    chosen = quantized.codewords if codewords else quantized.codewords.detach()
    if levels is not None:
        kept = torch.arange(chosen.shape[1], device=levels.device) < levels[:, None]
        chosen = chosen * kept.unsqueeze(-1)
    latents = quantized.residuals[:, 0]
    return chosen.sum(1) + (latents - latents.detach())


def reconstruction_errors(
    model: RQVAE, modalities: Sequence[Tensor], latents: Tensor, present: Tensor | None = None
) -> Tensor:
    """Mean squared error per dimension (M,) of each modality decoded from latents, or sums of codewords, (B, D).

    With ``present`` (B, M) the means are over the items that have the modality; 0 if none has.
    """
    decoded = model.decode(latents)
    if present is None:
        return torch.stack([F.mse_loss(out, x) for out, x in zip(decoded, modalities, strict=True)])
    errors = torch.stack([(out - x).pow(2).mean(1) for out, x in zip(decoded, modalities, strict=True)], dim=1)
    return (errors * present).sum(0) / present.sum(0).clamp(min=1)


def quantization_loss(quantized: Quantized, beta: float, codebook: bool = True) -> Tensor:
    """Codebook and commitment terms per dimension, summed over levels: ``beta * |r - sg(e)|^2 + |sg(r) - e|^2``.

    Source: PLUM section 2.1. Without ``codebook`` its term is left out: codewords that are moving averages have no
    gradient (van den Oord et al. 2017, appendix A.1).
    """
    r, e = quantized.residuals, quantized.codewords
    terms = beta * (r - e.detach()).pow(2).mean(-1)
    if codebook:
        terms = terms + (r.detach() - e).pow(2).mean(-1)
    return terms.sum(1).mean()


def contrastive_loss(projections: Tensor, items: Tensor) -> Tensor:
    """In-batch softmax over co-occurring pairs (PLUM section 2.1).

    Args:
        projections: (B, D) with B even; rows 2i and 2i + 1 are a positive pair.
        items: (B,) the item of each row. Further rows of the item itself or of its partner are not negatives.

    Returns:
        Mean over the B items of ``-log(exp(s(i, i+)) / sum_{j != i} exp(s(i, j)))`` with dot products s of unit vectors
        at temperature 0.1. Example: with one pair the loss is 0, because the partner is the only candidate.
    """
    unit = F.normalize(projections, dim=-1)
    scores = unit @ unit.T / 0.1
    partner = torch.arange(len(scores), device=scores.device) ^ 1
    no_negative = (items == items[:, None]) | (items == items[partner][:, None])
    no_negative[torch.arange(len(scores)), partner] = False
    return F.cross_entropy(scores.masked_fill(no_negative, -torch.inf), partner)


def _mlp(inputs: int, hidden: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(inputs, hidden), nn.GELU(), nn.Linear(hidden, outputs))
