"""Stage tokenize: item vectors -> Semantic IDs."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from torch import Tensor

from plum.config.items import TokenizeConfig
from plum.config.run import RunConfig
from plum.decoding.trie import Trie, fingerprint
from plum.features.encoding import refuse_repeated
from plum.run import artifacts
from plum.run.stage import StageRun
from plum.runtime import seed_everything
from plum.sid.agreement import cooccurrence_agreement, heldout_pairs, neighbour_overlap
from plum.sid.collisions import add_suffix, reassign
from plum.sid.cooccurrence import Pairs
from plum.sid.frozen import Frozen, Rules
from plum.sid.methods import Fitted, clustered, drawn
from plum.sid.quality import Thresholds, buckets, level_health, refuse_unhealthy, same_content, uniqueness
from plum.sid.reference import refuse_unlearnt
from plum.sid.table import SidTable, bucket_rank
from plum.stages import inputs
from plum.stages.tokenize import learning, reading
from plum.stages.tokenize.later import quality_of_all, with_later
from plum.training import loop

logger = logging.getLogger(__name__)


def run(config: RunConfig, force: bool = False) -> Path:
    """Write the Semantic IDs, their index, the tokenizer, ``quality.json`` and the training log; skip if up to date.

    ``index.safetensors`` is the trie of ``semantic_ids.parquet``, in which items that share a SID are ordered by
    popularity; ``rqvae.safetensors`` and ``tokenizer.json`` hold the tokenizer, which ``plum.sid.frozen`` reads.

    Raises:
        PlumError: on unusable features or settings, before anything is written; or on unhealthy codebooks. Then the
            folder does not change, and ``.tokenize.partial`` keeps the training's checkpoint and log, so that the same
            settings are refused again at once.
    """
    stage = StageRun(
        config.workdir,
        artifacts.TOKENIZE,
        inputs.recorded(config, artifacts.TOKENIZE),
        config.seed,
        reading.input_files(config),
        reading.other_runs_files(config),
    )
    inputs.warn_outdated(config, artifacts.DATA)
    if stage.is_complete() and not force:
        logger.info("tokenize: up to date")
        return stage.folder
    seed_everything(config.seed)
    items = config.workdir / artifacts.ITEMS
    item_ids = artifacts.read_table(items, ["item_id"])["item_id"]
    refuse_repeated(item_ids.tolist(), str(items), "run `plum data prepare --force`")
    data = inputs.read_prepared(config.workdir)
    known = inputs.read_known(config.workdir, item_ids)
    seen = data.only(known)  # all that is learnt and counted
    modalities = config.features.modalities
    features = reading.read_features(config.workdir, item_ids, config.tokenize.warm_start, modalities)
    sizes, reason = reading.choose_sizes(config.tokenize, len(seen.items), len(data.items) - len(seen.items))
    pairs = reading.training_pairs(config, seen)
    warm = reading.warm_weights(config.tokenize, features, sizes)
    earlier = reading.read_earlier(config.tokenize, item_ids, len(sizes))
    reading.warn_of_repeats(config.tokenize, features, sizes)
    with stage.writing(force) as folder:
        fitted, learnt = _fit(config, seen, features, sizes, pairs, warm, folder)
        _refuse_unhealthy(config.tokenize, fitted, features)
        table = _without_collisions(config.tokenize, fitted, seen.popularity)
        frozen = _frozen(config, features, fitted, table)
        whole = with_later(config.workdir, frozen, fitted.codes, table, item_ids, known)
        survived = reading.stability(earlier, item_ids, whole.table.codes[:, : len(sizes)])
        content = inputs.content_vectors(config.workdir)
        content = content if content is None or known.all() else content[known]
        quality = _quality(config, seen, features, fitted, table, content)
        quality |= {**learnt, "stability": survived, "sizes_reason": reason}
        if not known.all():
            quality["all_items"] = quality_of_all(whole, data.histories)
        frozen.save(folder)
        _write(folder, data, whole.table, quality)
    return stage.folder


def _fit(
    config: RunConfig,
    data: inputs.Prepared,
    features: reading.Features,
    sizes: list[int],
    pairs: Pairs,
    warm: dict[str, Tensor] | None,
    folder: Path,
) -> tuple[Fitted, dict[str, Any]]:
    """The codes of the configured method, and what ``quality.json`` says of its training."""
    settings = config.tokenize
    if settings.method == "random":
        return drawn(data.items["item_id"].tolist(), sizes, settings.latent_dim, config.seed), learning.UNTRAINED
    for modality, there in zip(features.modalities, features.present.T, strict=True):
        if n_lacking := int((~there).sum()):
            stands_in = "the mean" if settings.method == "rqkmeans" else "a learned vector"
            logger.info("tokenize: %d items lack %s; %s replaces it", n_lacking, modality.name, stands_in)
    if settings.method == "rqkmeans":
        return clustered(features.vectors, features.gaps, sizes, config.seed, features.weights), learning.UNTRAINED
    fitted, state, n_held = learning.train(config, features, sizes, pairs, warm, folder)
    loop.write_log(folder / "train_log.jsonl", state)
    learnt = learning.quality(config, features, sizes, fitted, state, n_held)
    refuse_unlearnt(learnt["reconstruction_ratio"], settings.max_reconstruction_ratio)
    return fitted, learnt


def _refuse_unhealthy(settings: TokenizeConfig, fitted: Fitted, features: reading.Features) -> None:
    thresholds = Thresholds(
        settings.min_usage, settings.min_perplexity_share, settings.max_bucket, settings.min_uniqueness
    )
    sizes = [len(book) for book in fitted.codebooks]
    health = {
        **uniqueness(fitted.codes),
        "levels": level_health(fitted.codes, sizes),
        "same_content": same_content(fitted.codes, features.vectors),
    }
    refuse_unhealthy(health, len(fitted.codes), thresholds)


def _without_collisions(settings: TokenizeConfig, fitted: Fitted, popularity: np.ndarray) -> SidTable:
    sizes = tuple(len(book) for book in fitted.codebooks)
    if settings.collision == "suffix":
        return add_suffix(fitted.codes, sizes, popularity)
    if settings.collision == "reassign":
        moved = reassign(fitted.codes, fitted.vectors, fitted.codebooks, popularity, settings.capacity)
        return SidTable(moved, sizes)
    return SidTable(fitted.codes, sizes)


def _frozen(config: RunConfig, features: reading.Features, fitted: Fitted, table: SidTable) -> Frozen:
    settings = config.tokenize
    rules = Rules(config.seed, settings.collision, settings.capacity, table.sizes)
    modalities = () if settings.method == "random" else tuple(features.modalities)  # random codes use no content
    return Frozen(settings.method, modalities, fitted.codebooks, rules, fitted.shape, fitted.model)


def _quality(
    config: RunConfig,
    data: inputs.Prepared,
    features: reading.Features,
    fitted: Fitted,
    table: SidTable,
    content: np.ndarray | None,
) -> dict[str, Any]:
    """The content of ``quality.json``, all over the items that the tokenizer learnt from.

    ``levels`` are of the final Semantic IDs, the rest of the content codes.
    """
    codes = fitted.codes
    names = [modality.name for modality in features.modalities]
    errors = None if fitted.errors is None else dict(zip(names, fitted.errors.tolist(), strict=True))
    return {
        **uniqueness(codes),
        "buckets": buckets(codes),
        "reconstruction": None if errors is None else float(np.mean(list(errors.values()))),
        "reconstruction_by_modality": errors,
        "modalities": reading.described(config.workdir, features),
        "items_without_content": features.n_bare,
        "neighbour_overlap": None if content is None else neighbour_overlap(codes, content, seed=config.seed),
        "cooccurrence_agreement": cooccurrence_agreement(codes, heldout_pairs(data.histories)),
        "disambiguated": table.n_levels > codes.shape[1],
        "reassigned": float((table.codes[:, : codes.shape[1]] != codes).any(axis=1).mean()),
        "levels": level_health(table.codes, table.sizes),
    }


def _write(folder: Path, data: inputs.Prepared, table: SidTable, quality: dict[str, Any]) -> None:
    columns = {f"code_{level}": table.codes[:, level].astype(np.int32) for level in range(table.n_levels)}
    ids = pd.DataFrame({"item_id": data.items["item_id"], **columns})
    artifacts.write_table(folder / Path(artifacts.SEMANTIC_IDS).name, ids)
    artifacts.write_json(folder / Path(artifacts.QUALITY).name, quality)
    trie = Trie.build(table.codes, table.sizes, bucket_rank(table.codes, data.popularity))
    trie.save(folder / Path(artifacts.SID_INDEX).name, fingerprint(table.codes, table.sizes))
    logger.info(
        "tokenize: %d items, sizes %s, uniqueness %.1f%%, largest bucket %d, perplexities %s",
        table.n_items,
        "x".join(map(str, table.sizes)),
        100 * quality["uniqueness"],
        quality["max_items_per_sid"],
        ", ".join(f"{level['perplexity']:.0f}" for level in quality["levels"]),
    )
