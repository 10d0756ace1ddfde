"""Stage eval: every retriever on the same users, histories and candidates; metrics, intervals, report."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from plum.config.run import RunConfig
from plum.evaluation.rankings import NO_ITEM, Recommendations
from plum.report.page import render_report
from plum.retrievers.dense import Dense, MeanDense
from plum.retrievers.generative import Generative
from plum.retrievers.optimum import BayesOptimal
from plum.run import artifacts
from plum.run.manifest import has_file, read_manifest
from plum.run.stage import StageRun
from plum.run.writing import write_text
from plum.runtime import seed_everything, track
from plum.stages import inputs
from plum.stages.eval import reporting, scoring
from plum.stages.eval.combined import Combined, combine, first, lists_of
from plum.stages.eval.field import Field, all_retrievers, in_order
from plum.vectors.nearest import search_report

logger = logging.getLogger(__name__)

INPUTS = (
    artifacts.ITEMS,
    artifacts.INTERACTIONS,
    artifacts.SPLIT,
    artifacts.DATA_SUMMARY,
    artifacts.FEATURES_SUMMARY,
    artifacts.SEMANTIC_IDS,
    artifacts.SID_INDEX,
    artifacts.QUALITY,
    artifacts.CPT_METRICS,
    artifacts.FINETUNE_METRICS,
    artifacts.FINETUNE_MODEL,
)
LARGEST_SEARCHED = 100_000
"""Items up to which approximate search is tried: beyond, building the indexes takes longer than all the rest."""
SAMPLE = 2000
"""Users, at most, for figures that are no retriever's accuracy: invalid Semantic IDs, and approximate search."""


def run(config: RunConfig, force: bool = False) -> Path:
    """Write ``metrics.json``, ``recommendations.parquet``, ``report.html`` and ``report.md``; skip if up to date."""
    workdir = config.workdir
    settings = config.eval.model_dump(mode="json") | {
        "max_history": config.finetune.max_history,
        "validation_users": config.finetune.validation_users,
        "title": config.title,
    }
    stage = StageRun(workdir, artifacts.EVAL, settings, config.seed, _inputs(config))
    inputs.warn_outdated(config, artifacts.DATA, artifacts.FEATURES, artifacts.TOKENIZE, artifacts.FINETUNE)
    if stage.is_complete() and not force:
        logger.info("eval: up to date")
        return stage.folder
    seed_everything(config.seed)
    data = inputs.read_prepared(workdir)
    asked = scoring.read_asked(config, data)
    with stage.writing(force) as folder:
        field = all_retrievers(config, data)
        spent = reporting.costs(config)  # before the long part: it may refuse
        combined = combine(config, data, field)
        lists, other = _recommend(config, data, field, asked, combined)
        spent |= reporting.costs_of_blends(config, spent, {name: of for name, (of, _) in combined.blends.items()})
        logger.info("eval: scoring the lists")
        metrics = scoring.score(lists, other, asked, data, config)
        metrics |= {"efficiency": spent, "tuning": field.tuning, "left_out": field.left_out, "blends": combined.told}
        sample = np.unique(np.linspace(0, len(asked.users) - 1, SAMPLE).round().astype(int))
        generative = field.retrievers[Generative.name]
        if isinstance(generative, Generative):
            rate = generative.invalid_rate([asked.histories[user] for user in sample], scoring.HEADLINE)
            metrics["retrievers"][Generative.name][f"invalid_sid_rate@{scoring.HEADLINE}"] = rate
        artifacts.write_json(folder / "metrics.json", metrics)
        artifacts.write_table(folder / "recommendations.parquet", _long_table(lists, asked, data))
        artifacts.write_json(folder / "examples.json", examples(lists, asked, data, config.eval.examples))
        logger.info("eval: trying approximate search and writing the report")
        search = _dense_search(config, field, asked, sample)
        artifacts.write_json(folder / "dense_search.json", search)  # times: not in metrics.json, which repeats exactly
        html, markdown = render_report(reporting.payload(config, folder, stage.spent()))
        write_text(folder / "report.html", html)
        write_text(folder / "report.md", markdown)
    return stage.folder


def refuse_damaged(config: RunConfig) -> None:
    """Check what the stage reads but for the baselines, which are trained before it: hours, perhaps.

    Raises:
        PlumError: if it is missing, damaged or of different origins.
    """
    StageRun(config.workdir, artifacts.EVAL, {}, config.seed, _of_the_others(config))


