"""Stage finetune: history -> the next item's Semantic ID (PLUM section 2.3)."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedModel

from plum.config.dense import combinations
from plum.config.language_model import SCRATCH, FinetuneConfig
from plum.config.run import RunConfig
from plum.decoding.beam import Scoring
from plum.lm import documents, examples, folders, vocab
from plum.lm.distill import SoftLabels, distillation_loss
from plum.lm.examples import IGNORED, Batch
from plum.lm.logits import check_length
from plum.lm.loss import BatchLoss, Levels, labelled_loss, level_loss, next_token_loss
from plum.lm.parts import StepFlops, n_tokens
from plum.lm.train import train
from plum.retrievers.dense import ItemTransformer, MeanDense
from plum.retrievers.generative import Generative
from plum.retrievers.teacher import Teacher
from plum.run import artifacts, verified
from plum.run.stage import StageRun
from plum.run.writing import write_text
from plum.runtime import is_first, seed_everything
from plum.sid.codec import Codec
from plum.sid.table import SidTable
from plum.stages import capacity, inputs, trained, training
from plum.training import loop
from plum.training.cost import Size, training_cost

logger = logging.getLogger(__name__)

VALIDATION_BATCH = 64

INPUTS = (
    artifacts.ITEMS,
    artifacts.SPLIT,
    artifacts.SEMANTIC_IDS,
    artifacts.SID_INDEX,
    artifacts.QUALITY,
    artifacts.CPT_MODEL,
)


def run(config: RunConfig, force: bool = False) -> Path:
    """Write ``finetune/model`` (best validation Recall@10), log and ``metrics.json``; skip if up to date."""
    stage = _stage_run(config)
    inputs.warn_outdated(config, artifacts.DATA, artifacts.TOKENIZE, artifacts.CPT)
    if stage.is_complete() and not force:
        logger.info("finetune: up to date")
        return stage.folder
    report = training.report(config.finetune, config.workdir, artifacts.FINETUNE)
    seed_everything(config.seed)
    data = inputs.read_prepared(config.workdir)
    table = inputs.read_sid_table(config.workdir, data.items)
    inputs.check_beams(config.eval, table.n_levels)  # before the training, not after it
    verified.verify_folder(config.workdir / artifacts.CPT_MODEL)
    model, tokenizer = folders.run_model(config.workdir / artifacts.CPT_MODEL)
    training.move(model, config.device)
    settings, chosen = training.settled(config.finetune, "finetune", model.num_parameters(), config.cpt.base != SCRATCH)
    codec = vocab.codec_of(tokenizer, table.sizes)
    vocab.check_control_tokens(model, codec)
    prefix = documents.history_prefix(tokenizer)
    # One item more than the history, so that targets after a full history are trained too, as in evaluation.
    length = settings.max_history + 1
    check_length(model, len(prefix) + length * table.n_levels)
    cut = examples.windows(data.histories.train, length)
    adapter = training.adapter(model, settings.lora, np.concatenate(codec.token_ids), artifacts.CPT_MODEL)
    longest = max((len(window.items) for window in cut), default=0)
    chosen |= capacity.check_training("finetune", model, settings, len(prefix) + longest * table.n_levels)

    batches = _batches(config, cut, codec.encode(table.codes), prefix, tokenizer.pad_token_id)
    asked = inputs.validation_sample(data, settings.validation_users, config.seed)
    plain = _plain_loss(settings.loss_over, codec, model.device)
    validate = _validator(config, data, asked, table, model, codec, prefix, tokenizer.pad_token_id, plain)
    steps = examples.n_batches(cut, settings.batch_size)
    recipe = training.recipe(settings, steps, settings.patience, settings.validate_every)
    known = inputs.read_known(config.workdir, data.items["item_id"])
    teachers = _teachers(config, int(known.sum()), model.device)
    lesson = _lesson(config.finetune, teachers, table, known, codec, model.device) if teachers else _Lesson(plain, None)
    how = {
        "batch_loss": lesson.loss,
        "prepare": lesson.prepare,
        "size": _sizes(model, lesson, table.n_levels),
        "validate": validate,
        "report": report,
    }
    with stage.writing(force) as folder:
        state = _train(model, recipe, batches, settings, stage.checkpoint, **how)
        stage.speed = state.speed
        if not is_first():  # the others have trained; the first process writes
            return stage.folder
        metrics = _results(state, model, recipe, len(asked[0])) | {"training": chosen}
        loop.write_log(folder / "train_log.jsonl", state)
        if adapter:
            adapter.finish(folder / artifacts.ADAPTER)
        folders.save_model_folder(model, tokenizer, folder / "model")
        _copy_extras(config, folder / "model")
        artifacts.write_json(folder / "metrics.json", metrics | _of_teachers(config, teachers, known, asked))
    return stage.folder


def _copy_extras(config: RunConfig, folder: Path) -> None:
    """Keep beside the model whose Semantic IDs it knows, so that it can be a base in this run."""
    extras = config.workdir / artifacts.CPT_MODEL / artifacts.MODEL_EXTRAS
    if extras.is_file():
        write_text(folder / artifacts.MODEL_EXTRAS, extras.read_text(encoding="utf-8"))


def _train(
    model: PreTrainedModel,
    recipe: loop.Recipe,
    batches: Callable[[int], Iterator[Batch]],
    settings: FinetuneConfig,
    checkpoint: Path,
    **how: Any,
) -> loop.Progress:
    """Train the model in place; it ends with the weights of the best validation."""
    return train(
        model,
        recipe,
        batches,
        checkpoint=checkpoint,
        name="finetune",
        monitor="recall@10",
        dropout=settings.dropout,
        precision=settings.precision or "auto",
        compute=training.compute(settings),
        **how,
    )


def _results(state: loop.Progress, model: PreTrainedModel, recipe: loop.Recipe, n_users: int) -> dict[str, Any]:
    """What ``metrics.json`` has of the training itself."""
    return {
        "best_step": state.best_step,
        "steps": state.step,
        "valid_recall@10": state.best_value,
        "validation_users": n_users,
        "cost": asdict(training_cost(model, state.size, state.step, recipe.steps_per_epoch)),
    }


def _batches(
    config: RunConfig, cut: Sequence[examples.Window], item_tokens: np.ndarray, prefix: np.ndarray, pad: int
) -> Callable[[int], Iterator[Batch]]:
    """The batches of an epoch."""
    size, dropout = config.finetune.batch_size, config.finetune.history_dropout
    return functools.partial(examples.batches, cut, item_tokens, prefix, size, dropout, pad, config.seed)


def _stage_run(config: RunConfig) -> StageRun:
    """The stage, with all files that it reads."""
    return StageRun(
        config.workdir,
        artifacts.FINETUNE,
        inputs.recorded(config, artifacts.FINETUNE),
        config.seed,
        [*INPUTS, *_teacher_files(config)],
    )


def _teacher_files(config: RunConfig) -> list[str]:
    """The run's files of the teacher, if there is one."""
    if not config.taught_by_dense:
        return []
    if not config.taught_by_trials:
        return [*artifacts.DENSE_FILES, *inputs.known_files(config.workdir)]
    numbers = range(len(combinations(config.eval.dense.search)))
    weights = (f"{artifacts.DENSE}/{artifacts.TRIAL_WEIGHTS.format(number=number)}" for number in numbers)
    return [*artifacts.DENSE_FILES, artifacts.DENSE_TRIALS, *weights, *inputs.known_files(config.workdir)]


