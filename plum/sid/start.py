"""The start of an RQ-VAE's encoders and decoders: joint principal components, so that training begins at their error.

Without the quantiser, no linear autoencoder has a smaller loss. A network on top of it then learns the rest, where
random weights would first have to find these components.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor

from plum.sid.rqvae import RQVAE, Content, Layers

BLOCK = 8192
"""Items whose second moments are added at a time, so that memory stays small."""


@torch.no_grad()
def start_at_components(model: RQVAE, content: Content, per_dimension: bool, factors: Sequence[float] = ()) -> None:
    """Set the linear paths to the principal components of all modalities side by side, the networks to zero.

    Each modality is divided by the square root of its width if the loss is a mean over dimensions, so that the
    components are those of the loss. Latents are scaled so that a step of them changes reconstruction and commitment
    alike, as in the paper's sums (PLUM section 2.1) whatever the widths: their dimensions then have variances around 1.
    Latents wider than the content have further dimensions, which begin at zero.

    Args:
        model: changed in place.
        content: standardised; absent modalities count as the mean, zero.
        per_dimension: whether the loss has means over dimensions, or sums.
        factors: of the M modalities' errors in the loss; none for equal ones.
    """
    widths = [x.shape[1] for x in content.modalities]
    weights = [1 / math.sqrt(width) if per_dimension else 1.0 for width in widths]
    if factors:
        weights = [weight * math.sqrt(factor) for weight, factor in zip(weights, factors, strict=True)]
    latent_dim = model.projection.out_features
    scale = math.sqrt(latent_dim / len(widths)) if per_dimension else 1.0
    mean, components = _components(content, weights, latent_dim)
    parts = zip(components.split(widths, dim=1), mean.split(widths), weights, strict=True)
    for (directions, centre, weight), encoder, decoder in zip(parts, model.encoders, model.decoders, strict=True):
        _start(cast("Layers", encoder), directions * scale, -(directions @ centre) * scale, weight)
        _start(cast("Layers", decoder), directions.T / scale, centre, 1.0, 1 / weight)
    identity = torch.eye(latent_dim).repeat(1, len(widths))
    model.projection.weight.copy_(identity)
    model.projection.bias.zero_()


def _components(content: Content, weights: list[float], most: int) -> tuple[Tensor, Tensor]:
    """Mean (W,) and the first principal components (K, W), K at most ``most``, of weighted modalities; float64."""
    blocks = [_weighted(block, weights) for block in content.blocks(BLOCK)]
    mean = torch.stack([block.sum(0) for block in blocks]).sum(0) / content.n_items
    moments = torch.stack([(block - mean).T @ (block - mean) for block in blocks]).sum(0)
    return mean, torch.linalg.eigh(moments).eigenvectors.flip(1)[:, :most].T


def _weighted(block: Content, weights: list[float]) -> Tensor:
    """The modalities of a block (B, W) side by side, weighted; zeros, the mean, for absent ones."""
    parts = [x.cpu().double() * weight for x, weight in zip(block.modalities, weights, strict=True)]
    if block.present is not None:
        parts = [part * there[:, None] for part, there in zip(parts, block.present.T.cpu(), strict=True)]
    return torch.cat(parts, dim=1)


def _start(layers: Layers, matrix: Tensor, bias: Tensor, weight: float, scale: float = 1.0) -> None:
    """Set a linear path to ``scale * (matrix @ (weight * x) + bias)`` as far as the matrix reaches."""
    layers.restart()
    rows, columns = matrix.shape
    layers.linear.bias.zero_()
    layers.linear.bias[: len(bias)] = (bias * scale).float()
    if rows < layers.linear.out_features:
        layers.linear.weight.zero_()  # latents wider than the content
    layers.linear.weight[:rows, :columns] = (matrix * weight * scale).float()
