"""How vectors spread: the mean cosine of all pairs, items that share vectors, columns that say nothing."""

from __future__ import annotations

import numpy as np
import pytest

from plum.vectors import spread
from plum.vectors.spread import constant_columns, mean_cosine, sharing


def test_the_mean_cosine_by_hand() -> None:
    assert mean_cosine(np.array([[1.0, 0], [0, 2], [3, 0]])) == pytest.approx(1 / 3)
    assert mean_cosine(np.array([[1.0, 0], [-5, 0]])) == pytest.approx(-1)
    assert mean_cosine(np.array([[1.0, 0], [0, 0]])) is None
    assert mean_cosine(np.array([[1.0, 0], [np.nan, 0], [2, 0]]), np.array([True, False, True])) == pytest.approx(1)


def test_the_mean_cosine_is_that_of_all_pairs(monkeypatch: pytest.MonkeyPatch) -> None:
    vectors = np.random.default_rng(0).normal(0.5, 1, (60, 7)).astype(np.float32)
    present = np.arange(60) % 4 > 0
    unit = vectors[present] / np.linalg.norm(vectors[present], axis=1, keepdims=True)
    cosines = unit @ unit.T
    expected = cosines[~np.eye(len(unit), dtype=bool)].mean()
    assert mean_cosine(vectors, present) == pytest.approx(expected, rel=1e-5)
    monkeypatch.setattr(spread, "BLOCK", 7)
    assert mean_cosine(vectors, present) == pytest.approx(expected, rel=1e-5)


def test_items_share_vectors_only_if_all_modalities_agree(monkeypatch: pytest.MonkeyPatch) -> None:
    text = np.array([[1, 2], [1, 2], [3, 4], [0, 0], [0.0, 0], [-0.0, 0]], dtype=np.float32)
    image = np.array([[5], [5], [5], [0], [0], [7]], dtype=np.float32)
    present = np.array([[1, 1], [1, 1], [1, 1], [0, 0], [0, 0], [0, 1]], dtype=bool)
    for block in (2, 100):
        monkeypatch.setattr(spread, "BLOCK", block)
        assert sharing([text, image], present).tolist() == [True, True, False, False, False, False]
        assert sharing([image], present[:, 1:]).tolist() == [True, True, True, False, False, False]
        assert sharing([text], np.ones((6, 1), dtype=bool)).tolist() == [True, True, False, True, True, True]


def test_a_missing_vector_is_not_a_vector_of_zeros() -> None:
    vectors = [np.zeros((2, 3), dtype=np.float32), np.ones((2, 1), dtype=np.float32)]
    assert not sharing(vectors, np.array([[True, True], [False, True]])).any()


def test_constant_columns_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    vectors = np.array([[1, 2, 3], [9, 9, 9], [1, 2, 4], [1, 2, 3]], dtype=np.float32)
    monkeypatch.setattr(spread, "BLOCK", 2)
    assert constant_columns(vectors, np.array([True, False, True, True])) == 2
    assert constant_columns(vectors, np.ones(4, dtype=bool)) == 0
