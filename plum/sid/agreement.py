"""What shared prefixes mean: whether items that share one are similar in content and occur in the same histories.

Many items share a short prefix, so that agreement occurs by chance too. Every figure is therefore reported beside its
expectation if items were distributed over the same buckets at random; their ratio (lift) is what the codes add. The
expectations are exact, not sampled.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy.stats import hypergeom

from plum.data.histories import Histories
from plum.sid.prefixes import prefix_groups
from plum.vectors.nearest import largest_products
from plum.vectors.unit import joined


def neighbour_overlap(
    codes: np.ndarray,
    vectors: np.ndarray,
    present: np.ndarray | None = None,
    k: int = 10,
    n_sample: int = 2000,
    seed: int = 0,
) -> dict[str, Any] | None:
    """Whether an item's nearest neighbours by content share its prefix.

    For each sampled item, A are its k nearest others by cosine (exact search, ties by row), B the others that share its
    prefix. Recall is |A and B| / k, Jaccard |A and B| / |A or B|; both are means over the sample, for each prefix
    length. Large buckets raise recall whatever they contain; Jaccard is highest for buckets of size k. Items without
    content are left out.

    Args:
        codes: (N, L) int64.
        vectors: (N, D), the content; lengths do not matter. A zero row is no content. See
            :func:`plum.vectors.unit.joined` for several modalities.
        present: (N,) bool, which items have content; None if all but the zero rows have it.
        k: neighbours; if there are fewer others, all of them.
        n_sample: items to sample; if there are fewer, all of them.
        seed: of the sample.

    Returns:
        ``k``; ``items``, the number sampled; and lists of L, shortest prefix first: ``recall``, ``recall_random``,
        ``jaccard``, ``jaccard_random``, where random is the expectation for buckets of the same sizes filled at random,
        averaged over all items. None if fewer than two items have content.

    Raises:
        ValueError: different numbers of rows, vectors that are not finite, or k or n_sample below 1.
    """
    if k < 1 or n_sample < 1 or len(codes) != len(vectors) or (present is not None and len(present) != len(codes)):
        raise ValueError(f"{len(codes)} items, {len(vectors)} vectors, k {k}, n_sample {n_sample}")
    unit = joined([vectors])
    known = unit.any(axis=1) if present is None else unit.any(axis=1) & present
    if known.sum() < 2:
        return None
    unit, groups = unit[known], prefix_groups(codes[known])
    n_items, k = len(unit), min(k, len(unit) - 1)
    rows = np.sort(np.random.default_rng(seed).choice(n_items, min(n_sample, n_items), replace=False))
    nearest = largest_products(unit, unit[rows], k, list(rows[:, None])).items
    result: dict[str, Any] = {"k": k, "items": len(rows)}
    result |= {name: [] for name in ("recall", "recall_random", "jaccard", "jaccard_random")}
    for group in groups.T:
        sizes = np.bincount(group)
        both = (group[nearest] == group[rows][:, None]).sum(axis=1)
        either = k + sizes[group[rows]] - 1 - both
        recall, jaccard = _overlap_by_chance(sizes, k)
        result["recall"].append(float((both / k).mean()))
        result["recall_random"].append(recall)
        result["jaccard"].append(float((both / either).mean()))
        result["jaccard_random"].append(jaccard)
    return result


def _overlap_by_chance(bucket_sizes: np.ndarray, k: int) -> tuple[float, float]:
    """Expected recall and Jaccard of k neighbours and a bucket, if items are distributed over the buckets at random.

    In a bucket of s items, the s - 1 others of an item are drawn from N - 1: the number of its k neighbours among them
    is hypergeometric.
    """
    n_items = int(bucket_sizes.sum())
    sizes, counts = np.unique(bucket_sizes, return_counts=True)
    weights = sizes * counts / n_items  # share of items in buckets of that size
    both = np.arange(k + 1)
    chance = hypergeom.pmf(both, n_items - 1, sizes[:, None] - 1, k)
    # More shared items than the bucket holds have probability 0, and no ratio.
    ratio = both / np.maximum(k + sizes[:, None] - 1 - both, np.maximum(both, 1))
    recall = float(weights @ (sizes - 1)) / (n_items - 1)
    return recall, float(weights @ (chance * ratio).sum(axis=1))


def cooccurrence_agreement(codes: np.ndarray, pairs: np.ndarray) -> dict[str, Any] | None:
    """Whether items that follow each other in histories share prefixes.

    The random figure keeps popularity: it is the share among all combinations of one pair's first item with another
    pair's second, the expectation under permutation of the second column. Pairs and combinations of an item with itself
    are left out of both, because they agree under any codes.

    Args:
        codes: (N, L) int64.
        pairs: (P, 2) item rows, such as those of :func:`heldout_pairs`.

    Returns:
        ``pairs``, the number of pairs of different items; and lists of L, shortest prefix first: ``share`` of pairs
        that agree in the prefix, ``random``, ``lift`` (share / random; None where random is 0). None without pairs.

    Raises:
        ValueError: pairs that are not (P, 2), or with a row outside the catalogue.

    Example:
        >>> cooccurrence_agreement(np.array([[0], [0], [1], [1]]), np.array([[0, 1], [2, 3]]))
        {'pairs': 2, 'share': [1.0], 'random': [0.5], 'lift': [2.0]}
    """
    if pairs.ndim != 2 or pairs.shape[1] != 2 or pairs.min(initial=0) < 0 or pairs.max(initial=-1) >= len(codes):
        raise ValueError(f"pairs must be (P, 2) rows of {len(codes)} items, found shape {pairs.shape}")
    first, second = pairs[pairs[:, 0] != pairs[:, 1]].T
    if not len(first):
        return None
    itself = _meetings(first, second, len(codes))
    result: dict[str, Any] = {"pairs": len(first), "share": [], "random": [], "lift": []}
    for group in prefix_groups(codes).T:
        share = float((group[first] == group[second]).mean())
        meetings = _meetings(group[first], group[second], len(codes)) - itself
        random = meetings / (len(first) ** 2 - itself)
        result["share"].append(share)
        result["random"].append(random)
        result["lift"].append(share / random if random else None)
    return result


def _meetings(first: np.ndarray, second: np.ndarray, n: int) -> int:
    """Combinations of an entry of ``first`` with one of ``second`` that are equal; entries are below n."""
    return int(np.bincount(first, minlength=n) @ np.bincount(second, minlength=n))


def heldout_pairs(histories: Histories, window: int = 3) -> np.ndarray:
    """Pairs of each user's last training items with the user's first validation item; the test set is not used.

    Training has not seen this user's pair, but may have seen the same pair from another user.

    Args:
        histories: of all users.
        window: W, number of last training items. Figures of different windows can't be compared, so no setting changes
            it.

    Returns:
        (P, 2) int64 rows, at most W pairs for each user.
    """
    found: Sequence[tuple[int, int]] = [
        (item, valid[0])
        for train, valid in zip(histories.train, histories.valid, strict=True)
        if len(valid)
        for item in train[-window:]
    ]
    return np.array(found, dtype=np.int64).reshape(-1, 2)
