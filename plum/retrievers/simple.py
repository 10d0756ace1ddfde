"""Retrievers without a trained model: popularity, recent popularity and item-based neighbours."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np
from scipy import sparse

from plum import runtime
from plum.evaluation.rankings import NO_ITEM, Recommendations, best_columns, flatten, top_k
from plum.retrievers.choose import choose

# Dense scores of one batch hold at most this many numbers (64 MiB of float32), for any size of the catalogue.
_BATCH_ENTRIES = 1 << 24
_BLOCK_ROWS = 1024

# Chosen on the validation item of leave-one-out (train: all before; seen filtered; ties in time shuffled, mean of four
# shuffles of ml-100k and two of ml-latest-small). Validation Recall@10 / NDCG@10:
#     neighbours, shrinkage      10, 0        10, 10       20, 10       50, 10       100, 10      all, 10
#     ml-100k                 .128 / .067  .130 / .067  .131 / .064  .129 / .067  .126 / .064  .128 / .067
#     ml-latest-small         .084 / .042  .086 / .043  .082 / .043  .075 / .037  .071 / .035  .048 / .022
# On ml-100k no difference exceeds chance (one standard error is .01). Few neighbours matter on the sparser release, and
# shrinkage on Amazon Beauty: .069 / .040 with 10, 0 and .082 / .048 with 10, 10.
DEFAULT_NEIGHBOURS = 10
DEFAULT_SHRINKAGE = 10.0

DAY = 86_400  # seconds
HALF_LIVES = (1, 7, 30, 90, 365)  # days


class Popularity:
    """The items with most training interactions, the same list for every user except for seen items.

    Items without training interactions are never recommended.

    Args:
        train_counts: (N,), training interactions per catalogue row.

    Raises:
        ValueError: counts that are not one-dimensional or negative.
    """

    name = "popularity"

    def __init__(self, train_counts: np.ndarray) -> None:
        counts = np.asarray(train_counts)
        if counts.ndim != 1 or (counts < 0).any():
            raise ValueError(f"train_counts must be (N,) and >= 0, found shape {counts.shape}")
        self._scores = np.where(counts > 0, counts, -np.inf).astype(np.float32)

    def recommend(self, histories: Sequence[np.ndarray], k: int, seen: Sequence[np.ndarray] | None) -> Recommendations:
        """Lists by training count; see :class:`plum.retrievers.protocol.Retriever`."""
        return _same_for_all(self._scores, len(histories), k, seen)


class RecencyPopularity:
    """The items with most recent training interactions: each interaction counts ``0.5 ** (age / half_life)``.

    Age is the time to the newest training interaction, so that all users are evaluated as of the end of training. Under
    leave-one-out some users' test items are earlier or later than that; counting up to each user's own time would leak
    validation, test or later interactions. Items without training interactions are never recommended.

    A score is the base-2 logarithm of an item's summed counts. It keeps the order where the sums would be 0 in float32,
    for items last used 150 half-lives ago.

    Args:
        items: (E,), catalogue row of each training interaction.
        times: (E,), its time in seconds.
        n_items: N.
        half_life: seconds, above 0.

    Raises:
        ValueError: arrays of different lengths, rows outside the catalogue, times that are not finite, or a half-life
            out of range.
    """

    name = "recencypop"

    def __init__(self, items: np.ndarray, times: np.ndarray, n_items: int, half_life: float) -> None:
        if items.shape != times.shape or items.ndim != 1:
            raise ValueError(f"items and times must both be (E,), found {items.shape} and {times.shape}")
        if items.size and (items.min() < 0 or items.max() >= n_items):
            raise ValueError(f"catalogue rows must lie in 0..{n_items - 1}, found {items.min()}..{items.max()}")
        if not np.isfinite(times).all() or not half_life > 0:
            raise ValueError(f"times must be finite and half_life above 0, found a half_life of {half_life}")
        self.half_life = half_life
        halvings = (times - times.max()) / half_life if items.size else np.zeros(0)
        newest = np.full(n_items, -np.inf)
        np.maximum.at(newest, items, halvings)
        # Relative to the item's own newest interaction, so that each sum is at least 1.
        sums = np.bincount(items, weights=2.0 ** (halvings - newest[items]), minlength=n_items)
        self._scores = (newest + np.log2(np.where(sums > 0, sums, 1.0))).astype(np.float32)

    def recommend(self, histories: Sequence[np.ndarray], k: int, seen: Sequence[np.ndarray] | None) -> Recommendations:
        """Lists by decayed training count; see :class:`plum.retrievers.protocol.Retriever`."""
        return _same_for_all(self._scores, len(histories), k, seen)


def choose_half_life(
    items: np.ndarray,
    times: np.ndarray,
    n_items: int,
    histories: Sequence[np.ndarray],
    targets: Sequence[np.ndarray],
    seen: Sequence[np.ndarray] | None,
    candidates: Sequence[float] = HALF_LIVES,
) -> tuple[RecencyPopularity, list[dict[str, Any]]]:
    """Choose the half-life of :class:`RecencyPopularity` by validation Recall@10.

    Args:
        items: (E,), catalogue row of each training interaction.
        times: (E,), seconds.
        n_items: N.
        histories, targets, seen: validation users; see :func:`plum.retrievers.choose.choose`.
        candidates: half-lives in days.

    Returns:
        best: the retriever.
        trials: ``{"settings": {"half_life_days": 30}, "valid_recall@10": x}`` each.
    """
    options = [
        ({"half_life_days": days}, partial(RecencyPopularity, items, times, n_items, days * DAY)) for days in candidates
    ]
    return choose(options, histories, targets, seen)


class ItemKNN:
    """Items with the same users as those of the history (Sarwar et al. 2001, Deshpande & Karypis 2004).

    The similarity of items i and j with c_i, c_j users and c_ij users in common is
    ``c_ij / (sqrt(c_i * c_j) + shrinkage)``: the cosine of their columns in the binary user-item matrix, shrunk for
    pairs with few users. Each candidate item keeps its ``neighbours`` most similar items, and a candidate's score is
    the sum of its similarities to the items of the history, each counted once. A candidate without a neighbour in the
    history is not recommended.

    Args:
        users: (E,), user index of each training interaction.
        items: (E,), its catalogue row.
        n_items: N.
        neighbours: similar items kept per candidate, or None for all.
        shrinkage: >= 0, in units of users.

    Raises:
        ValueError: arrays of different lengths, rows outside the catalogue, or a setting out of range.
    """

    name = "itemknn"

    def __init__(
        self,
        users: np.ndarray,
        items: np.ndarray,
        n_items: int,
        neighbours: int | None = DEFAULT_NEIGHBOURS,
        shrinkage: float = DEFAULT_SHRINKAGE,
    ) -> None:
        if users.shape != items.shape or users.ndim != 1:
            raise ValueError(f"users and items must both be (E,), found {users.shape} and {items.shape}")
        if users.size and (users.min() < 0 or items.min() < 0 or items.max() >= n_items):
            raise ValueError(f"user indices must be >= 0 and catalogue rows lie in 0..{n_items - 1}")
        if (neighbours is not None and neighbours < 1) or shrinkage < 0:
            raise ValueError(f"neighbours must be >= 1 and shrinkage >= 0, found {neighbours} and {shrinkage}")
        self.n_items = n_items
        self._similarity = _similarities(_incidence(users, items, n_items), neighbours, shrinkage)

    def recommend(self, histories: Sequence[np.ndarray], k: int, seen: Sequence[np.ndarray] | None) -> Recommendations:
        """Lists by summed similarity to the history; see :class:`plum.retrievers.protocol.Retriever`."""
        parts = []
        with runtime.progress("scoring users", len(histories), after=runtime.SOON) as show:
            for start, stop in _batches(len(histories), self.n_items):
                users, rows = flatten(histories[start:stop], self.n_items)
                taken = _incidence(users, rows, self.n_items, n_users=stop - start)
                scores = (taken @ self._similarity).toarray()
                scores[scores <= 0] = -np.inf
                parts.append(top_k(scores, k, None if seen is None else seen[start:stop]))
                show(stop)
        return _join(parts, k)


def _same_for_all(scores: np.ndarray, n_users: int, k: int, seen: Sequence[np.ndarray] | None) -> Recommendations:
    """Lists for users with the same scores (N,) but different seen items."""
    n_items = len(scores)
    if seen is not None:
        flatten(seen, n_items)
        if len(seen) != n_users:
            raise ValueError(f"seen has {len(seen)} entries for {n_users} users")
    # One ranking for all, deep enough for K unseen items of every user.
    depth = min(n_items, k + max(map(len, seen or ()), default=0))
    ranking = top_k(scores[None], max(1, depth), None)
    ranked = ranking.items[0]
    place = np.full(n_items, NO_ITEM, dtype=np.int64)
    place[ranked[ranked != NO_ITEM]] = np.flatnonzero(ranked != NO_ITEM)
    parts = []
    for start, stop in _batches(n_users, depth):
        hidden = None
        if seen is not None:
            places = [place[np.asarray(rows, dtype=np.int64)] for rows in seen[start:stop]]
            hidden = [row[row != NO_ITEM] for row in places]
        best = top_k(np.broadcast_to(ranking.scores[0], (stop - start, len(ranked))), k, hidden)
        items = np.where(best.items == NO_ITEM, NO_ITEM, ranked[np.maximum(best.items, 0)])
        parts.append(Recommendations(items, best.scores))
    return _join(parts, k)


def _incidence(users: np.ndarray, items: np.ndarray, n_items: int, n_users: int | None = None) -> sparse.csr_array:
    """Binary float32 (U, N): 1 if the user has interacted with the item, however often."""
    height = n_users if n_users is not None else (int(users.max()) + 1 if users.size else 0)
    matrix = sparse.coo_array((np.ones(len(users), np.float32), (users, items)), shape=(height, n_items)).tocsr()
    matrix.data[:] = 1.0  # repeated pairs were summed
    return matrix


def _similarities(incidence: sparse.csr_array, neighbours: int | None, shrinkage: float) -> sparse.csr_array:
    """Shrunk cosine of all pairs of items.

    Args:
        incidence: binary (U, N).
        neighbours: entries kept per column, or None for all.
        shrinkage: added to the denominator.

    Returns:
        float32 (N, N), zero diagonal; column j holds the neighbours of candidate j.
    """
    n_items = incidence.shape[1]
    by_item = incidence.T.tocsr()
    norms = np.sqrt(np.asarray(incidence.sum(axis=0), dtype=np.float64))
    blocks = [sparse.csr_array((0, n_items), dtype=np.float32)]
    # One block of candidates at a time: the full co-occurrence matrix of a large catalogue need not fit in memory.
    with runtime.progress("comparing items", n_items, after=runtime.SOON) as show:
        for start in range(0, n_items, _BLOCK_ROWS):
            show(start)
            block = (by_item[start : start + _BLOCK_ROWS] @ incidence).tocsr()
            block.sort_indices()  # ascending columns: the tie rule of `best_columns`
            candidate = np.repeat(np.arange(start, start + block.shape[0]), np.diff(block.indptr))
            block.data = (block.data / (norms[candidate] * norms[block.indices] + shrinkage)).astype(np.float32)
            block.data[candidate == block.indices] = 0.0
            if neighbours is not None:
                _keep_best(block, neighbours)
            block.eliminate_zeros()
            blocks.append(block)
    return sparse.vstack(blocks, format="csr").T.tocsr()


def _keep_best(matrix: sparse.csr_array, n: int) -> None:
    """Zero all but the n largest entries of each row, in place; ties go to the lower column."""
    for start, stop in pairwise(matrix.indptr.tolist()):
        if stop - start > n:
            values = matrix.data[start:stop]
            drop = np.ones(stop - start, dtype=bool)
            drop[best_columns(values[None], n)[0]] = False
            values[drop] = 0.0


def _batches(n_users: int, n_items: int) -> list[tuple[int, int]]:
    """Ranges of users whose dense scores fit into one batch."""
    size = max(1, _BATCH_ENTRIES // max(1, n_items))
    return [(start, min(start + size, n_users)) for start in range(0, n_users, size)]


def _join(parts: list[Recommendations], k: int) -> Recommendations:
    if not parts:
        return Recommendations(np.zeros((0, k), np.int64), np.zeros((0, k), np.float32))
    return Recommendations(
        np.concatenate([part.items for part in parts]), np.concatenate([part.scores for part in parts])
    )
