"""Stage cpt: continued pre-training of a decoder-only language model on behaviour and item text (PLUM section 2.2)."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path

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
from plum.lm.loss import mean_loss, next_token_loss
from plum.lm.packing import Mixture
from plum.lm.train import train
from plum.run import artifacts
from plum.run.stage import StageRun
from plum.runtime import seed_everything
from plum.sid.table import SidTable
from plum.stages import capacity, inputs, training
from plum.training import loop
from plum.training.cost import Size, training_cost

logger = logging.getLogger(__name__)

INPUTS = (artifacts.ITEMS, artifacts.SPLIT, artifacts.SEMANTIC_IDS, artifacts.QUALITY, artifacts.RQVAE)


def run(config: RunConfig, force: bool = False) -> Path:
    """Write ``cpt/model``, ``train_log.jsonl`` and ``metrics.json``; skip if up to date."""
    stage = StageRun(
        config.workdir,
        artifacts.CPT,
        inputs.recorded(config, artifacts.CPT),
        config.seed,
        [*INPUTS, *inputs.known_files(config.workdir)],
        _base_files(config.cpt.base),
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
    settings, chosen = training.settled(config.cpt, "cpt", model.num_parameters(), config.cpt.base != SCRATCH)
    adapter = training.adapter(model, settings.lora, vocab.flat_token_ids(tokenizer, table.sizes), settings.base)
    behaviour, metadata = _corpora(settings, data, table, tokenizer)
    mixture = _mixture(settings, behaviour, metadata, _end_token(tokenizer), config.seed)

    def batches(epoch: int) -> Iterator[Batch]:
        for block in mixture.batches(epoch):
            tokens = torch.from_numpy(block)
            yield Batch(tokens, tokens)

    chosen |= capacity.check_training("cpt", model, settings, settings.context_length)
    recipe = training.recipe(settings, mixture.steps_per_epoch)
    logger.info(
        "cpt: %s parameters, %s behaviour and %s metadata tokens, %d steps",
        f"{model.num_parameters():,}",
        f"{sum(map(len, behaviour)):,}",
        f"{sum(map(len, metadata)):,}",
        recipe.total_steps,
    )
    with stage.writing(force) as folder:
        state = train(
            model,
            recipe,
            batches,
            checkpoint=stage.checkpoint,
            name="cpt",
            dropout=settings.dropout,
            precision=chosen["precision"],
        )
        loop.write_log(folder / "train_log.jsonl", state)
        cost = _cost(model, batches, recipe, state)
        if adapter:
            adapter.finish(folder / artifacts.ADAPTER)
        folders.save_model_folder(model, tokenizer, folder / "model")
        metrics = {
            "parameters": model.num_parameters(),
            **_facts(model, behaviour, metadata, settings.batch_size, _end_token(tokenizer)),
            "steps": state.step,
            "training": chosen,
            "cost": cost,
        }
        artifacts.write_json(folder / "metrics.json", metrics)
    return stage.folder


def _mixture(
    settings: CptConfig, behaviour: list[np.ndarray], metadata: list[np.ndarray], end: int, seed: int
) -> Mixture:
    length, share = settings.context_length, settings.behaviour_share
    return Mixture(behaviour, metadata, length, settings.batch_size, share, end, seed)


def _facts(
    model: PreTrainedModel, behaviour: list[np.ndarray], metadata: list[np.ndarray], batch_size: int, end: int
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


def _corpora(
    settings: CptConfig, data: inputs.Prepared, table: SidTable, tokenizer: PreTrainedTokenizerBase
) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Token ids of behaviour documents (training histories only) and of item documents."""
    codec = vocab.codec_of(tokenizer, table.sizes)
    item_tokens = codec.encode(table.codes)
    prefix = documents.history_prefix(tokenizer)
    behaviour = [
        np.concatenate([prefix, item_tokens[window].reshape(-1)])
        for window in documents.history_windows(data.histories.train, settings.max_history)
    ]
    return behaviour, documents.encode_item_documents(tokenizer, codec, table.codes, data.items)


def _end_token(tokenizer: PreTrainedTokenizerBase) -> int:
    for token in (tokenizer.eos_token_id, tokenizer.pad_token_id):
        if token is not None:
            return int(token)
    raise ValueError("a tokenizer needs an end or a padding token")
