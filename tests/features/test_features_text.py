"""TF-IDF and topic vectors, and joining of an item's fields."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from sklearn.decomposition import TruncatedSVD
from sklearn.feature_extraction.text import TfidfVectorizer

from plum.errors import PlumError
from plum.features.encoding import Encoded, refuse_useless
from plum.features.text import fit_tfidf, fit_topics, join_fields

TEXTS = ["Toy Story 1995", "toy soldiers", "", "Heat 1995", "the heat of the soldiers"]


def titles(texts: list[str]) -> pd.DataFrame:
    return pd.DataFrame({"item_id": [f"i{row}" for row in range(len(texts))], "title": texts})


def tfidf(texts: list[str], dimensions: int, seed: int = 0) -> Encoded:
    items = titles(texts)
    return fit_tfidf(items, ["title"], dimensions, seed).transform(items)


def topics(names: list[list[str] | None], dimensions: int) -> Encoded:
    items = pd.DataFrame({"topics": names})
    return fit_topics(items, dimensions, seed=0).transform(items)


def test_few_words_are_kept_as_they_are():
    # shared by two items: toy, 1995, soldiers, heat
    found, present = tfidf(TEXTS, 64)
    assert found.shape == (5, 4)
    assert found.dtype == np.float32
    assert present.tolist() == [True, True, False, True, True]
    assert (found[2] == 0).all()
    np.testing.assert_allclose(np.linalg.norm(np.delete(found, 2, 0), axis=1), 1, rtol=1e-6)
    assert (found[0] * found[3]).sum() > 0  # the year relates them
    assert (found[0] * found[4]).sum() == 0


def test_columns_are_in_the_order_of_the_alphabet_whatever_came_first():
    found = tfidf(["b a", "b", "a c", "c"], 8).vectors
    full = TfidfVectorizer(sublinear_tf=True, min_df=2, token_pattern=r"\w+").fit_transform(["b a", "b", "a c", "c"])
    assert np.flatnonzero(found[1]).tolist() == [1]
    np.testing.assert_array_equal(found, full.toarray().astype(np.float32))


def test_many_words_are_reduced_and_keep_their_dot_products_as_well_as_an_svd_can():
    rng = np.random.default_rng(0)
    texts = [" ".join(f"w{i}" for i in rng.choice(30, 6, replace=False)) for _ in range(60)]
    found = tfidf(texts, 10).vectors
    assert found.shape == (60, 10)
    full = TfidfVectorizer(sublinear_tf=True, min_df=2).fit_transform(texts).toarray()
    values = np.linalg.svd(full, compute_uv=False)
    kept = np.linalg.norm(found) ** 2
    assert kept == pytest.approx((values[:10] ** 2).sum(), rel=0.02)
    assert np.array_equal(found, tfidf(texts, 10).vectors)


@pytest.mark.parametrize("dimensions", [10, 64])
def test_vectors_are_those_that_scikit_learn_fits_to_the_bit(dimensions):
    rng = np.random.default_rng(1)
    texts = [" ".join(f"w{i}" for i in rng.choice(40, 8)) for _ in range(90)]
    full = TfidfVectorizer(sublinear_tf=True, min_df=2).fit_transform(texts)
    narrow = TruncatedSVD(10, random_state=3).fit_transform(full) if dimensions == 10 else full.toarray()
    found = tfidf(texts, dimensions, seed=3).vectors
    assert found.flags.c_contiguous
    assert found.tobytes() == narrow.astype(np.float32).tobytes()


def test_fewer_items_than_dimensions():
    assert len(tfidf(["a b c d e f", "a b c d e f", "a c e"], 5).vectors) == 3


@pytest.mark.parametrize("texts", [["", ""], ["one", "two"], ["alone"]])
def test_texts_that_share_no_word_are_refused(texts):
    with pytest.raises(PlumError, match="no word occurs in the text of two items"):
        tfidf(texts, 8)


def test_equal_texts_are_refused():
    with pytest.raises(PlumError, match=r"(?s)'text' is the same for all items.*all 4 items"):
        refuse_useless(tfidf(["same words"] * 4, 8), "text", list("abcd"))


def test_a_text_whose_words_no_other_item_has_counts_as_none():
    found, present = tfidf([*TEXTS, "singular"], 64)
    assert not present[5]
    assert not found[5].any()


def test_topics_weigh_rare_ones_more():
    found, present = topics([["Drama"], ["Drama", "Film Noir"], [], ["Drama"], None], 8)
    assert found.shape == (5, 2)  # "Film Noir" is one topic
    assert found[1, 1] > found[1, 0] > 0
    assert present.tolist() == [True, True, False, True, False]
    assert (found[[2, 4]] == 0).all()


def test_more_topics_than_dimensions_are_reduced():
    assert topics([[f"t{i}", f"t{i + 1}"] for i in range(12)], 5).vectors.shape == (12, 5)


def test_no_topics_at_all_is_a_message():
    with pytest.raises(PlumError, match="no item has topics"):
        topics([[], []], 8)


def test_fields_are_joined_and_missing_values_left_out():
    columns = [["Heat", None, float("nan")], [["Crime", "Drama"], np.array(["War"]), []], [None, "a text", "b"]]
    assert join_fields(columns) == ["Heat Crime Drama", "War a text", "b"]
