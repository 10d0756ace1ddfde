"""What the pictures of a report show, as plain arrays: popularity, history lengths, time, and where lists fall."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from plum.evaluation.slices import UNSEEN, by_popularity
from plum.run import artifacts

PLACES = 10
"""Places of a list that count for where recommendations fall."""
_POINTS = 300  # of the curve of popularity
_CLASSES = 12  # of lengths
_PERIODS = 60


def popularity(counts: np.ndarray) -> dict[str, Any]:
    """Training interactions of items from the most popular one on, at ranks that are even on a logarithmic axis.

    Args:
        counts: integers (N,), training interactions per item; N > 0.

    Returns:
        ``ranks`` from 1 and ``counts`` there; ``top_tenth``: the share of all interactions that the most popular tenth
        of the items has; ``unseen``: items without any.
    """
    ordered = np.sort(counts)[::-1]
    ranks = np.unique(np.geomspace(1, len(ordered), _POINTS).round().astype(int))
    tenth = ordered[: -(-len(ordered) // 10)].sum()
    return {
        "ranks": ranks.tolist(),
        "counts": ordered[ranks - 1].tolist(),
        "top_tenth": float(tenth / max(1, ordered.sum())),
        "unseen": int((ordered == 0).sum()),
    }


def history_lengths(histories: Sequence[np.ndarray], read: int | None) -> dict[str, Any]:
    """How long the histories of the test users are, in classes that are even on a logarithmic axis.

    Args:
        histories: U arrays of item rows, none empty.
        read: interactions that plum reads of a history, the latest ones.

    Returns:
        ``edges``: whole numbers, class i from edge i to below edge i + 1; ``counts``: users per class; ``median``;
        ``read``. Empty without any history.
    """
    lengths = np.array([len(history) for history in histories], dtype=np.int64)
    if not len(lengths):
        return {}
    low, high = int(lengths.min()), int(lengths.max())
    inner = np.geomspace(low, high + 1, _CLASSES + 1)[1:-1].round().astype(int)
    edges = np.unique([low, *inner[(inner > low) & (inner <= high)], high + 1])
    counts, _ = np.histogram(lengths, bins=edges)
    return {"edges": edges.tolist(), "counts": counts.tolist(), "median": float(np.median(lengths)), "read": read}


def timeline(times: np.ndarray, parts: np.ndarray, temporal: bool) -> dict[str, Any]:
    """Interactions over time by the part of the split that they are in.

    Args:
        times: (E,) int64, seconds since 1970.
        parts: (E,) of "train", "valid", "test".
        temporal: whether the parts follow each other in time, so that there are cuts between them.

    Returns:
        ``edges`` of equal periods in seconds; ``counts``: part -> interactions per period; ``cuts``: valid, test -> the
        first moment of that part. Empty where all happened at one time.
    """
    if not len(times) or times.min() == times.max():
        return {}
    edges = np.linspace(times.min(), times.max(), _PERIODS + 1)
    counts = {part: np.histogram(times[parts == part], bins=edges)[0].tolist() for part in ("train", "valid", "test")}
    begun = {part: int(times[parts == part].min()) for part in ("valid", "test") if temporal and (parts == part).any()}
    return {"edges": edges.tolist(), "counts": counts, "cuts": begun}


def exposure(
    lists: Mapping[str, np.ndarray], targets: Sequence[np.ndarray], train_counts: np.ndarray, cold_below: int
) -> dict[str, Any]:
    """Which share of recommendations falls on popular and on rare items.

    Args:
        lists: retriever -> integers (N,), how often each item stands in its lists.
        targets: U arrays of item rows.
        train_counts: integers (N,), training interactions per item.
        cold_below: training interactions from which an item is no longer cold.

    Returns:
        ``classes``: of :func:`plum.evaluation.slices.by_popularity`, popular to rare; ``references``: "catalogue" and
        "test targets" -> share of their items in each class; ``retrievers``: name -> share of its places.
    """
    everything = [np.arange(len(train_counts))]
    members = {
        part.name: np.concatenate([np.zeros(0, dtype=np.int64), *part.targets])
        for part in by_popularity(everything, train_counts, cold_below)
        if part.name != UNSEEN  # a part of the cold ones
    }

    def shares(counts: np.ndarray) -> list[float]:
        return [float(counts[rows].sum() / counts.sum()) for rows in members.values()]

    asked = np.bincount(np.concatenate([np.zeros(0, dtype=np.int64), *targets]), minlength=len(train_counts))
    references = {"catalogue": np.ones(len(train_counts)), "test targets": asked}
    return {
        "classes": list(members),
        "references": {name: shares(counts) for name, counts in references.items() if counts.sum()},
        "retrievers": {name: shares(counts) for name, counts in lists.items() if counts.sum()},
    }


def recommended(path: Path, item_ids: pd.Series) -> dict[str, np.ndarray]:
    """How often each item stands among the first places of a retriever's lists.

    Args:
        path: ``recommendations.parquet``.
        item_ids: of the catalogue, in its order.

    Returns:
        Retriever -> integers (N,).
    """
    table = artifacts.read_table(path, ["retriever", "rank", "item_id"])
    table = table[table["rank"] <= PLACES]
    rows = pd.Index(item_ids).get_indexer(table["item_id"])
    names = table["retriever"].to_numpy()
    return {str(name): np.bincount(rows[names == name], minlength=len(item_ids)) for name in pd.unique(names)}
