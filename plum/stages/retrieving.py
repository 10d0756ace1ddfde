"""The retrievers of a run, built from what its stages wrote."""

from __future__ import annotations

import numpy as np
from safetensors.numpy import load_file as load_arrays
from safetensors.torch import load_file

from plum import artifacts
from plum.config import DenseConfig, RunConfig
from plum.data.synthetic import BayesOptimal
from plum.lm import documents, vocab
from plum.retrieval.beam import Quota, Scoring
from plum.retrieval.dense import Dense, SASRec
from plum.retrieval.generative import Generative
from plum.retrieval.interface import Retriever
from plum.retrieval.simple import ItemKNN, Popularity
from plum.runtime import pick_device
from plum.stages import common


def all_retrievers(config: RunConfig, data: common.Prepared) -> dict[str, Retriever]:
    """All retrievers by name, weakest first."""
    users = np.repeat(np.arange(len(data.histories.train)), [len(h) for h in data.histories.train])
    sasrec = untrained_dense(config.eval.dense, len(data.items))
    sasrec.load_state_dict(load_file(config.workdir / artifacts.DENSE_MODEL))
    retrievers: list[Retriever] = [
        Popularity(data.popularity),
        ItemKNN(users, np.concatenate(data.histories.train), len(data.items)),
        Dense(sasrec.to(pick_device(config.device))),
        plum_retriever(config, data),
    ]
    if artifacts.has(config.workdir, artifacts.TRUTH):
        retrievers.append(BayesOptimal(load_arrays(config.workdir / artifacts.TRUTH)))
    return {retriever.name: retriever for retriever in retrievers}


def plum_retriever(config: RunConfig, data: common.Prepared, quota: Quota | None = None) -> Generative:
    """The fine-tuned language model as a retriever.

    Raises:
        PlumError: if there is a beam width per level for another number of levels.
    """
    table = common.read_sid_table(config.workdir, data.items)
    common.check_beams(config.eval, table.n_levels)
    model, tokenizer = vocab.load_model_folder(config.workdir / artifacts.FINETUNE_MODEL)
    common.move(model, config.device)
    return Generative(
        model,
        table,
        vocab.codec_of(tokenizer, table.sizes),
        documents.history_prefix(tokenizer),
        config.finetune.max_history,
        data.popularity,
        config.eval.beams,
        trie=common.read_index(config.workdir, table),
        scoring=Scoring(config.eval.scores_over),
        quota=quota,
    )


def untrained_dense(settings: DenseConfig, n_items: int) -> SASRec:
    """The dense baseline of a configuration, before training."""
    return SASRec(
        n_items, settings.max_history, settings.hidden_size, settings.layers, settings.heads, settings.dropout
    )
