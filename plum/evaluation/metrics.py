"""Metrics of lists per user. All but :func:`prefix_recall` count items, never Semantic IDs."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from plum.evaluation.rankings import NO_ITEM

CUTOFFS = (1, 5, 10, 20, 50)
COLD_BELOW = 5


def per_user_metrics(
    items: np.ndarray, targets: Sequence[np.ndarray], cutoffs: Sequence[int] = CUTOFFS
) -> dict[str, np.ndarray]:
    """Recall, NDCG, MRR and hit of every user at every cutoff k.

    With R relevant items, and the list's first k places (a list shorter than k counts as misses in the rest):

    - ``recall@k``: relevant items found / R. Not divided by min(R, k): with R > k it cannot reach 1.
    - ``ndcg@k``: sum of 1/log2(1 + place) over relevant items found, divided by the same sum of the best possible
      list, which has min(R, k) of them in front (binary gains; Järvelin & Kekäläinen 2002).
    - ``mrr@k``: 1/place of the first relevant item, 0 if there is none in the first k.
    - ``hit@k``: 1 if any relevant item is found. Equal to recall if R = 1.

    Args:
        items: int64 (U, K), catalogue rows, best first, ``-1`` for an empty place (a miss) at any place.
        targets: U arrays of catalogue rows, at least one each; repeats count once.
        cutoffs: values of k, which may exceed K.

    Returns:
        ``"recall@10"`` and so on: float64 (U,), each within 0 and 1.

    Raises:
        ValueError: different numbers of users, a user without a target, a target < 0, a cutoff < 1, or a list that
            holds an item twice, whose metrics could exceed 1.

    Example:
        >>> found = per_user_metrics(np.array([[7, 3, 9]]), [np.array([3])], cutoffs=[1, 3])
        >>> {name: round(float(values[0]), 3) for name, values in found.items() if name.endswith("@3")}
        {'recall@3': 1.0, 'ndcg@3': 0.631, 'mrr@3': 0.5, 'hit@3': 1.0}
    """
    if min(cutoffs, default=1) < 1:
        raise ValueError(f"cutoffs must be at least 1, found {list(cutoffs)}")
    users, relevant, n_relevant = _distinct(items, targets)
    _refuse_repeats(items)
    offered, wanted = _pairs(items, users, relevant)
    hits = np.isin(offered, wanted)
    places = np.arange(1, hits.shape[1] + 1)
    discounts = 1.0 / np.log2(1.0 + places)
    ideal = np.cumsum(1.0 / np.log2(1.0 + np.arange(1, max(cutoffs, default=1) + 1)))
    result: dict[str, np.ndarray] = {}
    for k in cutoffs:
        top = hits[:, :k]
        found = top.sum(axis=1)
        result[f"recall@{k}"] = found / n_relevant
        result[f"ndcg@{k}"] = (top * discounts[:k]).sum(axis=1) / ideal[np.minimum(n_relevant, k) - 1]
        result[f"mrr@{k}"] = (top / places[:k]).max(axis=1, initial=0.0)
        result[f"hit@{k}"] = (found > 0).astype(np.float64)
    return result


def cold_start_recall(
    items: np.ndarray,
    targets: Sequence[np.ndarray],
    train_counts: np.ndarray,
    cutoffs: Sequence[int] = (10,),
    below: int = COLD_BELOW,
) -> dict[str, float | int]:
    """Recall of targets with fewer than ``below`` training interactions, over the users who have such a target.

    Args:
        items: int64 (U, K), ``-1`` for empty places.
        targets: U arrays of catalogue rows.
        train_counts: (N,), training interactions per catalogue row.
        cutoffs: values of k.
        below: items with fewer training interactions are cold.

    Returns:
        ``cold_users``: users with a cold target; and ``cold_recall@k``, left out if there are no such users (JSON has
        no NaN).
    """
    cold = [row[train_counts[row] < below] for row in targets]
    users = np.flatnonzero([len(row) > 0 for row in cold])
    result: dict[str, float | int] = {"cold_users": len(users)}
    if len(users):
        values = per_user_metrics(items[users], [cold[user] for user in users], cutoffs)
        result |= {f"cold_recall@{k}": float(values[f"recall@{k}"].mean()) for k in cutoffs}
    return result


def hit_rating(
    items: np.ndarray, targets: Sequence[np.ndarray], ratings: Sequence[np.ndarray], k: int
) -> tuple[float | None, int]:
    """The mean rating of the targets found within the first k places.

    Two retrievers find different targets, so their means cover different ratings: compare the counts too.

    Args:
        items: int64 (U, K), ``-1`` for empty places.
        targets: U arrays of catalogue rows; may be empty.
        ratings: U arrays, entry by entry those of ``targets``, in the data's unit; NaN if unknown. Both ratings of a
            repeated target count.
        k: places of a list to evaluate.

    Returns:
        mean: of the known ratings; None if there is none.
        count: number of ratings in the mean.

    Raises:
        ValueError: different numbers of users, ratings that do not fit the targets, a target < 0, or k < 1.

    Example:
        >>> hit_rating(np.array([[7, 3]]), [np.array([3, 7, 8])], [np.array([4.0, np.nan, 1.0])], k=2)
        (4.0, 1)
    """
    if k < 1:
        raise ValueError(f"k must be at least 1, found {k}")
    users, flat = _flat(items, targets)
    if [len(row) for row in ratings] != [len(row) for row in targets]:
        raise ValueError("ratings must have one entry per target of each user")
    offered, wanted = _pairs(items[:, :k], users, flat)
    given = np.concatenate([np.zeros(0), *ratings]).astype(np.float64)[np.isin(wanted, offered)]
    known = given[~np.isnan(given)]
    return (float(known.mean()) if known.size else None), int(known.size)


def prefix_recall(items: np.ndarray, targets: Sequence[np.ndarray], codes: np.ndarray, k: int) -> dict[str, np.ndarray]:
    """Recall of prefixes of Semantic IDs: shows at which level a retriever loses its targets. For diagnosis only.

    A target counts at level l if any item within the first k places has the same codes 0 to l, be it the target or
    another item. This is laxer than recall of items, so it is never a headline: the last level equals ``recall@k`` only
    if Semantic IDs are unique.

    Args:
        items: int64 (U, K), catalogue rows, ``-1`` for empty places.
        targets: U arrays of catalogue rows, at least one each; repeats count once, items that share a SID each count.
        codes: integers (N, L), the Semantic ID of each catalogue row.
        k: places of a list to evaluate.

    Returns:
        ``"prefix_recall_0@10"`` for code_0, and so on to level L - 1: float64 (U,), each within 0 and 1, non-increasing
        over levels.

    Raises:
        ValueError: as :func:`per_user_metrics`, or an item or target without a row in ``codes``.

    Example:
        >>> codes = np.array([[0, 0], [0, 1], [2, 0]])
        >>> found = prefix_recall(np.array([[0]]), [np.array([1])], codes, k=1)
        >>> {name: values.tolist() for name, values in found.items()}
        {'prefix_recall_0@1': [1.0], 'prefix_recall_1@1': [0.0]}
    """
    if k < 1:
        raise ValueError(f"k must be at least 1, found {k}")
    users, relevant, n_relevant = _distinct(items, targets)
    last = max(int(items.max(initial=NO_ITEM)), int(relevant.max(initial=NO_ITEM)))
    if codes.ndim != 2 or last >= len(codes):
        raise ValueError(f"codes must be (N, L) with N above {last}, the last row used, found {codes.shape}")
    top = items[:, :k]
    prefix = np.zeros(len(codes), dtype=np.int64)
    result: dict[str, np.ndarray] = {}
    for level, column in enumerate(codes.T):
        # A prefix as one small number: renumbered at every level, it can't overflow.
        values, code = np.unique(column, return_inverse=True)
        _, prefix = np.unique(prefix * len(values) + code, return_inverse=True)
        offered, wanted = _pairs(np.where(top == NO_ITEM, NO_ITEM, prefix[top]), users, prefix[relevant])
        found = np.isin(wanted, offered)
        result[f"prefix_recall_{level}@{k}"] = np.bincount(users, weights=found, minlength=len(items)) / n_relevant
    return result


def _flat(items: np.ndarray, targets: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """All targets in one array, with the user of each, both int64; checks that they fit the lists."""
    if items.ndim != 2 or len(targets) != len(items):
        raise ValueError(f"items must be (U, K) with U = {len(targets)} targets, found {items.shape}")
    users = np.repeat(np.arange(len(items)), np.array([len(row) for row in targets], dtype=np.int64))
    flat = np.concatenate([np.zeros(0, dtype=np.int64), *targets]).astype(np.int64)
    if flat.min(initial=0) < 0:
        raise ValueError(f"targets are catalogue rows >= 0, found {int(flat.min())}")
    return users, flat


def _refuse_repeats(items: np.ndarray) -> None:
    """Make sure that no list holds an item twice; empty places may repeat."""
    ordered = np.sort(items, axis=1)
    repeated = (ordered[:, 1:] == ordered[:, :-1]) & (ordered[:, 1:] >= 0)
    if repeated.any():
        user, place = np.argwhere(repeated)[0]
        raise ValueError(
            f"the list of user {user} holds item {ordered[user, place]} twice: an item counts once, so leave out the "
            "repetition or put -1 in its place"
        )


def _distinct(items: np.ndarray, targets: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The relevant items without repeats, the user of each, and their number R (U,) per user, at least 1."""
    users, flat = _flat(items, targets)
    base = int(flat.max(initial=0)) + 1
    users, relevant = np.divmod(np.unique(users * base + flat), base)
    n_relevant = np.bincount(users, minlength=len(items))
    if (n_relevant == 0).any():
        raise ValueError(f"user {int(np.argmin(n_relevant))} has no target: leave such users out of the evaluation")
    return users, relevant, n_relevant


def _pairs(items: np.ndarray, users: np.ndarray, flat: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A (user, item) pair as one number, so that a single set lookup serves all users.

    Returns:
        offered: int64 (U, K), of each place of a list; ``-1`` for an empty one.
        wanted: int64, of each entry of ``flat``.
    """
    base = max(int(flat.max(initial=0)), int(items.max(initial=0))) + 1
    offered = np.where(items < 0, NO_ITEM, np.arange(len(items))[:, None] * base + items)
    return offered, users * base + flat
