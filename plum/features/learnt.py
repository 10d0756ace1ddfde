"""Item vectors learnt by a dense retriever, for Semantic IDs that encode sequential behaviour.

A language model scores an item by the sum of its codes' logits. The closer the codes approximate a dense retriever's
vectors, the more easily the language model finds the same items. LETTER (Wang et al. 2024) also aligns Semantic IDs
with vectors of a trained recommender.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from plum.features.by_id import BehaviourEncoder


class DenseEncoder(BehaviourEncoder):
    """Output vectors of the dense baseline."""

    kind = "dense"


def fit_learnt(vectors: np.ndarray, histories: Sequence[np.ndarray], item_ids: Sequence[str]) -> DenseEncoder:
    """The vectors of the items that the retriever was trained on; the others' are arbitrary and left out.

    Args:
        vectors: (N, D) float32.
        histories: item rows of each user's training interactions; those of a single item don't train.
        item_ids: N ids of the catalogue.

    Returns:
        An encoder of the items in histories of at least two items.
    """
    read = [np.zeros(0, dtype=np.int64), *(history for history in histories if len(history) > 1)]
    return DenseEncoder.of_rows(vectors, np.unique(np.concatenate(read)), item_ids)
