"""`plum compare`: retrievers of several runs, and lists of other systems, on the same users with paired tests."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import takewhile
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from plum.config.dense import WITHOUT_EFFECT
from plum.data.tables import RowProblem
from plum.errors import PlumError
from plum.evaluation.lists import RETRIEVER, Audit, by_retriever, count_seen, read_lists, read_recommendations
from plum.evaluation.metrics import per_user_metrics
from plum.evaluation.rankings import NO_ITEM
from plum.evaluation.seeds import compare_seeds, summarise_seeds
from plum.evaluation.significance import N_RESAMPLES
from plum.report.compare_table import comparison_markdown
from plum.report.sample import few_hits, few_users
from plum.report.wording import BOUND, is_accuracy
from plum.run import artifacts
from plum.run.writing import make_folder, sync_folder, write_errors, write_text
from plum.studies import evaluated
from plum.studies.evaluated import EvaluatedRun

METRICS = ("recall@10", "ndcg@10")
REFERENCE = "plum"
FILES = ("comparison.json", "comparison.md")
_NO_SEED = -1  # for external lists


@dataclass(frozen=True)
class System:
    """One row of the comparison.

    Attributes:
        name: unique.
        retriever: of a run, or the source of external lists.
        runs: names of the S runs.
        seeds: S seeds; none for external lists.
        lists: S arrays (U, K).
        audit: of external lists.
        unreadable: rows of their file that could not be parsed.
        shared: whether the lists are identical in the runs of several systems.
    """

    name: str
    retriever: str
    runs: list[str]
    seeds: list[int]
    lists: list[np.ndarray] = field(repr=False)
    audit: Audit | None = None
    unreadable: Sequence[RowProblem] = ()
    shared: bool = False


def compare_runs(
    runs: Sequence[Path],
    extra: Mapping[str, Path] | None = None,
    metrics: Sequence[str] = METRICS,
    reference: str = REFERENCE,
    names: Sequence[str | None] | None = None,
    n_resamples: int = N_RESAMPLES,
    seed: int = 0,
) -> dict[str, Any]:
    """Compare every retriever of every run, and lists of other systems, with one reference.

    Metrics are computed again from ``eval/recommendations.parquet``. Runs that differ only in the seed are seeds of one
    system, unless they have different names. A retriever with identical lists in all runs is one row. p-values are
    corrected by Holm's method over all tests of all metrics and systems.

    Args:
        runs: folders of evaluated runs, at least one.
        extra: name -> file of ranked lists of another system; several if it has a column ``retriever``.
        metrics: accuracy metrics such as ``recall@10``, the main one first.
        reference: compared with all others: a row's name, or a retriever's for its first row.
        names: of the runs; None for the folder's name.
        n_resamples: of the sign-flip test.
        seed: of the sign-flip test.

    Returns:
        ``protocol``, ``synthetic``, ``n_users``, ``reference``, ``metrics``, ``resamples``; ``runs`` (name, folder,
        seed); ``systems`` (name, retriever, runs, seeds, and ``metrics`` as :func:`summarise_seeds` gives them);
        ``comparisons`` as in :func:`compare_seeds`; ``lists`` (flaws of external lists, in numbers and sentences) and
        ``notes`` for the reader. All values are for JSON.

    Raises:
        PlumError: a run that is not evaluated, was changed afterwards, or has other data or another protocol than the
            first; an invalid metric, reference or file.
    """
    k = max(_cutoffs(metrics))
    read = _read(runs, names, k)
    systems = _systems(read, extra or {}, k)
    chosen = _chosen(systems, reference)
    first = read[0]
    values = _scored(systems, first.targets, metrics)
    seeds = {one.name: one.seeds or [_NO_SEED] for one in systems}
    rivals = {one.name: values[one.name] for one in systems if one.retriever != BOUND or one is chosen}
    comparisons = compare_seeds(rivals, seeds, metrics, chosen.name, n_resamples, seed)
    summaries = summarise_seeds(values, metrics)
    return {
        "protocol": {key: first.protocol.get(key) for key in ("split", "seen", "candidates")},
        "synthetic": first.synthetic,
        "n_users": len(first.users),
        "reference": chosen.name,
        "metrics": list(metrics),
        "resamples": n_resamples,
        "runs": [{"name": run.name, "folder": str(run.folder), "seed": run.seed} for run in read],
        "systems": [_row(one, summaries[one.name]) for one in systems],
        "comparisons": comparisons,
        "lists": {one.name: _told(one, first) for one in systems if one.audit},
        "notes": [
            *_few(len(first.users), summaries, metrics[0]),
            *_notes(read, systems, len(comparisons), n_resamples),
        ],
    }


def named_paths(entries: Sequence[str]) -> tuple[list[Path], list[str | None]]:
    """Split ``NAME=PATH``; there is no name without ``=``, or if the whole entry is an existing path.

    Args:
        entries: of the command line.

    Returns:
        Their paths and names, None for no name.
    """
    paths: list[Path] = []
    names: list[str | None] = []
    for entry in entries:
        name, _, path = entry.partition("=")
        whole = not name or not path or "/" in name or Path(entry).exists()
        paths.append(Path(entry if whole else path))
        names.append(None if whole else name)
    return paths, names


def named_files(entries: Sequence[str]) -> dict[str, Path]:
    """The files of ``--lists NAME=FILE``, by name.

    Raises:
        PlumError: an entry without a name, or a name given twice.
    """
    paths, names = named_paths(entries)
    files = {name: path for path, name in zip(paths, names, strict=True) if name is not None}
    if None in names:
        unnamed = str(paths[names.index(None)])
        raise PlumError("--lists needs a name for the system", unnamed, "write NAME=FILE")
    if len(files) < len(names):
        raise PlumError("--lists has the same name twice", ", ".join(entries), "give each system its own name")
    return files


def write_comparison(folder: Path, result: Mapping[str, Any]) -> Path:
    """Write ``comparison.json`` and ``comparison.md`` into their own folder.

    Args:
        folder: to write, also "."; an earlier comparison there is replaced once the new one is complete.
        result: of :func:`compare_runs`.

    Returns:
        The folder.

    Raises:
        PlumError: the folder holds other files, or can't be written.
    """
    if folder.exists() and not (folder.is_dir() and {path.name for path in folder.iterdir()} <= set(FILES)):
        raise PlumError(f"{folder} holds other files, and would be replaced", None, "give another --output")
    place = folder.resolve()  # "." has no name
    partial = place.with_name(f".{place.name}.partial")
    try:
        with write_errors(folder, elsewhere="--output"):
            shutil.rmtree(partial, ignore_errors=True)
            make_folder(partial)
            artifacts.write_json(partial / FILES[0], result, "--output")
            write_text(partial / FILES[1], comparison_markdown(result), "--output")
            # The files are moved, not the folder, which may be the current folder of the user's shell.
            make_folder(place)
            for name in FILES:
                (partial / name).replace(place / name)
            sync_folder(place)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return folder


def _cutoffs(metrics: Sequence[str]) -> list[int]:
    """The cutoffs of the metrics, ascending."""
    unknown = [name for name in metrics if not is_accuracy(name) or name.endswith("@0")]
    if unknown or not metrics:
        raise PlumError(
            f"can't compare by {', '.join(unknown) or 'no metric'}", None, "give recall@K, ndcg@K, mrr@K or hit@K"
        )
    if len(set(metrics)) < len(metrics):
        raise PlumError("a metric is given twice", ", ".join(metrics), "give each once: every test counts")
    return sorted({int(name.partition("@")[2]) for name in metrics})


def _read(runs: Sequence[Path], names: Sequence[str | None] | None, k: int) -> list[EvaluatedRun]:
    """Read the runs, which must have the same data and protocol, and lists of at least K items."""
    if not runs:
        raise PlumError("no run to compare", None, "name at least one run folder")
    read = [evaluated.read_run(run, name) for run, name in zip(runs, names or [None] * len(runs), strict=True)]
    evaluated.refuse_differences(read)
    evaluated.refuse_short_lists(read, k)
    return read


def _systems(runs: Sequence[EvaluatedRun], extra: Mapping[str, Path], k: int) -> list[System]:
    """The rows: retrievers of each group of runs, shared ones once, then external lists."""
    groups = _groups(runs)
    lists = {run.folder: {name: x[:, :k] for name, x in runs[0].lists_of(run).items()} for run in runs}
    shared = {
        name for name in runs[0].lists if len(groups) > 1 and _alike([lists[run.folder].get(name) for run in runs])
    }
    systems = []
    for number, (group, members) in enumerate(groups):
        for name in members[0].lists:
            if name in shared:
                if number:
                    continue
                own, row = max((g[1] for g in groups), key=len), name
            else:
                own, row = members, name if len(groups) == 1 else f"{group}/{name}"
            found = [lists[run.folder][name] for run in own]
            systems.append(
                System(row, name, [run.name for run in own], [run.seed for run in own], found, shared=name in shared)
            )
    for name, path in extra.items():
        systems += _elsewhere(name, path, runs[0], k)
    systems.sort(key=lambda one: one.retriever == BOUND)  # the upper bound comes last
    names = [one.name for one in systems]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise PlumError(
            f"two systems are called {', '.join(twice)}", None, "give names: NAME=FOLDER, --lists NAME=FILE"
        )
    return systems


def _groups(runs: Sequence[EvaluatedRun]) -> list[tuple[str, list[EvaluatedRun]]]:
    """Group runs that are seeds of one system; each group has a name."""
    groups: list[list[EvaluatedRun]] = []
    for run in runs:
        for group in groups:
            first = group[0]
            same_name = run.given and first.given and run.name == first.name
            changed = _changed(first.pipeline, run.pipeline)
            fits = not changed and set(first.lists) == set(run.lists)
            if same_name and (not fits or run.seed in [one.seed for one in group]):
                raise PlumError(
                    f"two runs are called {run.name}, but are not two seeds of one pipeline",
                    f"{first.folder} and {run.folder} differ in {', '.join(changed[:5]) or 'nothing'}",
                    "give them different names",
                )
            unnamed = not run.given and not first.given
            if fits and (same_name or unnamed) and run.seed not in [one.seed for one in group]:
                group.append(run)
                break
        else:
            groups.append([run])
    return [(_group_name(group), group) for group in groups]


def _group_name(group: Sequence[EvaluatedRun]) -> str:
    """The common part of the seeds' names: ``beauty-seed0`` and ``beauty-seed1`` give ``beauty``."""
    if len(group) == 1:
        return group[0].name
    columns = zip(*(run.name for run in group), strict=False)
    in_common = "".join(letters[0] for letters in takewhile(lambda letters: len(set(letters)) == 1, columns))
    return re.sub(r"[-_. ]+(seed|s)?[-_. ]*\d*$", "", in_common) or group[0].name


