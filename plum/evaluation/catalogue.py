"""How a retriever uses the catalogue: how many items it recommends, how evenly, how rare and how diverse they are.

None of this is accuracy: random lists score excellently.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from plum.evaluation.rankings import NO_ITEM

# Vector entries gathered at a time: 4M float64 are 32 MiB, whatever the number of users.
_BLOCK_ENTRIES = 1 << 22


def effective_vocabulary(items: np.ndarray, share: float = 0.95) -> int:
    """Fewest items that cover a share of all recommendations (PLUM table 2: 95% of impressions).

    Args:
        items: int64 (U, K), ``-1`` for empty places, which do not count.
        share: of the recommended places, within 0 and 1.

    Returns:
        Number of items; 0 if nothing is recommended.
    """
    counts = np.sort(_counts(items))[::-1]
    if not counts.size:
        return 0
    # The tolerance keeps 0.95 * 20 = 19.000000000000004 from requiring a twentieth place.
    return int(np.searchsorted(np.cumsum(counts), share * counts.sum() - 1e-6) + 1)


def coverage(items: np.ndarray, n_items: int) -> float:
    """Share of the catalogue's N items that are in some list.

    Args:
        items: int64 (U, K), ``-1`` for empty places.
        n_items: N, at least 1.

    Returns:
        Within 0 and 1.
    """
    return len(_counts(items)) / n_items


def gini(items: np.ndarray, n_items: int) -> float | None:
    """Gini index of how often each of the catalogue's N items is recommended, including those never recommended.

    With the counts c_1 <= ... <= c_N: sum over i of (2i - N - 1) c_i / (N * sum over i of c_i), which is half of the
    mean difference between two items' counts, divided by the mean count. No correction for a small N.

    Args:
        items: int64 (U, K), ``-1`` for empty places, which do not count.
        n_items: N, at least 1.

    Returns:
        0 if all items are recommended equally often, 1 - 1/N if a single one is; None if nothing is recommended.

    Raises:
        ValueError: an item outside the catalogue.

    Example:
        >>> gini(np.array([[0, 1], [0, -1]]), n_items=4)  # counts 0, 0, 1, 2
        0.5833333333333334
    """
    if items.max(initial=NO_ITEM) >= n_items:
        raise ValueError(f"catalogue rows must lie in 0..{n_items - 1}, found {int(items.max())}")
    counts = np.sort(_counts(items))
    if not counts.size:
        return None
    # Items never recommended come first and add nothing: the others have the last ranks.
    ranks = np.arange(n_items - len(counts) + 1, n_items + 1)
    return float(((2 * ranks - n_items - 1) * counts).sum() / (n_items * counts.sum()))


def novelty(items: np.ndarray, train_counts: np.ndarray) -> float | None:
    """Mean self-information of the recommended items, in bits: -log2 p(item), high for rare items (Zhou et al. 2010).

    p(item) = (c + 1) / (total + N) with c training interactions; the 1 keeps items without training interactions
    finite.

    Args:
        items: int64 (U, K), ``-1`` for empty places, which do not count.
        train_counts: (N,), training interactions per catalogue row.

    Returns:
        Mean over all places with an item; None if there is none.
    """
    listed = items[items != NO_ITEM]
    if not listed.size:
        return None
    bits = -np.log2((train_counts + 1.0) / (train_counts.sum() + len(train_counts)))
    return float(bits[listed].mean())


def intra_list_diversity(items: np.ndarray, vectors: np.ndarray) -> float | None:
    """Diversity within lists: mean over users of the mean 1 - cosine over a list's pairs.

    Ziegler et al. (2005) use the similarity of a list's pairs; this is its complement. Items with a zero vector are
    ignored. Lists with fewer than two other items don't count.

    Args:
        items: int64 (U, K), ``-1`` for empty places; no item twice in a row.
        vectors: (N, D), content of each catalogue row, any float type; need not have unit length.

    Returns:
        Within 0 (all alike) and 2; None if no list has a pair.

    Raises:
        ValueError: vectors that are not (N, D) or not finite, or an item without one.

    Example:
        >>> intra_list_diversity(np.array([[0, 1, 2]]), np.array([[4.0, 0.0], [0.0, 3.0], [-1.0, 0.0]]))  # 1, 2, 1
        1.3333333333333333
    """
    if vectors.ndim != 2 or items.max(initial=NO_ITEM) >= len(vectors):
        last = int(items.max(initial=NO_ITEM))
        raise ValueError(f"vectors must be (N, D) with N above {last}, the last row listed, found {vectors.shape}")
    lengths = np.sqrt(np.einsum("nd,nd->n", vectors, vectors, dtype=np.float64))
    if not np.isfinite(lengths).all():
        raise ValueError("vectors hold NaN or infinite values")
    inverse = np.divide(1.0, lengths, out=np.zeros_like(lengths), where=lengths > 0)
    weights = np.where(items == NO_ITEM, 0.0, inverse[items])
    n_known = (weights > 0).sum(axis=1)
    users = np.flatnonzero(n_known >= 2)
    if not len(users):
        return None
    size = max(1, _BLOCK_ENTRIES // max(1, items.shape[1] * vectors.shape[1]))
    total = 0.0
    for start in range(0, len(users), size):
        block = users[start : start + size]
        # The squared length of the sum of n unit vectors is n + 2 * (sum of their pairs' cosines), so the cost grows
        # with K, not with K squared.
        unit_sum = (weights[block, None, :] @ vectors[items[block]].astype(np.float64))[:, 0]
        n = n_known[block]
        cosine = ((unit_sum**2).sum(axis=1) - n) / (n * (n - 1))
        total += float(np.clip(1.0 - cosine, 0.0, 2.0).sum())
    return total / len(users)


def catalogue_metrics(
    items: np.ndarray,
    train_counts: np.ndarray,
    cutoffs: Sequence[int] = (10,),
    vectors: np.ndarray | None = None,
) -> dict[str, float | int]:
    """Effective vocabulary, coverage, Gini index, novelty and diversity of the first k places.

    Args:
        items: int64 (U, K), ``-1`` for empty places.
        train_counts: (N,), training interactions per catalogue row.
        cutoffs: values of k.
        vectors: (N, D), content of each catalogue row, for the diversity; None to leave it out.

    Returns:
        ``effective_vocabulary@k`` (items), ``coverage@k`` (share), ``gini@k`` (0 to 1) and ``novelty@k`` (bits), both
        left out if nothing is recommended, and ``diversity@k`` (0 to 2), left out if no list has a pair.

    Raises:
        ValueError: as :func:`gini` and :func:`intra_list_diversity`.
    """
    result: dict[str, float | int] = {}
    for k in cutoffs:
        top = items[:, :k]
        result[f"effective_vocabulary@{k}"] = effective_vocabulary(top)
        result[f"coverage@{k}"] = coverage(top, len(train_counts))
        optional = {
            "gini": gini(top, len(train_counts)),
            "novelty": novelty(top, train_counts),
            "diversity": None if vectors is None else intra_list_diversity(top, vectors),
        }
        result |= {f"{name}@{k}": value for name, value in optional.items() if value is not None}
    return result


def _counts(items: np.ndarray) -> np.ndarray:
    """How often each recommended item is recommended, int64, one entry per distinct item."""
    return np.unique(items[items != NO_ITEM], return_counts=True)[1]
