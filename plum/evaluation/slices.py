"""Metrics over parts of the users and of their targets, which show where each retriever is good or bad.

There are many slices: a difference between two intervals in one slice of forty may be due to chance.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from plum.evaluation.intervals import mean_intervals
from plum.evaluation.metrics import COLD_BELOW, per_user_metrics
from plum.evaluation.rankings import flatten

HEAD_TENTHS, TORSO_TENTHS = 5, 3
"""Tenths of the training interactions covered by the head, and by head and torso together."""
UNSEEN = "cold, not in training"
_LENGTHS = ((0, 0), (1, 5), (6, 10), (11, 20), (21, 50))
_UNKNOWN, _OTHER = "unknown", "other"


@dataclass(frozen=True)
class Slice:
    """Some of the test users, with those of their targets that belong to the slice.

    Args:
        group: the criterion; the slices of a group are shown together.
        name: of the slice, unique in its group.
        users: int64 (S,), places among the U test users, ascending.
        targets: S arrays of catalogue rows.

    Raises:
        ValueError: different numbers of users and targets.
    """

    group: str
    name: str
    users: np.ndarray
    targets: list[np.ndarray]

    def __post_init__(self) -> None:
        if len(self.users) != len(self.targets):
            raise ValueError(f"slice {self.name!r} has {len(self.users)} users and targets of {len(self.targets)}")


def by_popularity(targets: Sequence[np.ndarray], train_counts: np.ndarray, cold_below: int = COLD_BELOW) -> list[Slice]:
    """By the target's training interactions; a user with targets in several slices is in each, with those targets.

    Items with fewer than ``cold_below`` training interactions are cold. Of the other items, the head is the smallest
    set of the most popular ones with half of their interactions; the torso extends it to 80%; the tail is the rest.
    Items with equal counts are in the same slice, that of the first of them, so that the order of the catalogue does
    not matter: an item is in the head if the strictly more popular items have less than half of the interactions, and
    in the torso if they have less than 80%.

    Args:
        targets: U arrays of catalogue rows.
        train_counts: integers (N,), training interactions per catalogue row.
        cold_below: items with fewer training interactions are cold.

    Returns:
        Head, torso, tail, cold, and the cold ones without any training interaction; empty slices included.

    Raises:
        ValueError: a target outside the catalogue.
    """
    flatten(targets, len(train_counts))  # refuses negative targets, which would index from the end
    names = ("head", "torso", "tail", "cold", UNSEEN)
    known = np.sort(train_counts[train_counts >= cold_below].astype(np.int64))
    held = np.concatenate([[0], np.cumsum(known)])  # held[i]: interactions of the i least popular items
    above = held[-1] - held[np.searchsorted(known, train_counts, side="right")]  # of the strictly more popular items
    place = np.where(
        train_counts < cold_below,
        names.index("cold"),
        # In integers, so that half is exact.
        (above * 10 >= held[-1] * HEAD_TENTHS).astype(int) + (above * 10 >= held[-1] * (HEAD_TENTHS + TORSO_TENTHS)),
    )
    slices = []
    for number, name in enumerate(names):
        inside = (place == names.index("cold")) & (train_counts == 0) if name == UNSEEN else place == number
        rows = [row[inside[row]] for row in targets]
        users = np.flatnonzero([len(row) > 0 for row in rows])
        slices.append(Slice("popularity of the target", name, users, [rows[user] for user in users]))
    return slices


def by_history_length(histories: Sequence[np.ndarray], targets: Sequence[np.ndarray]) -> list[Slice]:
    """By the length of the user's history: 0, 1-5, 6-10, 11-20, 21-50, over 50 interactions.

    Args:
        histories: U arrays of catalogue rows; repeated items count each time.
        targets: U arrays of catalogue rows.

    Returns:
        Slices from short to long, empty ones included.

    Raises:
        ValueError: different numbers of users.
    """
    lengths = np.array([len(row) for row in histories], dtype=np.int64)
    group = "length of the history"
    slices = [
        _of_users(group, str(low) if low == high else f"{low}-{high}", (low <= lengths) & (lengths <= high), targets)
        for low, high in _LENGTHS
    ]
    longest = _LENGTHS[-1][1]
    return [*slices, _of_users(group, f"over {longest}", lengths > longest, targets)]


def by_user_feature(column: str, values: pd.Series, targets: Sequence[np.ndarray], max_groups: int = 8) -> list[Slice]:
    """By a user attribute.

    - Numbers with more than ``max_groups`` distinct values: quartiles, named by their smallest and largest value; a
      value at the border belongs to the lower one. If ties leave a quartile empty, it is left out.
    - All else: a slice per value, the most common first (numbers in their order). With more than ``max_groups`` values,
      the ``max_groups - 1`` most common (ties by name) and "other".
    - Users without a value (missing, empty text, not a finite number) are in a slice "unknown".
    - The texts "other" and "unknown" belong to these slices.

    A column of text with more than half of its values distinct (names, zip codes), and one with all users in one slice,
    give no slices.

    Args:
        column: name of the attribute and of the group.
        values: (U,), in the order of the users; the index is ignored.
        targets: U arrays of catalogue rows.
        max_groups: most slices of a column, without "unknown"; at least 2.

    Returns:
        Slices with at least one user each.

    Raises:
        ValueError: different numbers of users, or max_groups < 2.
    """
    if max_groups < 2:
        raise ValueError(f"max_groups must be at least 2, found {max_groups}")
    values = values.reset_index(drop=True).convert_dtypes()  # booleans and numbers stored as Python objects
    is_bool = pd.api.types.is_bool_dtype(values)
    if pd.api.types.is_numeric_dtype(values) and not is_bool:
        labels, order = _number_labels(values.to_numpy(dtype=np.float64, na_value=np.nan), max_groups)
    else:
        labels = _text_labels(values, is_bool)
        counts = pd.Series([label for label in labels if label != _UNKNOWN], dtype=object).value_counts()
        if not is_bool and len(counts) > counts.sum() / 2:
            return []
        order = sorted(counts.index, key=lambda label: (-counts[label], label))
        labels, order = _merged(labels, order, max_groups)
    slices = [_of_users(column, name, labels == name, targets) for name in [*order, _UNKNOWN]]
    slices = [found for found in slices if len(found.users)]
    return slices if len(slices) > 1 else []


def by_tie(tied: np.ndarray, targets: Sequence[np.ndarray]) -> list[Slice]:
    """By whether tie-breaking chose the user's test item.

    Args:
        tied: bool (U,), whether the last two interactions tie in time.
        targets: U arrays of catalogue rows.

    Returns:
        "certain" and "decided by a tie", empty ones included.

    Raises:
        ValueError: different numbers of users.
    """
    tied = np.asarray(tied, dtype=bool)
    group = "order of the test item"
    return [_of_users(group, "certain", ~tied, targets), _of_users(group, "decided by a tie", tied, targets)]


def score_slices(
    slices: Sequence[Slice],
    lists: Mapping[str, np.ndarray],
    metrics: Sequence[str] = ("recall@10", "ndcg@10"),
) -> list[dict[str, Any]]:
    """Score every retriever in every slice.

    Args:
        slices: in display order; empty ones are left out.
        lists: retriever -> items, int64 (U, K), ``-1`` for empty places.
        metrics: of :func:`per_user_metrics`, at least one.

    Returns:
        Values for JSON, a group at the place of its first slice: ``{"group", "slices": [{"name",
        "users", "targets" (repeats of a user count once), "retrievers": {retriever: {metric: mean over the slice's
        users, ..., "ci95": [low, high] of the first metric}}}]}``.

    Raises:
        ValueError: no retriever or metric, an unknown metric, retrievers with different numbers of users, a slice with
            other users, or a user of a slice without a target.
    """
    n_users = {len(items) for items in lists.values()}
    if len(n_users) != 1 or not metrics:
        raise ValueError(f"need retrievers with the same users and a metric, found {n_users} users, {list(metrics)}")
    groups: dict[str, list[dict[str, Any]]] = {}
    for part in slices:
        if not len(part.users):
            continue
        if part.users.min() < 0 or part.users.max() >= max(n_users):
            raise ValueError(f"slice {part.name!r} has users outside 0..{max(n_users) - 1}")
        groups.setdefault(part.group, []).append(
            {
                "name": part.name,
                "users": len(part.users),
                "targets": sum(len(np.unique(row)) for row in part.targets),
                "retrievers": _score(part, lists, metrics),
            }
        )
    return [{"group": group, "slices": scored} for group, scored in groups.items()]


def _score(part: Slice, lists: Mapping[str, np.ndarray], metrics: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Means of each retriever over the users of one slice, with the interval of the first metric."""
    cutoffs = sorted({int(at) for name in metrics if (at := name.partition("@")[2]).isdigit()})
    per_user = {name: per_user_metrics(items[part.users], part.targets, cutoffs) for name, items in lists.items()}
    known = next(iter(per_user.values()))
    unknown = [name for name in metrics if name not in known]
    if unknown:
        raise ValueError(f"no such metric: {', '.join(unknown)}")
    first = np.stack([values[metrics[0]] for values in per_user.values()], axis=1)
    ends = mean_intervals(first).tolist()
    return {
        retriever: {name: float(values[name].mean()) for name in metrics} | {"ci95": interval}
        for (retriever, values), interval in zip(per_user.items(), ends, strict=True)
    }