def _changed(a: Any, b: Any, key: str = "") -> list[str]:
    """Settings ``stage.key`` in which two configurations differ, except those that don't affect results."""
    if isinstance(a, dict) and isinstance(b, dict):
        names = [name for name in dict.fromkeys([*a, *b]) if name not in WITHOUT_EFFECT]
        return [line for name in names for line in _changed(a.get(name), b.get(name), f"{key}.{name}".lstrip("."))]
    return [] if a == b else [key]


def _alike(lists: Iterable[np.ndarray | None]) -> bool:
    first, *others = lists
    return first is not None and all(other is not None and np.array_equal(first, other) for other in others)


def _elsewhere(name: str, path: Path, run: EvaluatedRun, k: int) -> list[System]:
    """The systems of a file of external lists."""
    table, unreadable = read_recommendations(path)
    named = RETRIEVER in table and table[RETRIEVER].notna().any()
    tables = by_retriever(table, str(path)) if named else {name: table}
    systems = []
    for key, rows in tables.items():
        row = f"{name}/{key}" if len(tables) > 1 else name
        items, audit = read_lists(rows, run.users, run.item_ids, k)
        if (items == NO_ITEM).all():
            raise _no_item(f"{path}: {row} recommends no item of the catalogue to any test user", rows, audit, run)
        systems.append(System(row, name, [], [], [items], audit, unreadable))
    return systems


