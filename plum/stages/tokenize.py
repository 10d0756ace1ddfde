"""Stage tokenize: item vectors -> Semantic IDs."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from safetensors.torch import save_file, save_model

from plum import artifacts, training
from plum.config import RunConfig
from plum.runtime import pick_device, seed_everything
from plum.sid.cooccurrence import cooccurrence_pairs
from plum.sid.fit import LossWeights, assign_codes, batches_per_epoch, standardise, train_rqvae
from plum.sid.kmeans import residual_kmeans
from plum.sid.quality import level_health, refuse_collapse, uniqueness
from plum.sid.rqvae import RQVAE
from plum.sid.table import SidTable, add_suffix, bucket_rank, default_sizes
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
        codes, error = fit(config, data, vectors, sizes, stage.checkpoint, folder)
        refuse_collapse(level_health(codes, sizes), len(codes), config.tokenize.min_usage)
        table = SidTable(codes, tuple(sizes))
        if config.tokenize.collision == "suffix":
            table = add_suffix(codes, sizes, data.popularity)
        _write(folder, data.items["item_id"], table, codes, error)
        trie = Trie.build(table.codes, table.sizes, bucket_rank(table.codes, data.popularity))
        trie.save(folder / Path(artifacts.SID_INDEX).name, fingerprint(table.codes, table.sizes))
    return stage.folder


def _rqvae(
    config: RunConfig,
    data: common.Prepared,
    vectors: list[np.ndarray],
    sizes: list[int],
    checkpoint: Path,
    folder: Path,
) -> tuple[np.ndarray, float]:
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
    return assign_codes(model, modalities)


def _rqkmeans(
    config: RunConfig,
    data: common.Prepared,
    vectors: list[np.ndarray],
    sizes: list[int],
    checkpoint: Path,
    folder: Path,
) -> tuple[np.ndarray, float]:
    joined = np.concatenate(vectors, axis=1)
    codebooks, codes = residual_kmeans(joined, sizes, config.seed)
    tensors = {f"codebooks.{level}": torch.from_numpy(book) for level, book in enumerate(codebooks)}
    save_file(tensors, str(folder / "rqvae.safetensors"))
    approximation = sum(book[codes[:, level]] for level, book in enumerate(codebooks))
    return codes, float(((joined - approximation) ** 2).mean())


def _write(folder: Path, item_ids: pd.Series, table: SidTable, codes: np.ndarray, error: float) -> None:
    columns = {f"code_{level}": table.codes[:, level].astype(np.int32) for level in range(table.n_levels)}
    artifacts.write_table(folder / "semantic_ids.parquet", pd.DataFrame({"item_id": item_ids, **columns}))
    quality = {
        **uniqueness(codes),
        "reconstruction": error,
        "disambiguated": table.n_levels > codes.shape[1],
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