def _teachers(config: RunConfig, n_items: int, device: torch.device) -> list[ItemTransformer]:
    """The dense baselines, of the items that may be learnt from, that form the teacher, if there is one."""
    if not config.taught_by_dense:
        return []
    if config.taught_by_trials:
        return [model.to(device) for model in trained.dense_trials(config, n_items)]
    return [trained.dense_model(config, artifacts.DENSE, n_items).to(device)]


def _of_teachers(
    config: RunConfig, teachers: Sequence[ItemTransformer], known: np.ndarray, asked: inputs.Questions
) -> dict[str, float]:
    """The teacher's Recall@10 for the validation users who choose the student's weights; empty without a teacher."""
    if not teachers:
        return {}
    found = inputs.validation_metrics(MeanDense(teachers, known=known), *asked[1:], config.eval.filter_seen)
    logger.info("finetune: recall@10 of the teacher on the same users %.4f", found["recall@10"])
    return {"teacher_valid_recall@10": found["recall@10"]}


@dataclass(frozen=True)
class _Lesson:
    """The loss of a batch, what can be prepared before its step, and the FLOPs of the teacher's answer."""

    loss: Callable[[PreTrainedModel, Any], Tensor]
    prepare: Callable[[Batch], Any] | None = None
    flops: Callable[[Batch], int] | None = None


