"""The item vectors that a trained dense retriever has learnt: Semantic IDs of what follows what in histories.

A language model scores an item by the sum of its codes' logits, so that it finds what a dense retriever finds the more
easily, the nearer the codes come to that retriever's vectors. Others take such vectors of a trained recommender, too,
to align Semantic IDs with behaviour (LETTER, Wang et al. 2024).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from plum.features.by_id import BehaviourEncoder


class DenseEncoder(BehaviourEncoder):
    """Output vectors of the dense baseline."""

    kind = "dense"


def fit_learnt(vectors: np.ndarray, histories: Sequence[np.ndarray], item_ids: Sequence[str]) -> DenseEncoder:
    """The vectors of the items that the retriever was trained on: those of others say nothing of them.

    Args:
        vectors: (N, D) float32.
        histories: item rows of each user's training interactions; one of a single item has no next one to learn from.
        item_ids: N ids of the catalogue.

    Returns:
        An encoder that knows the items of histories of two items and more.
    """
    read = [np.zeros(0, dtype=np.int64), *(history for history in histories if len(history) > 1)]
    return DenseEncoder.of_rows(vectors, np.unique(np.concatenate(read)), item_ids)
