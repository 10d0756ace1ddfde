"""An RQ-VAE's reconstruction beside that of RQ-KMeans with the same settings, which needs no training.

An RQ-VAE that reconstructs worse has not learnt its input, and what it says of a tokenizer's parts says little.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence

import numpy as np

from plum.errors import PlumError

logger = logging.getLogger(__name__)


def errors_of(squares: np.ndarray, widths: Sequence[int], present: np.ndarray | None) -> np.ndarray:
    """The mean (M,) of squared errors (N, W) over each modality's dimensions and the items that have it."""
    parts = np.split(squares, np.cumsum(widths)[:-1], axis=1)
    if present is not None:
        parts = [part[there] for part, there in zip(parts, present.T, strict=True)]
    return np.array([part.mean(dtype=np.float64) for part in parts])


def reconstruction_ratio(
    errors: Sequence[float], reference: Sequence[float], weights: Sequence[float] | None = None
) -> float | None:
    """The sum of errors per dimension over that of the reference: modalities count by weight, whatever their widths.

    Args:
        errors: (M,) of a tokenizer.
        reference: (M,) of RQ-KMeans with the same weights, codebook sizes and seed.
        weights: (M,) of the modalities; None for equal ones.

    Returns:
        The ratio; None if the reference has no error, with codes for all distinct vectors. Example: errors [.1, .3],
        reference [.4, .1] -> .8.
    """
    factors = np.ones(len(reference)) if weights is None else np.asarray(weights)
    total = float(factors @ np.asarray(reference))
    return float(factors @ np.asarray(errors)) / total if total > 1e-9 else None


def refuse_unlearnt(ratio: float | None, most: float | None) -> None:
    """Stop on a tokenizer that reconstructs far worse than residual k-means; warn of one that reconstructs worse.

    Args:
        ratio: of :func:`reconstruction_ratio`; None if there is none.
        most: the largest allowed; None for any.

    Raises:
        PlumError: naming the settings to change.
    """
    if ratio is None or ratio <= 1:
        return
    fix = (
        "train longer by tokenize.max_steps and tokenize.patience, lower tokenize.contrastive_weight, or raise "
        "tokenize.latent_dim to the modalities' dimensions together"
    )
    found = f"its error is {ratio:.2f} times that of residual k-means with codebooks of the same sizes"
    if most is not None and ratio > most:
        raise PlumError(
            "the tokenizer has not learnt to reconstruct the items' content",
            found,
            f"{fix}; or set tokenize.method to rqkmeans. tokenize.max_reconstruction_ratio ({most:g}) is the threshold",
        )
    logger.warning("tokenize: %s: %s", found, fix)