def _inputs(config: RunConfig) -> list[str]:
    """The files of the run that the stage reads."""
    baselines = [f"{kind}/{name}" for kind in _read_baselines(config) for name in _of_baseline(kind)]
    return [*_of_the_others(config), *baselines, *_trials(config)]


def _of_the_others(config: RunConfig) -> list[str]:
    """The files that the stage reads of all stages but the baselines."""
    workdir = config.workdir
    vectors = [f"{artifacts.FEATURES}/{name}.npy" for name in inputs.read_modalities(workdir)]
    return [
        *INPUTS,
        *inputs.known_files(workdir),
        *vectors,
        *(name for name in (artifacts.TRUTH, artifacts.USERS) if has_file(workdir, name)),
    ]


def _read_baselines(config: RunConfig) -> list[str]:
    """The baselines that are scored, and dense where plum is built on it, since its cost is then plum's too."""
    built = inputs.is_built_on_dense(config.workdir) and artifacts.DENSE not in config.eval.baselines
    return [*config.eval.baselines, *([artifacts.DENSE] if built else [])]


def _trials(config: RunConfig) -> list[str]:
    """The weights of the dense baseline's trials, if their mean is scored."""
    if not (config.eval.wants(MeanDense.name) and inputs.has_mean_of_trials(config)):
        return []
    if not inputs.is_taught_by_trials(config.workdir):
        kept = [artifacts.TRIAL_WEIGHTS.format(number=number) for number in range(config.eval.dense.n_kept)]
        return [f"{artifacts.DENSE}/{name}" for name in kept]
    trials = f"{artifacts.DENSE}/{Path(artifacts.TRIAL_WEIGHTS).parent}/"
    return [name for name in read_manifest(config.workdir / artifacts.FINETUNE).inputs if name.startswith(trials)]


def _of_baseline(kind: str) -> tuple[str, ...]:
    return f"{kind}.safetensors", "metrics.json", artifacts.TRIALS


def _recommend(
    config: RunConfig, data: inputs.Prepared, field: Field, asked: scoring.Asked, combined: Combined
) -> tuple[dict[str, Recommendations], dict[str, Recommendations]]:
    """Lists of all retrievers under the headline's rule on seen items, and under the other rule."""
    k = max(config.eval.cutoffs)
    views = []
    for filtered in (config.eval.filter_seen, not config.eval.filter_seen):
        seen, rule = asked.histories if filtered else None, "filtered" if filtered else "kept"
        found: dict[str, Recommendations] = {}
        named = [
            (name, retriever)
            for name, retriever in field.retrievers.items()
            # The optimum knows that no one has an item twice: it has no list with seen items in it.
            if name != BayesOptimal.name or filtered == config.eval.filter_seen
        ]
        for name, retriever in track(named, f"retrievers, seen items {rule}", after=0.0, alike=False):
            logger.info("eval: %s recommends to %s users, seen items %s", name, f"{len(asked.users):,}", rule)
            found[name] = lists_of(name, retriever, asked.histories, max(k, combined.depths.get(name, k)), seen)
        lists = {name: first(one, k) for name, one in found.items()} | combined.lists(found, len(data.items), k)
        views.append({name: lists[name] for name in in_order(lists)})
    return views[0], views[1]


def _dense_search(config: RunConfig, field: Field, asked: scoring.Asked, sample: np.ndarray) -> list[dict[str, Any]]:
    """What approximate search would cost and miss over the dense baseline's vectors."""
    dense = field.retrievers.get(artifacts.DENSE)
    if not isinstance(dense, Dense) or len(dense.item_vectors()) > LARGEST_SEARCHED:
        return []
    histories = [asked.histories[user] for user in sample]
    seen = dense.placed(histories) if config.eval.filter_seen else None
    return search_report(dense.item_vectors(), dense.vectors(histories), scoring.HEADLINE, seen)


def examples(
    lists: Mapping[str, Recommendations], asked: scoring.Asked, data: inputs.Prepared, n: int, shown: int = 5
) -> list[dict[str, Any]]:
    """``n`` users spread evenly over the test users, so that nobody picked them; history, target, lists as titles."""
    titles = reporting.item_titles(data.items)
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


def _long_table(lists: Mapping[str, Recommendations], asked: scoring.Asked, data: inputs.Prepared) -> pd.DataFrame:
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
