"""Reading evaluated runs for a comparison: their recommendations, and whether they can be compared."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from plum.errors import PlumError
from plum.evaluation.lists import by_retriever, read_lists, read_recommendations
from plum.evaluation.metrics import per_user_metrics
from plum.evaluation.rankings import NO_ITEM
from plum.report.wording import as_number, is_accuracy
from plum.run import artifacts, shapes
from plum.run.folders import is_complete
from plum.run.lineage import ancestry, refuse_mixed
from plum.run.manifest import Manifest, read_manifest, settings_of
from plum.run.verified import verify
from plum.stages import inputs

TOLERANCE = 1e-9
LONGEST = 1000
"""Cutoff up to which a run's lists may be longer than its catalogue; a longer one is a damaged number."""
# Settings of eval that change the report but not the recommendations. `cutoffs` is not among them: lists are as long as
# the largest cutoff, and a retriever may rank other items first in longer lists.
_REPORTING = ("title", "examples", "resamples", "cold_below")


@dataclass(frozen=True)
class EvaluatedRun:
    """An evaluated run with its recommendations.

    Attributes:
        name: of the run.
        given: whether the user gave the name.
        folder: of the run.
        seed: of the run.
        made_by: the versions of plum and torch that made its stages, in words.
        pipeline: stage -> configuration, and the seeds of stages made with another one.
        split_seed, ties: the tie-breaking of interactions of one second.
        protocol: of ``metrics.json``.
        cutoff: the largest one (K).
        synthetic: whether the data are synthetic.
        item_ids: (N,) of the catalogue.
        split: split.parquet, user_id, item_id, position and part.
        users: (U,) ids of the test users, sorted.
        histories, targets: U arrays of rows of the catalogue.
        lists: retriever -> int64 (U, K), rows of the catalogue.
    """

    name: str
    given: bool
    folder: Path
    seed: int
    made_by: str
    pipeline: dict[str, Any]
    split_seed: int
    ties: str
    protocol: dict[str, Any]
    cutoff: int
    synthetic: bool
    item_ids: np.ndarray
    split: pd.DataFrame
    users: np.ndarray
    histories: list[np.ndarray]
    targets: list[np.ndarray]
    lists: dict[str, np.ndarray]

    def lists_of(self, other: EvaluatedRun) -> dict[str, np.ndarray]:
        """The lists of a run with the same catalogue and users, as rows of this run's catalogue."""
        rows = np.append(pd.Index(self.item_ids).get_indexer(other.item_ids), NO_ITEM).astype(np.int64)
        return {name: rows[items] for name, items in other.lists.items()}  # row -1 (NO_ITEM) is the entry appended


def read_run(folder: Path, name: str | None) -> EvaluatedRun:
    """Read a run and check its metrics against its recommendations.

    Args:
        folder: of the run.
        name: of the run in the comparison; None for the folder's name.

    Raises:
        PlumError: not a run, not evaluated, evaluated on another split than its current one, without test users, or
            with metrics that don't agree with its recommendations.
    """
    manifests = _manifests(folder)
    data = inputs.read_prepared(folder, ("item_id",))
    asked, histories, targets = data.histories.questions("test")
    if not len(asked):
        raise PlumError(f"{folder} has no test user", None, "compare runs with test users")
    metrics = _metrics_of(folder)
    cutoffs = _cutoffs_of(folder, metrics, len(data.items))
    users, item_ids = data.histories.user_ids[asked], data.items["item_id"].to_numpy(dtype=object)
    own, made = manifests[artifacts.EVAL], manifests[artifacts.DATA]
    split = settings_of(folder / artifacts.DATA, shapes.MadeByAnyPrepare).get("split") or {}
    pipeline: dict[str, Any] = {stage: dict(manifest.config) for stage, manifest in manifests.items()}
    pipeline[artifacts.EVAL] = {key: v for key, v in own.config.items() if key not in _REPORTING}
    pipeline["seeds"] = {stage: m.seed for stage, m in manifests.items() if m.seed != own.seed}
    summary = folder / artifacts.DATA_SUMMARY
    run = EvaluatedRun(
        name=name or folder.resolve().name,
        given=name is not None,
        folder=folder,
        seed=own.seed,
        made_by=_made_by(manifests),
        pipeline=json.loads(json.dumps(pipeline, default=str)),
        split_seed=made.seed if split.get("seed") is None else split["seed"],
        ties=str(split.get("ties")),
        protocol=metrics["protocol"],
        cutoff=max(cutoffs, default=0),
        synthetic=bool(artifacts.read_json(summary, shapes.Origin).get("synthetic")) if summary.exists() else False,
        item_ids=item_ids,
        split=artifacts.read_table(folder / artifacts.SPLIT, ["user_id", "item_id", "position", "part"]),
        users=users,
        histories=histories,
        targets=targets,
        lists=_lists_of(folder, list(metrics["retrievers"]), users, item_ids, max(cutoffs, default=1)),
    )
    if run.protocol.get("seed", run.seed) != run.seed:
        raise _damaged(folder, f"seed {run.protocol['seed']} in metrics.json, {run.seed} in the manifest")
    _verify(run, metrics["retrievers"], sorted(cutoffs))
    return run


