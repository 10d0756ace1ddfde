"""Choosing settings on the validation set: every combination is trained, the best one is kept.

A search may be killed at any time: results of finished trials are kept beside the checkpoint of the running one, so
that the search resumes and ends with the same result as an uninterrupted one. A trial whose record or needed weights
are damaged is trained again.
"""

from __future__ import annotations

import functools
import logging
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from plum.run.hashes import sha256
from plum.run.sealed import Damaged, check_files, read_sealed, write_sealed
from plum.run.writing import write_tensors

if TYPE_CHECKING:  # importing this module must not import torch
    from torch import Tensor

logger = logging.getLogger(__name__)


class Outcome(NamedTuple):
    """The result of one training.

    Attributes:
        value: the criterion; larger is better.
        result: further facts about the training, for JSON.
        weights: the trained weights, on any device.
    """

    value: float
    result: dict[str, Any]
    weights: dict[str, Tensor]


@dataclass(frozen=True)
class Trial:
    """A finished training with its settings; see ``Outcome``."""

    settings: dict[str, Any]
    value: float
    result: dict[str, Any]


@dataclass(frozen=True)
class Search:
    """All trials in order, the index of the best, its weights, and the files of all weights if they are kept."""

    trials: list[Trial]
    best: int
    weights: dict[str, Tensor]
    kept: list[Path]


def search_best(
    settings: Sequence[dict[str, Any]],
    train_one: Callable[[dict[str, Any], Path], Outcome],
    folder: Path,
    keep_all: bool = False,
    at_once: int = 1,
) -> Search:
    """Train with each of several settings; the largest value wins, the earlier trial on ties.

    Args:
        settings: of the trials, at least one.
        train_one: trains with given settings and a folder for its checkpoint, from which it must be able to resume.
        folder: for checkpoints and results of the trials; must not be used for another search. A single trial has its
            checkpoint in ``folder`` itself.
        keep_all: keep the weights of all trials in ``folder``, not only the best one's. A single trial's are only
            returned.
        at_once: number of parallel trials, each in its own process with its share of the threads; if more than one,
            ``train_one`` must be picklable. The number of threads changes results by rounding only.

    Returns:
        The trials and the best one's weights, on the CPU.

    Raises:
        ValueError: without settings, or if ``folder`` belongs to another search.
        PlumError, RuntimeError: from parallel processes; see :func:`plum.training.processes.run_side_by_side`.
    """
    if not settings:
        raise ValueError("a search needs at least one trial")
    if len(settings) == 1:
        outcome = train_one(settings[0], folder)
        return Search([Trial(settings[0], outcome.value, outcome.result)], 0, _on_cpu(outcome.weights), [])
    _drop_damaged(folder, len(settings), keep_all)
    if at_once > 1:
        _train_side_by_side(settings, train_one, folder, at_once)
    trials: list[Trial] = []
    for number, values in enumerate(settings):
        if not _record(folder, number).exists():
            _train_and_keep(folder, number, settings, train_one, [] if keep_all else trials)
        trials.append(_read(folder, number, values))
        _tidy(folder, number, range(number + 1) if keep_all else [_best(trials)])
        logger.info("trial %d of %d: %.4f", number + 1, len(settings), trials[-1].value)
    from safetensors.torch import load_file

    best = _best(trials)
    if not _weights(folder, best).exists():
        logger.warning("trial %d is damaged (its weights are missing); training it again", best + 1)
        _train_and_keep(folder, best, settings, train_one, [])
    kept = [_weights(folder, number) for number in range(len(trials))] if keep_all else []
    return Search(trials, best, load_file(_weights(folder, best)), kept)


def _drop_damaged(folder: Path, n_trials: int, keep_all: bool) -> None:
    """Forget finished trials whose record or needed weights are damaged, and say which: they are trained again."""
    finished = [number for number in range(n_trials) if _record(folder, number).exists()]
    trials = {number: record for number in finished if (record := _whole(folder, number, weights=False))}
    best = sorted(trials, key=lambda number: (-trials[number]["value"], number))[:1]
    for number in trials if keep_all else best:
        # Without keep_all another one may have been best, whose record is damaged, and these weights removed.
        if keep_all or _weights(folder, number).exists():
            _whole(folder, number, weights=True)


