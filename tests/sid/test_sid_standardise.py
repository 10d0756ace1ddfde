"""Modalities on one scale, from the items that have them, without what all share, by weight; and how far they move."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.decomposition import PCA

from plum.errors import PlumError
from plum.sid import standardise as standardise_module
from plum.sid.standardise import Standardisation, fit_standardisation, weighed
from plum.vectors.spread import mean_cosine


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


def directed(n=400, width=12):
    """Vectors (N, D) that share a direction and have axes of falling strength, slightly turned."""
    rng = np.random.default_rng(0)
    turn = np.linalg.qr(rng.normal(size=(width, width)))[0]
    return ((rng.normal(size=(n, width)) * 2.0 ** -np.arange(width)) @ turn + 3).astype(np.float32)


def test_modalities_of_any_width_weigh_what_they_are_told():
    rng = np.random.default_rng(0)
    wide, narrow = (standardise(rng.normal(2, 7, (500, width)).astype(np.float32)) for width in (40, 3))
    found = weighed([wide, narrow], [1, 1])
    assert found.dtype == np.float32
    assert found[:, :40].var(axis=0).sum() == pytest.approx(1, rel=1e-4)
    assert found[:, 40:].var(axis=0).sum() == pytest.approx(1, rel=1e-4)
    np.testing.assert_allclose(weighed([np.ones((1, 4)), np.ones((1, 1))], [1, 9]), [[0.5, 0.5, 0.5, 0.5, 3]])


@pytest.mark.parametrize("isotropy", ["centre", "whiten", "all-but-the-top"])
def test_nothing_is_left_that_all_vectors_share(isotropy):
    features = directed()
    assert mean_cosine(features) > 0.5
    found = fit_standardisation(features, "x", isotropy=isotropy).apply(features)
    np.testing.assert_allclose(found.mean(0), 0, atol=1e-5)
    assert (found**2).mean() == pytest.approx(1, rel=1e-5)
    assert abs(mean_cosine(found)) < 0.05


def test_without_isotropy_the_mean_stays_and_stands_in_for_what_lacks():
    features, present = directed(), np.arange(400) % 3 > 0
    found = fit_standardisation(features, "x", present, "none").apply(features, present)
    centred = fit_standardisation(features, "x", present).apply(features, present)
    assert mean_cosine(found, present) == pytest.approx(mean_cosine(features, present))
    np.testing.assert_allclose(found[present].var(axis=0), centred[present].var(axis=0), rtol=1e-4)
    np.testing.assert_allclose(found[~present], found[present].mean(0) + 0 * found[~present], rtol=1e-5)


def test_whitening_gives_the_identity_and_keeps_the_distances_of_scikit_learn():
    features = directed()
    found = fit_standardisation(features, "x", isotropy="whiten").apply(features)
    np.testing.assert_allclose(np.cov(found.T, bias=True), np.eye(12), atol=1e-3)
    white = PCA(whiten=True).fit_transform(features.astype(np.float64))
    for row in range(3):
        ours, theirs = (np.linalg.norm(x - x[row], axis=1) for x in (found, white))
        np.testing.assert_allclose(ours, theirs * ours[9] / theirs[9], rtol=1e-3)


def test_whitening_leaves_out_what_is_rounding():
    features = directed()
    features[:, 3] = features[:, 4]  # 11 axes of 12
    found = fit_standardisation(features, "x", isotropy="whiten").apply(features)
    np.testing.assert_allclose(np.linalg.eigvalsh(np.cov(found.T, bias=True)), [0, *[12 / 11] * 11], atol=1e-3)


@pytest.mark.parametrize(("width", "n_top"), [(12, 1), (100, 1), (250, 2), (384, 4)])
def test_all_but_the_top_are_the_later_components_of_scikit_learn(width, n_top):
    rng = np.random.default_rng(1)
    features = rng.normal(size=(900, width)) @ (
        np.linalg.qr(rng.normal(size=(width, width)))[0].T * 0.9 ** np.arange(width)
    )
    features = (features + 1).astype(np.float32)
    standard = fit_standardisation(features, "x", isotropy="all-but-the-top")
    top = PCA(n_top, svd_solver="full").fit(features.astype(np.float64))
    centred = features - features.mean(0, dtype=np.float64)
    expected = centred - centred @ top.components_.T @ top.components_
    np.testing.assert_allclose(standard.apply(features) * standard.scale, expected, atol=1e-4)


def test_only_known_items_are_learnt_from():
    features, known = directed(), np.arange(400) < 300
    present = np.arange(400) % 5 > 0
    for isotropy in ("centre", "whiten", "all-but-the-top"):
        found = fit_standardisation(features, "x", present, isotropy, known)
        alone = fit_standardisation(features[known & present], "x", isotropy=isotropy)
        np.testing.assert_array_equal(found.mean, alone.mean)
        assert found.scale == alone.scale
        changed = np.where(known[:, None], features, 99).astype(np.float32)
        again = fit_standardisation(changed, "x", present, isotropy, known)
        np.testing.assert_array_equal(again.apply(features), found.apply(features))
    with pytest.raises(ValueError, match="no item has modality 'x'"):
        fit_standardisation(features, "x", present, known=np.zeros(400, dtype=bool))


@pytest.mark.parametrize(
    ("features", "isotropy", "told"),
    [
        (directed(12), "whiten", "can't be whitened.*12 items, 12 dimensions"),
        (directed()[:, :1], "all-but-the-top", "nothing left without its strongest axis"),
        (directed()[:, :1] * np.ones((1, 3), np.float32), "all-but-the-top", "nothing left"),
    ],
)
def test_what_would_leave_nothing_is_refused_with_the_setting(features, isotropy, told):
    with pytest.raises(PlumError, match=f"(?s){told}.*features.modalities.text.isotropy to centre"):
        fit_standardisation(features, "text", isotropy=isotropy)


def test_moving_is_measured_where_items_are_quantised():
    features = directed()
    standard = fit_standardisation(features, "x", isotropy="all-but-the-top")
    top = PCA(1).fit(features).components_
    assert standard.moved(features, features + top) == pytest.approx(0, abs=1e-3)
    assert standard.moved(features, directed()[::-1] + 5) > 0.5