def _metrics_of(folder: Path) -> dict[str, Any]:
    """The content of a run's ``metrics.json``."""
    metrics = artifacts.read_json(folder / artifacts.EVAL_METRICS)
    if not (isinstance(metrics, dict) and isinstance(metrics.get("retrievers"), dict) and metrics.get("protocol")):
        raise _damaged(folder, "metrics.json lacks `retrievers` or `protocol`")
    if not isinstance(metrics["protocol"], dict):
        raise _damaged(folder, f"the protocol in metrics.json is {str(metrics['protocol'])[:60]!r}")
    if odd := [name for name, values in metrics["retrievers"].items() if not isinstance(values, dict)]:
        raise _damaged(folder, f"metrics.json has no metrics of {', '.join(odd)}")
    return metrics


def _cutoffs_of(folder: Path, metrics: Mapping[str, Any], n_items: int) -> set[int]:
    """The cutoffs of the accuracy metrics; lists take memory by the largest."""
    found = {int(m.partition("@")[2]) for values in metrics["retrievers"].values() for m in filter(is_accuracy, values)}
    if odd := [k for k in found if not 1 <= k <= max(LONGEST, n_items)]:
        raise _damaged(folder, f"metrics.json has metrics at cutoff {max(odd):,}; the catalogue has {n_items:,} items")
    return found


def _made_by(manifests: Mapping[str, Manifest]) -> str:
    """All versions of plum and torch that made a stage."""
    found = {
        name: sorted({manifest.versions.get(name, "unknown") for manifest in manifests.values()})
        for name in ("plum", "torch")
    }
    return ", ".join(f"{name} {' and '.join(versions)}" for name, versions in found.items())


def _manifests(folder: Path) -> dict[str, Manifest]:
    """The manifests of all stages of a run; checks that it is evaluated on its current split."""
    if not folder.is_dir():
        raise PlumError(f"no run in {folder}", None, "name the folder of a run, such as runs/ml-100k")
    for stage in (artifacts.DATA, artifacts.EVAL):
        if not is_complete(folder / stage):
            raise PlumError(
                f"{folder} has no {stage}/, so there is nothing to compare",
                None,
                f"run `{artifacts.COMMANDS[stage]} --workdir {folder}` first",
            )
    present = [stage for stage in artifacts.COMMANDS if is_complete(folder / stage)]
    manifests = {stage: read_manifest(folder / stage) for stage in present}
    # The lists are those of the models that eval read: a stage that has run alone since has other results.
    refuse_mixed(folder, ancestry(folder, artifacts.EVAL), f"run `plum run --workdir {folder}` again")
    return manifests


def _lists_of(
    folder: Path, retrievers: Sequence[str], users: np.ndarray, item_ids: np.ndarray, k: int
) -> dict[str, np.ndarray]:
    """The lists (U, K) of a run's retrievers; one that recommended nothing has no row in the file."""
    path = folder / artifacts.RECOMMENDATIONS
    verify(path)
    tables = by_retriever(read_recommendations(path)[0], str(path))
    if unknown := [name for name in tables if name not in retrievers]:
        raise _damaged(folder, f"recommendations of {', '.join(unknown)}, which metrics.json lacks")
    empty = np.full((len(users), k), NO_ITEM, dtype=np.int64)
    return {name: read_lists(tables[name], users, item_ids, k)[0] if name in tables else empty for name in retrievers}


