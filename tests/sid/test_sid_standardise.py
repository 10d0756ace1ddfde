"""Modalities on one scale, from the items that have them; and how far vectors moved on it."""

from __future__ import annotations

import numpy as np
import pytest

from plum.sid import standardise as standardise_module
from plum.sid.standardise import Standardisation, fit_standardisation


def standardise(features, name="x", present=None):
    return fit_standardisation(features, name, present).apply(features, present)


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


def test_absent_rows_count_nothing_and_become_zero():
    features = np.array([[1.0, 10.0], [np.nan, 7.0], [3.0, 10.0], [5.0, 16.0], [1e9, 1e9]], dtype=np.float32)
    present = np.array([True, False, True, True, False])
    found = standardise(features, "x", present)
    np.testing.assert_array_equal(found[present], standardise(features[present], "x"))
    assert not found[~present].any()


@pytest.mark.parametrize(
    ("features", "present"),
    [
        ([[1.0], [1.0]], [True, True]),
        ([[1.0], [2.0], [1.0]], [True, False, True]),
        ([[1.0], [2.0]], [False, False]),
        ([[1.0], [np.nan]], [True, True]),
    ],
)
def test_what_has_no_scale_is_a_mistake(features, present):
    with pytest.raises(ValueError, match="modality 'text'"):
        fit_standardisation(np.array(features, dtype=np.float32), "text", np.array(present))


def test_how_far_vectors_moved_by_hand():
    assert Standardisation(np.zeros(2), 1.0).moved(np.array([[3, 4]]), np.array([[3, 5]])) == pytest.approx(0.5**0.5)
    before = np.array([[0.0, 3.0], [4.0, 0.0], [0.0, 0.0]], dtype=np.float32)
    after = before + np.array([[1, 0], [0, 9], [0, 2]], dtype=np.float32)  # 1, 9 and 2 far: the median is 2
    assert Standardisation(np.zeros(2), 5.0).moved(before, after) == pytest.approx(2 / (5 * 2**0.5))
    assert np.isnan(Standardisation(np.zeros(2), 1.0).moved(before[:0], after[:0]))


def test_moving_knows_no_units_and_strangers_are_far():
    before = np.random.default_rng(0).normal(3, 2, (500, 8))
    strangers = np.random.default_rng(1).normal(3, 2, (500, 8))
    scale = fit_standardisation(before, "x")
    assert scale.moved(before, strangers) == pytest.approx(2**0.5, rel=0.05)
    larger = fit_standardisation(1000 * before, "x")
    assert larger.moved(1000 * before, 1000 * strangers) == pytest.approx(scale.moved(before, strangers))


def test_blocks_change_nothing(monkeypatch):
    features = np.random.default_rng(0).normal(3, 2, (50, 4)).astype(np.float32)
    whole = fit_standardisation(features, "x")
    monkeypatch.setattr(standardise_module, "BLOCK", 7)
    parts = fit_standardisation(features, "x")
    np.testing.assert_array_equal(parts.mean, whole.mean)
    assert parts.scale == pytest.approx(whole.scale, rel=1e-12)
    np.testing.assert_array_equal(whole.apply(features[10:20]), whole.apply(features)[10:20])
