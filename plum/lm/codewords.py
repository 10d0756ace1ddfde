"""Where a language model's tokens of codes start: as their codewords lie to each other."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def code_directions(codebooks: Sequence[np.ndarray], width: int, seed: int) -> list[np.ndarray]:
    """Codewords turned into a model's width; dot products between them stay, as far as the width allows.

    Codes that stand for like items then start with like embeddings. With tied embeddings the model even starts by
    finding likely what is like the last item. Nothing depends on the unit of the codewords: the scale is the caller's.

    Args:
        codebooks: L arrays (C, D), one a level.
        width: W of the model's embeddings. With D > W the first principal axes of the codewords are kept; with D < W
            they are turned into W dimensions at random.
        seed: of that turn.

    Returns:
        L arrays (C, W) float32, centred, with a mean square of 1 in each level; zeros where a level's codewords are all
        the same.
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
