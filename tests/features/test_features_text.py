"""TF-IDF and topic vectors, and joining of an item's fields."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.feature_extraction.text import TfidfVectorizer

from plum.errors import PlumError
from plum.features.text import join_fields, tfidf_vectors, topic_vectors
from plum.sid.fit import standardise

TEXTS = ["Toy Story 1995", "toy soldiers", "", "Heat 1995", "the heat of the soldiers"]


def test_few_words_are_kept_as_they_are():
    # shared by two items: toy, 1995, soldiers, heat
    found = tfidf_vectors(TEXTS, 64, seed=0)
    assert found.shape == (5, 4)
    assert found.dtype == np.float32
    assert (found[2] == 0).all()
    np.testing.assert_allclose(np.linalg.norm(np.delete(found, 2, 0), axis=1), 1, rtol=1e-6)
    assert (found[0] * found[3]).sum() > 0  # the year relates them
    assert (found[0] * found[4]).sum() == 0


def test_many_words_are_reduced_and_keep_their_dot_products_as_well_as_an_svd_can():
    rng = np.random.default_rng(0)
    texts = [" ".join(f"w{i}" for i in rng.choice(30, 6, replace=False)) for _ in range(60)]
    found = tfidf_vectors(texts, 10, seed=0)
    assert found.shape == (60, 10)
    full = TfidfVectorizer(sublinear_tf=True, min_df=2).fit_transform(texts).toarray()
    values = np.linalg.svd(full, compute_uv=False)
    kept = np.linalg.norm(found) ** 2
    assert kept == pytest.approx((values[:10] ** 2).sum(), rel=0.02)
    assert np.array_equal(found, tfidf_vectors(texts, 10, seed=0))


def test_fewer_items_than_dimensions():
    assert len(tfidf_vectors(["a b c d e f", "a b c d e f", "a c e"], 5, seed=0)) == 3


@pytest.mark.parametrize("texts", [["", ""], ["one", "two"], ["alone"]])
def test_texts_that_share_no_word_are_refused(texts):
    with pytest.raises(PlumError, match="no word that two items share"):
        tfidf_vectors(texts, 8, seed=0)


def test_equal_texts_are_refused_before_training():
    with pytest.raises(PlumError, match="tells no items apart"):
        standardise(tfidf_vectors(["same words"] * 4, 8, seed=0), "text")


def test_topics_weigh_rare_ones_more():
    found = topic_vectors([["Drama"], ["Drama", "Film Noir"], [], ["Drama"]], 8, seed=0)
    assert found.shape == (4, 2)  # "Film Noir" is one topic
    assert found[1, 1] > found[1, 0] > 0
    assert (found[2] == 0).all()


def test_more_topics_than_dimensions_are_reduced():
    topics = [[f"t{i}", f"t{i + 1}"] for i in range(12)]
    assert topic_vectors(topics, 5, seed=0).shape == (12, 5)


def test_no_topics_at_all_is_a_message():
    with pytest.raises(PlumError, match="no item has topics"):
        topic_vectors([[], []], 8, seed=0)


def test_fields_are_joined_and_missing_values_left_out():
    columns = [["Heat", None, float("nan")], [["Crime", "Drama"], np.array(["War"]), []], [None, "a text", "b"]]
    assert join_fields(columns) == ["Heat Crime Drama", "War a text", "b"]