def _verify(run: EvaluatedRun, stored: Mapping[str, Mapping[str, Any]], cutoffs: Sequence[int]) -> None:
    """Refuse a run whose metrics don't agree with its recommendations."""
    for name, items in run.lists.items():
        per_user = per_user_metrics(items, run.targets, cutoffs)
        for metric in filter(is_accuracy, stored[name]):
            told, found = as_number(stored[name][metric]), float(per_user[metric].mean())
            if told is None or abs(told - found) > TOLERANCE:
                raise _damaged(run.folder, f"{metric} of {name} is {told} in metrics.json and {found} by the lists")


def _damaged(folder: Path, found: str) -> PlumError:
    what = f"{folder}: eval/metrics.json and eval/recommendations.parquet do not belong together"
    return PlumError(
        what,
        found,
        f"one was changed or damaged: remove {folder / artifacts.EVAL}, then run `plum eval --workdir {folder}`",
    )


def refuse_differences(runs: Sequence[EvaluatedRun]) -> None:
    """Refuse runs with different catalogues, splits or protocols.

    Raises:
        PlumError: if they differ; the message names every run and all its differences from the first one.
    """
    first = runs[0]
    found, tied = [], False
    for run in runs[1:]:
        pair = f"{first.folder} and {run.folder}"
        splits = _split_differences(first, run)
        tied |= bool(splits) and first.split_seed != run.split_seed and "shuffle" in (first.ties, run.ties)
        found += [f"{pair}: {line}" for line in (*_catalogue_differences(first, run), *splits)]
        for key in ("split", "seen"):
            a, b = first.protocol.get(key), run.protocol.get(key)
            if a != b:
                what = "the protocol is" if key == "split" else "seen items are"
                found.append(f"{pair}: {what} {a} in the first, {b} in the second")
    if found:
        seeds = "; data.split.seed breaks ties between interactions of one second unless data.split.ties is keep"
        raise PlumError(
            "these runs can't be compared: their data or protocols differ",
            "\n         ".join(found),
            f"make them from the same data with the same data.split and eval.filter_seen{seeds if tied else ''}",
        )


def _catalogue_differences(a: EvaluatedRun, b: EvaluatedRun) -> list[str]:
    """Items that only one of two catalogues has, regardless of order."""
    ids = [pd.Index(run.item_ids) for run in (a, b)]
    lines = []
    for there, other, place in ((ids[0], ids[1], "first"), (ids[1], ids[0], "second")):
        only = there[other.get_indexer(there) < 0]
        if len(only):
            lines.append(f"{len(only):,} items are only in the catalogue of the {place}, for example {only[0]!r}")
    return lines


def _split_differences(a: EvaluatedRun, b: EvaluatedRun) -> list[str]:
    """Parts of the split that differ in items or their order, and the number of users."""
    columns = ["user_id", "item_id", "part"]
    counts = [run.split.groupby(columns, observed=True).size() for run in (a, b)]
    difference = counts[0].sub(counts[1], fill_value=0)
    changed = difference[difference != 0].index.to_frame(index=False)
    lines = []
    for part, what in (("test", "test targets"), ("valid", "validation items"), ("train", "training items")):
        users = np.sort(changed["user_id"][changed["part"] == part].unique())
        if len(users):
            lines.append(f"{what} differ for {len(users):,} users, for example {str(users[0])!r}")
        if part != "test" and len(moved := _moved(a.split, b.split, part, users)):  # targets have no order
            lines.append(f"the order of {what} differs for {len(moved):,} users, for example {str(moved[0])!r}")
    return lines


def _moved(a: pd.DataFrame, b: pd.DataFrame, part: str, changed: np.ndarray) -> np.ndarray:
    """Users outside ``changed``, sorted, with the same items in a part of two splits but in another order."""
    rows = []
    for split in (a, b):
        same = split[(split["part"] == part) & ~split["user_id"].isin(changed)]
        users, items = (same[column].to_numpy(dtype=str) for column in ("user_id", "item_id"))
        order = np.lexsort((same["position"].to_numpy(), users))
        rows.append((users[order], items[order]))
    (users, ours), (_, theirs) = rows  # as many rows of each user in both
    return np.unique(users[ours != theirs])


def refuse_short_lists(runs: Sequence[EvaluatedRun], k: int) -> None:
    """Refuse a cutoff beyond the lists of some run.

    Raises:
        PlumError: naming these runs.
    """
    short = [f"{run.folder} reaches {run.cutoff}" for run in runs if run.cutoff < k]
    if short:
        fix = f"ask for smaller cutoffs, or run `plum eval` with a cutoff of {k} in eval.cutoffs"
        raise PlumError(f"lists are too short for a cutoff of {k}", "; ".join(short), fix)