def _whole(folder: Path, number: int, weights: bool) -> dict[str, Any] | None:
    """A trial's record, or None after forgetting the trial because it or, if asked for, its weights are damaged."""
    try:
        record, _, _ = read_sealed(_record(folder, number))
        if weights:
            check_files(folder, [(_weights(folder, number).name, record["weights"])])
    except Damaged as error:
        logger.warning("trial %d is damaged (%s); training it again", number + 1, error)
        _record(folder, number).unlink()
        return None
    return record


def told(settings: Mapping[str, Any]) -> str:
    """Settings in words: ``dropout 0.3, layers 2``."""
    return ", ".join(f"{name} {value}" for name, value in settings.items())


def _train_side_by_side(
    settings: Sequence[dict[str, Any]], train_one: Callable[[dict[str, Any], Path], Outcome], folder: Path, at_once: int
) -> None:
    """Train the missing trials; all keep their weights, because the best is known only at the end."""
    import torch

    from plum.training.processes import run_side_by_side

    # For the whole search, not for the rest of a killed one: the number of threads affects rounding.
    threads = max(1, torch.get_num_threads() // min(at_once, len(settings)))
    missing = [number for number in range(len(settings)) if not _record(folder, number).exists()]
    run_side_by_side(
        [functools.partial(_train_and_keep, folder, number, settings, train_one, []) for number in missing],
        at_once,
        threads,
    )


def _train_and_keep(
    folder: Path,
    number: int,
    settings: Sequence[dict[str, Any]],
    train_one: Callable[[dict[str, Any], Path], Outcome],
    before: Sequence[Trial],
) -> None:
    """Train one trial and record it; see :func:`_keep`."""
    values = settings[number]
    logger.info("trial %d of %d: %s", number + 1, len(settings), told(values))
    _keep(folder, number, values, train_one(values, folder / f"trial-{number}"), before)


def _record(folder: Path, number: int) -> Path:
    return folder / f"trial-{number}.json"


def _weights(folder: Path, number: int) -> Path:
    return folder / f"trial-{number}.safetensors"


def _best(trials: Sequence[Trial]) -> int:
    return max(range(len(trials)), key=lambda number: trials[number].value)  # ties: the first


def _on_cpu(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: value.detach().cpu().clone() for name, value in weights.items()}


def _keep(folder: Path, number: int, settings: dict[str, Any], outcome: Outcome, before: Sequence[Trial]) -> None:
    """Record a finished trial, without its weights if one ``before`` is better; the JSON file, last, marks it done."""
    digest = None
    if all(outcome.value > trial.value for trial in before):
        write_tensors(_weights(folder, number), _on_cpu(outcome.weights))
        digest = sha256(_weights(folder, number))
    content = {"settings": settings, "value": outcome.value, "result": outcome.result, "weights": digest}
    write_sealed(_record(folder, number), content)


def _read(folder: Path, number: int, settings: dict[str, Any]) -> Trial:
    """Read a finished trial from its file, whether or not the search was resumed, so that both give the same."""
    record, _, _ = read_sealed(_record(folder, number))
    if record["settings"] != settings:
        raise ValueError(f"{_record(folder, number)} belongs to another search: {record['settings']}, not {settings}")
    return Trial(record["settings"], record["value"], record["result"])


def _tidy(folder: Path, number: int, needed: Sequence[int]) -> None:
    """Remove a finished trial's checkpoint, and the weights of all trials except the ``needed`` ones."""
    shutil.rmtree(folder / f"trial-{number}", ignore_errors=True)
    for other in range(number + 1):
        if other not in needed:
            _weights(folder, other).unlink(missing_ok=True)
