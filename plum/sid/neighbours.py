"""The items that share a prefix of a Semantic ID, which show what its codes stand for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np


class Shared(NamedTuple):
    """Items that share a prefix.

    Attributes:
        length: codes of the prefix.
        total: number of items that share it.
        rows: (n,) int64, the most popular of them, ties by catalogue row.
    """

    length: int
    total: int
    rows: np.ndarray


def at_each_prefix(codes: np.ndarray, row: int, popularity: np.ndarray, n: int) -> list[Shared]:
    """The other items that share each prefix of an item's Semantic ID.

    Args:
        codes: (N, L) int64.
        row: of the item, which does not count as its own neighbour.
        popularity: (N,) training interactions.
        n: most items to list at each length.

    Returns:
        L entries, lengths 1 to L.

    Raises:
        ValueError: if there is no such row, ``popularity`` has another length, or n is below 0.
    """
    if not 0 <= row < len(codes):
        raise ValueError(f"rows lie in 0..{len(codes) - 1}, found {row}")
    return _shared(codes, codes[row], np.arange(len(codes)) != row, popularity, n)


def with_prefixes(codes: np.ndarray, sid: Sequence[int], popularity: np.ndarray, n: int) -> list[Shared]:
    """The items that share each prefix of a Semantic ID, which need not belong to an item.

    Args:
        codes: (N, L) int64.
        sid: its first codes, 1 to L of them.
        popularity: (N,) training interactions.
        n: most items to list at each length.

    Returns:
        An entry per code of ``sid``, lengths ascending; ``total`` is 0 if no item has the prefix.

    Raises:
        ValueError: if there is no code or more than L, ``popularity`` has another length, or n is below 0.
    """
    if not 1 <= len(sid) <= codes.shape[1]:
        raise ValueError(f"a prefix has 1 to {codes.shape[1]} codes, found {len(sid)}")
    return _shared(codes, np.asarray(sid), np.ones(len(codes), dtype=bool), popularity, n)


def _shared(codes: np.ndarray, sid: np.ndarray, among: np.ndarray, popularity: np.ndarray, n: int) -> list[Shared]:
    if len(popularity) != len(codes) or n < 0:
        raise ValueError(f"{len(codes)} items, popularity of {len(popularity)}, n {n}")
    rows = np.flatnonzero(among)
    rows = rows[np.argsort(-popularity[rows], kind="stable")]
    result = []
    for level, code in enumerate(sid.tolist()):
        rows = rows[codes[rows, level] == code]
        result.append(Shared(level + 1, len(rows), rows[:n]))
    return result
