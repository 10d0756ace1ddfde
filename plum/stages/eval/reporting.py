"""Everything the report of a run shows, gathered from the folders of the run."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from plum.config.blends import HYBRID
from plum.config.run import RunConfig
from plum.errors import PlumError
from plum.retrievers.dense import MeanDense
from plum.retrievers.generative import Generative
from plum.run import artifacts, shapes
from plum.run.manifest import read_manifest, settings_of
from plum.sid.quality import tree
from plum.stages import inputs
from plum.stages.eval import picture_data
from plum.stages.eval.field import ABOUT

LARGEST = 8
"""First-level codes that the report shows with their items."""
SHOWN_ITEMS = 4
SPENT = ("examples", "tokens", "flops")
"""What several trainings cost together."""


def payload(config: RunConfig, folder: Path, spent: Mapping[str, float]) -> dict[str, Any]:
    """The argument of ``plum.report.page.render_report``.

    Args:
        config: of the run.
        folder: where ``metrics.json``, ``recommendations.parquet``, ``examples.json`` and ``dense_search.json`` of eval
            lie.
        spent: by eval itself so far; see ``StageRun.spent``.
    """
    workdir = config.workdir
    metrics = artifacts.read_json(folder / "metrics.json")
    summary = artifacts.read_json(workdir / artifacts.DATA_SUMMARY, shapes.Summary)
    data = inputs.read_prepared(workdir)
    times = _times(workdir, summary)
    stages = [stage for stage in artifacts.COMMANDS if stage != artifacts.EVAL]
    manifests = {
        stage: read_manifest(workdir / stage)
        for stage in stages
        if stage not in (artifacts.DENSE, artifacts.LEM) or stage in config.eval.baselines
    }
    logs = {stage: artifacts.read_log(workdir / stage / "train_log.jsonl") for stage in manifests}
    written = artifacts.config_path(workdir)
    return {
        **metrics,
        "title": config.title,
        "synthetic": summary["synthetic"],
        "retriever_about": {name: _about(name, config.workdir, metrics["blends"]) for name in metrics["retrievers"]}
        | {name: _left_out(reason) for name, reason in metrics["left_out"].items()},
        "built_on": _teacher(workdir),
        "taught_by_trials": inputs.is_taught_by_trials(workdir),
        **_pictured(config, data, times, folder, metrics["protocol"]["split"] == "temporal"),
        "data": _data(summary, metrics["n_users"], times),
        "quality": artifacts.read_json(workdir / artifacts.QUALITY, shapes.Quality),
        "codes": _codes(workdir, data),
        "learnt": artifacts.read_json(workdir / artifacts.CPT_METRICS, shapes.PreTrained).get("learnt", {}),
        "curves": {stage: entries for stage, entries in logs.items() if entries},
        "examples": artifacts.read_json(folder / "examples.json"),
        "dense_search": artifacts.read_json(folder / "dense_search.json"),
        "reproduce": [f"plum run --config {written}"],
        "config": written.read_text(encoding="utf-8") if written.exists() else "",
        "inputs": {
            name.removeprefix("source/"): digest
            for name, digest in manifests[artifacts.DATA].inputs.items()
            if name.startswith("source/")
        },
        "versions": manifests[artifacts.FINETUNE].versions,
        "timings": {
            stage: {"seconds": manifest.duration_s, "peak_mib": manifest.peak_memory_mib}
            for stage, manifest in manifests.items()
        }
        | {"eval, until this page": {"seconds": spent["duration_s"], "peak_mib": spent["peak_memory_mib"]}},
    }


def item_titles(items: pd.DataFrame) -> np.ndarray:
    """What readers call the items (N,): the title, with the id beside it where several items have it, or the id alone.

    Args:
        items: items.parquet.
    """
    ids, titles = items["item_id"].astype(str), items["title"]
    repeated = titles.duplicated(keep=False) & titles.notna()
    named = titles.where(~repeated, titles.astype(str) + " (" + ids + ")")
    return named.where(titles.notna(), ids).to_numpy(dtype=object)


def _pictured(
    config: RunConfig, data: inputs.Prepared, times: np.ndarray | None, folder: Path, temporal: bool
) -> dict[str, Any]:
    """What the pictures of the data and of the lists show."""
    _, histories, targets = data.histories.questions("test")
    parts = artifacts.read_table(config.workdir / artifacts.SPLIT, ["part"])["part"].to_numpy(dtype=str)
    lists = picture_data.recommended(folder / "recommendations.parquet", data.items["item_id"])
    return {
        "popularity": picture_data.popularity(data.popularity),
        "history_lengths": picture_data.history_lengths(histories, _of_finetune(config.workdir).get("max_history")),
        "timeline": {} if times is None else picture_data.timeline(times, parts, temporal),
        "exposure": picture_data.exposure(lists, targets, data.popularity, config.eval.cold_below),
    }


def _times(workdir: Path, summary: Mapping[str, Any]) -> np.ndarray | None:
    """Seconds since 1970 of all interactions (E,), in the order of the log; None if the source has no times."""
    if summary["timestamps_are_positions"]:
        return None
    return artifacts.read_table(workdir / artifacts.INTERACTIONS, ["timestamp"])["timestamp"].to_numpy()


def costs(config: RunConfig) -> dict[str, dict[str, int]]:
    """What the training of each retriever cost; see ``plum.training.cost.Cost``.

    plum's tokens and FLOPs are those of both trainings of the language model; its examples and epochs are fine-tuning's
    alone, though pre-training passes over the same histories. The hybrid's are those of its parts. A baseline's are
    those of the trial that was chosen; of a run in which plum is built on dense, dense's examples, tokens and FLOPs are
    plum's too, or those of all trials of its search if all of them taught. The mean of these costs what all of them do.
    """
    trained = config.eval.baselines
    result = {kind: _cost_of(config.workdir / kind / "metrics.json") for kind in trained}
    before = _cost_of(config.workdir / artifacts.CPT_METRICS)
    after = _cost_of(config.workdir / artifacts.FINETUNE_METRICS)
    # Read again below: a run built on dense may be scored without it.
    below = _below(config.workdir) if inputs.is_built_on_dense(config.workdir) else []
    own = after | {name: before[name] + after[name] for name in ("tokens", "flops")}
    result["plum"] = own | {name: own[name] + sum(cost[name] for cost in below) for name in SPENT}
    if config.eval.wants(MeanDense.name) and inputs.has_mean_of_trials(config):
        trials = _trial_costs(config.workdir)
        result[MeanDense.name] = {name: sum(cost[name] for cost in trials) for name in ("parameters", *SPENT)}
    if config.eval.wants(HYBRID):
        dense = result[artifacts.DENSE]
        result[HYBRID] = {"parameters": own["parameters"] + dense["parameters"]} | {
            name: result["plum"][name] + (0 if below else dense[name])  # counted in plum's already
            for name in SPENT
        }
    return result


def costs_of_blends(
    config: RunConfig, costs: Mapping[str, Mapping[str, int]], blends: Mapping[str, Sequence[str]]
) -> dict[str, dict[str, int]]:
    """What the training of the parts of each blend cost together; what is in another part's figure counts once.

    Args:
        config: of the run.
        costs: of all retrievers that are trained.
        blends: the parts of each, by name. A blend without a trained part costs nothing.
    """
    result = {}
    for name, parts in blends.items():
        trained = [part for part in parts if part in costs]
        in_mean = {artifacts.DENSE} if MeanDense.name in trained else set()
        in_plum: set[str] = set()
        if Generative.name in trained and inputs.is_built_on_dense(config.workdir):
            in_plum = {artifacts.DENSE, *([MeanDense.name] if inputs.is_taught_by_trials(config.workdir) else [])}
        if trained:
            models = [part for part in trained if part not in in_mean]
            counted = [part for part in models if part not in in_plum]
            twice = in_mean & in_plum if MeanDense.name in counted else set()
            result[name] = {"parameters": sum(costs[part]["parameters"] for part in models)} | {
                spent: sum(costs[p][spent] for p in counted) - sum(costs[p][spent] for p in twice) for spent in SPENT
            }
    return result


def _below(workdir: Path) -> list[dict[str, int]]:
    """What the training of each dense baseline cost that plum learnt from."""
    if inputs.is_taught_by_trials(workdir):
        return _trial_costs(workdir)
    return [_cost_of(workdir / artifacts.DENSE / "metrics.json")]


def _trial_costs(workdir: Path) -> list[dict[str, int]]:
    """What each trial of the dense baseline's search cost.

    Raises:
        PlumError: trials of an earlier version, which did not record it.
    """
    trials = artifacts.read_json(workdir / artifacts.DENSE_TRIALS, list[shapes.Trial])
    if any(trial.get("cost") is None for trial in trials):
        raise PlumError(
            f"{workdir / artifacts.DENSE_TRIALS} has no training cost per trial",
            "it was written by an earlier version of plum",
            f"run `plum run --workdir {workdir}`, which trains again what is out of date",
        )
    return [trial["cost"] for trial in trials]


def _cost_of(path: Path) -> dict[str, int]:
    """The cost of a training that its ``metrics.json`` records."""
    return dict(artifacts.read_json(path, shapes.Trained)["cost"])


def _of_finetune(workdir: Path) -> dict[str, Any]:
    """The settings that fine-tuning was made with."""
    return settings_of(workdir / artifacts.FINETUNE, shapes.MadeByFinetune)


def _about(name: str, workdir: Path, blends: Mapping[str, Any]) -> str:
    """What a retriever is, in words; of plum as it was made, whatever the settings are now."""
    if name in blends:
        told = ", ".join(f"{part} {values['weight']:.3f}" for part, values in blends[name]["parts"].items())
        return f"{ABOUT.get(name, 'Other retrievers, blended: weights learnt on validation users.')} They are: {told}."
    if name == MeanDense.name and inputs.is_taught_by_trials(workdir):
        return f"{ABOUT[name]} They are plum's teachers."
    if name != Generative.name:
        return ABOUT[name]
    told, made = ABOUT[name], _of_finetune(workdir)
    by_trials = inputs.is_taught_by_trials(workdir)
    if inputs.is_made_of(workdir, artifacts.FEATURES, artifacts.DENSE):
        told += " Its Semantic IDs are made from dense's item vectors, too."
    if inputs.is_made_of(workdir, artifacts.FINETUNE, artifacts.DENSE):
        teachers = "all trials of dense's search" if by_trials else "dense"
        told += f" Fine-tuning distils {teachers}, with a weight of {made['teacher_weight']:g} in every label."
    if inputs.is_built_on_dense(workdir):
        counted = "the training of all these trials" if by_trials else "dense's training"
        told += f" The two are not independent systems: plum's examples, tokens and FLOPs include {counted}."
    return told


def _teacher(workdir: Path) -> str:
    """What plum learnt from, if from dense; empty where it learnt from the data alone."""
    if not inputs.is_built_on_dense(workdir):
        return ""
    return "all trials of dense's search" if _of_finetune(workdir).get("teacher") == "trials" else artifacts.DENSE


def _left_out(reason: str) -> str:
    """Why a retriever is not in this run, as a sentence."""
    setting = re.fullmatch(r"not asked for \((.*)\)", reason)
    return f"Not in this run: {setting[1]} leaves it out." if setting else f"Not in this run: {reason}."


def _data(summary: Mapping[str, Any], n_asked: int, times: np.ndarray | None) -> dict[str, Any]:
    """Counts of the data; what needs times is unknown without them."""
    split, ties = summary["split"], summary["ties"]
    days = (
        []
        if times is None
        else [datetime.fromtimestamp(int(t), timezone.utc).date() for t in (times.min(), times.max())]
    )
    return {
        "users": split["users"],
        "items": summary["items"],
        **_known(summary.get("known_items")),
        "interactions": split["interactions"],
        "train": split["train"],
        "valid": split["valid"],
        "test": split["test"],
        **{name: day.isoformat() for name, day in zip(("first", "last"), days, strict=False)},
        "cold_test": split["test_cold"],
        "tied": "unknown: no times" if times is None else ties["tied"],
        "tied_targets": "unknown: no times" if times is None else ties["users_test_tied"],
        "users_without_test": split["users_without_test"],
        "users_without_history": split["users"] - split["users_without_test"] - n_asked,
        "seen_targets_only": summary["test_users_with_seen_targets_only"],
        "unusable_rows": sum(problem["count"] for problem in summary["unusable_rows"]),
        "filtered_rows": sum(problem["count"] for problem in summary.get("filtered_rows", [])),
    }


def _known(counts: Mapping[str, Any] | None) -> dict[str, Any]:
    """Items that nothing was learnt from, under the temporal protocol."""
    if counts is None:
        return {}
    told = f"{counts['first_later'] + counts['never']:,} ({counts['later_share']:.1%})"
    return {"later_items": told, "never_items": counts["never"]}


def _codes(workdir: Path, data: inputs.Prepared) -> dict[str, Any]:
    """How items spread over the codes, and what the fullest codes of the first level hold: their most popular items."""
    table = inputs.read_sid_table(workdir, data.items)
    first = table.codes[:, 0]
    counts = np.bincount(first, minlength=table.sizes[0])
    titles = item_titles(data.items)
    topics = data.items["topics"].to_numpy(dtype=object)
    popular = data.popularity
    top = []
    for code in np.argsort(-counts, kind="stable")[:LARGEST]:
        members = np.flatnonzero(first == code)
        members = members[np.argsort(-popular[members], kind="stable")]
        top.append(
            {
                "code": int(code),
                "items": int(counts[code]),
                "titles": [str(titles[row]) for row in members[:SHOWN_ITEMS]],
                "topics": _commonest([topics[row] for row in members]),
            }
        )
    later = [np.bincount(table.codes[:, i], minlength=table.sizes[i]).tolist() for i in range(1, table.n_levels)]
    return {"level_0": counts.tolist(), "top": top, "later": later, "tree": tree(table.codes, table.sizes)}


def _commonest(lists: Sequence[Any], n: int = 3) -> list[str]:
    """The topics that most items have."""
    named = [str(topic) for topics in lists if topics is not None for topic in topics]
    names, counts = np.unique(named, return_counts=True) if named else (np.zeros(0), np.zeros(0))
    return [str(names[place]) for place in np.argsort(-counts, kind="stable")[:n]]
