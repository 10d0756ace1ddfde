"""Modalities on one scale, from the items that have them; and features that are refused."""

from __future__ import annotations

import numpy as np
import pytest

from plum.errors import PlumError
from plum.sid import standardise as standardise_module
from plum.sid.standardise import fit_standardisation, standardise


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


def test_absent_rows_count_nothing_and_become_zero():
    features = np.array([[1.0, 10.0], [np.nan, 7.0], [3.0, 10.0], [5.0, 16.0], [1e9, 1e9]], dtype=np.float32)
    present = np.array([True, False, True, True, False])
    found = standardise(features, "x", present)
    np.testing.assert_array_equal(found[present], standardise(features[present], "x"))
    assert not found[~present].any()


def test_a_modality_that_no_item_has_is_refused():
    with pytest.raises(PlumError, match=r"no item has modality 'image'(.|\n)*features\.modalities"):
        standardise(np.zeros((3, 2), dtype=np.float32), "image", np.zeros(3, dtype=bool))


def test_the_same_vector_wherever_there_is_one_is_refused():
    features = np.array([[1.0, 2.0], [0.0, 0.0], [1.0, 2.0]], dtype=np.float32)
    with pytest.raises(PlumError, match="all 2 rows of items that have it are the same"):
        standardise(features, "image", np.array([True, False, True]))


def test_only_present_rows_must_be_finite():
    features = np.array([[1.0], [2.0], [np.inf]], dtype=np.float32)
    assert np.isfinite(standardise(features, "x", np.array([True, True, False]))).all()
    with pytest.raises(PlumError, match="1 rows, the first is row 2"):
        standardise(features, "x", np.array([True, False, True]))


def test_blocks_change_nothing(monkeypatch):
    features = np.random.default_rng(0).normal(3, 2, (50, 4)).astype(np.float32)
    whole = fit_standardisation(features, "x")
    monkeypatch.setattr(standardise_module, "BLOCK", 7)
    parts = fit_standardisation(features, "x")
    np.testing.assert_array_equal(parts.mean, whole.mean)
    assert parts.scale == pytest.approx(whole.scale, rel=1e-12)
    np.testing.assert_array_equal(whole.apply(features[10:20]), whole.apply(features)[10:20])