def _plain_loss(over: str, codec: Codec, device: torch.device) -> BatchLoss:
    """The loss on the observed next items: over the whole vocabulary, or over the codes of a level."""
    if over == "vocabulary":
        return next_token_loss
    return functools.partial(level_loss, levels=Levels.of(codec.token_ids, device))


def _lesson(
    settings: FinetuneConfig,
    teachers: Sequence[ItemTransformer],
    table: SidTable,
    known: np.ndarray,
    codec: Codec,
    device: torch.device,
) -> _Lesson:
    """The loss on a mixture of the observed next items and the teachers' probabilities."""
    teacher = Teacher(teachers, table, known)
    levels = Levels.of(codec.token_ids, device)

    def ask(batch: Batch) -> tuple[Batch, SoftLabels]:
        if batch.history is None:
            raise ValueError("a teacher needs the items of a batch")
        return batch, teacher.soft_labels(*batch.history)

    def loss(pupil: PreTrainedModel, taught: tuple[Batch, SoftLabels]) -> Tensor:
        batch, soft = taught
        return distillation_loss(pupil, batch, soft, levels, settings.teacher_weight, settings.loss_over)

    def flops(batch: Batch) -> int:
        return 0 if batch.history is None else teacher.flops(*batch.history)

    if device.type != "cpu":  # two threads don't speed up one accelerator, and not all accelerators support them
        return _Lesson(lambda pupil, batch: loss(pupil, ask(batch)), None, flops)
    return _Lesson(loss, ask, flops)


def _sizes(model: PreTrainedModel, lesson: _Lesson, n_levels: int) -> Callable[[Batch], Size]:
    """Size of a batch, with the teacher's work; an example is a target item of ``n_levels`` tokens."""
    own = StepFlops(model)

    def size(batch: Batch) -> Size:
        flops = own(batch) + (lesson.flops(batch) if lesson.flops else 0)
        return Size(int((batch.labels != IGNORED).sum()) // n_levels, n_tokens(batch), batch.tokens.numel(), flops)

    return size


def _validator(
    config: RunConfig,
    data: inputs.Prepared,
    asked: inputs.Questions,
    table: SidTable,
    model: PreTrainedModel,
    codec: Codec,
    prefix: np.ndarray,
    pad: int,
    loss: BatchLoss,
) -> Callable[[], dict[str, float]]:
    """The validation after an epoch: decoding as in stage eval, for fewer users and with fewer beams."""
    settings = config.finetune
    _, histories, targets = asked
    trie = inputs.read_index(config.workdir, table)
    following = examples.next_item_windows(histories, targets, settings.max_history)
    validation = list(
        examples.batches(following, codec.encode(table.codes), prefix, VALIDATION_BATCH, 0.0, pad, config.seed, 0)
    )

    def validate() -> dict[str, float]:
        retriever = Generative(
            model,
            table,
            codec,
            prefix,
            settings.max_history,
            data.popularity,
            settings.validation_beams,
            trie=trie,
            scoring=Scoring(config.eval.scores_over),
        )
        found = inputs.validation_metrics(retriever, histories, targets, config.eval.filter_seen)
        return found | {"valid_loss": labelled_loss(model, validation, loss)}

    return validate
