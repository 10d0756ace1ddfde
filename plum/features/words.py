"""Items as sparse vectors of their words or of their terms: TF-IDF without reduction, for comparing items."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
import pandas as pd
from scipy import sparse
from sklearn.feature_extraction.text import TfidfVectorizer

from plum.features.encoding import column_of
from plum.features.text import names_in, texts_of

_WORD = re.compile(r"\w+")
TERM_FIELDS = ("topics", "creator")


def word_vectors(items: pd.DataFrame, fields: Sequence[str], known: np.ndarray | None = None) -> sparse.csr_array:
    """TF-IDF of the words and numbers of some fields, in lower case.

    Args:
        items: N rows.
        fields: columns of text or lists of text, joined.
        known: (N,) bool, the items that vocabulary and document frequencies are of; None for all. Words of other items
            alone are left out.

    Returns:
        float32 (N, V), rows of unit length: (1 + ln count) * (1 + ln((1 + n) / (1 + n_word))) of each word, where n
        known items have n_word with the word. Items without a known word are empty rows; V may be 0.

    Raises:
        ValueError: ``known`` of another length.
    """
    return _tfidf([_WORD.findall(text.lower()) for text in texts_of(items, fields)], known)


def term_vectors(items: pd.DataFrame, known: np.ndarray | None = None) -> sparse.csr_array:
    """TF-IDF of whole topics and creators, each a term whatever its case; see :func:`word_vectors`."""
    columns = [(field, [names_in(value) for value in column_of(items, field)]) for field in TERM_FIELDS]
    documents = [
        [f"{field} {name.strip().lower()}" for field, names in columns for name in names[row]]
        for row in range(len(items))
    ]
    return _tfidf(documents, known)


def _tfidf(documents: Sequence[list[str]], known: np.ndarray | None) -> sparse.csr_array:
    if known is not None and np.shape(known) != (len(documents),):
        raise ValueError(f"known must have an entry for each of {len(documents)} items, found {np.shape(known)}")
    fitted = [doc for row, doc in enumerate(documents) if doc and (known is None or known[row])]
    if not fitted:
        return sparse.csr_array((len(documents), 0), dtype=np.float32)
    # Documents without words count for no frequency: half of the items may have no title.
    vectorizer = TfidfVectorizer(analyzer=list, sublinear_tf=True).fit(fitted)
    return sparse.csr_array(vectorizer.transform(documents)).astype(np.float32)
