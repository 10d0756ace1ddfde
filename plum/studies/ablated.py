"""The results of an ablation's finished runs, and which runs are finished."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import plum
from plum.config.ablation import Ablation, Run
from plum.errors import PlumError
from plum.evaluation.metrics import per_user_metrics
from plum.evaluation.seeds import compare_seeds, summarise_seeds
from plum.evaluation.significance import N_RESAMPLES
from plum.run import artifacts, shapes
from plum.run.hashes import sha256
from plum.run.manifest import read_manifest
from plum.studies import evaluated

RETRIEVER, METRIC, CUTOFF = "plum", "recall@10", 10
FINISHED = "finished.json"
"""In a run's folder: the mark of success."""


@dataclass(frozen=True)
class Failure:
    """A failed run.

    Attributes:
        run: the run.
        reason: one line.
        log: file of its output.
    """

    run: Run
    reason: str
    log: Path


def is_finished(run: Run) -> bool:
    """Whether the run succeeded with this configuration and version of plum, and no stage has run since."""
    try:
        return bool(artifacts.read_json(run.config.workdir / FINISHED) == _mark(run))
    except PlumError:  # the mark is missing or incomplete
        return False


def mark_finished(run: Run) -> None:
    """Record that the run succeeded."""
    artifacts.write_json(run.config.workdir / FINISHED, _mark(run))


def _mark(run: Run) -> dict[str, Any]:
    folder = run.config.workdir
    manifests = {stage: folder / stage / artifacts.MANIFEST for stage in artifacts.COMMANDS}
    values = {
        "config": run.config.model_dump(mode="json"),
        "plum": plum.__version__,
        "manifests": {stage: sha256(path) for stage, path in manifests.items() if path.is_file()},
    }
    return dict(json.loads(json.dumps(values)))


def results(ablation: Ablation, failures: Sequence[Failure] = (), n_resamples: int = N_RESAMPLES) -> dict[str, Any]:
    """Means over the seeds of every variant, and its difference from the first one.

    Args:
        ablation: of :func:`plum.config.ablation.read_ablation`.
        failures: of this time.
        n_resamples: of the sign-flip test.

    Returns:
        ``title``, ``metric``, ``resamples`` and ``bases``, each with ``name``, ``config``, ``n_users``, ``synthetic``
        and ``variants``. A variant has ``name``, ``settings``, ``seeds`` (those that finished), ``missing`` (those
        that did not), ``failed`` (``seed``, ``reason``, ``log``), and means over seeds: ``uniqueness``,
        ``cooccurrence`` (lists ``share`` and ``random`` by prefix length, and ``pairs``, their number; None if a run
        lacks it), ``validation`` (the metric on the validation set, of the best epoch),
        ``recall@10`` as in :func:`plum.evaluation.seeds.summarise_seeds`, ``difference`` (gain over the first variant:
        ``mean``, ``ci95``, ``p_value``, ``p_holm``, ``seed_sd``) and ``seconds``, all None without a finished run. All
        values are for JSON.

    Raises:
        PlumError: if runs of a base have different test sets.
    """
    bases = [_base(ablation, name, failures, n_resamples) for name in ablation.bases]
    return {"title": ablation.title, "metric": METRIC, "resamples": n_resamples, "bases": bases}


class _Result(NamedTuple):
    """Figures of a finished run.

    Attributes:
        run: the run.
        values: the metric of each user, (U,).
        quality: ``quality.json``.
        validation: the metric on the validation set.
        seconds: of all its stages.
    """

    run: Run
    values: np.ndarray
    quality: Mapping[str, Any]
    validation: float
    seconds: float


