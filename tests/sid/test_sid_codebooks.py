"""Codebooks: how they start, how moving averages move them, and what becomes of dead codes."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from plum.sid import codebooks as codebooks_module
from plum.sid.codebooks import encode_all, reset_dead_codes, start_codebooks, update_codebooks
from plum.sid.kmeans import residual_kmeans
from plum.sid.rqvae import RQVAE, Content

N = 48
SIZES = [8, 4]


def content(present=None):
    generator = torch.Generator().manual_seed(1)
    return Content([torch.randn(N, width, generator=generator) for width in (5, 3)], present)


def model_of(ema=False, sizes=SIZES):
    torch.manual_seed(0)
    return RQVAE([5, 3], sizes, 4, 8, ema)


@pytest.mark.parametrize("ema", [False, True])
def test_codebooks_start_from_residual_kmeans_of_the_latents_or_stay(ema):
    model, items = model_of(ema), content()
    before = [book.detach().clone() for book in model.codebooks]
    start_codebooks(model, items, seed=3, kmeans=False)
    assert all(torch.equal(book, old) for book, old in zip(model.codebooks, before, strict=True))
    start_codebooks(model, items, seed=3, kmeans=True)
    expected, _ = residual_kmeans(encode_all(model, items).numpy(), SIZES, 3)
    for book, centres in zip(model.codebooks, expected, strict=True):
        np.testing.assert_array_equal(book.detach().numpy(), centres)
    for average, centres in zip(model.moving_averages, expected, strict=ema):
        np.testing.assert_array_equal(average.sums.numpy(), centres)
        assert average.counts.tolist() == [1.0] * len(centres)


def test_averages_by_hand():
    model = RQVAE([1], [2], latent_dim=1, hidden_dim=2, ema=True)
    with torch.no_grad():
        model.codebooks[0].copy_(torch.tensor([[0.0], [10.0]]))
    start_codebooks(model, Content([torch.zeros(1, 1)]), 0, kmeans=False)
    for _ in range(2):
        update_codebooks(model, model.quantize(torch.tensor([[1.0], [2.0], [9.0]])), decay=0.5)
    average = model.moving_averages[0]
    # Code 0: N = 1 -> (1 + 2) / 2 -> (1.5 + 2) / 2, m = 0 -> 3 / 2 -> (1.5 + 3) / 2.
    # Code 1: N stays 1, m = 10 -> 9.5 -> 9.25.
    assert average.counts.tolist() == [1.75, 1.0]
    assert average.sums.reshape(-1).tolist() == [2.25, 9.25]
    assert model.codebooks[0].reshape(-1).tolist() == pytest.approx([2.25 / 1.75, 9.25], rel=1e-4)


def test_averages_of_each_level_are_of_its_residuals():
    model = model_of(ema=True)
    start_codebooks(model, content(), 0, kmeans=True)
    quantized = model.quantize(encode_all(model, content()))
    update_codebooks(model, quantized, decay=0.0)
    for level, book in enumerate(model.codebooks):
        for code in quantized.codes[:, level].unique().tolist():
            mean = quantized.residuals[quantized.codes[:, level] == code, level].mean(0)
            torch.testing.assert_close(book[code], mean, rtol=1e-3, atol=1e-4)


def test_a_codeword_that_nothing_comes_to_stays_finite():
    model = RQVAE([1], [3], latent_dim=1, hidden_dim=2, ema=True)
    for _ in range(2000):
        update_codebooks(model, model.quantize(torch.tensor([[0.1], [0.2]])), decay=0.9)
    assert torch.isfinite(model.codebooks[0]).all()


@pytest.mark.parametrize("ema", [False, True])
def test_who_moves_the_codebooks(ema):
    model = model_of(ema)
    assert [book.requires_grad for book in model.codebooks] == [not ema] * 2
    assert len(model.moving_averages) == (2 if ema else 0)


def test_dead_codes_move_onto_residuals_level_by_level(monkeypatch):
    torch.manual_seed(0)
    items = content()
    model = RQVAE([5, 3], SIZES, 4, 8)
    with torch.no_grad():
        for book in model.codebooks:
            book[1:] = 1e3  # only code 0 is near
        before = [book.clone() for book in model.codebooks]
    monkeypatch.setattr(codebooks_module, "BLOCK", 13)
    moved = reset_dead_codes(model, items)
    assert all(book is one for (book, _), one in zip(moved, model.codebooks, strict=True))
    for (_, rows), book, old in zip(moved, model.codebooks, before, strict=True):
        assert set(rows.tolist()) == set((book != old).any(1).nonzero().reshape(-1).tolist())
    with torch.no_grad():
        quantized = model.quantize(model.encode(*items))
    for level, book in enumerate(model.codebooks):
        assert torch.equal(book[0], before[level][0])
        # the reset happened when this level quantised the residuals that it still sees now
        gaps = torch.cdist(book[1:], quantized.residuals[:, level])
        assert gaps.min(1).values.max() < 1e-3
        assert len(quantized.codes[:, level].unique()) > 1


def test_codes_in_use_are_never_reset():
    torch.manual_seed(0)
    items = content()
    model = RQVAE([5, 3], [2], 4, 8)
    with torch.no_grad():
        latents = model.encode(*items)
        model.codebooks[0].copy_(latents[:2])
    before = model.codebooks[0].clone()
    assert reset_dead_codes(model, items) == []
    assert torch.equal(model.codebooks[0], before)


def test_a_reset_code_starts_its_average_anew():
    model, items = model_of(ema=True), content()
    with torch.no_grad():
        for book, average in zip(model.codebooks, model.moving_averages, strict=True):
            book[1:] = 1e3
            average.restart(book)
            average.counts[:] = 5.0
    reset_dead_codes(model, items)
    for book, average in zip(model.codebooks, model.moving_averages, strict=True):
        assert torch.equal(average.sums[1:], book[1:])
        assert book[1:].abs().max() < 100
        assert average.counts.tolist() == [5.0] + [1.0] * (len(book) - 1)


def test_absent_modalities_stay_out_of_the_latents(monkeypatch):
    present = torch.rand(N, 2, generator=torch.Generator().manual_seed(2)) < 0.7
    model, items = model_of(), content(present)
    whole = model.encode(*items)
    monkeypatch.setattr(codebooks_module, "BLOCK", 7)
    torch.testing.assert_close(encode_all(model, items), whole)
