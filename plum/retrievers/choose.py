"""A retriever's settings chosen on validation questions, by one measure for all: Recall@10."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeVar

import numpy as np

from plum import runtime
from plum.evaluation.metrics import per_user_metrics
from plum.evaluation.rankings import Recommendations
from plum.retrievers.protocol import Retriever

CUTOFF = 10
MEASURE = f"valid_recall@{CUTOFF}"

AnyRetriever = TypeVar("AnyRetriever", bound=Retriever)


def validation_recall(found: Recommendations, targets: Sequence[np.ndarray]) -> float:
    """Mean Recall@10 over users, by which every choice is made.

    Args:
        found: lists (U, K) for validation users.
        targets: U arrays of catalogue rows, at least one each.

    Raises:
        ValueError: no users, or what ``plum.evaluation.metrics.per_user_metrics`` refuses.
    """
    if not len(targets):
        raise ValueError("there are no validation users to choose by")
    return float(per_user_metrics(found.items, targets, [CUTOFF])[f"recall@{CUTOFF}"].mean())


def trial(settings: dict[str, Any], recall: float) -> dict[str, Any]:
    """One candidate as reports have it: ``{"settings": {...}, "valid_recall@10": x}``."""
    return {"settings": settings, MEASURE: recall}


def choose(
    candidates: Iterable[tuple[dict[str, Any], Callable[[], AnyRetriever]]],
    histories: Sequence[np.ndarray],
    targets: Sequence[np.ndarray],
    seen: Sequence[np.ndarray] | None,
) -> tuple[AnyRetriever, list[dict[str, Any]]]:
    """The candidate of highest validation Recall@10; of equal ones the earlier.

    Candidates are made one after another, and at most two exist at a time.

    Args:
        candidates: settings, as the trials are to show them, and what makes the retriever that has them.
        histories: U arrays of catalogue rows, oldest first: what a validation user had done by then.
        targets: U arrays of catalogue rows, what they did next; never of the test part.
        seen: per user the rows never to return, or None to keep all.

    Returns:
        best: the retriever.
        trials: one a candidate in their order, ``{"settings": {...}, "valid_recall@10": x}``.

    Raises:
        ValueError: no candidates, or no users.
    """
    best: tuple[float, AnyRetriever] | None = None
    trials = []
    for settings, make in runtime.track(list(candidates), "trying settings"):
        retriever = make()
        recall = validation_recall(retriever.recommend(histories, CUTOFF, seen), targets)
        trials.append(trial(settings, recall))
        if best is None or recall > best[0]:
            best = recall, retriever
    if best is None:
        raise ValueError("there are no candidates to choose from")
    return best[1], trials
