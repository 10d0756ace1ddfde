"""The table item <-> Semantic ID."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from plum.errors import PlumError


@dataclass(frozen=True)
class SidTable:
    """Semantic IDs of a whole catalogue, rows in the order of items.parquet.

    Attributes:
        codes: (N, L) int64, 0 <= codes[:, l] < sizes[l].
        sizes: codes per level.

    Raises:
        PlumError: if codes are negative, too large, or their width differs from ``sizes``.
    """

    codes: np.ndarray
    sizes: tuple[int, ...]

    def __post_init__(self) -> None:
        if self.codes.ndim != 2 or self.codes.shape[1] != len(self.sizes):
            raise PlumError(
                "codes and codebook sizes don't belong together",
                f"codes of shape {self.codes.shape}, {len(self.sizes)} sizes",
                "make the Semantic IDs again with plum tokenize --force",
            )
        outside = ((self.codes < 0) | (self.codes >= np.array(self.sizes))).any(axis=1)
        if outside.any():
            row = int(outside.argmax())
            raise PlumError(
                f"{outside.sum():,} Semantic IDs have a code outside its codebook",
                f"row {row} has {self.codes[row].tolist()}, codebook sizes {list(self.sizes)}",
                "make the Semantic IDs again with plum tokenize --force",
            )

    def only(self, kept: np.ndarray) -> SidTable:
        """The Semantic IDs of some of the items, ``kept`` (N,) bool."""
        return SidTable(self.codes[kept], self.sizes)

    @property
    def n_items(self) -> int:
        """N, items of the catalogue."""
        return len(self.codes)

    @property
    def n_levels(self) -> int:
        """L, codes of a Semantic ID, including the disambiguation code."""
        return len(self.sizes)


def default_sizes(n_items: int) -> list[int]:
    """Three levels, each half the size of the one before (PLUM section 2.1), the first at most a sixth of the items.

    PLUM's 2048 codes serve billions of videos. In a catalogue of thousands, codebooks that large would give nearly
    every item its own codes, and items would share nothing. The first level is a power of two between 16 and 2048.
    Stage tokenize logs the choice and writes it to quality.json.

    Example: 600 items -> [64, 32, 16]; 1,682 -> [256, 128, 64]; 9,742 -> [1024, 512, 256].
    """
    first = int(2 ** np.clip(np.floor(np.log2(max(n_items, 1) / 6)), 4, 11))
    return [first, max(4, first // 2), max(4, first // 4)]


def bucket_rank(codes: np.ndarray, popularity: np.ndarray) -> np.ndarray:
    """Place (N,) of each item among the items that share its codes: most popular first, then by catalogue row."""
    order = np.lexsort((-popularity, *codes.T[::-1]))  # stable: ties keep the order of rows
    ordered = codes[order]
    starts = np.r_[True, (ordered[1:] != ordered[:-1]).any(axis=1)][: len(codes)]
    first = np.maximum.accumulate(np.where(starts, np.arange(len(codes)), 0))
    rank = np.empty(len(codes), dtype=np.int64)
    rank[order] = np.arange(len(codes)) - first
    return rank
