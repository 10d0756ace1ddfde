"""Several retrievers as one, by weighted reciprocal-rank fusion (Cormack, Clarke and Buettcher 2009).

Only ranks are used, because scores of different retrievers have no common scale.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from plum.evaluation.rankings import NO_ITEM, Recommendations
from plum.retrievers.choose import CUTOFF, MEASURE, trial, validation_recall
from plum.retrievers.protocol import Retriever
from plum.retrievers.union import best_of_union

CONSTANTS = (10.0, 60.0)  # 60 is the paper's, found on TREC's long lists
WEIGHTS = tuple(step / 10 for step in range(11))


class Hybrid:
    """Fuses the lists of several retrievers by weighted reciprocal ranks.

    ``score(item) = sum over parts of weight / (constant + rank)``, with rank 1 for a list's first item; a part that
    does not list an item adds nothing. Parts of weight 0 are not run.

    Args:
        retrievers: the parts.
        weights: one per part, >= 0 and not all 0.
        depth: entries of each part's list that count.
        constant: >= 0; larger values weaken the first places.

    Raises:
        ValueError: a setting out of range, or another number of weights than of parts.
    """

    name = "hybrid"

    def __init__(self, retrievers: Sequence[Retriever], weights: Sequence[float], depth: int, constant: float) -> None:
        _check_settings(len(retrievers), weights, constant)
        if depth < 1:
            raise ValueError(f"depth must be at least 1, found {depth}")
        self.weights, self.depth, self.constant = list(weights), depth, constant
        self._parts = list(retrievers)

    def recommend(self, histories: Sequence[np.ndarray], k: int, seen: Sequence[np.ndarray] | None) -> Recommendations:
        """The K items of largest fused score; see :class:`plum.retrievers.protocol.Retriever`.

        Lists are shorter if the parts together list fewer than K items.
        """
        asked = [place for place, weight in enumerate(self.weights) if weight > 0]
        lists = [self._parts[place].recommend(histories, self.depth, seen) for place in asked]
        return _fuse([part.items for part in lists], [self.weights[place] for place in asked], self.constant, k)


def fuse(
    lists: Sequence[Recommendations], weights: Sequence[float], constant: float, n_items: int, k: int
) -> Recommendations:
    """Fuse existing lists, as :class:`Hybrid` does for lists of ``depth`` entries.

    Args:
        lists: one per part, for the same users; (U, K) each, where K may differ. All entries count.
        weights: one per part, >= 0 and not all 0; a list of weight 0 is left out.
        constant: >= 0.
        n_items: N, upper bound of the rows.
        k: entries of a fused list (K).

    Returns:
        Lists of k entries by fused score, ties by catalogue row; shorter if fewer items are listed.

    Raises:
        ValueError: a setting out of range, different numbers of users, or a row outside the catalogue.

    Example:
        >>> one, other = (np.array([row]) for row in ([7, 3], [3, 5]))
        >>> lists = [Recommendations(items, np.array([[2, 1]], np.float32)) for items in (one, other)]
        >>> fuse(lists, [0.5, 0.5], 0.0, n_items=8, k=4).items  # 3 has 1/4 + 1/2, 7 has 1/2, 5 has 1/4
        array([[ 3,  7,  5, -1]])
    """
    _check_settings(len(lists), weights, constant)
    if len({len(part.items) for part in lists}) > 1:
        raise ValueError(f"lists have different numbers of users: {[len(part.items) for part in lists]}")
    largest = max(int(part.items.max(initial=NO_ITEM)) for part in lists)
    if largest >= n_items:
        raise ValueError(f"catalogue rows must lie in 0..{n_items - 1}, found {largest}")
    asked = [(part.items, weight) for part, weight in zip(lists, weights, strict=True) if weight > 0]
    return _fuse([items for items, _ in asked], [weight for _, weight in asked], constant, k)


def choose_weights(
    lists: Sequence[Recommendations],
    targets: Sequence[np.ndarray],
    constants: Sequence[float] = CONSTANTS,
    weights: Sequence[float] = WEIGHTS,
) -> tuple[tuple[float, float], list[dict[str, Any]]]:
    """Choose weight and constant by validation Recall@10 for two retrievers; the earlier choice on ties.

    Args:
        lists: two, for the same validation users, with the depth of the fusion.
        targets: U arrays of catalogue rows.
        constants: tried in this order, each with all weights.
        weights: w of the first list, within 0 and 1; the second gets 1 - w.

    Returns:
        best: weight of the first list, constant.
        trials: ``{"settings": {"weight": 0.3, "constant": 60.0}, "valid_recall@10": x}`` each.

    Raises:
        ValueError: not two lists, a setting out of range, nothing to try, or no users.
    """
    if len(lists) != 2:
        raise ValueError(f"exactly two lists are needed, found {len(lists)}")
    settings = [(weight, constant) for constant in constants for weight in weights]
    if not settings:
        raise ValueError("there are no weights or constants to choose from")
    n_items = max(int(part.items.max(initial=NO_ITEM)) for part in lists) + 1
    trials = []
    for weight, constant in settings:
        found = fuse(lists, [weight, 1.0 - weight], constant, n_items, CUTOFF)
        trials.append(trial({"weight": weight, "constant": constant}, validation_recall(found, targets)))
    best = max(range(len(trials)), key=lambda place: trials[place][MEASURE])
    return settings[best], trials


def _check_settings(n_parts: int, weights: Sequence[float], constant: float) -> None:
    if n_parts != len(weights) or not n_parts:
        raise ValueError(f"there must be as many weights as parts, found {len(weights)} for {n_parts}")
    if not np.isfinite(weights).all() or min(weights) < 0 or max(weights) == 0:
        raise ValueError(f"weights must be >= 0 and not all 0, found {list(weights)}")
    if not (np.isfinite(constant) and constant >= 0):
        raise ValueError(f"constant must be >= 0, found {constant}")


def _fuse(lists: Sequence[np.ndarray], weights: Sequence[float], constant: float, k: int) -> Recommendations:
    """Fused lists of k entries, from the items (U, K) of each part."""
    ranks = [np.arange(1, part.shape[1] + 1) for part in lists]
    worth = [
        np.broadcast_to(weight / (constant + rank), part.shape)
        for rank, weight, part in zip(ranks, weights, lists, strict=True)
    ]
    return best_of_union(lists, worth, k)
