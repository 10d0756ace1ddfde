"""Few-shot prompts over Semantic IDs: some items with their texts, then one whose text the model is to write.

PLUM (section 2.2) shows that a pre-trained model completes such prompts after continued pre-training, and that one
trained from random weights does not.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from plum.probes.neighbours import nearest_by_sid


@dataclass(frozen=True)
class Shot:
    """A prompt and what came of it.

    Attributes:
        lines: of the prompt; the last one is open.
        completion: the model's first line after it.
        truth: the open item's text.
        copied: the text of the item nearest in Semantic ID.
    """

    lines: Sequence[str]
    completion: str
    truth: str
    copied: str


def prompts(known: Sequence[str], asked: Sequence[str], k: int, seed: int) -> list[list[str]]:
    """The lines of a prompt for each asked item: k known items drawn by the seed, then the open line.

    Args:
        known: whole lines of known items, at least one.
        asked: open lines.
        k: lines before the open one; fewer if there are fewer known items.
        seed: of the draw.

    Example: ``["Item <sid> has title: Heat (1995)", "Item <sid> has title:"]`` for k = 1.
    """
    rng = np.random.default_rng(seed)
    return [
        [*(known[row] for row in rng.choice(len(known), min(k, len(known)), replace=False)), line] for line in asked
    ]


def copies(known: np.ndarray, texts: Sequence[str], asked: np.ndarray) -> list[str]:
    """The text of the known item nearest in Semantic ID to each asked one, of codes (K, L) and (Q, L)."""
    return [texts[row] for row in nearest_by_sid(known, asked)]
