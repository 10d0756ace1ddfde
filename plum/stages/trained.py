"""The trained models of a run as retrievers, read from the folders of its stages."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import torch

from plum.config.dense import DenseConfig, combinations, with_settings
from plum.config.run import RunConfig
from plum.decoding.beam import Quota, Scoring
from plum.errors import PlumError
from plum.lm import documents, folders, vocab
from plum.retrievers.dense import Dense, ItemTransformer, MeanDense
from plum.retrievers.generative import Generative
from plum.run import artifacts, saved, shapes, verified
from plum.runtime import pick_device
from plum.stages import inputs, training


def plum_retriever(config: RunConfig, data: inputs.Prepared, quota: Quota | None = None) -> Generative:
    """The fine-tuned language model as a retriever.

    Raises:
        PlumError: if eval.beams has another number of levels than the Semantic IDs.
    """
    table = inputs.read_sid_table(config.workdir, data.items)
    inputs.check_beams(config.eval, table.n_levels)
    verified.verify_folder(config.workdir / artifacts.FINETUNE_MODEL)
    model, tokenizer = folders.run_model(config.workdir / artifacts.FINETUNE_MODEL)
    training.move(model, config.device)
    return Generative(
        model,
        table,
        vocab.codec_of(tokenizer, table.sizes),
        documents.history_prefix(tokenizer),
        config.finetune.max_history,
        data.popularity,
        config.eval.beams,
        trie=inputs.read_index(config.workdir, table),
        scoring=Scoring(config.eval.scores_over),
        quota=quota,
    )


def dense_retriever(config: RunConfig, kind: str, items: pd.DataFrame) -> Dense:
    """A trained dense baseline as a retriever of a catalogue; see ``dense_model``. Its name is its kind.

    It knows the items that may be learnt from (``inputs.read_known``).
    """
    known = inputs.read_known(config.workdir, items["item_id"])
    model = dense_model(config, kind, int(known.sum())).to(pick_device(config.device))
    return Dense(model, kind, known=None if known.all() else known)


def mean_of_trials(config: RunConfig, items: pd.DataFrame) -> MeanDense:
    """All trials of the dense baseline's search as one retriever; see ``dense_retriever``."""
    known = inputs.read_known(config.workdir, items["item_id"])
    device = pick_device(config.device)
    models = [model.to(device) for model in dense_trials(config, int(known.sum()))]
    return MeanDense(models, known=None if known.all() else known)


def dense_model(config: RunConfig, kind: str, n_items: int) -> ItemTransformer:
    """A trained dense baseline, with the settings chosen by its stage.

    Args:
        config: of the run.
        kind: ``artifacts.DENSE`` or ``artifacts.LEM``.
        n_items: M, the items that may be learnt from.

    Raises:
        PlumError: if its files are damaged, or of another search or catalogue.
        ValueError: for a baseline that the configuration leaves out.
    """
    path = config.workdir / kind / "metrics.json"
    chosen = artifacts.read_json(path, shapes.Chosen)["chosen"]
    return _loaded(config, kind, chosen, path, f"{kind}.safetensors", n_items)


def dense_trials(config: RunConfig, n_items: int) -> list[ItemTransformer]:
    """The kept dense baselines of all trials of the search; see ``dense_model``."""
    path = config.workdir / artifacts.DENSE_TRIALS
    return [
        _loaded(
            config, artifacts.DENSE, trial["settings"], path, artifacts.TRIAL_WEIGHTS.format(number=number), n_items
        )
        for number, trial in enumerate(artifacts.read_json(path, list[shapes.Trial]))
    ]


def _loaded(
    config: RunConfig, kind: str, chosen: dict[str, Any], source: Path, weights: str, n_items: int
) -> ItemTransformer:
    """A baseline with trained weights.

    Args:
        config: of the run.
        kind: of the baseline.
        chosen: the settings of its trial, from the file ``source``.
        source: for the message.
        weights: file of the weights in the baseline's folder.
        n_items: M.
    """
    settings = dense_settings(config, kind)
    if chosen not in combinations(settings.search):  # which also bounds what is allocated
        found = f"{chosen or 'none'}; eval.{kind}.search holds {settings.search or 'nothing'}"
        fix = artifacts.made_again_by(source)
        raise PlumError(f"{source} names settings that the search does not have", found, fix)
    path = config.workdir / kind / weights
    fix = artifacts.made_again_by(path)
    arrays = saved.read_arrays(path, "a baseline's weights", fix)
    model = untrained_dense(with_settings(settings, chosen), n_items)
    shapes_of = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    saved.refuse_other_shapes(path, arrays, shapes_of, fix)
    model.load_state_dict({name: torch.from_numpy(array) for name, array in arrays.items()})
    return model


def dense_settings(config: RunConfig, kind: str) -> DenseConfig:
    """The section of a dense baseline; see ``dense_model``."""
    settings = {artifacts.DENSE: config.eval.dense, artifacts.LEM: config.eval.lem}[kind]
    if settings is None:
        raise ValueError(f"eval.{kind} is null: this configuration has no such baseline")
    return settings


def untrained_dense(settings: DenseConfig, n_items: int) -> ItemTransformer:
    """The dense baseline of a configuration, before training."""
    return ItemTransformer(
        n_items,
        settings.max_history,
        settings.hidden_size,
        settings.layers,
        settings.heads,
        settings.dropout,
        settings.embedding_size,
        settings.tied,
        settings.block,
        settings.feed_forward,
        settings.scaled_embeddings,
        settings.initial_weights,
    )
