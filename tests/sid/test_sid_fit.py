"""Training the tokenizer: batches, standardising, determinism, resuming, dead codes."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from plum import runtime
from plum.errors import PlumError
from plum.sid import fit as fit_module
from plum.sid.fit import (
    LossWeights,
    _item_batches,
    _losses,
    _reset_dead_codes,
    assign_codes,
    batches_per_epoch,
    standardise,
    train_rqvae,
)
from plum.sid.rqvae import RQVAE
from plum.training import Recipe

N = 48
SIZES = [8, 4]


class Killed(BaseException):
    """Stands for the kill of the process."""


def content(seed=0):
    """Two modalities of six groups of like items, and pairs within the groups."""
    rng = np.random.default_rng(seed)
    group = np.arange(N) % 6
    views = [rng.normal(size=(6, width))[group] + 0.1 * rng.normal(size=(N, width)) for width in (5, 3)]
    pairs = np.array([[i, i + 6] for i in range(N - 6)])
    return [torch.from_numpy(standardise(view, "view")) for view in views], pairs


def train(folder, *, seed=0, epochs=8, batch_size=16, weights=None, pairs=None, kill_step=None, monkeypatch=None):
    runtime.seed_everything(seed)
    model = RQVAE([5, 3], SIZES, latent_dim=4, hidden_dim=8)
    modalities, all_pairs = content()
    recipe = Recipe(epochs, batches_per_epoch(N, batch_size), 0.01, checkpoint_steps=4)
    if kill_step is not None:
        true, calls = fit_module._losses, []

        def dying(*args):
            calls.append(None)
            if len(calls) > kill_step:
                raise Killed
            return true(*args)

        monkeypatch.setattr(fit_module, "_losses", dying)
    chosen = all_pairs if pairs is None else pairs
    state = train_rqvae(model, modalities, chosen, recipe, weights or LossWeights(), batch_size, seed, folder)
    return model, modalities, state


def test_the_same_seed_gives_the_same_codes_and_another_seed_others(tmp_path):
    first, modalities, state = train(tmp_path / "a")
    second, _, again = train(tmp_path / "b")
    assert state == again
    assert np.array_equal(assign_codes(first, modalities)[0], assign_codes(second, modalities)[0])
    other, _, _ = train(tmp_path / "c", seed=1)
    assert not np.array_equal(assign_codes(first, modalities)[0], assign_codes(other, modalities)[0])


@pytest.mark.parametrize("kill_step", [2, 5, 12, 23])
def test_killed_and_resumed_equals_undisturbed(tmp_path, monkeypatch, kill_step):
    whole, modalities, expected = train(tmp_path / "whole")
    with monkeypatch.context() as patched, pytest.raises(Killed):
        train(tmp_path / "cut", kill_step=kill_step, monkeypatch=patched)
    resumed, _, found = train(tmp_path / "cut")
    assert found == expected
    assert all(torch.equal(a, b) for a, b in zip(whole.parameters(), resumed.parameters(), strict=True))
    assert np.array_equal(assign_codes(whole, modalities)[0], assign_codes(resumed, modalities)[0])


def test_training_reconstructs_better_and_gives_like_items_like_first_codes(tmp_path):
    runtime.seed_everything(0)
    modalities, _ = content()
    untrained = assign_codes(RQVAE([5, 3], SIZES, 4, 8), modalities)[1]
    model, _, _ = train(tmp_path, epochs=60)
    codes, error = assign_codes(model, modalities)
    assert error < 0.5 * untrained
    assert all(len(set(codes[group::6, 0])) <= 2 for group in range(6))


def test_assign_codes_does_not_depend_on_the_block_and_reports_the_mean_error(tmp_path):
    model, modalities, _ = train(tmp_path, epochs=2)
    codes, error = assign_codes(model, modalities)
    again, other = assign_codes(model, modalities, block=7)
    assert np.array_equal(codes, again)
    assert other == pytest.approx(error, rel=1e-5)
    with torch.no_grad():
        latents = sum(model.codebooks[level][codes[:, level]] for level in range(2))
        by_hand = [(out - x).pow(2).mean().item() for out, x in zip(model.decode(latents), modalities, strict=True)]
    assert error == pytest.approx(np.mean(by_hand), rel=1e-4)


@pytest.mark.parametrize("batch_size", [1, 5, 1000])
def test_any_batch_size_trains(tmp_path, batch_size):
    _, _, state = train(tmp_path, epochs=1, batch_size=batch_size)
    assert state.step == max(1, N // batch_size)
    assert all(np.isfinite(entry["loss"]) for entry in state.log)


def test_the_contrastive_term_is_left_out_without_pairs_or_weight(tmp_path):
    none = np.zeros((0, 2), dtype=np.int64)
    without, _, state = train(tmp_path / "a", epochs=1, pairs=none)
    _, _, weightless = train(tmp_path / "b", epochs=1, weights=LossWeights(contrastive=0.0))
    assert "contrastive" not in state.log[0]
    assert state.log == weightless.log
    _, _, full = train(tmp_path / "c", epochs=1)
    assert "contrastive" in full.log[0]
    assert not any(p.grad is not None for p in without.contrast.parameters())


def test_the_loss_is_the_weighted_sum_of_its_terms():
    modalities, pairs = content()
    model = RQVAE([5, 3], SIZES, 4, 8)
    batch = next(_item_batches(N, pairs, 16, np.random.default_rng(0)))
    losses = _losses(model, modalities, batch, LossWeights(contrastive=0.5, progressive_masking=False))
    parts = losses["reconstruction"] + losses["quantization"] + 0.5 * losses["contrastive"]
    assert losses["loss"].item() == pytest.approx(parts.item())


@pytest.mark.parametrize(("n_items", "batch_size"), [(10, 4), (9, 3), (3, 8), (5, 1)])
def test_batches_hold_each_item_at_most_once_beside_real_pairs(n_items, batch_size):
    pairs = np.array([[0, 1], [1, 2]])
    batches = list(_item_batches(n_items, pairs, batch_size, np.random.default_rng(0)))
    assert len(batches) == batches_per_epoch(n_items, batch_size)
    items = np.concatenate([batch.rows[batch.n_paired :] for batch in batches])
    assert len(set(items.tolist())) == len(items)
    for batch in batches:
        assert batch.n_paired >= 2
        drawn = batch.rows[: batch.n_paired].reshape(-1, 2).tolist()
        assert all(pair in pairs.tolist() for pair in drawn)
        assert len(batch.rows) - batch.n_paired == min(batch_size, n_items)


def test_dead_codes_move_onto_residuals_level_by_level(monkeypatch):
    torch.manual_seed(0)
    modalities, _ = content()
    model = RQVAE([5, 3], SIZES, 4, 8)
    with torch.no_grad():
        for book in model.codebooks:
            book[1:] = 1e3  # only code 0 is near
        before = [book.clone() for book in model.codebooks]
    monkeypatch.setattr(fit_module, "BLOCK", 13)
    _reset_dead_codes(model, modalities)
    with torch.no_grad():
        quantized = model.quantize(model.encode(modalities))
    for level, book in enumerate(model.codebooks):
        assert torch.equal(book[0], before[level][0])
        # the reset happened when this level quantised the residuals that it still sees now
        gaps = torch.cdist(book[1:], quantized.residuals[:, level])
        assert gaps.min(1).values.max() < 1e-3
        assert len(quantized.codes[:, level].unique()) > 1


def test_codes_in_use_are_never_reset():
    torch.manual_seed(0)
    modalities, _ = content()
    model = RQVAE([5, 3], [2], 4, 8)
    with torch.no_grad():
        latents = model.encode(modalities)
        model.codebooks[0].copy_(latents[:2])
    before = model.codebooks[0].clone()
    _reset_dead_codes(model, modalities)
    assert torch.equal(model.codebooks[0], before)


def test_standardise_centres_and_scales_as_a_whole():
    found = standardise(np.array([[1.0, 10.0], [3.0, 10.0], [5.0, 16.0]], dtype=np.float32), "x")
    assert found.dtype == np.float32
    np.testing.assert_allclose(found.mean(0), 0, atol=1e-6)
    assert (found**2).mean() == pytest.approx(1)
    # centred (-2 0 2), (-2 -2 4): their proportion stays
    np.testing.assert_allclose(found[:, 1], found[0, 1] * np.array([1, 1, -2]), rtol=1e-6)
    assert found[2, 1] / found[2, 0] == pytest.approx(2)


@pytest.mark.parametrize("scale", [1e-9, 1e20])
def test_standardise_does_not_mind_the_scale(scale):
    features = np.random.default_rng(0).normal(size=(50, 4)).astype(np.float32)
    np.testing.assert_allclose(
        standardise(features * np.float32(scale), "x"), standardise(features, "x"), rtol=1e-4, atol=1e-5
    )


@pytest.mark.parametrize("value", [0.0, 0.1, 1e3])
def test_features_that_tell_no_items_apart_are_refused(value):
    with pytest.raises(PlumError, match=r"modality 'text' tells no items apart: all 10,000 rows are the same"):
        standardise(np.full((10_000, 4), value, dtype=np.float32), "text")


def test_features_with_nan_name_the_first_row():
    features = np.ones((5, 2), dtype=np.float32)
    features[3, 1] = np.nan
    features[4, 0] = np.inf
    with pytest.raises(PlumError, match="2 rows, the first is row 3"):
        standardise(features, "text")
