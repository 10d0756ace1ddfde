"""The methods that make Semantic IDs of a catalogue, and their common result."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from torch import Tensor

from plum.errors import PlumError
from plum.sid.codebooks import encode_all
from plum.sid.fit import assign_codes, unquantised_errors
from plum.sid.frozen import Shape, load_frozen
from plum.sid.kmeans import codewords_of, residual_kmeans
from plum.sid.random_codes import random_codebooks, random_codes
from plum.sid.reference import errors_of
from plum.sid.rqvae import RQVAE, Content
from plum.sid.standardise import weighed


class Fitted(NamedTuple):
    """A method's result for the catalogue, before the rule for collisions.

    Attributes:
        codes: (N, L) int64.
        vectors: (N, D), the quantised vectors.
        codebooks: L arrays (C, D).
        errors: (M,) mean squared error per dimension of each modality's reconstruction, over the items that have it;
            None if nothing is reconstructed.
        shape, model: of the RQ-VAE; None without one.
        unquantised: (M,) the errors of the RQ-VAE's encoder and decoder without the quantiser; None without one.
    """

    codes: np.ndarray
    vectors: np.ndarray
    codebooks: list[np.ndarray]
    errors: np.ndarray | None
    shape: Shape | None = None
    model: RQVAE | None = None
    unquantised: np.ndarray | None = None


def quantised_by(model: RQVAE, shape: Shape, content: Content) -> Fitted:
    """The codes that a trained RQ-VAE gives the catalogue."""
    codes, errors = assign_codes(model, content)
    latents = encode_all(model, content).cpu().numpy()
    books = [book.detach().cpu().numpy() for book in model.codebooks]
    return Fitted(codes, latents, books, errors, shape, model, unquantised_errors(model, content))


def clustered(
    vectors: Sequence[np.ndarray],
    present: np.ndarray | None,
    sizes: Sequence[int],
    seed: int,
    weights: Sequence[float] | None = None,
) -> Fitted:
    """RQ-KMeans: residual k-means of all modalities side by side, each by its weight, without training.

    An item that lacks a modality gets the mean instead, as its standardisation does.

    Args:
        vectors: M arrays (N, D_m), standardised.
        present: (N, M) bool; None if all have all. Errors are over the items that have a modality.
        sizes: codes per level, L of them.
        seed: of the clustering.
        weights: M, the total variance of each modality; None for 1 each.

    Returns:
        Errors are in the units of ``vectors``, whatever the weights.
    """
    weights = [1.0] * len(vectors) if weights is None else weights
    joined = weighed(vectors, weights)
    codebooks, codes = residual_kmeans(joined, sizes, seed)
    widths = [x.shape[1] for x in vectors]
    errors = errors_of((joined - codewords_of(codes, codebooks)) ** 2, widths, present)
    return Fitted(codes, joined, codebooks, errors * np.array(widths) / np.array(weights))


def drawn(item_ids: Sequence[str], sizes: Sequence[int], width: int, seed: int) -> Fitted:
    """Random Semantic IDs: uniform codes, random codewords (C, width), nothing reconstructed."""
    codes, codebooks = random_codes(item_ids, sizes, seed), random_codebooks(sizes, width, seed)
    return Fitted(codes, codewords_of(codes, codebooks), codebooks, None)


def weights_for(
    folder: Path, modalities: Sequence[tuple[str, int]], sizes: Sequence[int], shape: Shape
) -> dict[str, Tensor]:
    """The weights of the RQ-VAE in ``folder``, the tokenize folder of another run, for a model of the same shape.

    Moving averages are not included: they start from the codewords. Weights fit only vectors of the same space with the
    same standardisation, which this function does not check.

    Args:
        folder: of the other tokenizer.
        modalities: (name, width) of each.
        sizes: codes per level, L of them.
        shape: of the model.

    Raises:
        PlumError: if there are none, or modalities, sizes or shape differ.
    """
    old = load_frozen(folder)
    here = _described(modalities, sizes, shape)
    there = _described([(m.name, m.width) for m in old.modalities], old.sizes, old.shape)
    differing = [f"{name} is {here[name]} here, {there[name]} there" for name in here if here[name] != there[name]]
    if old.model is None or differing:
        method = [] if old.model is not None else [f"its method is {old.method}"]
        raise PlumError(
            f"tokenize.warm_start: training can't start from the tokenizer in {folder}",
            "; ".join(method or differing),
            "use that run's features and tokenize settings, or leave tokenize.warm_start out",
        )
    return {name: tensor for name, tensor in old.model.state_dict().items() if not name.startswith("averages.")}


def _described(modalities: Sequence[tuple[str, int]], sizes: Sequence[int], shape: Shape | None) -> dict[str, str]:
    """The settings that must agree for weights to fit, in words."""
    widths = ", ".join(f"{name} ({width})" for name, width in modalities)
    return {
        "modalities": widths or "none",
        "codebook_sizes": str(list(sizes)),
        "latent_dim": "none" if shape is None else str(shape.latent_dim),
        "hidden_dim": "none" if shape is None else str(shape.hidden_dim),
    }
