"""The training of the RQ-VAE for a run, and what it reached beside residual k-means."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from plum.config.run import RunConfig
from plum.run import artifacts
from plum.runtime import pick_device
from plum.sid.codebooks import CodebookRules
from plum.sid.cooccurrence import Pairs
from plum.sid.fit import LossWeights, default_steps, held_out_rows, rounds_of, train_rqvae
from plum.sid.methods import Fitted, clustered, quantised_by
from plum.sid.reference import reconstruction_ratio
from plum.sid.rqvae import RQVAE, Content
from plum.stages import training
from plum.stages.tokenize import reading
from plum.training.loop import Progress

logger = logging.getLogger(__name__)

UNTRAINED: dict[str, Any] = {
    "reconstruction_ratio": None,
    "unquantised_by_modality": None,
    "reference_by_modality": None,
    "training": None,
    "gradient_norms": None,
}
"""What ``quality.json`` says of the training where there was none."""


def train(
    config: RunConfig,
    features: reading.Features,
    sizes: list[int],
    pairs: Pairs,
    warm: Mapping[str, Tensor] | None,
    folder: Path,
) -> tuple[Fitted, Progress, int]:
    """Train the configured RQ-VAE, or go on from the checkpoint in ``folder``.

    Returns:
        The codes of the catalogue, the progress with its log, and the number of items held out.
    """
    settings = config.tokenize
    device, shape = pick_device(config.device), reading.shape_of(settings)
    widths = [modality.width for modality in features.modalities]
    model = RQVAE(widths, sizes, shape.latent_dim, shape.hidden_dim, shape.ema)
    if warm is not None:
        model.load_state_dict(warm, strict=False)
    model.to(device)
    gaps = None if features.gaps is None else torch.from_numpy(features.gaps).to(device)
    content = Content([torch.from_numpy(x).to(device) for x in features.vectors], gaps)
    held_out = held_out_rows(content.n_items, settings.held_out, config.seed)
    rounds, steps = rounds_of(settings.max_steps or default_steps(content.n_items))
    state = train_rqvae(
        model,
        content,
        pairs,
        training.recipe(settings, steps, settings.patience, epochs=rounds),
        LossWeights(
            settings.beta,
            settings.contrastive_weight,
            settings.progressive_masking,
            settings.loss_scale == "mean",
            tuple(features.weights),
        ),
        CodebookRules(settings.kmeans_init, settings.reset_dead_codes, settings.ema_decay),
        settings.batch_size,
        config.seed,
        folder / artifacts.CHECKPOINT,
        held_out,
        warm is not None,
    )
    return quantised_by(model, shape, content), state, len(held_out)


def quality(
    config: RunConfig, features: reading.Features, sizes: Sequence[int], fitted: Fitted, state: Progress, n_held: int
) -> dict[str, Any]:
    """What ``quality.json`` says of the training: errors beside their reference, how it ended, the terms' gradients."""
    reference = clustered(features.vectors, features.gaps, sizes, config.seed, features.weights).errors
    errors, unquantised = fitted.errors, fitted.unquantised
    if errors is None or unquantised is None or reference is None:
        raise ValueError("only an RQ-VAE has errors with and without its quantiser")
    ratio = reconstruction_ratio(errors.tolist(), reference.tolist(), features.weights)
    if ratio is not None:
        logger.info("tokenize: reconstruction error %.3f times RQ-KMeans'", ratio)
    names = [modality.name for modality in features.modalities]
    return {
        "reconstruction_ratio": ratio,
        "unquantised_by_modality": dict(zip(names, unquantised.tolist(), strict=True)),
        "reference_by_modality": dict(zip(names, reference.tolist(), strict=True)),
        "training": _ending(state, n_held),
        "gradient_norms": _gradient_norms(state),
    }


def _ending(state: Progress, n_held: int) -> dict[str, Any]:
    """How the training ended: ``steps`` made, the watched items' smallest error, and where it was."""
    items = f"the {n_held} held-out items" if n_held else "items of the catalogue"
    if state.stopped:
        how = f"stopped: the error of {items} has not fallen since step"
    elif state.best_step == state.step:
        how = f"the error of {items} still fell at the end; raise tokenize.max_steps to go on. Smallest at step"
    else:
        how = f"the error of {items} was smallest at step"
    logger.info("tokenize: %d steps; %s %d, whose weights are kept", state.step, how, state.best_step)
    return {
        "steps": state.step,
        "held_out_items": n_held,
        "stopped": "patience" if state.stopped else "max_steps",
        "best_step": state.best_step,
        "smallest_loss": round(-state.best_value, 6),
    }


def _gradient_norms(state: Progress) -> dict[str, float]:
    """The mean norm of each weighted term's gradient on the encoders, over the training."""
    names = dict.fromkeys(name for entry in state.log for name in entry if name.startswith("gradient_"))
    return {
        name.removeprefix("gradient_"): float(np.mean([entry[name] for entry in state.log if name in entry]))
        for name in names
    }
