"""Stage dense: train the dense baselines, SASRec and the large embedding model (LEM)."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from plum.config.dense import DenseConfig, combinations, with_settings
from plum.config.run import RunConfig
from plum.errors import PlumError
from plum.lm.examples import next_item_windows, windows
from plum.retrievers.dense import (
    Dense,
    DenseBatch,
    ItemTransformer,
    dense_batches,
    dense_loss,
    next_item_loss,
    sizes,
    target_counts,
)
from plum.retrievers.softmax import Negatives, n_negatives
from plum.run import artifacts
from plum.run.stage import StageRun
from plum.run.writing import copy_file, write_tensors
from plum.runtime import autocast, pick_device, seed_everything
from plum.stages import inputs, trained, training
from plum.training import loop
from plum.training.cost import training_cost
from plum.training.search import Outcome, Search, search_best, told

logger = logging.getLogger(__name__)

VALIDATION_BATCH = 256
VALIDATION_USERS = 2000
"""Users, at most, of the validation loss; all of them decide the validation Recall@10."""


def run(config: RunConfig, force: bool = False, kept_for: Sequence[str] = ()) -> Path:
    """Write ``dense/dense.safetensors`` (best validation Recall@10), log, trials, metrics; skip if up to date.

    Args:
        config: of the run.
        force: train it again.
        kept_for: stages that the caller does not run after this one. If the result of one of them was made from the
            existing baseline, the baseline is kept even with ``force``.

    Raises:
        PlumError: if it must be kept, but is not up to date.
    """
    users = [stage for stage in kept_for if inputs.is_made_of(config.workdir, stage, artifacts.DENSE)]
    return _run(config, artifacts.DENSE, force and not users, users)


def run_lem(config: RunConfig, force: bool = False) -> Path:
    """The same for the large embedding model: ``lem/lem.safetensors``.

    Raises:
        ValueError: if the configuration leaves it out.
    """
    return _run(config, artifacts.LEM, force)


@dataclass(frozen=True)
class _Task:
    """A model and its training."""

    model: ItemTransformer
    recipe: loop.Recipe
    batches: Callable[[int], Iterable[DenseBatch]]
    loss: Callable[[DenseBatch], Tensor]
    negatives: Negatives | None


def _run(config: RunConfig, kind: str, force: bool, users: Sequence[str] = ()) -> Path:
    settings = trained.dense_settings(config, kind)
    stage = StageRun(
        config.workdir,
        kind,
        inputs.recorded(config, kind),
        config.seed,
        [artifacts.ITEMS, artifacts.SPLIT, *inputs.known_files(config.workdir)],
    )
    weights = [artifacts.TRIAL_WEIGHTS.format(number=number) for number in range(settings.n_kept)]
    if stage.is_complete() and not force:
        if all((stage.folder / name).exists() for name in weights):
            logger.info("%s: up to date", kind)
            return stage.folder
        logger.info("%s: eval.%s.keep_trials needs weights that were not kept; training again", kind, kind)
    if users:
        made = " and ".join(f"{user}/" for user in users)
        raise PlumError(
            f"{kind}/ is out of date, but {made} was made from it",
            "settings of eval.dense or eval.filter_seen, the seed, the data or plum's version have changed, or files "
            "are missing",
            "run `plum run`, which runs all stages that are out of date in order, or give the earlier settings",
        )
    train_one = functools.partial(_train_one, config, kind)
    with stage.writing(force) as folder:
        # A folder of its own: an interrupted search without keep_trials may have removed some weights already.
        checkpoint = stage.checkpoint / "kept" if weights else stage.checkpoint
        found = search_best(
            combinations(settings.search),
            train_one,
            checkpoint,
            keep_all=bool(weights),
            at_once=settings.trials_at_once,
        )
        write_tensors(folder / f"{kind}.safetensors", found.weights)
        for name, kept in zip(weights, found.kept, strict=True):
            copy_file(kept, folder / name)
        _write_results(folder, found)
    return stage.folder


def _train_one(config: RunConfig, kind: str, values: dict[str, Any], checkpoint: Path) -> Outcome:
    """One trial; it reads the data itself, so that it can run in another process."""
    catalogue = inputs.read_prepared(config.workdir)
    # Later items would take part as wrong answers, and change the weights of the others by their number.
    data = catalogue.only(inputs.read_known(config.workdir, catalogue.items["item_id"]))
    task = _task(with_settings(trained.dense_settings(config, kind), values), data, config)
    _, histories, targets = data.histories.questions("valid")
    validation = _validation_batches(task.model, data, config.seed)

    def validate() -> dict[str, float]:
        found = inputs.validation_metrics(Dense(task.model), histories, targets, config.eval.filter_seen)
        return found | {"valid_loss": next_item_loss(task.model, validation)}

    state = loop.fit(
        task.model,
        task.recipe,
        task.batches,
        lambda batch: {"loss": task.loss(batch)},
        checkpoint=checkpoint,
        name=f"{kind} ({told(values)})" if values else kind,
        size=sizes(task.model, task.negatives),
        validate=validate,
        monitor="recall@10",
    )
    return Outcome(state.best_value, {"state": asdict(state), "facts": _facts(task, state)}, task.model.state_dict())


def _validation_batches(model: ItemTransformer, data: inputs.Prepared, seed: int) -> list[DenseBatch]:
    """Validation users' histories with their next items, as batches for the validation loss."""
    _, histories, targets = inputs.validation_sample(data, VALIDATION_USERS, seed)
    cut = next_item_windows(histories, targets, model.max_history)
    return list(dense_batches(cut, model.max_history, VALIDATION_BATCH, seed, 0))


