"""Item text and topics -> dense vectors: TF-IDF with SVD, no model to download."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pandas as pd
from sklearn.decomposition import TruncatedSVD
from sklearn.feature_extraction.text import TfidfVectorizer

from plum.errors import PlumError
from plum.features.encoding import Encoded, column_of, save_parts


@dataclass(frozen=True, eq=False)
class Terms:
    """A weighted vocabulary, and the SVD that reduces it.

    Attributes:
        words: V terms, in alphabetical order.
        idf: inverse document frequencies (V,) float64.
        components: (D, V) float64; None if each term is a dimension.

    Raises:
        ValueError: if the numbers of terms differ.
    """

    words: Sequence[str]
    idf: np.ndarray
    components: np.ndarray | None

    def __post_init__(self) -> None:
        widths = {len(self.words), len(self.idf), *(() if self.components is None else self.components.shape[1:])}
        if len(widths) > 1:
            raise ValueError(f"words, idf and components are of {sorted(widths)} terms")

    def encode(self, vectorizer: TfidfVectorizer, documents: Sequence[Any]) -> Encoded:
        """Vectors of N documents; documents without any of the terms have none.

        Args:
            vectorizer: set up as for :func:`_fit_terms`, with this vocabulary and these weights (:meth:`put_into`).
            documents: its input.
        """
        if not documents:  # scikit-learn needs at least one
            width = len(self.words) if self.components is None else len(self.components)
            return Encoded(np.zeros((0, width), dtype=np.float32), np.zeros(0, dtype=bool))
        weights = vectorizer.transform(documents)
        present = np.diff(weights.indptr) > 0
        vectors = weights.toarray() if self.components is None else weights @ self.components.T
        return Encoded(vectors.astype(np.float32), present)

    def put_into(self, make: Callable[..., TfidfVectorizer]) -> TfidfVectorizer:
        """A vectorizer, made by ``make(vocabulary=...)``, with these terms and their fitted weights."""
        vectorizer = make(vocabulary={word: place for place, word in enumerate(self.words)})
        vectorizer.idf_ = self.idf
        return vectorizer

    def save(self, folder: Path, name: str, kind: str, settings: Mapping[str, Any]) -> None:
        """Write the files of the encoder."""
        arrays = {"idf": self.idf} | ({} if self.components is None else {"components": self.components})
        save_parts(folder, name, kind, {**settings, "words": list(self.words)}, arrays)

    @classmethod
    def from_parts(cls, settings: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> Terms:
        """Rebuild the terms that :meth:`save` wrote."""
        return cls(settings["words"], arrays["idf"], arrays.get("components"))


@dataclass(frozen=True, eq=False)
class TfidfEncoder:
    """TF-IDF of the words and numbers of some fields, reduced by SVD; see :func:`fit_tfidf`."""

    kind: ClassVar[str] = "tfidf"
    fields: Sequence[str]
    terms: Terms

    def transform(self, items: pd.DataFrame) -> Encoded:
        """Vectors (N, D) of items; items without a word of the vocabulary have none."""
        return self.terms.encode(self._vectorizer, texts_of(items, self.fields))

    @cached_property
    def _vectorizer(self) -> TfidfVectorizer:  # cached: setting up a large vocabulary is slower than encoding a block
        return self.terms.put_into(_words_vectorizer)

    def save(self, folder: Path, name: str) -> None:
        """Write vocabulary (JSON), weights and SVD (safetensors)."""
        self.terms.save(folder, name, self.kind, {"fields": list(self.fields)})

    @classmethod
    def from_parts(cls, settings: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> TfidfEncoder:
        """Rebuild the encoder that :meth:`save` wrote."""
        return cls(settings["fields"], Terms.from_parts(settings, arrays))


@dataclass(frozen=True, eq=False)
class TopicsEncoder:
    """Topics as weighted indicators; see :func:`fit_topics`."""

    kind: ClassVar[str] = "topics"
    terms: Terms

    def transform(self, items: pd.DataFrame) -> Encoded:
        """Vectors (N, D) of items; items without a known topic have none."""
        return self.terms.encode(self._vectorizer, _topics_of(items))

    @cached_property
    def _vectorizer(self) -> TfidfVectorizer:
        return self.terms.put_into(_topics_vectorizer)

    def save(self, folder: Path, name: str) -> None:
        """Write topics (JSON), weights and SVD (safetensors)."""
        self.terms.save(folder, name, self.kind, {})

    @classmethod
    def from_parts(cls, settings: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> TopicsEncoder:
        """Rebuild the encoder that :meth:`save` wrote."""
        return cls(Terms.from_parts(settings, arrays))


def fit_tfidf(items: pd.DataFrame, fields: Sequence[str], dimensions: int, seed: int) -> TfidfEncoder:
    """TF-IDF of words and numbers (a year in a title counts), reduced by SVD.

    Args:
        items: N rows.
        fields: columns of text or lists of text, joined.
        dimensions: D; fewer if there are fewer words or items.
        seed: of the randomised SVD.

    Raises:
        PlumError: if no word occurs in two items.
    """
    try:
        # A word must occur in two items: otherwise it can't relate items to each other.
        terms = _fit_terms(_words_vectorizer(min_df=2), texts_of(items, fields), dimensions, seed)
    except ValueError as error:
        raise PlumError(
            "no word occurs in the text of two items",
            str(error),
            "choose other features.modalities.*.fields",
        ) from None
    return TfidfEncoder(tuple(fields), terms)


def fit_topics(items: pd.DataFrame, dimensions: int, seed: int) -> TopicsEncoder:
    """Topics of each item as inverse-frequency weighted indicators, reduced by SVD if there are more than D.

    Args:
        items: N rows; ``topics`` are lists of names.
        dimensions: D; fewer if there are fewer topics.
        seed: of the randomised SVD.

    Raises:
        PlumError: if no item has a topic.
    """
    topics = _topics_of(items)
    if not any(topics):
        raise PlumError("no item has topics", None, "drop the topics modality from features.modalities")
    return TopicsEncoder(_fit_terms(_topics_vectorizer(), topics, dimensions, seed))


def _words_vectorizer(**more: Any) -> TfidfVectorizer:
    return TfidfVectorizer(sublinear_tf=True, token_pattern=r"(?u)\b\w+\b", **more)


def _topics_vectorizer(**more: Any) -> TfidfVectorizer:
    return TfidfVectorizer(analyzer=list, **more)


def _fit_terms(vectorizer: TfidfVectorizer, documents: Sequence[Any], dimensions: int, seed: int) -> Terms:
    weights = vectorizer.fit_transform(documents)
    words = vectorizer.get_feature_names_out().tolist()
    if weights.shape[1] <= dimensions:
        return Terms(words, vectorizer.idf_, None)
    return Terms(words, vectorizer.idf_, TruncatedSVD(dimensions, random_state=seed).fit(weights).components_)


def texts_of(items: pd.DataFrame, fields: Sequence[str]) -> list[str]:
    """One text per item from several columns, lists joined by blanks, missing values left out."""
    return join_fields([column_of(items, field) for field in fields])


def join_fields(columns: Sequence[Iterable[object]]) -> list[str]:
    """One text per item from several columns, lists joined by blanks, missing values left out."""
    return [" ".join(part for part in map(_words, values) if part) for values in zip(*columns, strict=True)]


def _words(value: object) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, list | tuple | np.ndarray):
        return " ".join(map(str, value))
    return ""


def _topics_of(items: pd.DataFrame) -> list[list[str]]:
    return [names_in(value) for value in column_of(items, "topics")]


def names_in(value: object) -> list[str]:
    """The names that a value of a column holds: one text, or a list of them; none if it is empty."""
    if isinstance(value, str):
        return [value]
    if isinstance(value, list | tuple | np.ndarray):
        return [str(name) for name in value if name is not None]
    return []
