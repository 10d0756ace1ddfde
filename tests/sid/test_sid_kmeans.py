"""Residual k-means: codes are nearest codewords, every level helps, and the seed alone decides."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from plum.sid.kmeans import nearest_codes, residual_kmeans


def points(n, width, seed=0):
    return np.random.default_rng(seed).normal(size=(n, width)).astype(np.float32)


def error(vectors, books, codes, levels):
    return ((vectors - sum(books[level][codes[:, level]] for level in range(levels))) ** 2).mean()


@settings(max_examples=15, deadline=None)
@given(st.integers(2, 60), st.integers(1, 4), st.lists(st.integers(2, 9), min_size=1, max_size=3), st.integers(0, 99))
def test_codes_are_the_nearest_codewords_of_each_residual(n, width, sizes, seed):
    vectors = points(n, width, seed)
    books, codes = residual_kmeans(vectors, sizes, seed)
    assert [book.shape for book in books] == [(size, width) for size in sizes]
    assert codes.shape == (n, len(sizes))
    assert codes.dtype == np.int64
    residual = vectors.copy()
    for level, book in enumerate(books):
        distances = ((residual[:, None] - book) ** 2).sum(-1)
        chosen = distances[np.arange(n), codes[:, level]]
        np.testing.assert_allclose(chosen, distances.min(1), atol=1e-4)
        residual = residual - book[codes[:, level]]


def test_the_error_falls_with_every_level():
    vectors = points(300, 6)
    books, codes = residual_kmeans(vectors, [8, 8, 8], seed=0)
    errors = [error(vectors, books, codes, levels) for levels in range(4)]
    assert errors == sorted(errors, reverse=True)
    assert errors[3] < 0.6 * errors[0]


def test_fewer_distinct_vectors_than_codes_are_all_kept_exactly():
    vectors = np.repeat(np.array([[0, 0], [1, 5], [2, 2]], dtype=np.float32), 4, axis=0)
    books, codes = residual_kmeans(vectors, [8, 4], seed=3)
    assert books[0].shape == (8, 2)
    assert error(vectors, books, codes, 1) == 0
    assert len({tuple(c) for c in codes.tolist()}) == 3
    assert np.isfinite(np.concatenate(books)).all()


def test_the_input_is_left_alone_and_a_sample_is_enough():
    vectors = points(400, 3)
    before = vectors.copy()
    books, codes = residual_kmeans(vectors, [4, 4], seed=0, max_points=50)
    assert np.array_equal(vectors, before)
    assert codes.shape == (400, 2)
    again = residual_kmeans(vectors, [4, 4], seed=0, max_points=50)
    assert np.array_equal(codes, again[1])
    assert all(np.array_equal(a, b) for a, b in zip(books, again[0], strict=True))


def test_the_number_of_threads_does_not_change_the_codes():
    # scikit-learn's k-means alone gives other centres at every call once more than two threads work.
    code = (
        "import hashlib, numpy as np\n"
        "from plum.sid.kmeans import residual_kmeans\n"
        "x = np.random.default_rng(0).normal(size=(3000, 8)).astype(np.float32)\n"
        "print(*{hashlib.md5(residual_kmeans(x, [32], 1)[0][0].tobytes()).hexdigest() for _ in range(3)})\n"
    )
    found = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "OMP_NUM_THREADS": threads},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for threads in ("1", "6")
    }
    assert len(found) == 1
    assert len(found.pop().split()) == 1


def test_nearest_codes_in_blocks_and_of_nothing():
    vectors, book = points(20, 3), points(5, 3, 1)
    assert np.array_equal(nearest_codes(vectors, book, block=7), nearest_codes(vectors, book))
    assert nearest_codes(vectors[:0], book).shape == (0,)
