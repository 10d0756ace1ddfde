"""Stage cpt: continued pre-training of a decoder-only language model on behaviour and item text (PLUM section 2.2)."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from plum.config.models import SCRATCH, CptConfig
from plum.config.run import RunConfig
from plum.decoding.tree import check_tree_attention
from plum.lm import documents, folders, vocab
from plum.lm.codewords import code_directions
from plum.lm.examples import Batch
from plum.lm.logits import check_head
from plum.lm.packing import Mixture
from plum.lm.train import mean_loss, next_token_loss, train
from plum.probes.course import Course
from plum.probes.prompts import Piece, shown
from plum.report.completions import completions_page
from plum.report.pretraining import told
from plum.run import artifacts
from plum.run.stage import StageRun
from plum.run.writing import remove, write_text
from plum.runtime import seed_everything
from plum.sid.table import SidTable
from plum.stages import cpt_measures, inputs, training
from plum.training import loop
from plum.training.cost import Size, training_cost

logger = logging.getLogger(__name__)

START = "start.safetensors"
"""The weights before the first step, while the stage is at work."""
LOOKS = 3
"""Measurements during a training, by default."""
HELD_OUT = 0.05
"""Users and items whose documents are held out to measure on: at most this share of them."""
TEMPLATES = {
    "title": "Item {sid} has title: {title}",
    "topics": "The topics in item {sid} are: {topics}",
    "title_to_sid": "{title} is item {sid}",
}
"""How the model is asked; the first two are those of the training's documents."""

INPUTS = (artifacts.ITEMS, artifacts.SPLIT, artifacts.SEMANTIC_IDS, artifacts.QUALITY, artifacts.RQVAE)


