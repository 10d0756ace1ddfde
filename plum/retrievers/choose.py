"""Choosing a retriever's settings on the validation set, by Recall@10 for all retrievers."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
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
    """Mean Recall@10 over users, the criterion of all choices.

    Args:
        found: lists (U, K) for validation users.
        targets: U arrays of catalogue rows, at least one each.

    Raises:
        ValueError: no users, or as ``plum.evaluation.metrics.per_user_metrics``.
    """
    if not len(targets):
        raise ValueError("there are no validation users")
    return float(per_user_metrics(found.items, targets, [CUTOFF])[f"recall@{CUTOFF}"].mean())


def trial(settings: dict[str, Any], recall: float) -> dict[str, Any]:
    """One candidate in the form of reports: ``{"settings": {...}, "valid_recall@10": x}``."""
    return {"settings": settings, MEASURE: recall}


def best_of(trials: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The settings that were chosen: those of the highest figure, the earlier on ties."""
    settings: dict[str, Any] = max(trials, key=lambda entry: entry[MEASURE])["settings"]
    return settings


def choose(
    candidates: Iterable[tuple[dict[str, Any], Callable[[], AnyRetriever]]],
    histories: Sequence[np.ndarray],
    targets: Sequence[np.ndarray],
    seen: Sequence[np.ndarray] | None,
) -> tuple[AnyRetriever, list[dict[str, Any]]]:
    """Choose the candidate with the highest validation Recall@10; the earlier one on ties.

    Candidates are made one after another; at most two exist at a time.

    Args:
        candidates: settings to show in trials, and a function that makes the retriever.
        histories: U arrays of catalogue rows, oldest first: the validation users' histories.
        targets: U arrays of catalogue rows: their next items, never of the test set.
        seen: per user the rows never to return, or None to keep all.

    Returns:
        best: the retriever.
        trials: one per candidate, in order, ``{"settings": {...}, "valid_recall@10": x}``.

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


def choose_in_steps(
    make: Callable[[dict[str, Any]], AnyRetriever],
    start: Mapping[str, Any],
    grid: Mapping[str, Sequence[Any]],
    histories: Sequence[np.ndarray],
    targets: Sequence[np.ndarray],
    seen: Sequence[np.ndarray] | None,
) -> tuple[AnyRetriever, list[dict[str, Any]]]:
    """Choose one setting after another by validation Recall@10, the others as they are best so far.

    A setting moves only if that finds more. No combination is tried twice.

    Args:
        make: the retriever of some settings.
        start: the settings to begin with.
        grid: values of each setting that is chosen, in the order of choosing.
        histories, targets, seen: validation users; see :func:`choose`.

    Returns:
        best: the retriever.
        trials: one per combination that was tried, in order.

    Raises:
        ValueError: no users.
    """
    best, trials = choose([(dict(start), lambda: make(dict(start)))], histories, targets, seen)
    settings, reached = dict(start), trials[0][MEASURE]
    for name, values in grid.items():
        tried = [entry["settings"] for entry in trials]
        others = [option for value in values if (option := settings | {name: value}) not in tried]
        if not others:
            continue
        found, more = choose([(option, partial(make, option)) for option in others], histories, targets, seen)
        trials += more
        top = max(more, key=lambda entry: entry[MEASURE])
        if top[MEASURE] > reached:
            best, settings, reached = found, top["settings"], top[MEASURE]
    return best, trials