def _no_item(what: str, rows: pd.DataFrame, audit: Audit, run: EvaluatedRun) -> PlumError:
    """Build the error for external lists without any scorable item: wrong ranks, or else wrong ids."""
    counts = audit.counts
    strangers = counts["missing_users"] + counts["unknown_users"]
    if strangers < len(rows) == strangers + counts["missing_ranks"]:
        return PlumError(what, f"no rank is a whole number (first: {audit.examples['missing_ranks']})", "count from 1")
    if strangers < len(rows) == strangers + counts["missing_ranks"] + counts["cut"]:
        return PlumError(
            what, f"all ranks are beyond {audit.k} (first: {audit.examples['cut']})", "count from 1 for each user"
        )
    there, here = rows[["user_id", "item_id"]].iloc[0], [run.users[0], run.item_ids[0]]
    found = "user {!r} and item {!r} in the file, {!r} and {!r} in the runs".format(*map(str, [*there, *here]))
    return PlumError(what, found, "use the ids of data/split.parquet and data/items.parquet")


def _chosen(systems: Sequence[System], reference: str) -> System:
    """The reference system: the one of this name, or the first one of this retriever."""
    for matches in ([s for s in systems if s.name == reference], [s for s in systems if s.retriever == reference]):
        if matches:
            return matches[0]
    raise PlumError(
        f"there is no {reference!r} to compare with",
        f"systems: {', '.join(one.name for one in systems)}",
        "name one of these by --reference",
    )


