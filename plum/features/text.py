"""Item text -> dense vectors: TF-IDF with SVD, no model to download."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from scipy.sparse import spmatrix
from sklearn.decomposition import TruncatedSVD
from sklearn.feature_extraction.text import TfidfVectorizer

from plum.errors import PlumError


def tfidf_vectors(texts: Sequence[str], dimensions: int, seed: int) -> np.ndarray:
    """TF-IDF of words and numbers (a year in a title counts), reduced by SVD.

    Args:
        texts: N texts; an empty one becomes the zero vector.
        dimensions: D; fewer if there are fewer words or items.
        seed: of the randomised SVD.

    Returns:
        (N, D) float32.

    Raises:
        PlumError: if no word occurs in two texts.
    """
    try:
        # A word must occur in two items: one that occurs once can't relate items to each other.
        weights = TfidfVectorizer(sublinear_tf=True, min_df=2, token_pattern=r"(?u)\b\w+\b").fit_transform(texts)
    except ValueError as error:
        raise PlumError(
            "the items' text holds no word that two items share",
            str(error),
            "choose other features.modalities.*.fields",
        ) from None
    return _narrow(weights, dimensions, seed)


def topic_vectors(topics: Sequence[Sequence[str]], dimensions: int, seed: int) -> np.ndarray:
    """Topics of each item as inverse-frequency weighted indicators, reduced by SVD if there are more than D.

    Args:
        topics: N lists of topic names, empty where there are none.

    Returns:
        (N, min(D, topics)) float32.

    Raises:
        PlumError: if no item has a topic.
    """
    if not any(len(names) for names in topics):
        raise PlumError("no item has topics", None, "drop the topics modality from features.modalities")
    vectorizer = TfidfVectorizer(analyzer=list)
    return _narrow(vectorizer.fit_transform(topics), dimensions, seed)


def _narrow(weights: spmatrix, dimensions: int, seed: int) -> np.ndarray:
    """(N, D) float32 of a sparse matrix: as it is if it has at most D columns, else its truncated SVD."""
    if weights.shape[1] <= dimensions:
        return np.asarray(weights.todense(), dtype=np.float32)
    return TruncatedSVD(dimensions, random_state=seed).fit_transform(weights).astype(np.float32)


def join_fields(columns: Sequence[Iterable[object]]) -> list[str]:
    """One text per item from several columns, lists joined by blanks, missing values left out."""
    return [" ".join(part for part in map(_words, values) if part) for values in zip(*columns, strict=True)]


def _words(value: object) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, list | tuple | np.ndarray):
        return " ".join(map(str, value))
    return ""
