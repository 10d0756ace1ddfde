"""How good lists are, per user and over the catalogue. Everything is counted on items, never on Semantic IDs."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from plum.retrieval.interface import NO_ITEM

CUTOFFS = (1, 5, 10, 50)
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
    - ``hit@k``: 1 if any relevant item is found. Equal to recall where R = 1.

    Args:
        items: int64 (U, K), catalogue rows, best first, ``-1`` where a list is shorter; no item twice in a row.
        targets: U arrays of catalogue rows, at least one each; repeats count once.
        cutoffs: values of k, which may exceed K.

    Returns:
        ``"recall@10"`` and so on: float64 (U,), each within 0 and 1.

    Raises:
        ValueError: different numbers of users, a user without a target, a target < 0, or a cutoff < 1.

    Example:
        >>> found = per_user_metrics(np.array([[7, 3, 9]]), [np.array([3])], cutoffs=[1, 3])
        >>> {name: round(float(values[0]), 3) for name, values in found.items() if name.endswith("@3")}
        {'recall@3': 1.0, 'ndcg@3': 0.631, 'mrr@3': 0.5, 'hit@3': 1.0}
    """
    if min(cutoffs, default=1) < 1:
        raise ValueError(f"cutoffs must be at least 1, found {list(cutoffs)}")
    hits, n_relevant = _hits(items, targets)
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


def effective_vocabulary(items: np.ndarray, share: float = 0.95) -> int:
    """Fewest items that cover a share of all that is recommended (PLUM table 2: 95% of impressions).

    Args:
        items: int64 (U, K), ``-1`` for empty places, which do not count.
        share: of the recommended places, within 0 and 1.

    Returns:
        Number of items; 0 if nothing is recommended.
    """
    counts = np.sort(_counts(items))[::-1]
    if not counts.size:
        return 0
    # The tolerance keeps 0.95 * 20 = 19.000000000000004 from asking for a twentieth place.
    return int(np.searchsorted(np.cumsum(counts), share * counts.sum() - 1e-6) + 1)


def coverage(items: np.ndarray, n_items: int) -> float:
    """Share of the catalogue's N items that stand in some list.

    Args:
        items: int64 (U, K), ``-1`` for empty places.
        n_items: N, at least 1.

    Returns:
        Within 0 and 1.
    """
    return len(_counts(items)) / n_items


def novelty(items: np.ndarray, train_counts: np.ndarray) -> float | None:
    """Mean self-information of what is recommended, in bits: -log2 p(item), high for rare items (Zhou et al. 2010).

    p(item) = (c + 1) / (total + N) with c training interactions: one is added so that an item never seen in training
    has a finite value.

    Args:
        items: int64 (U, K), ``-1`` for empty places, which do not count.
        train_counts: (N,), training interactions per catalogue row.

    Returns:
        Mean over all places that hold an item; None if there is none.
    """
    listed = items[items != NO_ITEM]
    if not listed.size:
        return None
    bits = -np.log2((train_counts + 1.0) / (train_counts.sum() + len(train_counts)))
    return float(bits[listed].mean())


def catalogue_metrics(
    items: np.ndarray, train_counts: np.ndarray, cutoffs: Sequence[int] = (10,)
) -> dict[str, float | int]:
    """Effective vocabulary, coverage and novelty of the first k places.

    Args:
        items: int64 (U, K), ``-1`` for empty places.
        train_counts: (N,), training interactions per catalogue row.
        cutoffs: values of k.

    Returns:
        ``effective_vocabulary@k`` (items), ``coverage@k`` (share), ``novelty@k`` (bits; left out if nothing is
        recommended).
    """
    result: dict[str, float | int] = {}
    for k in cutoffs:
        top = items[:, :k]
        result[f"effective_vocabulary@{k}"] = effective_vocabulary(top)
        result[f"coverage@{k}"] = coverage(top, len(train_counts))
        surprise = novelty(top, train_counts)
        if surprise is not None:
            result[f"novelty@{k}"] = surprise
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
        below: training interactions from which an item counts as known.

    Returns:
        ``cold_users``: users with a cold target; and if there are any, ``cold_recall@k``. Without any, there is no
        recall to report, so the key is left out (JSON has no NaN).
    """
    cold = [row[train_counts[row] < below] for row in targets]
    users = np.flatnonzero([len(row) > 0 for row in cold])
    result: dict[str, float | int] = {"cold_users": len(users)}
    if len(users):
        values = per_user_metrics(items[users], [cold[user] for user in users], cutoffs)
        result |= {f"cold_recall@{k}": float(values[f"recall@{k}"].mean()) for k in cutoffs}
    return result


def _hits(items: np.ndarray, targets: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Where lists hold a relevant item, bool (U, K), and each user's number of relevant items, int64 (U,)."""
    if items.ndim != 2 or len(targets) != len(items):
        raise ValueError(f"items must be (U, K) with U = {len(targets)} targets, found {items.shape}")
    relevant = [np.unique(row) for row in targets]
    n_relevant = np.array([len(row) for row in relevant], dtype=np.int64)
    if (n_relevant == 0).any():
        raise ValueError(f"user {int(np.argmin(n_relevant))} has no target: leave such users out of the evaluation")
    if not relevant:
        return np.zeros(items.shape, dtype=bool), n_relevant
    flat = np.concatenate(relevant).astype(np.int64)
    if flat.min() < 0:
        raise ValueError(f"targets are catalogue rows >= 0, found {int(flat.min())}")
    # A (user, item) pair as one number, so that a single set lookup serves all users.
    base = max(int(flat.max()), int(items.max(initial=0))) + 1
    wanted = np.repeat(np.arange(len(items)), n_relevant) * base + flat
    offered = np.arange(len(items))[:, None] * base + items
    return np.isin(offered, wanted) & (items != NO_ITEM), n_relevant


def _counts(items: np.ndarray) -> np.ndarray:
    """How often each recommended item is recommended, int64, one entry per distinct item."""
    return np.unique(items[items != NO_ITEM], return_counts=True)[1]
