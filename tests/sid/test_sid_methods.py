"""What the methods without training give: clustering with gaps, and codes that mean nothing."""

from __future__ import annotations

import numpy as np
import pytest

from plum.sid.kmeans import codes_of, codewords_of, residual_kmeans
from plum.sid.methods import clustered, drawn
from plum.sid.random_codes import random_codebooks, random_codes


@pytest.mark.parametrize(("weights", "factors"), [(None, (0.5, 1)), ((4, 0.25), (1, 0.5))])
def test_clustering_is_residual_kmeans_of_all_modalities_side_by_side(weights, factors):
    rng = np.random.default_rng(0)
    vectors = [rng.normal(size=(80, width)).astype(np.float32) for width in (4, 1)]
    found = clustered(vectors, None, [8, 4], 5, weights)
    beside = np.concatenate([x * np.float32(factor) for x, factor in zip(vectors, factors, strict=True)], axis=1)
    books, codes = residual_kmeans(beside, [8, 4], 5)
    assert np.array_equal(found.codes, codes)
    left = beside - codewords_of(codes, books)
    errors = [(left[:, :4] ** 2).mean() / factors[0] ** 2, (left[:, 4:] ** 2).mean() / factors[1] ** 2]
    assert found.errors.tolist() == pytest.approx(errors)
    assert np.array_equal(codes_of(found.vectors, found.codebooks), codes)


def test_a_heavier_modality_is_told_apart_better():
    rng = np.random.default_rng(0)
    vectors = [rng.normal(size=(300, width)).astype(np.float32) for width in (30, 3)]
    equal, wide, narrow = (clustered(vectors, None, [16, 8], 0, weights).errors for weights in ((1, 1), (9, 1), (1, 9)))
    assert wide[0] < equal[0] < narrow[0]
    assert narrow[1] < equal[1] < wide[1]


def test_errors_of_a_clustering_are_over_items_that_have_the_modality():
    rng = np.random.default_rng(0)
    vectors = [rng.normal(size=(50, width)).astype(np.float32) for width in (4, 2)]
    present = np.ones((50, 2), dtype=bool)
    present[::3, 1] = False
    vectors[1][::3] = 0
    found = clustered(vectors, present, [4, 4], seed=0)
    left = vectors[1] - codewords_of(found.codes, found.codebooks)[:, 4:] * 2**0.5  # weight 1, width 2
    assert found.errors[1] == pytest.approx((left[present[:, 1]] ** 2).mean(), rel=1e-5)


def test_codewords_of_by_hand():
    books = [np.array([[0.0, 1.0], [2.0, 3.0]]), np.array([[10.0, 0.0]])]
    assert codewords_of(np.array([[1, 0], [0, 0]]), books).tolist() == [[12, 3], [10, 1]]


def test_random_codes_depend_on_seed_and_id_alone():
    ids = [f"i{number}" for number in range(200)]
    found = random_codes(ids, [32, 16, 8], 0)
    assert found.dtype == np.int64
    assert np.array_equal(found[::-1], random_codes(ids[::-1], [32, 16, 8], 0))
    assert np.array_equal(found[7], random_codes(["i7"], [32, 16, 8], 0)[0])
    assert (found != random_codes(ids, [32, 16, 8], 1)).any(1).mean() > 0.9
    assert random_codes([], [4, 4], 0).shape == (0, 2)


def test_random_codes_are_uniform_and_independent_across_levels():
    codes = random_codes([str(number) for number in range(20_000)], [8, 3], 3)
    counts = np.zeros((8, 3))
    np.add.at(counts, tuple(codes.T), 1)
    chance = 20_000 / 24
    assert (
        ((counts - chance) ** 2) / chance
    ).sum() < 50  # chi-squared, 23 degrees of freedom: above 50 one in a thousand


def test_ids_and_seeds_do_not_run_into_each_other():
    assert random_codes(["1"], [1 << 30], 11).tolist() != random_codes(["11"], [1 << 30], 1).tolist()


def test_drawn_items_lie_where_their_codewords_do():
    found = drawn(["a", "b"], [4, 2], 6, seed=2)
    assert found.errors is None
    assert [book.shape for book in found.codebooks] == [(4, 6), (2, 6)]
    np.testing.assert_array_equal(found.vectors, codewords_of(found.codes, random_codebooks([4, 2], 6, 2)))
