"""Stage tokenize: item vectors -> Semantic IDs."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from safetensors.torch import save_file, save_model

from plum import artifacts, training
from plum.config import RunConfig
from plum.config_items import TokenizeConfig
from plum.runtime import pick_device, seed_everything
from plum.sid.collisions import add_suffix, reassign
from plum.sid.cooccurrence import cooccurrence_pairs
from plum.sid.fit import LossWeights, assign_codes, batches_per_epoch, encode_all, standardise, train_rqvae
from plum.sid.kmeans import residual_kmeans
from plum.sid.quality import level_health, refuse_collapse, uniqueness
from plum.sid.rqvae import RQVAE
from plum.sid.table import SidTable, bucket_rank, default_sizes
from plum.sid.trie import Trie, fingerprint
from plum.stages import common

logger = logging.getLogger(__name__)


def run(config: RunConfig, force: bool = False) -> Path:
    """Write the Semantic IDs, their index, the model, ``quality.json`` and the training log; skip if up to date.

    ``index.safetensors`` is the trie of ``semantic_ids.parquet``, in which items that share a SID stand by popularity;
    ``rqvae.safetensors`` holds the model.

    Raises:
        PlumError: on unusable features or a collapsed codebook; nothing is written then.
    """
    summary = config.workdir / artifacts.FEATURES_SUMMARY
    made = artifacts.read_json(summary)["modalities"] if summary.exists() else []
    names = [f"features/{name}.npy" for name in made]
    stage = artifacts.StageRun(
        config.workdir,
        artifacts.TOKENIZE,
        common.recorded(config, artifacts.TOKENIZE),
        config.seed,
        [artifacts.ITEMS, artifacts.SPLIT, artifacts.FEATURES_SUMMARY, *names],
    )
    common.warn_outdated(config, artifacts.DATA)
    if stage.is_complete() and not force:
        logger.info("tokenize: up to date")
        return stage.folder
    seed_everything(config.seed)
    data = common.read_prepared(config.workdir)
    vectors = [standardise(np.load(config.workdir / name, allow_pickle=False), Path(name).stem) for name in names]
    sizes = config.tokenize.codebook_sizes or default_sizes(len(data.items))
    with stage.writing(force) as folder:
        fit = _rqkmeans if config.tokenize.method == "rqkmeans" else _rqvae
        fitted = fit(config, data, vectors, sizes, stage.checkpoint, folder)
        refuse_collapse(level_health(fitted.codes, sizes), len(fitted.codes), config.tokenize.min_usage)
        table = _without_collisions(config.tokenize, fitted, data.popularity)
        _write(folder, data.items["item_id"], table, fitted)
        trie = Trie.build(table.codes, table.sizes, bucket_rank(table.codes, data.popularity))
        trie.save(folder / Path(artifacts.SID_INDEX).name, fingerprint(table.codes, table.sizes))
    return stage.folder


class Fitted(NamedTuple):
    """What a method made of the catalogue, before any rule for collisions.

    Attributes:
        codes: (N, L) int64.
        vectors: (N, D), what was quantised.
        codebooks: L arrays (C, D).
        error: mean squared reconstruction error per dimension.
    """

    codes: np.ndarray
    vectors: np.ndarray
    codebooks: list[np.ndarray]
    error: float


def _without_collisions(settings: TokenizeConfig, fitted: Fitted, popularity: np.ndarray) -> SidTable:
    sizes = tuple(len(book) for book in fitted.codebooks)
    if settings.collision == "suffix":
        return add_suffix(fitted.codes, sizes, popularity)
    if settings.collision == "reassign":
        moved = reassign(fitted.codes, fitted.vectors, fitted.codebooks, popularity, settings.capacity)
        return SidTable(moved, sizes)
    return SidTable(fitted.codes, sizes)


def _rqvae(
    config: RunConfig,
    data: common.Prepared,
    vectors: list[np.ndarray],
    sizes: list[int],
    checkpoint: Path,
    folder: Path,
) -> Fitted:
    settings = config.tokenize
    device = pick_device(config.device)
    model = RQVAE([x.shape[1] for x in vectors], sizes, settings.latent_dim, settings.hidden_dim).to(device)
    modalities = [torch.from_numpy(x).to(device) for x in vectors]
    pairs = cooccurrence_pairs(data.histories.train, settings.cooccurrence_window)
    weights = LossWeights(settings.beta, settings.contrastive_weight, settings.progressive_masking)
    recipe = common.recipe(settings, batches_per_epoch(len(data.items), settings.batch_size))
    state = train_rqvae(model, modalities, pairs, recipe, weights, settings.batch_size, config.seed, checkpoint)
    training.write_log(folder / "train_log.jsonl", state)
    save_model(model, str(folder / "rqvae.safetensors"))
    codes, error = assign_codes(model, modalities)
    latents = encode_all(model, modalities).cpu().numpy()
    return Fitted(codes, latents, [book.detach().cpu().numpy() for book in model.codebooks], error)


def _rqkmeans(
    config: RunConfig,
    data: common.Prepared,
    vectors: list[np.ndarray],
    sizes: list[int],
    checkpoint: Path,
    folder: Path,
) -> Fitted:
    joined = np.concatenate(vectors, axis=1)
    codebooks, codes = residual_kmeans(joined, sizes, config.seed)
    tensors = {f"codebooks.{level}": torch.from_numpy(book) for level, book in enumerate(codebooks)}
    save_file(tensors, str(folder / "rqvae.safetensors"))
    approximation = sum(book[codes[:, level]] for level, book in enumerate(codebooks))
    return Fitted(codes, joined, codebooks, float(((joined - approximation) ** 2).mean()))


def _write(folder: Path, item_ids: pd.Series, table: SidTable, fitted: Fitted) -> None:
    columns = {f"code_{level}": table.codes[:, level].astype(np.int32) for level in range(table.n_levels)}
    artifacts.write_table(folder / "semantic_ids.parquet", pd.DataFrame({"item_id": item_ids, **columns}))
    quality = {
        **uniqueness(fitted.codes),
        "reconstruction": fitted.error,
        "disambiguated": table.n_levels > fitted.codes.shape[1],
        "reassigned": float((table.codes[:, : fitted.codes.shape[1]] != fitted.codes).any(axis=1).mean()),
        "levels": level_health(table.codes, table.sizes),
    }
    artifacts.write_json(folder / "quality.json", quality)
    logger.info(
        "tokenize: %d items, sizes %s, uniqueness %.1f%%, largest bucket %d, perplexities %s",
        table.n_items,
        "x".join(map(str, table.sizes)),
        100 * quality["uniqueness"],
        quality["max_items_per_sid"],
        ", ".join(f"{level['perplexity']:.0f}" for level in quality["levels"]),
    )