def run(config: RunConfig, force: bool = False) -> Path:
    """Write ``cpt/model``, ``train_log.jsonl`` and ``metrics.json``; skip if up to date."""
    settings = config.cpt
    stage = StageRun(
        config.workdir,
        artifacts.CPT,
        inputs.recorded(config, artifacts.CPT),
        config.seed,
        [*INPUTS, *inputs.known_files(config.workdir)],
        _base_files(settings.base),
    )
    inputs.warn_outdated(config, artifacts.DATA, artifacts.TOKENIZE)
    if stage.is_complete() and not force:
        logger.info("cpt: up to date")
        return stage.folder
    seed_everything(config.seed)
    catalogue = inputs.read_prepared(config.workdir)
    known = inputs.read_known(config.workdir, catalogue.items["item_id"])
    data = catalogue.only(known)  # later items have neither interactions to learn from nor texts that may be read yet
    table = inputs.read_sid_table(config.workdir, catalogue.items).only(known)
    model, tokenizer = _base_model(config, data, table)
    training.move(model, config.device)
    held = _held_out(config, data)
    corpora = _corpora(config, data, table, tokenizer, held)
    behaviour, metadata = (corpora[kind].trained for kind in ("behaviour", "metadata"))
    mixture = _mixture(settings, behaviour, metadata, _end_token(tokenizer), config.seed)

    def batches(epoch: int) -> Iterator[Batch]:
        for block in mixture.batches(epoch):
            tokens = torch.from_numpy(block)
            yield Batch(tokens, tokens)

    recipe = training.recipe(settings, mixture.steps_per_epoch)
    logger.info(
        "cpt: %s parameters, %s behaviour and %s metadata tokens, %d steps",
        f"{model.num_parameters():,}",
        f"{sum(map(len, behaviour)):,}",
        f"{sum(map(len, metadata)):,}",
        recipe.total_steps,
    )
    material = _material(config, data, table, model, tokenizer, held[1], corpora)
    with stage.writing(force) as folder:
        course = cpt_measures.course(material)
        start = course.start(folder / START)
        state = train(
            model,
            recipe,
            batches,
            checkpoint=stage.checkpoint,
            name="cpt",
            dropout=settings.dropout,
            precision=settings.precision,
            look=(settings.measure.every_steps or max(1, recipe.total_steps // (LOOKS + 1)), course.step),
        )
        folders.save_model_folder(model, tokenizer, folder / "model")
        end = loop.measured(state.step, settings.epochs - 1, course.step())
        state.log[:] = [loop.measured(0, 0, start), *state.log, end]
        loop.write_log(folder / "train_log.jsonl", state)
        remove(folder / START)
        metrics = {
            "parameters": model.num_parameters(),
            **_facts(model, behaviour, metadata, settings.batch_size, _end_token(tokenizer)),
            "steps": state.step,
            "cost": _cost(model, batches, recipe, state),
            **_learnt(material, course, folder),
        }
        artifacts.write_json(folder / "metrics.json", metrics)
    return stage.folder


def _learnt(material: cpt_measures.Material, course: Course, folder: Path) -> dict[str, Any]:
    """What was measured, said in the log too; writes the page of prompts."""
    shots = course.attempt("samples", lambda: cpt_measures.samples(material)) or []
    write_text(folder / Path(artifacts.CPT_SAMPLES).name, completions_page([asdict(shot) for shot in shots]))
    found = course.report() | {"samples": cpt_measures.sizes(material)}
    for line in told(found):
        logger.info("cpt: %s", line)
    return {"learnt": found}


def _mixture(
    settings: CptConfig, behaviour: Sequence[np.ndarray], metadata: Sequence[np.ndarray], end: int, seed: int
) -> Mixture:
    length, share = settings.context_length, settings.behaviour_share
    return Mixture(behaviour, metadata, length, settings.batch_size, share, end, seed)


def _facts(
    model: PreTrainedModel, behaviour: Sequence[np.ndarray], metadata: Sequence[np.ndarray], batch_size: int, end: int
) -> dict[str, float]:
    """Sizes of the two corpora, and the trained model's loss on each."""
    return {
        "behaviour_tokens": sum(map(len, behaviour)),
        "metadata_tokens": sum(map(len, metadata)),
        "behaviour_loss": mean_loss(model, behaviour, batch_size, end),
        "metadata_loss": mean_loss(model, metadata, batch_size, end),
    }


def _cost(
    model: PreTrainedModel, batches: Callable[[int], Iterator[Batch]], recipe: loop.Recipe, state: loop.Progress
) -> dict[str, int]:
    """Cost of the training; an example is a block, without padding."""

    def size(batch: Batch) -> Size:
        return Size(len(batch.tokens), batch.tokens.numel(), batch.tokens.numel())

    loss = functools.partial(next_token_loss, model)
    return asdict(training_cost(model, batches, size, loss, steps=state.step, steps_per_epoch=recipe.steps_per_epoch))


def _base_files(base: str) -> list[Path]:
    """The files of a local base model; none for scratch or a hub model."""
    folder = Path(base)
    if base == SCRATCH or not folder.is_dir():
        return []
    return sorted(path for path in folder.iterdir() if path.is_file())


def _base_model(
    config: RunConfig, data: inputs.Prepared, table: SidTable
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """The base model with the codes' tokens in its vocabulary, their embeddings initialised from the codewords."""
    settings = config.cpt
    codebooks = inputs.read_codebooks(config.workdir)
    if settings.base == SCRATCH:
        texts = [documents.HISTORY_PREFIX, *documents.item_documents(data.items, [""] * len(data.items))]
        tokenizer: PreTrainedTokenizerBase = vocab.train_tokenizer(texts, settings.scratch.text_vocabulary)
        vocab.add_sid_tokens(tokenizer, table.sizes)
        shape = settings.scratch
        model: PreTrainedModel = vocab.scratch_model(
            vocab.ScratchShape(shape.hidden_size, shape.layers, shape.heads, shape.intermediate_size),
            tokenizer,
            max(settings.context_length, 2048),
        )
        directions = code_directions(codebooks, shape.hidden_size, config.seed)
        vocab.place_codes(model, vocab.codec_of(tokenizer, table.sizes), directions)
        return model, tokenizer
    model, tokenizer = folders.base_model(settings.base)
    vocab.add_sid_tokens(tokenizer, table.sizes)
    directions = code_directions(codebooks, vocab.embedding_width(model), config.seed)
    vocab.extend_embeddings(model, tokenizer, table.sizes, directions)
    vocab.check_control_tokens(model, vocab.codec_of(tokenizer, table.sizes))
    check_head(model)
    check_tree_attention(model)
    return model, tokenizer


def _held_out(config: RunConfig, data: inputs.Prepared) -> tuple[np.ndarray, np.ndarray]:
    """Which users (U,) and items (N,) bool have documents that are not trained on, drawn by the seed."""
    sizes = config.cpt.measure
    found = []
    for number, (n, most) in enumerate(((len(data.histories.train), sizes.users), (len(data.items), sizes.items))):
        chosen = np.zeros(n, dtype=bool)
        drawn = np.random.default_rng([config.seed, number]).permutation(n)
        chosen[drawn[: min(most, int(HELD_OUT * n))]] = True
        found.append(chosen)
    return found[0], found[1]


def _corpora(
    config: RunConfig,
    data: inputs.Prepared,
    table: SidTable,
    tokenizer: PreTrainedTokenizerBase,
    held: tuple[np.ndarray, np.ndarray],
) -> dict[str, cpt_measures.HeldOut]:
    """Token ids of behaviour documents (training histories only) and of item documents, some of each held out."""
    codec = vocab.codec_of(tokenizer, table.sizes)
    item_tokens = codec.encode(table.codes)
    prefix = documents.history_prefix(tokenizer)

    def behaviour(kept: np.ndarray) -> list[np.ndarray]:
        histories = [history for history, wanted in zip(data.histories.train, kept, strict=True) if wanted]
        windows = documents.history_windows(histories, config.cpt.max_history)
        return [np.concatenate([prefix, item_tokens[window].reshape(-1)]) for window in windows]

    def metadata(kept: np.ndarray) -> list[np.ndarray]:
        return documents.encode_item_documents(tokenizer, codec, table.codes[kept], data.items[kept])

    users, items = held
    asked = behaviour(users)[: config.cpt.measure.users]  # some of them may have several
    return {
        "behaviour": cpt_measures.HeldOut(asked, behaviour(~users)),
        "metadata": cpt_measures.HeldOut(metadata(items), metadata(~items)),
    }


def _material(
    config: RunConfig,
    data: inputs.Prepared,
    table: SidTable,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    held: np.ndarray,
    corpora: Mapping[str, cpt_measures.HeldOut],
) -> cpt_measures.Material:
    """What the model is measured with."""
    codec = vocab.codec_of(tokenizer, table.sizes)
    _, histories, targets = inputs.validation_sample(data, config.cpt.measure.users, config.seed)
    end = _end_token(tokenizer)

    def encode(found: Sequence[Sequence[Piece]]) -> list[np.ndarray]:
        names = [codec.text(row) for row in table.codes]
        texts = [shown(parts, names) for parts in found]
        return [np.asarray(ids, dtype=np.int64) for ids in tokenizer(texts, add_special_tokens=False)["input_ids"]]

    return cpt_measures.Material(
        model=model,
        tokenizer=tokenizer,
        codec=codec,
        items=data.items,
        table=table,
        popularity=data.popularity,
        held_items=held,
        documents=corpora,
        histories=histories,
        targets=targets,
        prefix=documents.history_prefix(tokenizer),
        max_history=config.cpt.max_history,
        filter_seen=config.eval.filter_seen,
        encode=encode,
        ends=[end],
        pad=end,
        templates=TEMPLATES,
        seed=config.seed,
        n_items=config.cpt.measure.items,
    )


def _end_token(tokenizer: PreTrainedTokenizerBase) -> int:
    for token in (tokenizer.eos_token_id, tokenizer.pad_token_id):
        if token is not None:
            return int(token)
    raise ValueError("a tokenizer needs an end or a padding token")