def _scored(
    systems: Sequence[System], targets: Sequence[np.ndarray], metrics: Sequence[str]
) -> dict[str, dict[str, np.ndarray]]:
    """System -> metric -> (S, U), from lists of all S seeds."""
    values = {}
    for one in systems:
        per_seed = [per_user_metrics(items, targets, _cutoffs(metrics)) for items in one.lists]
        values[one.name] = {metric: np.stack([scores[metric] for scores in per_seed]) for metric in metrics}
    return values


def _row(system: System, summary: Mapping[str, Any]) -> dict[str, Any]:
    """A system in the result, with its summary by metric."""
    return {
        "name": system.name,
        "retriever": system.retriever,
        "runs": system.runs,
        "seeds": system.seeds,
        "metrics": summary,
    }


def _told(system: System, run: EvaluatedRun) -> dict[str, Any]:
    """Flaws of external lists."""
    assert system.audit is not None
    seen = count_seen(system.lists[0], run.histories)
    told = system.audit.explain()
    if seen and run.protocol.get("seen") == "filtered":
        told.append(f"Places with a seen item, which the runs never recommend: {seen:,}; they are scored as they are.")
    unreadable = sum(problem.count for problem in system.unreadable)
    if unreadable:
        reasons = "; ".join(f"{problem.reason}, {problem.example}" for problem in system.unreadable)
        told.insert(0, f"Rows of the file that can't be read are left out: {unreadable:,} (first: {reasons}).")
    return {"counts": system.audit.counts | {"seen": seen, "unreadable": unreadable}, "explained": told}


def _few(n_users: int, summaries: Mapping[str, Mapping[str, Mapping[str, Any]]], metric: str) -> list[str]:
    """That there are few users, or few hits in the main metric."""
    means = {name: {metric: found[metric]["mean"]} for name, found in summaries.items()}
    return [" ".join(told) for told in (few_users(n_users), few_hits(n_users, means, metric)) if told]


def _notes(runs: Sequence[EvaluatedRun], systems: Sequence[System], n_tests: int, n_resamples: int) -> list[str]:
    """Notes for the reader of the table."""
    most = max((len(one.seeds) for one in systems), default=1)
    notes = []
    if len({run.made_by for run in runs}) > 1:
        made = "; ".join(f"{run.name} by {run.made_by}" for run in runs)
        notes.append(f"These runs were made by different versions, which may by itself change figures: {made}.")
    if most > 1:
        notes.append(
            "Systems with several seeds: means and intervals are over seeds and users; p-values are over users, for "
            "the differences averaged over these seeds, and do not extend to other seeds."
        )
    if most == 2:
        notes.append("Two seeds say little about others: intervals are wide where the two differ.")
    if any(not one.audit and len(one.seeds) == 1 for one in systems):
        notes.append("Systems with one seed: intervals are over users only, and do not extend to other seeds.")
    if alike := [one.name for one in systems if one.shared]:
        notes.append(f"Identical lists in all runs, shown once: {', '.join(alike)}.")
    if n_tests:
        notes.append(f"p (Holm) is corrected for {n_tests} tests: all metrics and systems of this comparison.")
    lowest = n_tests / (1 + n_resamples)
    if lowest > 0.01:
        notes.append(
            f"With {n_tests} tests and {n_resamples:,} resamples no p (Holm) can be below {lowest:.2g}; give more "
            "--resamples for smaller ones."
        )
    return notes