def _write_results(folder: Path, found: Search) -> None:
    """Write the results of all trials, and the chosen one's training curve and metrics."""
    states = [loop.Progress(**trial.result["state"]) for trial in found.trials]
    facts = [trial.result["facts"] for trial in found.trials]
    loop.write_log(folder / "train_log.jsonl", states[found.best])
    trials = [
        {"settings": trial.settings, **_summary(state), "cost": fact["cost"]}
        for trial, state, fact in zip(found.trials, states, facts, strict=True)
    ]
    artifacts.write_json(folder / artifacts.TRIALS, trials)
    chosen = {"chosen": found.trials[found.best].settings}
    artifacts.write_json(folder / "metrics.json", _summary(states[found.best]) | chosen | facts[found.best])


def _task(settings: DenseConfig, data: inputs.Prepared, config: RunConfig) -> _Task:
    """A new model and its training; every trial starts from the same seed."""
    seed_everything(config.seed)
    n_items = len(data.items)
    device = pick_device(config.device)
    model = trained.untrained_dense(settings, n_items).to(device)
    cut = [window for window in windows(data.histories.train, settings.max_history + 1) if len(window.items) > 1]
    drawn = n_negatives(settings.negatives, n_items)
    negatives = Negatives(target_counts(cut, n_items), drawn, settings.negative_power) if drawn else None

    steps = -(-len(cut) // settings.batch_size)

    def loss(batch: DenseBatch) -> Tensor:
        with autocast(device, settings.precision):
            return dense_loss(model, batch, negatives)

    return _Task(
        model,
        training.recipe(settings, steps, settings.patience, settings.validate_every, settings.final_rate),
        lambda epoch: dense_batches(cut, settings.max_history, settings.batch_size, config.seed, epoch),
        loss,
        negatives,
    )


def _summary(state: loop.Progress) -> dict[str, Any]:
    return {"best_step": state.best_step, "steps": state.step, "valid_recall@10": state.best_value}


def _facts(task: _Task, state: loop.Progress) -> dict[str, Any]:
    """Facts about the model, and the cost of its training."""
    cost = training_cost(task.model, state.size, state.step, task.recipe.steps_per_epoch)
    return {
        "table_share": task.model.table_share,
        "negatives": task.negatives.n if task.negatives else None,
        "cost": asdict(cost),
    }
