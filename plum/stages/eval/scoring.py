"""The content of ``eval/metrics.json``: every retriever's lists scored on the same users."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from plum.config.run import RunConfig
from plum.data import moments
from plum.evaluation.catalogue import catalogue_metrics
from plum.evaluation.compare import compare, summarise
from plum.evaluation.metrics import cold_start_recall, hit_rating, per_user_metrics, prefix_recall
from plum.evaluation.rankings import NO_ITEM, Recommendations
from plum.evaluation.slices import Slice, by_history_length, by_popularity, by_tie, by_user_feature, score_slices
from plum.retrievers.optimum import BayesOptimal
from plum.run import artifacts, shapes
from plum.run.manifest import has_file, read_manifest, settings_of
from plum.sid.table import SidTable
from plum.stages import inputs

HEADLINE = 10
"""The cutoff of all that is measured at one length of list."""

Lists = Mapping[str, Recommendations]


@dataclass(frozen=True)
class Asked:
    """What is asked of every retriever.

    Attributes:
        users: (U,) places in ``Histories.user_ids``.
        histories: U arrays of item rows, everything before the target.
        targets: U arrays of item rows.
        ratings: U arrays of what the users gave to the targets, NaN where unknown.
        tied: (U,) whether a tie in time decides which item is the target; None where that can't be known.
        features: users.parquet, a row for each of the U users; None if there is none.
    """

    users: np.ndarray
    histories: list[np.ndarray]
    targets: list[np.ndarray]
    ratings: list[np.ndarray]
    tied: np.ndarray | None
    features: pd.DataFrame | None


def read_asked(config: RunConfig, data: inputs.Prepared) -> Asked:
    """The test questions of a run, with all that slices are made by."""
    users, histories, targets = data.histories.questions("test")
    log, split = inputs.read_log_and_split(config.workdir)
    names = data.histories.user_ids
    owner = np.searchsorted(names, split["user_id"].to_numpy(dtype=str))
    order = np.lexsort((split["position"].to_numpy(), owner))
    test = order[split["part"].to_numpy(dtype=str)[order] == "test"]
    ratings = log["rating"].to_numpy(dtype=np.float64)[test]
    ends = np.cumsum(np.bincount(owner[test], minlength=len(names)))
    per_user = np.split(ratings, ends)[:-1]
    return Asked(
        users,
        histories,
        targets,
        [per_user[user] for user in users],
        _tied(config, moments.codes(log)[order], owner[order], users),
        _features(config, names[users]),
    )


def _tied(config: RunConfig, times: np.ndarray, owner: np.ndarray, users: np.ndarray) -> np.ndarray | None:
    """Whether each asked user's last two interactions happened at one time; known under leave-one-out alone.

    Args:
        config: of the run.
        times: (E,) a number for each distinct time.
        owner: (E,) the interactions' users, in order.
        users: (Q,) the asked users.
    """
    split = settings_of(config.workdir / artifacts.DATA, shapes.MadeByPrepare)["split"]
    positions = artifacts.read_json(config.workdir / artifacts.DATA_SUMMARY, shapes.Times)["timestamps_are_positions"]
    if positions or split["protocol"] != "leave-one-out":
        return None
    last = np.searchsorted(owner, users, side="right") - 1  # an asked user has at least two interactions
    return times[last] == times[last - 1]


def _features(config: RunConfig, user_ids: np.ndarray) -> pd.DataFrame | None:
    if not has_file(config.workdir, artifacts.USERS):
        return None
    table = artifacts.read_table(config.workdir / artifacts.USERS, needed=("user_id",))
    return table.drop_duplicates("user_id").set_index("user_id").reindex(user_ids).reset_index(drop=True)


def score(lists: Lists, other: Lists, asked: Asked, data: inputs.Prepared, config: RunConfig) -> dict[str, Any]:
    """The content of ``eval/metrics.json``, but for what needs more than lists.

    Args:
        lists: of every retriever, under the headline's rule on seen items.
        other: under the other rule.
        asked: the questions.
        data: of the run.
        config: of the run.
    """
    settings = config.eval
    per_user = {name: per_user_metrics(found.items, asked.targets, settings.cutoffs) for name, found in lists.items()}
    means, intervals = summarise(per_user)
    vectors = inputs.content_vectors(config.workdir)
    for name, found in lists.items():
        means[name] |= _beyond_accuracy(found.items, asked, data, settings.cold_below, vectors)
    kept = {name: per_user_metrics(found.items, asked.targets, settings.cutoffs) for name, found in other.items()}
    rivals = {name: values for name, values in per_user.items() if name != BayesOptimal.name}
    named = {name: found.items for name, found in lists.items()}
    return {
        "protocol": _protocol(config, len(data.items)),
        "n_users": len(asked.users),
        "retrievers": means,
        "intervals": intervals,
        "comparisons": compare(rivals, ["recall@10", "ndcg@10"], n_resamples=settings.resamples, seed=config.seed),
        "seen_kept" if settings.filter_seen else "seen_filtered": {
            name: {metric: float(values.mean()) for metric, values in metrics.items()} for name, metrics in kept.items()
        },
        "slices": score_slices(_slices(asked, data, settings.cold_below), named),
        "prefix_recall": _prefix_recall(named, asked, inputs.read_sid_table(config.workdir, data.items)),
        "lists": {name: delivered(found.items) for name, found in lists.items()},
    }


def delivered(items: np.ndarray) -> dict[str, int]:
    """How many lists (U, K) are not full, and how many are empty."""
    there = items != NO_ITEM
    return {
        f"users with fewer than {items.shape[1]} items": int((~there).any(axis=1).sum()),
        "users without any item": int((~there.any(axis=1)).sum()),
    }


def _protocol(config: RunConfig, n_items: int) -> dict[str, Any]:
    settings = config.eval
    made = read_manifest(config.workdir / artifacts.DATA)
    split = settings_of(config.workdir / artifacts.DATA, shapes.MadeByPrepare)["split"]
    no_times = artifacts.read_json(config.workdir / artifacts.DATA_SUMMARY, shapes.Times)["timestamps_are_positions"]
    return {
        "split": split["protocol"],
        "seen": "filtered" if settings.filter_seen else "kept",
        "candidates": n_items,
        "ties in time": "no times" if no_times else split["ties"],
        "split seed": split.get("seed", made.seed),  # splits had no seed of their own once
        "beams": settings.beams,
        "probabilities over": settings.scores_over,
        "seed": config.seed,
    }


def _beyond_accuracy(
    items: np.ndarray, asked: Asked, data: inputs.Prepared, cold_below: int, vectors: np.ndarray | None
) -> dict[str, float | int]:
    """What one retriever's lists are like besides finding targets."""
    cutoffs = [HEADLINE]
    values = catalogue_metrics(items, data.popularity, cutoffs, vectors)
    values |= cold_start_recall(items, asked.targets, data.popularity, cutoffs, cold_below)
    rating, rated = hit_rating(items, asked.targets, asked.ratings, HEADLINE)
    if rating is not None:
        values |= {f"hit_rating@{HEADLINE}": rating, f"rated_hits@{HEADLINE}": rated}
    return values


def _slices(asked: Asked, data: inputs.Prepared, cold_below: int) -> list[Slice]:
    slices = [
        *by_popularity(asked.targets, data.popularity, cold_below),
        *by_history_length(asked.histories, asked.targets),
    ]
    if asked.tied is not None:
        slices += by_tie(asked.tied, asked.targets)
    if asked.features is not None:
        for column in asked.features:
            slices += by_user_feature(str(column), asked.features[column], asked.targets)
    return slices


def _prefix_recall(lists: Mapping[str, np.ndarray], asked: Asked, table: SidTable) -> dict[str, list[float]]:
    """Retriever -> share of targets whose first 1, 2, ... codes some recommended item has."""
    found = {name: prefix_recall(items, asked.targets, table.codes, HEADLINE) for name, items in lists.items()}
    return {
        name: [float(values[f"prefix_recall_{level}@{HEADLINE}"].mean()) for level in range(table.n_levels)]
        for name, values in found.items()
    }
