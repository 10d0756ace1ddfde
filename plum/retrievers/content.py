"""Retrieval by content only: items whose vectors are nearest to those of the history."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
from scipy import sparse

from plum.evaluation.rankings import NO_ITEM, Recommendations, flatten
from plum.retrievers.choose import choose
from plum.vectors.nearest import Nearest
from plum.vectors.unit import unit_rows

DECAYS = (1.0, 0.9, 0.7, 0.5, 0.3)


class TextKNN:
    """Items most similar to the history by content. Needs no training interactions, so cold items are no different.

    A history's vector is the weighted mean of its items' unit vectors. The newest item has weight 1, each older one
    ``decay`` times the next one's; repeated items count each time. The score is the cosine. Items without content (a
    zero vector) are never recommended, and ignored in histories. A history without content gives an empty list.

    Args:
        vectors: (N, D), a row per catalogue item; see :func:`joined` for several modalities. Lengths do not matter.
        decay: within 0 (excluded) and 1.

    Raises:
        ValueError: vectors that are not (N, D) or not finite, or a decay out of range.
    """

    name = "textknn"

    def __init__(self, vectors: np.ndarray, decay: float) -> None:
        if not 0 < decay <= 1:
            raise ValueError(f"decay must be above 0 and at most 1, found {decay}")
        self.decay = decay
        self._vectors = unit_rows(vectors)
        self._rows = np.flatnonzero(self._vectors.any(axis=1))
        self._place = np.full(len(vectors), NO_ITEM, dtype=np.int64)  # catalogue row -> row of the index
        self._place[self._rows] = np.arange(len(self._rows))
        self._index = Nearest(self._vectors[self._rows])

    def recommend(self, histories: Sequence[np.ndarray], k: int, seen: Sequence[np.ndarray] | None) -> Recommendations:
        """The K items of largest cosine; see :class:`plum.retrievers.protocol.Retriever`."""
        queries = self.queries(histories)
        asked = np.flatnonzero(queries.any(axis=1))
        hidden = None if seen is None else self._with_content([seen[user] for user in asked.tolist()])
        found = self._index.search(queries[asked], k, hidden)
        items = np.full((len(queries), k), NO_ITEM, dtype=np.int64)
        scores = np.full((len(queries), k), -np.inf, dtype=np.float32)
        items[asked] = np.where(found.items == NO_ITEM, NO_ITEM, self._rows[np.maximum(found.items, 0)])
        scores[asked] = found.scores
        return Recommendations(items, scores)

    def queries(self, histories: Sequence[np.ndarray]) -> np.ndarray:
        """Unit vectors (U, D) float32 of histories; zero if a history has no content."""
        users, rows = flatten(histories, len(self._vectors))
        kept = self._place[rows] != NO_ITEM
        users, rows = users[kept], rows[kept]
        newest = np.searchsorted(users, users, side="right") - 1
        weights = self.decay ** (newest - np.arange(len(users))).astype(np.float64)
        mix = sparse.coo_array((weights, (users, rows)), shape=(len(histories), len(self._vectors))).tocsr()
        return unit_rows(mix @ self._vectors)

    def _with_content(self, seen: Sequence[np.ndarray]) -> list[np.ndarray]:
        """The same items as rows of the index, which lacks items without content."""
        flatten(seen, len(self._place))
        places = [self._place[np.asarray(rows, dtype=np.int64)] for rows in seen]
        return [place[place != NO_ITEM] for place in places]


def choose_decay(
    vectors: np.ndarray,
    histories: Sequence[np.ndarray],
    targets: Sequence[np.ndarray],
    seen: Sequence[np.ndarray] | None,
    candidates: Sequence[float] = DECAYS,
) -> tuple[TextKNN, list[dict[str, Any]]]:
    """:class:`TextKNN` with the decay of best validation Recall@10; see :func:`plum.retrievers.choose.choose`.

    Returns:
        best: the retriever.
        trials: ``{"settings": {"decay": 0.9}, "valid_recall@10": x}`` each.
    """
    options = [({"decay": decay}, partial(TextKNN, vectors, decay)) for decay in candidates]
    return choose(options, histories, targets, seen)
