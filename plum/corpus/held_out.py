"""Which users' and items' documents are not trained on, so that losses on them show what was learnt."""

from __future__ import annotations

import numpy as np

LEAST = 10
MOST = 0.05
"""At least 10 are held out, as far as that is no more than a twentieth."""


def held_out(n: int, share: float, seed: int, number: int) -> np.ndarray:
    """Draw which of ``n`` users or items are held out.

    Args:
        n: how many there are.
        share: to hold out; 0 for none.
        seed: of the run.
        number: tells the draws of one run apart.

    Returns:
        (n,) bool.
    """
    chosen = np.zeros(n, dtype=bool)
    if share and n:
        wanted = max(round(share * n), min(LEAST, int(MOST * n)))
        chosen[np.random.default_rng([seed, number]).permutation(n)[:wanted]] = True
    return chosen
