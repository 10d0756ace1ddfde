"""Everything the report of a run shows, gathered from the folders of the run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from plum.config.run import RunConfig
from plum.errors import PlumError
from plum.retrievers.dense import MeanDense
from plum.retrievers.generative import Generative
from plum.retrievers.hybrid import Hybrid
from plum.run import artifacts
from plum.run.stage import read_manifest
from plum.sid.quality import tree
from plum.stages import inputs
from plum.stages.eval.field import ABOUT

LARGEST = 8
"""First-level codes that the report shows with their items."""
SHOWN_ITEMS = 4
SPENT = ("examples", "tokens", "flops")
"""What several trainings cost together."""


def payload(
    config: RunConfig,
    metrics: Mapping[str, Any],
    shown: Sequence[Mapping[str, Any]],
    search: Sequence[Mapping[str, Any]],
    spent: Mapping[str, float],
) -> dict[str, Any]:
    """The argument of ``plum.report.page.render_report``.

    Args:
        config: of the run.
        metrics: the content of ``eval/metrics.json``.
        shown: the content of ``eval/examples.json``.
        search: the content of ``eval/dense_search.json``.
        spent: by eval itself so far; see ``StageRun.spent``.
    """
    workdir = config.workdir
    summary = artifacts.read_json(workdir / artifacts.DATA_SUMMARY)
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
        "retriever_about": {name: _about(name, config.workdir) for name in metrics["retrievers"]}
        | {name: f"Left out: {reason}." for name, reason in metrics["left_out"].items()},
        "data": _data(summary, metrics["n_users"]),
        "quality": artifacts.read_json(workdir / artifacts.QUALITY),
        "levels2": _first_level(config),
        "curves": {stage: entries for stage, entries in logs.items() if entries},
        "examples": list(shown),
        "dense_search": list(search),
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


def costs(config: RunConfig) -> dict[str, dict[str, int]]:
    """What the training of each retriever cost; see ``plum.training.cost.Cost``.

    plum's tokens and FLOPs are those of both trainings of the language model; its examples and epochs are fine-tuning's
    alone, though pre-training passes over the same histories. The hybrid's are those of its parts. A baseline's are
    those of the trial that was chosen; of a run in which plum is built on dense, dense's examples, tokens and FLOPs are
    plum's too, or those of all trials of its search if all of them taught. The mean of these costs what all of them do.
    """
    trained = config.eval.baselines
    result = {kind: artifacts.read_json(config.workdir / kind / "metrics.json")["cost"] for kind in trained}
    before = artifacts.read_json(config.workdir / artifacts.CPT_METRICS)["cost"]
    after = artifacts.read_json(config.workdir / artifacts.FINETUNE_METRICS)["cost"]
    # Read again below: a run built on dense may be scored without it.
    below = _below(config.workdir) if inputs.is_built_on_dense(config.workdir) else []
    own = after | {name: before[name] + after[name] for name in ("tokens", "flops")}
    result["plum"] = own | {name: own[name] + sum(cost[name] for cost in below) for name in SPENT}
    if config.eval.wants(MeanDense.name) and inputs.is_taught_by_trials(config.workdir):
        result[MeanDense.name] = {name: sum(cost[name] for cost in below) for name in ("parameters", *SPENT)}
    if config.eval.wants(Hybrid.name):
        dense = result[artifacts.DENSE]
        result[Hybrid.name] = {"parameters": own["parameters"] + dense["parameters"]} | {
            name: result["plum"][name] + (0 if below else dense[name])  # counted in plum's already
            for name in SPENT
        }
    return result


def _below(workdir: Path) -> list[dict[str, int]]:
    """What the training of each dense baseline cost that plum learnt from.

    Raises:
        PlumError: trials of an earlier version, which did not record it.
    """
    if inputs.is_taught_by_trials(workdir):
        trials = artifacts.read_json(workdir / artifacts.DENSE_TRIALS)
        if any("cost" not in trial for trial in trials):
            raise PlumError(
                f"{workdir / artifacts.DENSE_TRIALS} does not tell what each trial cost",
                "it was written by an earlier version of plum",
                f"run `plum run --workdir {workdir}`, which trains anew what is out of date",
            )
        return [trial["cost"] for trial in trials]
    return [artifacts.read_json(workdir / artifacts.DENSE / "metrics.json")["cost"]]


def _of_finetune(workdir: Path) -> dict[str, Any]:
    """The settings that fine-tuning was made with."""
    return read_manifest(workdir / artifacts.FINETUNE).config


def _about(name: str, workdir: Path) -> str:
    """What a retriever is, in words; of plum as it was made, whatever the settings are now."""
    if name != Generative.name:
        return ABOUT[name]
    told, made = ABOUT[name], _of_finetune(workdir)
    by_trials = inputs.is_taught_by_trials(workdir)
    if inputs.is_made_of(workdir, artifacts.FEATURES, artifacts.DENSE):
        told += " Its Semantic IDs are made of dense's item vectors, too."
    if inputs.is_made_of(workdir, artifacts.FINETUNE, artifacts.DENSE):
        expected = "all trials of dense's search expect together" if by_trials else "dense expects"
        told += f" Of its labels in fine-tuning a share of {made['teacher_weight']:g} is what {expected}."
    if inputs.is_built_on_dense(workdir):
        counted = "the training of all these trials" if by_trials else "dense's training"
        told += f" So the two are no independent systems, and {counted} counts among plum's examples, tokens and FLOPs."
    return told


def _data(summary: Mapping[str, Any], n_asked: int) -> dict[str, Any]:
    split, ties = summary["split"], summary["ties"]
    return {
        "users": split["users"],
        "items": summary["items"],
        "training interactions": split["train"],
        "validation interactions": split["valid"],
        "test interactions": split["test"],
        "test interactions with an item that training lacks": split["test_cold"],
        "interactions tied in time": "unknown: no times" if summary["timestamps_are_positions"] else ties["tied"],
        "users whose test item a tie decides": (
            "unknown: no times" if summary["timestamps_are_positions"] else ties["users_test_tied"]
        ),
        "users without a test interaction": split["users_without_test"],
        "users with one and no history before it, who can't be asked": (
            split["users"] - split["users_without_test"] - n_asked
        ),
        "test users with targets from their history alone": summary["test_users_with_seen_targets_only"],
        "rows that could not be used": sum(problem["count"] for problem in summary["unusable_rows"]),
    }


def _first_level(config: RunConfig) -> dict[str, Any]:
    """How items spread over the first level's codes, and what the largest of these hold: their most popular items."""
    data = inputs.read_prepared(config.workdir)
    table = inputs.read_sid_table(config.workdir, data.items)
    first = table.codes[:, 0]
    counts = np.bincount(first, minlength=table.sizes[0])
    titles = data.items["title"].fillna(data.items["item_id"]).to_numpy(dtype=object)
    topics = data.items["topics"].to_numpy(dtype=object)
    top = []
    for code in np.argsort(-counts, kind="stable")[:LARGEST]:
        members = np.flatnonzero(first == code)
        members = members[np.argsort(-data.popularity[members], kind="stable")]
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
