"""Sparse TF-IDF against values by hand and scikit-learn's own."""

import numpy as np
import pandas as pd
import pytest
from sklearn.feature_extraction.text import TfidfVectorizer

from plum.features.words import term_vectors, word_vectors


def table(titles, topics=None, creators=None):
    n = len(titles)
    return pd.DataFrame({"title": titles, "topics": topics or [None] * n, "creator": creators or [None] * n})


def test_a_word_weighs_by_its_count_and_its_rarity_by_hand():
    # "red" is in two of three documents with words, "soap" in one, twice.
    found = word_vectors(table(["Red red SOAP soap", "red", "tea", None, "!"]), ["title"])
    red, soap = (1 + np.log(2)) * (1 + np.log(4 / 3)), (1 + np.log(2)) * (1 + np.log(4 / 2))
    assert found.toarray() == pytest.approx(
        np.array([[red, soap, 0] / np.hypot(red, soap), [1, 0, 0], [0, 0, 1], [0, 0, 0], [0, 0, 0]]), abs=1e-6
    )
    assert found.dtype == np.float32


def test_words_are_those_of_scikit_learn():
    titles = ["OPI Nail Lacquer, 0.5-Fluid Ounce", "Nail File; nail 12", "L'Or\u00e9al ounce", "a b a"]
    expected = TfidfVectorizer(sublinear_tf=True, token_pattern=r"(?u)\b\w+\b")
    assert word_vectors(table(titles), ["title"]).toarray() == pytest.approx(
        expected.fit_transform(titles).toarray(), abs=1e-6
    )


def test_frequencies_are_of_known_items_only():
    items = table(["red soap", "red tea", "blue tea"])
    known = np.array([True, True, False])
    found = word_vectors(items, ["title"], known).toarray()
    assert found[:2] == pytest.approx(word_vectors(items[:2], ["title"]).toarray())
    assert found[2] == pytest.approx([0, 0, 1])  # red, soap, tea; nothing is known of blue
    with pytest.raises(ValueError, match="each of 3 items"):
        word_vectors(items, ["title"], known[:2])


def test_topics_and_creators_are_whole_terms_and_apart():
    items = table(["", "", ""], [["Nail Care", "OPI"], np.array([" nail care "]), None], ["Acme", None, "opi"])
    found = term_vectors(items).toarray()  # creator acme, creator opi, topics nail care, topics opi
    assert (found > 0).tolist() == [[True, False, True, True], [False, False, True, False], [False, True, False, False]]
    words = word_vectors(items, ["title", "topics", "creator"])
    assert (words.toarray() > 0).sum(axis=1).tolist() == [4, 2, 1]


def test_no_words_are_no_error():
    for items in (table([None, ""]), table([])):
        assert word_vectors(items, ["title"]).shape == (len(items), 0)
        assert term_vectors(items).nnz == 0
    assert word_vectors(table(["tea", "tea"]), ["title"], np.array([False, False])).shape == (2, 0)
