"""Retrieval by co-occurrence: items whose users, or whose places in histories, are those of the history's items."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from scipy import sparse

from plum.evaluation.rankings import Recommendations, flatten
from plum.retrievers.choose import choose_in_steps
from plum.retrievers.cooccurrence import Relation, similarities
from plum.retrievers.sums import check_weights, newest_first, ranked

START: dict[str, Any] = {"neighbours": None, "decay": 0.7, "shrinkage": 30.0, "backward": 0.5, "distance": 0.5}
"""The settings that :func:`choose_itemknn` starts from."""
GRID: dict[str, tuple[Any, ...]] = {
    "neighbours": (10, 100, None),
    "decay": (0.5, 0.7, 0.85, 1.0),
    "shrinkage": (0.0, 10.0, 30.0, 100.0),
    "backward": (0.0, 0.5, 1.0),
    "distance": (0.0, 0.5, 1.0),
}
"""What it tries, one setting after another."""
LARGEST_WINDOW = 50
"""Places up to which pairs count where order or distance matters, if the log is small enough for it."""
_MOST_PAIRS = 1 << 26  # entries of the matrices: about 1 GiB each


class ItemKNN:
    """Items that go with those of the history (Sarwar et al. 2001, Deshpande & Karypis 2004).

    A candidate's score is the weighted sum of its similarities to the items of the history, each counted once, at its
    newest place. The newest item has weight 1, each older one ``decay`` times the next one's. A candidate without a
    neighbour in the history is not recommended.

    Args:
        users: (E,), user index of each training interaction; each user's stand oldest first.
        items: (E,), its catalogue row.
        n_items: N.
        relation: what makes items similar; see :class:`plum.retrievers.cooccurrence.Relation`.
        decay: within 0 (excluded) and 1.
        last: items of a history that count, the newest; None for all.

    Raises:
        ValueError: arrays of different lengths, rows outside the catalogue, or a setting out of range.
    """

    name = "itemknn"

    def __init__(
        self,
        users: np.ndarray,
        items: np.ndarray,
        n_items: int,
        relation: Relation | None = None,
        decay: float = 1.0,
        last: int | None = None,
    ) -> None:
        check_weights(decay, last)
        self.n_items, self.decay, self.last = n_items, decay, last
        self._similarity = similarities(users, items, n_items, relation or Relation())

    def recommend(self, histories: Sequence[np.ndarray], k: int, seen: Sequence[np.ndarray] | None) -> Recommendations:
        """Lists by summed similarity to the history; see :class:`plum.retrievers.protocol.Retriever`."""
        return ranked(self._weights(histories), self._scores, k, seen)

    def _weights(self, histories: Sequence[np.ndarray]) -> sparse.csr_array:
        users, rows = flatten(histories, self.n_items)
        backwards = users[::-1] * self.n_items + rows[::-1]
        _, newest = np.unique(backwards, return_index=True)
        kept = np.sort(len(users) - 1 - newest)
        users, rows = users[kept], rows[kept]
        weights = newest_first(users, self.decay, self.last).astype(np.float32)
        return sparse.coo_array((weights, (users, rows)), shape=(len(histories), self.n_items)).tocsr()

    def _scores(self, weights: sparse.csr_array) -> sparse.csr_array:
        return weights @ self._similarity


def choose_itemknn(
    users: np.ndarray,
    items: np.ndarray,
    n_items: int,
    histories: Sequence[np.ndarray],
    targets: Sequence[np.ndarray],
    seen: Sequence[np.ndarray] | None,
) -> tuple[ItemKNN, list[dict[str, Any]]]:
    """:class:`ItemKNN` with the settings of best validation Recall@10, chosen one after another from :data:`GRID`.

    Args:
        users, items, n_items: training interactions; see :class:`ItemKNN`.
        histories, targets, seen: validation users; see :func:`plum.retrievers.choose.choose`.

    Returns:
        best: the retriever.
        trials: ``{"settings": {...}, "valid_recall@10": x}`` each.
    """
    start, grid = START, GRID
    if not _fits_whole(users, n_items):  # keep the matrix small by its neighbours
        start, grid = START | {"neighbours": 100}, GRID | {"neighbours": (10, 100)}

    def make(settings: dict[str, Any]) -> ItemKNN:
        return itemknn_of(users, items, n_items, settings)

    return choose_in_steps(make, start, grid, histories, targets, seen)


def itemknn_of(users: np.ndarray, items: np.ndarray, n_items: int, settings: dict[str, Any]) -> ItemKNN:
    """:class:`ItemKNN` of settings as :data:`GRID` names them."""
    relation = Relation(**{name: value for name, value in settings.items() if name != "decay"})
    if not relation.is_plain:
        relation = replace(relation, window=window_of(users))
    return ItemKNN(users, items, n_items, relation, settings["decay"])


def window_of(users: np.ndarray) -> int:
    """The largest distance up to which the pairs of a log fit into memory, from 1 to :data:`LARGEST_WINDOW`."""
    lengths = np.bincount(users)
    pairs = np.cumsum([np.maximum(lengths - apart, 0).sum() for apart in range(1, LARGEST_WINDOW + 1)])
    return max(1, int((pairs <= _MOST_PAIRS).sum()))


def _fits_whole(users: np.ndarray, n_items: int) -> bool:
    """Whether the similarities of all pairs of items of a log fit into memory."""
    return int(min((np.bincount(users).astype(np.int64) ** 2).sum(), n_items**2)) <= _MOST_PAIRS
