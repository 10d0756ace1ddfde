"""Retrieval by content only: items whose words or vectors are nearest to those of the history."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import reduce
from operator import add
from typing import Any, TypeAlias

import numpy as np
from scipy import sparse

from plum.evaluation.rankings import Recommendations, flatten
from plum.retrievers.choose import choose_in_steps
from plum.retrievers.sums import check_weights, newest_first, ranked
from plum.vectors.unit import unit_rows

TITLE, TEXT, TERMS, VECTORS = "title", "text", "terms", "vectors"
MIXTURES: tuple[dict[str, float], ...] = (
    {TITLE: 1.0},
    {TITLE: 1.0, TERMS: 0.1},
    {TITLE: 1.0, TERMS: 1.0},
    {TEXT: 1.0},
    {TERMS: 1.0},
    {VECTORS: 1.0},
    {TITLE: 1.0, VECTORS: 1.0},
    {TITLE: 1.0, TERMS: 0.1, VECTORS: 1.0},
)
"""Shares of the spaces that :func:`choose_textknn` tries, of those that there are. On Beauty (validation, 5,000 users,
decay .5) words of titles find .0812, with terms at a share of .05 to .1 .082, at .4 .077; with the terms' words among
them .078. Pairs of words, parts of words and BM25 find less than plain words."""
DECAYS = (0.5, 0.3, 0.7, 0.9, 1.0)
"""What it tries for each, beginning with the first."""

Vectors: TypeAlias = np.ndarray | sparse.csr_array


_ALIKE = 1e-6  # how far the cosine of vectors that differ by rounding may be from 1


class TextKNN:
    """Items most similar to the history by content. Needs no training interactions, so cold items are no different.

    In each space of vectors a history is the weighted mean of its items' unit vectors, scaled to unit length. The
    newest item has weight 1, each older one ``decay`` times the next one's; repeated items count each time. The score
    is the mean of the spaces' cosines, weighted by their shares. Items without content (zero in all spaces) are never
    recommended, and ignored in histories. A history without content gives an empty list. Where all spaces are sparse,
    as those of words are, items that have nothing in common with the history (a score of 0) are not recommended either.

    Args:
        spaces: matrices (N, D) of any width, a row per catalogue item, dense or sparse. Lengths of rows don't matter.
        decay: within 0 (excluded) and 1.
        shares: > 0, one per space; None for equal ones.
        last: items of a history that count, the newest with content; None for all.

    Raises:
        ValueError: spaces that are not (N, D) or not finite, or a setting out of range.
    """

    name = "textknn"

    def __init__(
        self, spaces: Sequence[Vectors], decay: float, shares: Sequence[float] | None = None, last: int | None = None
    ) -> None:
        check_weights(decay, last)
        shares = [1.0] * len(spaces) if shares is None else shares
        if len({space.shape[0] for space in spaces}) != 1 or len(shares) != len(spaces) or not min(shares) > 0:
            raise ValueError(
                "there must be spaces (N, D) of the same items with a share above 0 each, "
                f"found {[space.shape for space in spaces]} and {list(shares)}"
            )
        self.decay, self.last = decay, last
        self._spaces = [unit_vectors(space) for space in spaces]
        self._turned = [_turned(space) for space in self._spaces]  # (D, N)
        self._shares = [share / sum(shares) for share in shares]
        self._has_content = np.logical_or.reduce([has_content(space) for space in self._spaces])

    def recommend(self, histories: Sequence[np.ndarray], k: int, seen: Sequence[np.ndarray] | None) -> Recommendations:
        """The K items of largest similarity; see :class:`plum.retrievers.protocol.Retriever`."""
        n_items = len(self._has_content)
        users, rows = flatten(histories, n_items)
        kept = self._has_content[rows]
        users, rows = users[kept], rows[kept]
        weights = newest_first(users, self.decay, self.last)
        mix = sparse.coo_array((weights, (users, rows)), shape=(len(histories), n_items)).tocsr()
        return ranked(mix, self._scores, k, seen)

    def _scores(self, mix: sparse.csr_array) -> Vectors:
        parts, asked = [], np.zeros(mix.shape[0], dtype=bool)
        for space, turned, share in zip(self._spaces, self._turned, self._shares, strict=True):
            queries = unit_vectors(mix @ space)
            asked |= has_content(queries)
            parts.append((queries @ turned) * np.float32(share))
        if all(sparse.issparse(part) for part in parts):
            return reduce(add, parts)
        scores = reduce(add, map(_dense, parts))
        scores[:, ~self._has_content] = -np.inf
        scores[~asked] = -np.inf
        return scores


def unit_vectors(space: Vectors) -> Vectors:
    """Rows scaled to unit length, float32; zero rows stay. As :func:`plum.vectors.unit.unit_rows`, sparse ones too."""
    if isinstance(space, np.ndarray):
        return unit_rows(space)
    space = sparse.csr_array(space)
    if not np.isfinite(space.data).all():
        raise ValueError(f"vectors must be (N, D) and finite, found shape {space.shape}")
    rows = np.repeat(np.arange(space.shape[0]), np.diff(space.indptr))
    lengths = np.sqrt(np.bincount(rows, space.data.astype(np.float64) ** 2, minlength=space.shape[0]))
    scaled = space.data / np.where(lengths > 0, lengths, 1.0)[rows]
    return sparse.csr_array((scaled.astype(np.float32), space.indices, space.indptr), shape=space.shape)


def has_content(space: Vectors) -> np.ndarray:
    """Which rows (N,) of unit vectors are not zero."""
    squares = np.square(space) if isinstance(space, np.ndarray) else space.multiply(space)
    return np.asarray(squares.sum(axis=1) > 0)


def spread(space: Vectors) -> tuple[int, bool]:
    """How many items have content in a space (N, D), and whether it is the same for all of them.

    Raises:
        ValueError: vectors that are not finite.
    """
    units = unit_vectors(space)
    filled = np.flatnonzero(has_content(units))
    if not len(filled):
        return 0, False
    first = units[filled[:1]]
    return len(filled), bool((_dense(units @ first.T)[filled] > 1 - _ALIKE).all())


def _turned(space: Vectors) -> Vectors:
    return np.ascontiguousarray(space.T) if isinstance(space, np.ndarray) else space.T.tocsr()


def _dense(products: Vectors) -> np.ndarray:
    return products if isinstance(products, np.ndarray) else np.asarray(products.toarray())


def choose_textknn(
    spaces: Mapping[str, Vectors],
    histories: Sequence[np.ndarray],
    targets: Sequence[np.ndarray],
    seen: Sequence[np.ndarray] | None,
) -> tuple[TextKNN, list[dict[str, Any]]]:
    """:class:`TextKNN` with the mixture and the decay of best validation Recall@10, chosen one after the other.

    Args:
        spaces: by name, at least one of title, text, terms and vectors; see :class:`TextKNN`.
        histories, targets, seen: validation users; see :func:`plum.retrievers.choose.choose`.

    Returns:
        best: the retriever.
        trials: ``{"settings": {"text": "title + 0.1 terms", "decay": 0.9}, "valid_recall@10": x}`` each.

    Raises:
        ValueError: no spaces.
    """
    mixtures = {_told(shares): shares for shares in MIXTURES if spaces.keys() >= shares.keys()}

    def make(settings: dict[str, Any]) -> TextKNN:
        shares = mixtures[settings["text"]]
        return TextKNN([spaces[name] for name in shares], settings["decay"], list(shares.values()))

    if not mixtures:
        raise ValueError("there is no content to compare items by")
    start = {"text": next(iter(mixtures)), "decay": DECAYS[0]}
    return choose_in_steps(make, start, {"text": list(mixtures), "decay": DECAYS}, histories, targets, seen)


def _told(shares: Mapping[str, float]) -> str:
    return " + ".join(name if share == 1 else f"{share:g} {name}" for name, share in shares.items())
