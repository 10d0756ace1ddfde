"""Stage dense: train the dense baseline that every comparison needs."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

from safetensors.torch import save_file

from plum import artifacts, training
from plum.config import RunConfig
from plum.lm.examples import windows
from plum.retrieval.dense import Dense, DenseBatch, dense_batches, dense_loss
from plum.runtime import pick_device, seed_everything
from plum.stages import common, retrieving

logger = logging.getLogger(__name__)


def run(config: RunConfig, force: bool = False) -> Path:
    """Write ``dense/dense.safetensors`` (best validation Recall@10) and the training log; skip if up to date."""
    settings = config.eval.dense
    stage = artifacts.StageRun(
        config.workdir,
        artifacts.DENSE,
        common.recorded(config, artifacts.DENSE),
        config.seed,
        [artifacts.ITEMS, artifacts.SPLIT],
    )
    if stage.is_complete() and not force:
        logger.info("dense: up to date")
        return stage.folder
    seed_everything(config.seed)
    data = common.read_prepared(config.workdir)
    model = retrieving.untrained_dense(settings, len(data.items)).to(pick_device(config.device))
    cut = [window for window in windows(data.histories.train, settings.max_history + 1) if len(window.items) > 1]
    _, histories, targets = data.histories.questions("valid")

    def batches(epoch: int) -> Iterator[DenseBatch]:
        return dense_batches(cut, settings.max_history, settings.batch_size, config.seed, epoch)

    def validate() -> dict[str, float]:
        return common.validation_metrics(Dense(model), histories, targets, config.eval.filter_seen)

    recipe = common.recipe(settings, -(-len(cut) // settings.batch_size), settings.patience)
    with stage.writing(force) as folder:
        state = training.fit(
            model,
            recipe,
            batches,
            lambda batch: {"loss": dense_loss(model, batch)},
            checkpoint=stage.checkpoint,
            name="dense",
            validate=validate,
            monitor="recall@10",
        )
        training.write_log(folder / "train_log.jsonl", state)
        save_file(model.state_dict(), str(folder / "dense.safetensors"))
        metrics = {"best_step": state.best_step, "steps": state.step, "valid_recall@10": state.best_value}
        artifacts.write_json(folder / "metrics.json", metrics)
    return stage.folder
