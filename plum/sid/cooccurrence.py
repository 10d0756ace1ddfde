"""Pairs of items that occur together in training histories: positives of the contrastive term."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def cooccurrence_pairs(histories: Sequence[np.ndarray], window: int) -> np.ndarray:
    """All pairs of different items at most ``window`` places apart in a history.

    Args:
        histories: item rows of each user's training interactions, oldest first.
        window: largest distance in places; 1 pairs consecutive items only.

    Returns:
        (P, 2) int64 with repetition, so that drawing rows draws pairs by their count. Example: [4, 7, 9], window 1 ->
        [[4, 7], [7, 9]].
    """
    parts = [
        np.stack([history[:-gap], history[gap:]], axis=1)
        for gap in range(1, window + 1)
        for history in histories
        if len(history) > gap
    ]
    pairs = np.concatenate(parts) if parts else np.zeros((0, 2), dtype=np.int64)
    return pairs[pairs[:, 0] != pairs[:, 1]].astype(np.int64)
