"""Where the tokens of codes start: as their codewords lie to each other."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from plum.lm import vocab
from plum.lm.codewords import code_directions

SIZES = (6, 4, 3)
TEXTS = ["wh = some words of a history", "Item has title: Heat"]


def books(dim, seed=0):
    rng = np.random.default_rng(seed)
    return [rng.normal(3.0, 0.5 + level, (size, dim)).astype(np.float32) for level, size in enumerate(SIZES[:2])]


def gram(rows):
    return rows.astype(np.float64) @ rows.T


def test_narrow_codewords_keep_their_dot_products_up_to_one_factor():
    for book, found in zip(books(5), code_directions(books(5), 16, seed=0), strict=True):
        assert found.shape == (len(book), 16)
        assert found.dtype == np.float32
        centred = book - book.mean(axis=0)
        expected = gram(centred) / (centred**2).sum() * found.size  # mean square 1
        np.testing.assert_allclose(gram(found), expected, atol=1e-4)


def test_wide_codewords_keep_the_principal_axes():
    both = books(12)
    centred = np.concatenate([book - book.mean(axis=0) for book in both])
    kept = gram(centred @ np.linalg.svd(centred)[2][:4].T)  # what four axes can hold
    first = code_directions(both, 4, seed=0)[0]
    ratio = gram(first) / kept[: SIZES[0], : SIZES[0]]
    np.testing.assert_allclose(ratio, ratio[0, 0], rtol=1e-3)


@given(st.integers(1, 20), st.integers(2, 20), st.integers(0, 5))
def test_every_level_is_centred_and_has_the_same_size(dim, width, seed):
    for found in code_directions(books(dim), width, seed):
        np.testing.assert_allclose(found.mean(axis=0), 0, atol=1e-5)
        assert (found**2).mean() == pytest.approx(1, rel=1e-4)


def test_the_same_seed_gives_the_same_bytes_and_another_one_another_turn():
    one, again, other = (code_directions(books(5), 16, seed)[0] for seed in (0, 0, 1))
    assert one.tobytes() == again.tobytes()
    assert not np.allclose(one, other)


def test_codewords_that_are_all_the_same_have_no_direction():
    found = code_directions([np.ones((4, 3), np.float32), *books(3)], 8, seed=0)
    assert (found[0] == 0).all()
    assert np.isfinite(found[1]).all()


def model_and_codec():
    torch.manual_seed(0)
    tokenizer = vocab.train_tokenizer(TEXTS, 300)
    vocab.add_sid_tokens(tokenizer, SIZES)
    model = vocab.scratch_model(vocab.ScratchShape(16, 1, 2, 16), tokenizer, 64)
    return model, tokenizer, vocab.codec_of(tokenizer, SIZES)


def test_a_new_model_starts_along_the_codewords_and_is_else_as_it_was():
    model, _, codec = model_and_codec()
    before = model.get_input_embeddings().weight.detach().clone()
    directions = code_directions(books(5), 16, seed=0)
    vocab.place_codes(model, codec, directions)
    after = model.get_input_embeddings().weight.detach()
    for ids, rows in zip(codec.token_ids, directions, strict=False):
        np.testing.assert_allclose(after[ids].numpy(), model.config.initializer_range * rows, rtol=1e-5)
    placed = np.concatenate(codec.token_ids[:2])
    others = np.setdiff1d(np.arange(len(before)), placed)  # words, and the disambiguation code
    assert torch.equal(after[others], before[others])
    assert model.get_output_embeddings().weight is model.get_input_embeddings().weight


def test_new_rows_of_a_known_model_lie_around_the_mean_along_the_codewords():
    torch.manual_seed(0)
    tokenizer = vocab.train_tokenizer(TEXTS, 300)
    model = vocab.scratch_model(vocab.ScratchShape(16, 1, 2, 16), tokenizer, 64)
    old = model.get_input_embeddings().weight.detach().clone()
    vocab.add_sid_tokens(tokenizer, SIZES)
    directions = code_directions(books(5), 16, seed=0)
    vocab.extend_embeddings(model, tokenizer, SIZES, directions)
    after = model.get_input_embeddings().weight.detach()
    codec = vocab.codec_of(tokenizer, SIZES)
    for ids, rows in zip(codec.token_ids, directions, strict=False):
        expected = old.mean(0) + 0.1 * old.std(0) * torch.from_numpy(rows)
        torch.testing.assert_close(after[ids], expected)
    suffix = after[codec.token_ids[2]]
    assert len(torch.unique(suffix, dim=0)) == SIZES[2]  # random, all different
    assert torch.equal(after[: len(old)], old)
