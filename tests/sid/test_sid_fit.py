"""Training the tokenizer: batches, determinism, resuming, absent modalities."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from plum import runtime
from plum.sid import fit as fit_module
from plum.sid.codebooks import CodebookRules
from plum.sid.cooccurrence import Pairs
from plum.sid.fit import LossWeights, _item_batches, _losses, assign_codes, batches_per_epoch, train_rqvae
from plum.sid.rqvae import RQVAE, Content
from plum.sid.standardise import fit_standardisation
from plum.training.loop import Recipe

N = 48
SIZES = [8, 4]


class Killed(BaseException):
    """Stands for the kill of the process."""


def content(gaps=False, fill=0.0):
    """Two modalities of six groups of like items, and pairs within the groups; with gaps, some items lack some."""
    rng = np.random.default_rng(0)
    group = np.arange(N) % 6
    views = [rng.normal(size=(6, width))[group] + 0.1 * rng.normal(size=(N, width)) for width in (5, 3)]
    pairs = Pairs(np.array([[i, i + 6] for i in range(N - 6)]))
    present = np.ones((N, 2), dtype=bool)
    if gaps:
        present[::5, 1] = present[3::7, 0] = present[:2] = False
    tensors = [
        torch.from_numpy(fit_standardisation(x, "view", there).apply(x, there))
        for x, there in zip(views, present.T, strict=True)
    ]
    for x, there in zip(tensors, present.T, strict=True):
        x[~there] = fill
    return Content(tensors, torch.from_numpy(present) if gaps else None), pairs


def train(
    folder,
    *,
    seed=0,
    epochs=8,
    batch_size=16,
    weights=None,
    pairs=None,
    kill_step=None,
    monkeypatch=None,
    ema=False,
    gaps=False,
    fill=0.0,
    rules=None,
):
    runtime.seed_everything(seed)
    model = RQVAE([5, 3], SIZES, latent_dim=4, hidden_dim=8, ema=ema)
    items, all_pairs = content(gaps, fill)
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
    rules = rules or CodebookRules(ema_decay=0.9)
    state = train_rqvae(model, items, chosen, recipe, weights or LossWeights(), rules, batch_size, seed, folder)
    return model, items, state


def test_the_same_seed_gives_the_same_codes_and_another_seed_others(tmp_path):
    first, items, state = train(tmp_path / "a")
    second, _, again = train(tmp_path / "b")
    assert state == again
    assert np.array_equal(assign_codes(first, items)[0], assign_codes(second, items)[0])
    other, _, _ = train(tmp_path / "c", seed=1)
    assert not np.array_equal(assign_codes(first, items)[0], assign_codes(other, items)[0])


@pytest.mark.parametrize(
    ("kill_step", "ema"), [(2, False), (5, False), (12, False), (23, False), (5, True), (23, True)]
)
def test_killed_and_resumed_equals_undisturbed(tmp_path, monkeypatch, kill_step, ema):
    whole, items, expected = train(tmp_path / "whole", ema=ema, gaps=True)
    with monkeypatch.context() as patched, pytest.raises(Killed):
        train(tmp_path / "cut", kill_step=kill_step, monkeypatch=patched, ema=ema, gaps=True)
    resumed, _, found = train(tmp_path / "cut", ema=ema, gaps=True)
    assert found == expected
    states = [whole.state_dict(), resumed.state_dict()]
    assert states[0].keys() == states[1].keys()
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
    assert np.array_equal(assign_codes(whole, items)[0], assign_codes(resumed, items)[0])


@pytest.mark.parametrize("ema", [False, True], ids=["gradient", "ema"])
def test_training_reconstructs_better_and_gives_like_items_like_first_codes(tmp_path, ema):
    runtime.seed_everything(0)
    items, _ = content()
    untrained = assign_codes(RQVAE([5, 3], SIZES, 4, 8), items)[1]
    model, _, _ = train(tmp_path, epochs=60, ema=ema)
    codes, errors = assign_codes(model, items)
    assert (errors < 0.5 * untrained).all()
    assert sum(len(set(codes[group::6, 0])) for group in range(6)) <= 9  # of 48 if chance gave them


def test_assign_codes_does_not_depend_on_the_block_and_reports_the_mean_errors(tmp_path):
    model, items, _ = train(tmp_path, epochs=2, gaps=True)
    codes, errors = assign_codes(model, items)
    again, others = assign_codes(model, items, block=7)
    assert np.array_equal(codes, again)
    np.testing.assert_allclose(others, errors, rtol=1e-5)
    with torch.no_grad():
        latents = sum(model.codebooks[level][codes[:, level]] for level in range(2))
        decoded = model.decode(latents)
    for view, there in enumerate(items.present.T):
        by_hand = (decoded[view] - items.modalities[view])[there].pow(2).mean().item()
        assert errors[view] == pytest.approx(by_hand, rel=1e-4)


def test_training_learns_the_vectors_of_absent_modalities_only_where_items_lack_them(tmp_path):
    with_gaps, items, _ = train(tmp_path / "gaps", gaps=True)
    assert all(vector.abs().max() > 1e-3 for vector in with_gaps.absent)
    complete, _, _ = train(tmp_path / "complete")
    assert not any(vector.any() for vector in complete.absent)
    codes = assign_codes(with_gaps, items)[0]
    assert codes[0].tolist() == codes[1].tolist()  # neither has any content


def test_what_stands_in_the_place_of_an_absent_modality_changes_nothing(tmp_path):
    expected, _, log = train(tmp_path / "zeros", gaps=True)
    found, _, again = train(tmp_path / "hundreds", gaps=True, fill=100.0)
    assert again == log
    assert all(torch.equal(a, b) for a, b in zip(expected.parameters(), found.parameters(), strict=True))


@pytest.mark.parametrize("batch_size", [1, 5, 1000])
def test_any_batch_size_trains(tmp_path, batch_size):
    _, _, state = train(tmp_path, epochs=1, batch_size=batch_size)
    assert state.step == max(1, N // batch_size)
    assert all(np.isfinite(entry["loss"]) for entry in state.log)


def test_the_contrastive_term_is_left_out_without_pairs_or_weight(tmp_path):
    none = Pairs(np.zeros((0, 2), dtype=np.int64))
    without, _, state = train(tmp_path / "a", epochs=1, pairs=none)
    _, _, weightless = train(tmp_path / "b", epochs=1, weights=LossWeights(contrastive=0.0))
    assert "contrastive" not in state.log[0]
    assert state.log == weightless.log
    _, _, full = train(tmp_path / "c", epochs=1)
    assert "contrastive" in full.log[0]
    assert not any(p.grad is not None for p in without.contrast.parameters())


def test_the_loss_is_the_weighted_sum_of_its_terms():
    items, pairs = content()
    model = RQVAE([5, 3], SIZES, 4, 8)
    batch = next(_item_batches(N, pairs, 16, np.random.default_rng(0)))
    quantized, losses = _losses(model, items, batch, LossWeights(contrastive=0.5, progressive_masking=False))
    parts = losses["reconstruction"] + losses["quantization"] + 0.5 * losses["contrastive"]
    assert losses["loss"].item() == pytest.approx(parts.item())
    assert quantized.codes.shape == (len(batch.rows), 2)


def test_gradients_move_no_codeword_that_is_an_average(tmp_path):
    kept = CodebookRules(kmeans_init=False, reset_dead=False, ema_decay=1.0)
    runtime.seed_everything(0)
    start = [book.detach().clone() for book in RQVAE([5, 3], SIZES, 4, 8, ema=True).codebooks]
    model, _, _ = train(tmp_path, ema=True, rules=kept)
    for book, before in zip(model.codebooks, start, strict=True):
        torch.testing.assert_close(book.detach(), before, rtol=1e-3, atol=1e-3)  # but for the smoothing of the counts


def test_dead_codes_are_reset_until_the_last_tenth_unless_switched_off(tmp_path, monkeypatch):
    epochs = []
    monkeypatch.setattr(fit_module, "reset_dead_codes", lambda *_: epochs.append(None))
    train(tmp_path / "on", epochs=20, batch_size=N)
    assert len(epochs) == 17  # after epochs 1 to 17 of 20: the reset after the 18th would be at nine tenths
    train(tmp_path / "off", epochs=20, batch_size=N, rules=CodebookRules(reset_dead=False))
    assert len(epochs) == 17


@pytest.mark.parametrize(("n_items", "batch_size"), [(10, 4), (9, 3), (3, 8), (5, 1)])
def test_batches_hold_each_item_at_most_once_beside_real_pairs(n_items, batch_size):
    pairs = np.array([[0, 1], [1, 2]])
    batches = list(_item_batches(n_items, Pairs(pairs), batch_size, np.random.default_rng(0)))
    assert len(batches) == batches_per_epoch(n_items, batch_size)
    items = np.concatenate([batch.rows[batch.n_paired :] for batch in batches])
    assert len(set(items.tolist())) == len(items)
    for batch in batches:
        assert batch.n_paired >= 2
        drawn = batch.rows[: batch.n_paired].reshape(-1, 2).tolist()
        assert all(pair in pairs.tolist() for pair in drawn)
        assert len(batch.rows) - batch.n_paired == min(batch_size, n_items)
