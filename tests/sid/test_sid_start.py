"""The start of an RQ-VAE: the principal components of its content, as scikit-learn finds them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA

from plum.sid import start as start_module
from plum.sid.fit import unquantised_errors
from plum.sid.rqvae import RQVAE, Content
from plum.sid.start import start_at_components

WIDTHS = (6, 3)


def vectors(centre: float = 0.0) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    mixed = rng.normal(size=(90, 9)) @ rng.normal(size=(9, 9)) + centre
    return np.split(mixed.astype(np.float32), [WIDTHS[0]], axis=1)


def started(latent_dim: int, per_dimension: bool, centre: float = 0.0) -> tuple[RQVAE, Content]:
    torch.manual_seed(0)
    content = Content([torch.from_numpy(x) for x in vectors(centre)])
    model = RQVAE(WIDTHS, [4], latent_dim, 8)
    start_at_components(model, content, per_dimension)
    return model, content


@pytest.mark.parametrize("per_dimension", [True, False])
@pytest.mark.parametrize("latent_dim", [1, 4, 8])
@pytest.mark.parametrize("centre", [0.0, 2.5])
def test_errors_at_the_start_are_those_of_a_joint_pca(latent_dim, per_dimension, centre, monkeypatch):
    monkeypatch.setattr(start_module, "BLOCK", 13)
    model, content = started(latent_dim, per_dimension, centre)
    weights = [width**-0.5 if per_dimension else 1.0 for width in WIDTHS]
    joined = np.concatenate([x * weight for x, weight in zip(vectors(centre), weights, strict=True)], axis=1)
    pca = PCA(latent_dim).fit(joined)
    left = np.split(joined - pca.inverse_transform(pca.transform(joined)), [WIDTHS[0]], axis=1)
    expected = [(part**2).mean() / weight**2 for part, weight in zip(left, weights, strict=True)]
    np.testing.assert_allclose(unquantised_errors(model, content), expected, rtol=1e-3)


def test_latents_as_wide_as_the_content_or_wider_lose_nothing():
    for latent_dim in (9, 12):
        model, content = started(latent_dim, True)
        assert unquantised_errors(model, content).max() < 1e-9


def test_latents_have_the_distances_of_the_weighted_content():
    model, content = started(9, True)
    latents = model.encode(*content)
    joined = torch.cat([x / width**0.5 for x, width in zip(content.modalities, WIDTHS, strict=True)], dim=1)
    # a step of the latents changes the mean over modalities of mean squared errors as much as their own mean square
    scale = (9 / 2) ** 0.5
    torch.testing.assert_close(torch.pdist(latents), scale * torch.pdist(joined), rtol=1e-3, atol=1e-3)
