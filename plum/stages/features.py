"""Stage features: item content -> one dense matrix per modality."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pandas as pd

from plum import artifacts
from plum.config import RunConfig
from plum.config_items import ModalityConfig
from plum.errors import PlumError
from plum.features.cooccurrence import cooccurrence_vectors
from plum.features.sentences import sentence_vectors
from plum.features.text import join_fields, tfidf_vectors, topic_vectors
from plum.runtime import pick_device, seed_everything
from plum.stages import common

logger = logging.getLogger(__name__)


def run(config: RunConfig, force: bool = False) -> Path:
    """Write ``features/<modality>.npy`` (N, D) and ``features.json``; skip if up to date."""
    files = [m.path for m in config.features.modalities.values() if m.path]
    for modality in config.features.modalities.values():
        if modality.model and Path(modality.model).is_dir():
            files += sorted(path for path in Path(modality.model).rglob("*") if path.is_file())
    stage = artifacts.StageRun(
        config.workdir,
        artifacts.FEATURES,
        common.recorded(config, artifacts.FEATURES),
        config.seed,
        [artifacts.ITEMS, *([artifacts.SPLIT] if _reads_histories(config) else [])],
        files,
    )
    if stage.is_complete() and not force:
        logger.info("features: up to date")
        return stage.folder
    seed_everything(config.seed)
    items = artifacts.read_table(config.workdir / artifacts.ITEMS)
    summary = {}
    with stage.writing(force) as folder:
        for name, modality in config.features.modalities.items():
            if not _has_content(modality, items):
                fields = ", ".join(modality.fields)
                logger.warning("features: no item has %s; modality %s is left out", fields, name)
                continue
            vectors = _vectors(modality, items, config)
            np.save(folder / f"{name}.npy", vectors, allow_pickle=False)
            summary[name] = {"encoder": modality.encoder, "shape": list(vectors.shape)}
            logger.info("features: %s, %d items, %d dimensions", name, *vectors.shape)
        if not summary:
            raise PlumError(
                "the items have no content to make Semantic IDs of",
                "no title, topics, creator or description",
                "name an items file in data.source.items, or give vectors of your own: "
                "features.modalities.NAME with encoder: file and path: VECTORS.npy",
            )
        artifacts.write_json(folder / "features.json", {"modalities": summary})
    return stage.folder


def _reads_histories(config: RunConfig) -> bool:
    return any(modality.encoder == "cooccurrence" for modality in config.features.modalities.values())


def _has_content(modality: ModalityConfig, items: pd.DataFrame) -> bool:
    """Whether any item has any of the modality's fields; vectors of another source need none."""
    if modality.encoder in ("file", "cooccurrence"):
        return True
    fields = ["topics"] if modality.encoder == "topics" else modality.fields
    return any(text.strip() for text in join_fields([items[field] for field in fields]))


def _vectors(modality: ModalityConfig, items: pd.DataFrame, config: RunConfig) -> np.ndarray:
    if modality.encoder == "topics":
        topics = [[] if value is None else list(value) for value in items["topics"]]
        return topic_vectors(topics, modality.dimensions, config.seed)
    if modality.encoder == "cooccurrence":
        train = common.read_prepared(config.workdir).histories.train
        return cooccurrence_vectors(train, len(items), modality.dimensions, config.seed, modality.window)
    if modality.path and modality.encoder == "file":
        return _given(modality.path, len(items))
    texts = join_fields([items[field] for field in modality.fields])
    if modality.encoder == "tfidf":
        return tfidf_vectors(texts, modality.dimensions, config.seed)
    return sentence_vectors(texts, str(modality.model), pick_device(config.device).type)


def _given(path: Path, n_items: int) -> np.ndarray:
    try:
        vectors = np.load(path, allow_pickle=False)
        if not isinstance(vectors, np.ndarray):
            raise ValueError("it holds several arrays")
        vectors = vectors.astype(np.float32)
    except (OSError, EOFError, ValueError) as error:
        raise PlumError(f"{path} is no .npy file of numbers", str(error), "save a float32 array") from None
    if vectors.ndim != 2 or len(vectors) != n_items:
        raise PlumError(
            f"{path} does not fit the catalogue",
            f"shape {vectors.shape}, {n_items:,} items",
            "give one row per item, in the order of data/items.parquet",
        )
    return vectors
