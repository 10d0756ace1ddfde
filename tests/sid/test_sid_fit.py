"""Training the tokenizer: batches, determinism, resuming, absent modalities."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from plum import runtime
from plum.sid import fit as fit_module
from plum.sid.codebooks import CodebookRules
from plum.sid.cooccurrence import Pairs
from plum.sid.fit import (
    ItemBatch,
    LossWeights,
    _item_batches,
    _losses,
    assign_codes,
    default_steps,
    held_out_rows,
    rounds_of,
    train_rqvae,
    unquantised_errors,
    watched_rows,
)
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
    held_out=None,
    patience=None,
    lr=0.01,
):
    runtime.seed_everything(seed)
    model = RQVAE([5, 3], SIZES, latent_dim=4, hidden_dim=8, ema=ema)
    items, all_pairs = content(gaps, fill)
    recipe = Recipe(epochs, 3, lr, checkpoint_steps=4, patience=patience)
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
    weights = weights or LossWeights(contrastive=1.0)
    state = train_rqvae(model, items, chosen, recipe, weights, rules, batch_size, seed, folder, held_out)
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
def test_training_reconstructs_better_than_its_start_and_gives_like_items_like_first_codes(tmp_path, ema):
    items, _ = content()
    start, _, _ = train(tmp_path / "start", epochs=1, ema=ema, lr=1e-9, rules=CodebookRules(ema_decay=1.0))
    model, _, _ = train(tmp_path / "trained", epochs=60, ema=ema, weights=LossWeights(contrastive=0.1))
    codes, errors = assign_codes(model, items)
    assert errors.sum() < 0.9 * assign_codes(start, items)[1].sum()
    assert sum(len(set(codes[group::6, 0])) for group in range(6)) <= 9  # of 48 if chance gave them


@pytest.mark.parametrize("per_dimension", [True, False])
def test_training_never_ends_worse_on_held_out_items_than_it_began(tmp_path, per_dimension):
    held, weights = np.arange(0, N, 6), LossWeights(per_dimension=per_dimension)
    for rate in (0.003, 10.0):  # the second ruins the model
        model, items, state = train(tmp_path / f"{rate}", epochs=8, lr=rate, held_out=held, weights=weights)
        curve = [entry["valid_loss"] for entry in state.log if "valid_loss" in entry]
        assert len(curve) == 9  # the start, and after each round
        errors = assign_codes(model, items.rows(torch.from_numpy(held)))[1]
        best = errors.mean() if per_dimension else (errors * [5, 3]).sum()
        assert best == pytest.approx(min(curve), rel=1e-4)
        assert -state.best_value == pytest.approx(min(curve), abs=1e-6)
    assert state.best_step == 0


def test_training_stops_when_the_error_of_held_out_items_no_longer_falls(tmp_path):
    _, _, state = train(tmp_path, epochs=50, lr=10.0, held_out=np.arange(0, N, 6), patience=4)
    assert state.stopped
    assert (state.best_step, state.step) == (0, 4 * 3)


def test_held_out_items_change_nothing_but_when_the_training_ends(tmp_path, monkeypatch):
    held = np.arange(0, N, 6)
    items, pairs = content()
    expected, _, _ = train(tmp_path / "a", held_out=held, epochs=3)
    for x in items.modalities:
        x[torch.from_numpy(held)] += 0.01
    monkeypatch.setitem(globals(), "content", lambda *_: (items, pairs))
    found, _, _ = train(tmp_path / "b", held_out=held, epochs=3)
    assert all(torch.equal(a, b) for a, b in zip(expected.parameters(), found.parameters(), strict=True))


def test_held_out_rows_are_a_seeded_share_or_none_if_they_would_be_few():
    rows = held_out_rows(2_000, 0.05, seed=3)
    assert len(rows) == len(set(rows.tolist())) == 100
    assert np.array_equal(rows, held_out_rows(2_000, 0.05, seed=3))
    assert not np.array_equal(rows, held_out_rows(2_000, 0.05, seed=4))
    assert len(held_out_rows(580, 0.05, 0)) == 0  # 29
    assert len(held_out_rows(600, 0.05, 0)) == 30
    assert len(held_out_rows(10**6, 0.0, 0)) == 0


def test_held_out_items_are_watched_or_else_a_seeded_sample_of_all():
    none = np.zeros(0, dtype=np.int64)
    assert watched_rows(50, np.array([3, 9]), 0).tolist() == [3, 9]
    assert watched_rows(2_000, none, 0).tolist() == list(range(2_000))
    rows = watched_rows(5_000, none, 1)
    assert len(set(rows.tolist())) == 2_000
    assert np.array_equal(rows, watched_rows(5_000, none, 1))
    assert not np.array_equal(rows, watched_rows(5_000, none, 2))


def test_training_on_all_items_never_ends_worse_than_it_began(tmp_path):
    model, items, state = train(tmp_path, lr=10.0, patience=4)  # ruins the model
    assert (state.best_step, state.stopped) == (0, True)
    start = next(entry["valid_loss"] for entry in state.log if "valid_loss" in entry)
    assert assign_codes(model, items)[1].mean() == pytest.approx(start, rel=1e-4)


@pytest.mark.parametrize(("steps", "rounds"), [(3000, (30, 100)), (250, (3, 83)), (7, (1, 7)), (1, (1, 1))])
def test_steps_are_counted_in_rounds(steps, rounds):
    assert rounds_of(steps) == rounds


def test_the_gradient_of_every_term_is_logged(tmp_path):
    _, _, state = train(tmp_path, epochs=40)
    logged = [entry for entry in state.log if "gradient_reconstruction" in entry]
    assert [entry["step"] for entry in logged] == [0, 100]
    for entry in logged:
        assert all(entry[f"gradient_{name}"] > 0 for name in ("reconstruction", "quantization", "contrastive"))


def test_sums_weigh_terms_by_their_widths():
    items, pairs = content()
    model = RQVAE([5, 3], SIZES, 4, 8)
    batch = next(_item_batches(np.arange(N), pairs, 16, 0, range(1)))
    mean, total = (
        _losses(model, items, batch, LossWeights(progressive_masking=False, per_dimension=kind))[1]
        for kind in (True, False)
    )
    assert total["quantization"].item() == pytest.approx(4 * mean["quantization"].item(), rel=1e-5)
    assert total["contrastive"].item() == pytest.approx(mean["contrastive"].item(), rel=1e-5)
    errors = assign_codes(model, items.rows(torch.from_numpy(batch.rows[batch.n_paired :])))[1]
    assert mean["reconstruction"].item() == pytest.approx(errors.mean(), rel=1e-4)
    assert total["reconstruction"].item() == pytest.approx(5 * errors[0] + 3 * errors[1], rel=1e-4)


def test_errors_without_the_quantiser_are_those_of_encoder_and_decoder(tmp_path):
    model, items, _ = train(tmp_path, epochs=2, gaps=True)
    with torch.no_grad():
        decoded = model.decode(model.encode(*items))
    for view, found in enumerate(unquantised_errors(model, items, block=7)):
        by_hand = (decoded[view] - items.modalities[view])[items.present[:, view]].pow(2).mean().item()
        assert found == pytest.approx(by_hand, rel=1e-4)


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
    assert state.step == 3
    assert all(np.isfinite(value) for entry in state.log for value in entry.values())


def test_the_contrastive_term_is_left_out_without_pairs_or_weight(tmp_path):
    none = Pairs(np.zeros((0, 2), dtype=np.int64))
    without, _, state = train(tmp_path / "a", epochs=1, pairs=none)
    _, _, weightless = train(tmp_path / "b", epochs=1, weights=LossWeights(contrastive=0.0))
    first = next(entry for entry in state.log if "loss" in entry)
    assert "contrastive" not in first
    assert state.log == weightless.log
    _, _, full = train(tmp_path / "c", epochs=1)
    assert any("contrastive" in entry for entry in full.log)
    assert not any(p.grad is not None for p in without.contrast.parameters())


def test_the_loss_is_the_weighted_sum_of_its_terms():
    items, pairs = content()
    model = RQVAE([5, 3], SIZES, 4, 8)
    batch = next(_item_batches(np.arange(N), pairs, 16, 0, range(1)))
    quantized, losses = _losses(model, items, batch, LossWeights(contrastive=0.5, progressive_masking=False))
    parts = losses["reconstruction"] + losses["quantization"] + 0.5 * losses["contrastive"]
    assert losses["loss"].item() == pytest.approx(parts.item())
    assert quantized.codes.shape == (len(batch.rows) - batch.n_paired, 2)


def test_pairs_are_for_the_contrastive_term_alone():
    items, pairs = content()
    model = RQVAE([5, 3], SIZES, 4, 8)
    batch = next(_item_batches(np.arange(N), pairs, 16, 0, range(1)))
    unpaired = ItemBatch(batch.rows[batch.n_paired :], 0)
    weights = LossWeights(contrastive=0.5, progressive_masking=False)
    with_pairs, alone = (_losses(model, items, one, weights)[1] for one in (batch, unpaired))
    for term in ("reconstruction", "quantization"):
        assert with_pairs[term].item() == pytest.approx(alone[term].item(), rel=1e-5)
    assert with_pairs["loss"].item() > alone["loss"].item()


def test_gradients_move_no_codeword_that_is_an_average(tmp_path):
    kept = CodebookRules(kmeans_init=False, reset_dead=False, ema_decay=1.0)
    runtime.seed_everything(0)
    start = [book.detach().clone() for book in RQVAE([5, 3], SIZES, 4, 8, ema=True).codebooks]
    model, _, _ = train(tmp_path, ema=True, rules=kept)
    for book, before in zip(model.codebooks, start, strict=True):
        torch.testing.assert_close(book.detach(), before, rtol=1e-3, atol=1e-3)  # but for the smoothing of the counts


def test_dead_codes_are_reset_until_the_last_tenth_unless_switched_off(tmp_path, monkeypatch):
    epochs = []
    monkeypatch.setattr(fit_module, "reset_dead_codes", lambda *_: epochs.append(None) or [])
    train(tmp_path / "on", epochs=20, batch_size=N)
    assert len(epochs) == 17  # after rounds 1 to 17 of 20: the reset after the 18th would be at nine tenths
    train(tmp_path / "off", epochs=20, batch_size=N, rules=CodebookRules(reset_dead=False))
    assert len(epochs) == 17


@pytest.mark.parametrize(("n_items", "batch_size"), [(10, 4), (9, 3), (3, 8), (5, 1)])
def test_a_pass_holds_each_item_at_most_once_beside_real_pairs(n_items, batch_size):
    pairs = np.array([[0, 1], [1, 2]])
    a_pass = max(1, n_items // batch_size)
    batches = list(_item_batches(np.arange(n_items), Pairs(pairs), batch_size, 0, range(2 * a_pass)))
    for first in (0, a_pass):
        items = np.concatenate([batch.rows[batch.n_paired :] for batch in batches[first : first + a_pass]])
        assert len(set(items.tolist())) == len(items)
    for batch in batches:
        assert batch.n_paired >= 2
        drawn = batch.rows[: batch.n_paired].reshape(-1, 2).tolist()
        assert all(pair in pairs.tolist() for pair in drawn)
        assert len(batch.rows) - batch.n_paired == min(batch_size, n_items)


def test_batches_depend_on_the_step_alone():
    pairs = Pairs(np.array([[0, 2], [2, 4]]))
    rows = np.arange(0, 20, 2)
    whole = list(_item_batches(rows, pairs, 3, 5, range(12)))
    later = list(_item_batches(rows, pairs, 3, 5, range(7, 12)))
    assert [batch.step for batch in later] == list(range(7, 12))
    for found, expected in zip(later, whole[7:], strict=True):
        assert np.array_equal(found.rows, expected.rows)
    assert set(np.concatenate([batch.rows for batch in whole]).tolist()) <= set(rows.tolist())


def test_larger_catalogues_get_more_steps_up_to_an_end():
    assert [default_steps(n) for n in (10, 12_000, 18_357, 10**6)] == [3_000, 3_000, 4_589, 20_000]
