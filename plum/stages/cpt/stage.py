"""The stage: base model, documents, training, and the files that remain."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from transformers import PreTrainedModel

from plum.config.language_model import SCRATCH, CptConfig
from plum.config.run import RunConfig
from plum.corpus.mixture import Mixture, apart
from plum.corpus.shards import Documents
from plum.lm import folders
from plum.lm.examples import Batch
from plum.lm.packed import sees_documents_apart
from plum.lm.parts import StepFlops, n_labels
from plum.lm.train import train
from plum.probes.course import Course
from plum.report.completions import completions_page
from plum.report.pretraining import told
from plum.run import artifacts, ranks
from plum.run.stage import StageRun
from plum.run.writing import remove, write_text
from plum.runtime import is_first, seed_everything
from plum.stages import capacity, inputs, training
from plum.stages.cpt import base, corpus, measures, reading
from plum.stages.cpt.material import material
from plum.stages.cpt.measures import Material
from plum.training import loop
from plum.training.cost import Cost, Size, training_cost
from plum.training.trackers import Report

logger = logging.getLogger(__name__)

START = "start.safetensors"
"""The weights before the first step, while the stage is at work."""
LOOKS = 3
"""Measurements during a training, by default."""


def run(config: RunConfig, force: bool = False) -> Path:
    """Write ``cpt/model``, ``corpus``, ``train_log.jsonl`` and ``metrics.json``; skip if up to date."""
    stage = StageRun(
        config.workdir,
        artifacts.CPT,
        inputs.recorded(config, artifacts.CPT),
        config.seed,
        reading.input_files(config.workdir, config.cpt.corpus),
        [*base.files(config.cpt.base), *reading.replay_files(config.cpt.corpus), *_text(config.cpt)],
    )
    inputs.warn_outdated(config, artifacts.DATA, artifacts.TOKENIZE)
    if stage.is_complete() and not force:
        logger.info("cpt: up to date")
        return stage.folder
    report = training.report(config.cpt, config.workdir, artifacts.CPT)
    seed_everything(config.seed)
    model, tokenizer, writer = corpus.prepare(config)
    training.move(model, config.device)
    settings, chosen = training.settled(config.cpt, "cpt", model.num_parameters(), config.cpt.base != SCRATCH)
    adapter = None
    if settings.enabled:
        adapter = training.adapter(model, settings.lora, writer.new_tokens(), settings.base)
        chosen |= capacity.check_training("cpt", model, settings, settings.context_length)
    with stage.writing(force) as folder:
        ranks.shared(lambda: writer.write(folder / corpus.CORPUS))
        documents = corpus.read(folder / corpus.CORPUS)
        mixture = _mixture(settings, documents.train, corpus.end_token(tokenizer), config.seed)
        recipe = training.recipe(settings, mixture.steps_per_epoch)
        found = material(config, model, writer, documents) if is_first() else None
        course = None if found is None else measures.course(found)
        start = ranks.shared(lambda: course.start(folder / START) if course else {})
        state = loop.Progress()
        if settings.enabled:
            _tell(model, mixture, recipe)
            state = _train(model, mixture, recipe, settings, course, stage.checkpoint, report)
        stage.speed = state.speed
        if found is None or course is None:  # the others have trained; the first process measures and writes
            return stage.folder
        _write_log(folder, start, state, course)
        cost = _cost(model, recipe, state)
        if adapter:
            adapter.finish(folder / artifacts.ADAPTER)
        folders.save_model_folder(model, tokenizer, folder / "model")
        writer.write_extras(folder / "model")
        remove(folder / START)
        metrics = {
            "parameters": model.num_parameters(),
            "tokens": {name: int(kind.lengths.sum()) for name, kind in documents.train.items()},
            "steps": state.step,
            "shares": mixture.shares,
            "packing_efficiency": mixture.packing_efficiency,
            "training": chosen,
            "cost": cost,
            **_learnt(found, course, folder),
        }
        artifacts.write_json(folder / "metrics.json", metrics)
    return stage.folder


def _train(
    model: PreTrainedModel,
    mixture: Mixture,
    recipe: loop.Recipe,
    settings: CptConfig,
    course: Course | None,
    checkpoint: Path,
    report: Report,
) -> loop.Progress:
    """Train the model in place, and measure it now and then: in the first process, which alone has a course."""
    every = settings.measure.every_steps or max(1, recipe.total_steps // (LOOKS + 1))
    return train(
        model,
        recipe,
        _batches(model, mixture, settings.context_length),
        checkpoint=checkpoint,
        name="cpt",
        size=_sizes(model),
        dropout=settings.dropout,
        precision=settings.precision or "auto",
        compute=training.compute(settings),
        report=report,
        look=(every, course.step if course else dict),
    )


def _write_log(folder: Path, start: Mapping[str, float], state: loop.Progress, course: Course) -> None:
    """Write the curve between what was measured before the first step and after the last one."""
    if state.step:
        epoch = state.log[-1]["epoch"] if state.log else 0
        state.log[:] = [loop.measured(0, 0, start), *state.log, loop.measured(state.step, epoch, course.step())]
    loop.write_log(folder / "train_log.jsonl", state)


def _learnt(found: Material, course: Course, folder: Path) -> dict[str, Any]:
    """What was measured, said in the log too; writes the page of prompts."""
    shots = course.attempt("samples", lambda: measures.samples(found)) or []
    write_text(folder / Path(artifacts.CPT_SAMPLES).name, completions_page([asdict(shot) for shot in shots]))
    learnt = course.report() | {"samples": measures.sizes(found)}
    for line in told(learnt):
        logger.info("cpt: %s", line)
    return {"learnt": learnt}


def _text(settings: CptConfig) -> list[Path]:
    """The general text that is measured on, if there is some."""
    return [] if settings.measure.text is None else [settings.measure.text]


def _mixture(settings: CptConfig, documents: Mapping[str, Documents], end: int, seed: int) -> Mixture:
    sections = settings.corpus.documents
    weights = {name: section.weight for name, section in sections.items()}
    length, size, by_epochs = settings.context_length, settings.batch_size, settings.corpus.unit == "epochs"
    return Mixture(documents, weights, length, size, end, seed, by_epochs)


def _batches(model: PreTrainedModel, mixture: Mixture, block_length: int) -> Callable[[int], Iterator[Batch]]:
    """The batches of an epoch: packed, or a document a row for a model that would let documents see each other."""
    if sees_documents_apart(model, block_length):
        return mixture.batches
    logger.info("cpt: %s takes no packed documents; each gets a row of its own", type(model).__name__)
    return lambda epoch: map(apart, mixture.batches(epoch))


def _tell(model: PreTrainedModel, mixture: Mixture, recipe: loop.Recipe) -> None:
    shares = ", ".join(f"{share:.0%} {name}" for name, share in mixture.shares.items())
    logger.info(
        "cpt: %s parameters, tokens %s, blocks %.1f%% full, %d steps",
        f"{model.num_parameters():,}",
        shares,
        100 * mixture.packing_efficiency,
        recipe.total_steps,
    )


def _sizes(model: PreTrainedModel) -> Callable[[Batch], Size]:
    """Size of a batch; an example is a row, and its tokens are those that are predicted."""
    flops = StepFlops(model)
    return lambda batch: Size(len(batch.tokens), n_labels(batch), batch.tokens.numel(), flops(batch))


def _cost(model: PreTrainedModel, recipe: loop.Recipe, state: loop.Progress) -> dict[str, int]:
    """Cost of the training, if there was one."""
    if not state.step:
        return asdict(Cost(model.num_parameters(), 0, 0, 0, 0))
    return asdict(training_cost(model, state.size, state.step, recipe.steps_per_epoch))