def _of_users(group: str, name: str, chosen: np.ndarray, targets: Sequence[np.ndarray]) -> Slice:
    """The slice of the chosen users, bool (U,), with all of their targets."""
    if len(chosen) != len(targets):
        raise ValueError(f"{group}: {len(chosen)} users, but targets of {len(targets)}")
    of_chosen = [row for row, taken in zip(targets, chosen, strict=True) if taken]
    return Slice(group, name, np.flatnonzero(chosen), of_chosen)


def _text_labels(values: pd.Series, is_bool: bool) -> np.ndarray:
    """The values as text (U,), "unknown" if missing."""
    spoken = {True: "yes", False: "no"}
    texts = (spoken[value] if is_bool else str(value).strip() for value in values.dropna())
    labels = np.full(len(values), _UNKNOWN, dtype=object)
    labels[values.notna().to_numpy()] = [text or _UNKNOWN for text in texts]
    return labels


def _number_labels(numbers: np.ndarray, max_groups: int) -> tuple[np.ndarray, list[str]]:
    """Label numbers (U,) by value, or by quartile if there are many values: labels (U,), and the labels in order."""
    known = np.isfinite(numbers)
    distinct, place = np.unique(numbers[known], return_inverse=True)
    if len(distinct) > max_groups:
        # Quartiles are observed values, not interpolated ones, so that nothing can overflow.
        borders = np.quantile(numbers[known], [0.25, 0.5, 0.75], method="inverted_cdf")
        _, quartile = np.unique(np.searchsorted(borders, distinct), return_inverse=True)
        place = quartile[place]
    else:
        quartile = np.arange(len(distinct))
    members = [distinct[quartile == number] for number in range(quartile.max(initial=-1) + 1)]
    # The fewest digits that tell the ranges apart; 17 always do.
    for digits in (4, 8, 17):
        names = [_range(row[0], row[-1], digits) for row in members]
        if len(set(names)) == len(names):
            break
    labels = np.full(len(numbers), _UNKNOWN, dtype=object)
    labels[known] = np.array(names, dtype=object)[place]
    return labels, names


def _range(low: float, high: float, digits: int) -> str:
    """``"18 to 24"``, or one number if both ends are equal; integers with all their digits."""
    ends = [str(int(x)) if float(x).is_integer() and abs(x) < 1 << 53 else f"{x:.{digits}g}" for x in (low, high)]
    return ends[0] if low == high else " to ".join(ends)


def _merged(labels: np.ndarray, order: Sequence[str], max_groups: int) -> tuple[np.ndarray, list[str]]:
    """Labels with all but the most common of ``order`` as "other", if there are more than ``max_groups``."""
    shown = [label for label in order if label != _OTHER]
    if len(order) > max_groups:
        shown = shown[: max_groups - 1]
    kept = np.isin(labels.astype(str), [*shown, _UNKNOWN])
    return np.where(kept, labels, _OTHER), [*shown, _OTHER]
