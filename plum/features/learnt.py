"""The item vectors that a trained dense retriever has learnt: Semantic IDs of what follows what in histories.

A language model scores an item by the sum of its codes' logits, so that it finds what a dense retriever finds the more
easily, the nearer the codes come to that retriever's vectors. Others take such vectors of a trained recommender, too,
to align Semantic IDs with behaviour (LETTER, Wang et al. 2024, section 3.2).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from plum.features.by_id import BehaviourEncoder


class DenseEncoder(BehaviourEncoder):
    """Output vectors of the dense baseline."""

    kind = "dense"


def fit_learnt(vectors: np.ndarray, popularity: np.ndarray, item_ids: Sequence[str]) -> DenseEncoder:
    """The vectors of the items that the training part holds: others were never a target, theirs say nothing of them.

    Args:
        vectors: (N, D) float32.
        popularity: (N,) training interactions.
        item_ids: N ids of the catalogue.
    """
    return DenseEncoder.of_rows(vectors, np.flatnonzero(popularity), item_ids)
