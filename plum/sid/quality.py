"""How healthy a set of Semantic IDs is: uniqueness, codebook usage, perplexity.

Health is a diagnosis, not a forecast of recall.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from plum.errors import PlumError


def level_health(codes: np.ndarray, sizes: Sequence[int]) -> list[dict[str, float]]:
    """Usage and perplexity of each level.

    Args:
        codes: (N, L) int64.
        sizes: codes per level.

    Returns:
        Per level ``size``, ``usage`` (share of codes that some item has) and ``perplexity`` (the exponential of the
        entropy of code frequencies: the number of equally used codes that would be as diverse).
    """
    levels = []
    for level, size in enumerate(sizes):
        share = np.bincount(codes[:, level], minlength=size) / max(1, len(codes))
        used = share[share > 0]
        perplexity = float(np.exp(-(used * np.log(used)).sum()))
        levels.append({"size": int(size), "usage": len(used) / size, "perplexity": perplexity})
    return levels


def uniqueness(codes: np.ndarray) -> dict[str, float]:
    """How well SIDs tell items apart.

    Returns:
        ``uniqueness``: share of items whose SID is theirs alone (PLUM section 2.1); ``collision_rate``: its complement;
        ``max_items_per_sid``: the largest bucket.
    """
    _, bucket, counts = np.unique(codes, axis=0, return_inverse=True, return_counts=True)
    alone = float((counts[bucket.reshape(-1)] == 1).mean())
    return {"uniqueness": alone, "collision_rate": 1 - alone, "max_items_per_sid": int(counts.max())}


def refuse_collapse(levels: Sequence[dict[str, Any]], n_items: int, min_usage: float) -> None:
    """Stop on a collapsed codebook.

    Raises:
        PlumError: if a level uses a smaller share of the codes it could use than ``min_usage``.
    """
    poor = [
        f"level {number}: {level['usage']:.1%} of {level['size']} codes, perplexity {level['perplexity']:.1f}"
        for number, level in enumerate(levels)
        if round(level["usage"] * level["size"]) < min_usage * min(level["size"], n_items)
    ]
    if poor:
        raise PlumError(
            f"codebooks collapsed: a level uses less than {min_usage:.0%} of its codes",
            "; ".join(poor),
            "look for constant or repeated item content, lower tokenize.learning_rate, or set tokenize.codebook_sizes "
            "to fewer codes; tokenize.min_usage is the threshold",
        )
