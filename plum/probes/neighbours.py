"""Answers copied from the nearest item: what a model has to be better than to know more than its training items."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def nearest_by_sid(known: np.ndarray, asked: np.ndarray) -> np.ndarray:
    """The known item whose Semantic ID shares the most first codes with each asked one.

    Args:
        known: (K, L) codes, K at least 1.
        asked: (Q, L) codes.

    Returns:
        (Q,) int64 rows of ``known``; the first of several.

    Example: known (1, 2), (1, 3), (4, 3); asked (1, 3) -> 1, asked (4, 9) -> 2, asked (7, 7) -> 0.
    """
    best = np.zeros(len(asked), dtype=np.int64)
    for place, row in enumerate(asked):
        best[place] = np.cumprod(known == row, axis=1).sum(axis=1).argmax()
    return best


class Titles:
    """Known items by the words of their titles, to copy a Semantic ID from the nearest one (TF-IDF cosine).

    Args:
        texts: K titles.
        codes: (K, L), their Semantic IDs; K is at least 1.
    """

    def __init__(self, texts: Sequence[str], codes: np.ndarray) -> None:
        from sklearn.feature_extraction.text import TfidfVectorizer

        self._codes = codes
        self._vectorizer = TfidfVectorizer(token_pattern=r"(?u)\b\w+\b")
        try:
            self._table = self._vectorizer.fit_transform(texts)
        except ValueError:  # no text holds a word
            self._table = None

    def copied(self, texts: Sequence[str], asked: np.ndarray, given: bool) -> np.ndarray:
        """Codes (Q, L) copied from the nearest known item.

        Args:
            texts: Q titles.
            asked: (Q, L), their true codes.
            given: copy each level from the nearest of those items that have the true earlier codes; otherwise all
                levels from the nearest of all. Where no such item shares a word, the guess is
                :func:`commonest_codes`'s.
        """
        guess = commonest_codes(self._codes, asked, given)
        if self._table is None:
            return guess
        vectors = self._vectorizer.transform(texts)
        for place, row in enumerate(asked):
            near = (self._table @ vectors[place].T).toarray()[:, 0]
            for level in range(asked.shape[1]):
                if near.max(initial=0.0) > 0:
                    guess[place, level] = self._codes[near.argmax(), level]
                if given:
                    near = np.where(self._codes[:, level] == row[level], near, 0.0)
        return guess


def commonest_codes(known: np.ndarray, asked: np.ndarray, given: bool) -> np.ndarray:
    """A guess by majority for every level of the asked Semantic IDs.

    Args:
        known: (K, L) codes of other items, K at least 1.
        asked: (Q, L) true codes.
        given: guess each level after the true earlier codes (of those known items that have them, or of all items if
            none has); otherwise each level after the guesses for the earlier ones.

    Returns:
        (Q, L) codes; the smallest of several that are equally common.
    """
    guess = np.zeros_like(asked)
    for place, row in enumerate(asked):
        alike = np.ones(len(known), dtype=bool)
        for level in range(known.shape[1]):
            pool = known[alike, level] if alike.any() else known[:, level]
            guess[place, level] = np.bincount(pool).argmax()
            alike &= known[:, level] == (row if given else guess[place])[level]
    return guess
