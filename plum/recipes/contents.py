"""Seconds that features and Semantic IDs of a catalogue take: a part of the work is done, the rest is in proportion."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from plum.config.items import ModalityConfig, TokenizeConfig
from plum.config.run import RunConfig
from plum.errors import PlumError
from plum.features.cooccurrence import fit_cooccurrence
from plum.features.text import fit_tfidf, fit_topics
from plum.recipes.timing import quiet
from plum.sid.codebooks import CodebookRules
from plum.sid.cooccurrence import Pairs
from plum.sid.fit import LossWeights, default_steps, train_rqvae
from plum.sid.kmeans import residual_kmeans
from plum.sid.rqvae import RQVAE, Content
from plum.sid.table import default_sizes
from plum.training.loop import Recipe

SOME_ITEMS, SOME_USERS = 3_000, 2_000
_FEW, _MORE = 2, 24  # optimizer steps whose time is measured
CLUSTERED = 50_000
"""Items, at most, that k-means is fitted on."""


def features_seconds(config: RunConfig, items: pd.DataFrame, train: Sequence[np.ndarray]) -> float:
    """Seconds in which the vectors of all modalities are made."""
    some = items.iloc[:: max(1, len(items) // SOME_ITEMS)].reset_index(drop=True)
    total = 0.0
    for modality in config.features.modalities.values():
        start = time.perf_counter()
        if modality.encoder == "cooccurrence":
            fit_cooccurrence(train[:SOME_USERS], items["item_id"].tolist(), modality.dimensions, config.seed)
            total += (time.perf_counter() - start) * max(1.0, len(train) / SOME_USERS)
            continue
        _encode(modality, some, config.seed)
        total += (time.perf_counter() - start) * max(1.0, len(items) / len(some))
    return total


def _encode(modality: ModalityConfig, items: pd.DataFrame, seed: int) -> None:
    try:
        if modality.encoder == "tfidf":
            fit_tfidf(items, modality.fields, modality.dimensions, seed).transform(items)
        elif modality.encoder == "topics":
            fit_topics(items, modality.dimensions, seed).transform(items)
    except PlumError:
        return  # some of the items may have too little text, where all together have enough


def tokenize_seconds(config: RunConfig, n_items: int) -> float:
    """Seconds in which Semantic IDs are made of vectors."""
    settings = config.tokenize
    sizes = settings.codebook_sizes or default_sizes(n_items)
    widths = [modality.dimensions for modality in config.features.modalities.values()]
    with quiet():
        if settings.method == "rqvae":
            return _rqvae_seconds(settings, sizes, widths, n_items)
        return _kmeans_seconds(sizes, sum(widths), n_items)


def _kmeans_seconds(sizes: Sequence[int], width: int, n_items: int) -> float:
    """Of residual k-means, by a smaller one: its time grows with the points times the centres."""
    fitted = min(n_items, CLUSTERED)
    n = min(fitted, SOME_ITEMS)
    points = np.random.default_rng(0).normal(size=(n, width)).astype(np.float32)
    start = time.perf_counter()
    residual_kmeans(points, [max(2, sizes[0] * n // fitted), *sizes[1:]], 0)
    return (time.perf_counter() - start) * (fitted / n) ** 2


def _rqvae_seconds(settings: TokenizeConfig, sizes: Sequence[int], widths: Sequence[int], n_items: int) -> float:
    """Of the RQ-VAE's start, its steps by the difference between a longer and a shorter training, and its reference."""
    n = min(n_items, SOME_ITEMS)
    rng = np.random.default_rng(0)
    content = Content([torch.from_numpy(rng.normal(size=(n, width)).astype(np.float32)) for width in widths])
    pairs = Pairs(rng.integers(0, n, (10 * n, 2)))
    seconds = []
    for steps in (_FEW, _FEW + _MORE):
        model = RQVAE(widths, list(sizes), settings.latent_dim, settings.hidden_dim)
        recipe = Recipe(1, steps, settings.learning_rate)
        with tempfile.TemporaryDirectory(prefix="plum-init-") as folder:
            start = time.perf_counter()
            train_rqvae(
                model,
                content,
                pairs,
                recipe,
                LossWeights(settings.beta, settings.contrastive_weight, settings.progressive_masking),
                CodebookRules(settings.kmeans_init, settings.reset_dead_codes),
                settings.batch_size,
                0,
                Path(folder) / "checkpoint",
            )
            seconds.append(time.perf_counter() - start)
    a_step = max(0.0, seconds[1] - seconds[0]) / _MORE
    reference = _kmeans_seconds(sizes, sum(widths), n_items)
    return seconds[0] * n_items / n + a_step * (settings.max_steps or default_steps(n_items)) + reference
