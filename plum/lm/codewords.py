"""Initial embeddings of the codes' tokens, from their codewords."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def code_directions(codebooks: Sequence[np.ndarray], width: int, seed: int) -> list[np.ndarray]:
    """Map codewords to a model's width, preserving their dot products as far as the width allows.

    Embeddings initialised from codewords are similar for codes of similar items. With tied embeddings the untrained
    model even prefers items similar to the last one. Codewords are rescaled, so their unit does not matter.

    Args:
        codebooks: L arrays (C, D), one per level.
        width: W of the model's embeddings. If D > W, the first principal axes of the codewords are kept; if D < W, they
            are rotated at random into W dimensions.
        seed: of that rotation.

    Returns:
        L arrays (C, W) float32, centred, with mean square 1 in each level; zeros if a level's codewords are all equal.
    """
    centred = [book - book.mean(axis=0, dtype=np.float64) for book in codebooks]
    axes = np.linalg.svd(np.concatenate(centred), full_matrices=False)[2][:width]  # (min(D, W), D)
    rng = np.random.default_rng(seed)
    turn = np.linalg.qr(rng.standard_normal((width, len(axes))))[0].T  # orthonormal rows: (min(D, W), W)
    directions = []
    for book in centred:
        turned = book @ axes.T @ turn
        size = np.sqrt((turned**2).mean())
        directions.append((turned / (size if size > 0 else 1.0)).astype(np.float32))
    return directions
