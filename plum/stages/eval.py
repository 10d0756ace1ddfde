"""Stage eval: every retriever on the same users, histories and candidates; metrics, intervals, report."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from plum import artifacts
from plum.config import RunConfig
from plum.data.synthetic import BayesOptimal
from plum.evaluation.compare import compare, summarise
from plum.evaluation.metrics import catalogue_metrics, cold_start_recall, per_user_metrics
from plum.evaluation.report import render_report
from plum.retrieval.generative import Generative
from plum.retrieval.interface import NO_ITEM, Recommendations
from plum.runtime import seed_everything
from plum.stages import common, retrieving

logger = logging.getLogger(__name__)

INPUTS = (
    artifacts.ITEMS,
    artifacts.SPLIT,
    artifacts.DATA_SUMMARY,
    artifacts.SEMANTIC_IDS,
    artifacts.SID_INDEX,
    artifacts.QUALITY,
    artifacts.FINETUNE_MODEL,
    artifacts.DENSE_MODEL,
)


@dataclass(frozen=True)
class Questions:
    """What is asked of every retriever.

    Attributes:
        users: (U,) places in ``Histories.user_ids``.
        histories: U arrays of item rows, everything before the target.
        targets: U arrays of item rows.
    """

    users: np.ndarray
    histories: list[np.ndarray]
    targets: list[np.ndarray]


def run(config: RunConfig, force: bool = False) -> Path:
    """Write ``metrics.json``, ``recommendations.parquet``, ``report.html`` and ``report.md``; skip if up to date."""
    workdir = config.workdir
    inputs = [*INPUTS, *([artifacts.TRUTH] if artifacts.has(workdir, artifacts.TRUTH) else [])]
    settings = config.eval.model_dump(mode="json") | {
        "max_history": config.finetune.max_history,
        "title": config.title,
    }
    stage = artifacts.StageRun(workdir, artifacts.EVAL, settings, config.seed, inputs)
    common.warn_outdated(config, artifacts.DATA, artifacts.TOKENIZE, artifacts.FINETUNE)
    if stage.is_complete() and not force:
        logger.info("eval: up to date")
        return stage.folder
    seed_everything(config.seed)
    data = common.read_prepared(workdir)
    asked = Questions(*data.histories.questions("test"))
    retrievers = retrieving.all_retrievers(config, data)
    k = max(config.eval.cutoffs)
    with stage.writing(force) as folder:
        lists, other = {}, {}
        for name, retriever in retrievers.items():
            logger.info("eval: %s recommends to %d users", name, len(asked.users))
            lists[name] = retriever.recommend(asked.histories, k, asked.histories if config.eval.filter_seen else None)
            # The optimum knows that no one has an item twice: it has no list with seen items in it.
            if name != BayesOptimal.name:
                unfiltered = None if config.eval.filter_seen else asked.histories
                other[name] = retriever.recommend(asked.histories, k, unfiltered)
        metrics = score(lists, other, asked, data, config)
        for name, retriever in retrievers.items():
            if isinstance(retriever, Generative):
                rate = retriever.invalid_rate(asked.histories, 10)
                metrics["retrievers"][name]["invalid_sid_rate@10"] = rate
        artifacts.write_json(folder / "metrics.json", metrics)
        artifacts.write_table(folder / "recommendations.parquet", _long_table(lists, asked, data))
        shown = examples(lists, asked, data, config.eval.examples)
        artifacts.write_json(folder / "examples.json", shown)
        html, markdown = render_report(payload(config, metrics, shown))
        (folder / "report.html").write_text(html, encoding="utf-8")
        (folder / "report.md").write_text(markdown, encoding="utf-8")
    return stage.folder


def score(
    lists: dict[str, Recommendations],
    other: dict[str, Recommendations],
    asked: Questions,
    data: common.Prepared,
    config: RunConfig,
) -> dict[str, Any]:
    """The content of ``eval/metrics.json``."""
    settings = config.eval
    split = artifacts.read_manifest(config.workdir / artifacts.DATA).config["split"]  # as it was, not as it is set now
    per_user = {name: per_user_metrics(found.items, asked.targets, settings.cutoffs) for name, found in lists.items()}
    means, intervals = summarise(per_user, n_resamples=settings.resamples, seed=config.seed)
    cutoffs = [10]
    for name, found in lists.items():
        means[name] |= catalogue_metrics(found.items, data.popularity, cutoffs)
        means[name] |= cold_start_recall(found.items, asked.targets, data.popularity, cutoffs, settings.cold_below)
    kept = {name: per_user_metrics(found.items, asked.targets, settings.cutoffs) for name, found in other.items()}
    rivals = [name for name in per_user if name != BayesOptimal.name]
    return {
        "protocol": {
            "split": split["protocol"],
            "seen": "filtered" if settings.filter_seen else "kept",
            "candidates": len(data.items),
            "ties in time": split["ties"],
            "beams": settings.beams,
            "probabilities over": settings.scores_over,
            "seed": config.seed,
        },
        "n_users": len(asked.users),
        "retrievers": means,
        "intervals": intervals,
        "comparisons": compare(
            {name: per_user[name] for name in rivals},
            ["recall@10", "ndcg@10"],
            n_resamples=settings.resamples,
            seed=config.seed,
        ),
        "seen_kept" if settings.filter_seen else "seen_filtered": {
            name: {metric: float(values.mean()) for metric, values in metrics.items()} for name, metrics in kept.items()
        },
    }


def examples(
    lists: dict[str, Recommendations], asked: Questions, data: common.Prepared, n: int, shown: int = 5
) -> list[dict[str, Any]]:
    """``n`` users spread evenly over the test users, so that nobody picked them; history, target, lists as titles."""
    titles = data.items["title"].fillna(data.items["item_id"]).to_numpy()
    places = np.linspace(0, len(asked.users) - 1, min(n, len(asked.users))).round().astype(int)
    return [
        {
            "user_id": str(data.histories.user_ids[asked.users[place]]),
            "history": [str(title) for title in titles[asked.histories[place][-shown:]]],
            "target": " / ".join(str(title) for title in titles[asked.targets[place]]),
            "recommendations": {
                name: [
                    {"title": str(titles[item]), "hit": bool(np.isin(item, asked.targets[place]))}
                    for item in found.items[place, :shown]
                    if item != NO_ITEM
                ]
                for name, found in lists.items()
                if name != BayesOptimal.name
            },
        }
        for place in places
    ]


def payload(config: RunConfig, metrics: dict[str, Any], shown: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Everything the report shows, gathered from the folders of the run."""
    workdir = config.workdir
    summary = artifacts.read_json(workdir / artifacts.DATA_SUMMARY)
    stages = [s for s in artifacts.COMMANDS if s != artifacts.EVAL]
    manifests = {stage: artifacts.read_manifest(workdir / stage) for stage in stages}
    logs = {s: artifacts.read_log(workdir / s / "train_log.jsonl") for s in stages}
    split, ties = summary["split"], summary["ties"]
    return {
        **metrics,
        "title": config.title,
        "synthetic": summary["synthetic"],
        "data": {
            "users": split["users"],
            "items": summary["items"],
            "training interactions": split["train"],
            "validation interactions": split["valid"],
            "test interactions": split["test"],
            "test interactions with an item that training lacks": split["test_cold"],
            "interactions tied in time": ties["tied"],
            "users whose test item a tie decides": ties["users_test_tied"],
            "users without a test interaction": split["users_without_test"],
            "test users with targets from their history alone": summary["test_users_with_seen_targets_only"],
            "rows that could not be used": sum(problem["count"] for problem in summary["unusable_rows"]),
        },
        "quality": artifacts.read_json(workdir / artifacts.QUALITY),
        "curves": {stage: entries for stage, entries in logs.items() if entries},
        "examples": list(shown),
        "reproduce": [f"plum run --config {artifacts.config_path(workdir)}"],
        "versions": manifests[artifacts.FINETUNE].versions,
        "timings": {
            stage: {"seconds": manifest.duration_s, "peak_mib": manifest.peak_memory_mib}
            for stage, manifest in manifests.items()
        },
    }


def _long_table(lists: dict[str, Recommendations], asked: Questions, data: common.Prepared) -> pd.DataFrame:
    """One row per recommended item: retriever, user_id, rank (from 1), item_id, score."""
    item_ids = data.items["item_id"].to_numpy()
    parts = []
    for name, found in lists.items():
        rows, ranks = np.nonzero(found.items != NO_ITEM)
        parts.append(
            pd.DataFrame(
                {
                    "retriever": name,
                    "user_id": data.histories.user_ids[asked.users[rows]],
                    "rank": (ranks + 1).astype(np.int32),
                    "item_id": item_ids[found.items[rows, ranks]],
                    "score": found.scores[rows, ranks],
                }
            )
        )
    return pd.concat(parts, ignore_index=True)