def _base(ablation: Ablation, name: str, failures: Sequence[Failure], n_resamples: int) -> dict[str, Any]:
    """One base of the results."""
    runs = [run for run in ablation.runs if run.base == name]
    failed = {failure.run.name: failure for failure in failures}
    found, broken, synthetic = _read([run for run in runs if run.name not in failed and is_finished(run)])
    failed |= {failure.run.name: failure for failure in broken}
    by_variant = {variant: [one for one in found if one.run.variant == variant] for variant in ablation.variants}
    means, differences = _measured(by_variant, ablation.variants[0], n_resamples)
    variants = []
    for variant, done in by_variant.items():
        mine = [run for run in runs if run.variant == variant]
        lost = [failed[run.name] for run in mine if run.name in failed]
        seeds = [one.run.seed for one in done]
        entry = {
            "name": variant,
            "settings": list(mine[0].settings),
            "seeds": seeds,
            "missing": [run.seed for run in mine if run.seed not in seeds],
            "failed": [{"seed": one.run.seed, "reason": one.reason, "log": str(one.log)} for one in lost],
            "uniqueness": float(np.mean([one.quality["uniqueness"] for one in done])) if done else None,
            "cooccurrence": _agreement([one.quality.get("cooccurrence_agreement") for one in done]),
            "validation": float(np.mean([one.validation for one in done])) if done else None,
            METRIC: means.get(variant),
            "difference": differences.get(variant),
            "seconds": float(np.mean([one.seconds for one in done])) if done else None,
        }
        variants.append(entry)
    n_users = len(found[0].values) if found else None
    about = {"name": name, "config": str(runs[0].path), "n_users": n_users, "synthetic": synthetic}
    return about | {"variants": variants}


def _read(runs: Sequence[Run]) -> tuple[list[_Result], list[Failure], bool]:
    """The runs of a base, the unreadable ones, and whether the data are synthetic."""
    found: list[_Result] = []
    broken: list[Failure] = []
    first: evaluated.EvaluatedRun | None = None
    for run in runs:  # one at a time: each holds its split
        folder = run.config.workdir
        try:
            read = evaluated.read_run(folder, run.name)
            quality = artifacts.read_json(folder / artifacts.QUALITY, shapes.Distinct)
            tuned = artifacts.read_json(folder / artifacts.FINETUNE_METRICS, shapes.Validated)
        except PlumError as error:
            told = f"{error.what}: {error.found}" if error.found else error.what
            broken.append(Failure(run, f"{told} (--force repeats it)", folder / FINISHED))
            continue
        first = first or read
        evaluated.refuse_differences([first, read])
        values = per_user_metrics(read.lists[RETRIEVER], read.targets, [CUTOFF])[METRIC]
        found.append(_Result(run, values, quality, tuned[f"valid_{METRIC}"], _seconds(run)))
    return found, broken, first is not None and first.synthetic


def _measured(
    by_variant: Mapping[str, Sequence[_Result]], first: str, n_resamples: int
) -> tuple[dict[str, dict[str, Any]], dict[str, dict[str, Any]]]:
    """The metric of every variant with a finished run, and its gain over the first variant, if that has one."""
    there = {variant: done for variant, done in by_variant.items() if done}
    values = {variant: {METRIC: np.stack([one.values for one in done])} for variant, done in there.items()}
    means = {name: entry[METRIC] for name, entry in summarise_seeds(values, [METRIC]).items()}
    if first not in there:
        return means, {}
    seeds = {variant: [one.run.seed for one in done] for variant, done in there.items()}
    pairs = compare_seeds(values, seeds, [METRIC], first, n_resamples)
    return means, {pair["b"]: _turned(pair) for pair in pairs}


def _turned(pair: Mapping[str, Any]) -> dict[str, Any]:
    """A comparison of the first variant with another, reversed to the other one's gain."""
    low, high = pair["ci95"]
    kept = {key: pair[key] for key in ("p_value", "p_holm", "seed_sd")}
    return {"mean": 0.0 - pair["difference"], "ci95": [0.0 - high, 0.0 - low], **kept}


def _agreement(measured: Sequence[Mapping[str, Any] | None]) -> dict[str, Any] | None:
    """Means over runs by prefix length; None unless all have the figure."""
    there = [one for one in measured if one]
    if not there or len(there) < len(measured):
        return None
    return {key: np.mean([one[key] for one in there], axis=0).tolist() for key in ("pairs", "share", "random")}


def _seconds(run: Run) -> float:
    """Duration of all stages of a run."""
    trained = (artifacts.DENSE, artifacts.LEM)
    stages = [stage for stage in artifacts.COMMANDS if stage not in trained or stage in run.config.eval.baselines]
    return sum(read_manifest(run.config.workdir / stage).duration_s for stage in stages)
