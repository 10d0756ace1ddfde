"""Semantic IDs of new items, given those of the catalogue."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from plum.sid.collisions import reassign
from plum.sid.frozen import Frozen
from plum.sid.kmeans import codewords_of
from plum.sid.prefixes import prefix_groups
from plum.sid.table import bucket_rank


class Placed(NamedTuple):
    """Semantic IDs of new items.

    Attributes:
        found: (N,) bool, which of N new items found a place, F of them; the others have no Semantic ID.
        codes: (F, L) int64, or (F, L + 1) with a disambiguation code.
        collided: (F,) bool, whether an old item, or another new item that found a place, has the same content codes.
    """

    found: np.ndarray
    codes: np.ndarray
    collided: np.ndarray


def place_new(
    frozen: Frozen, old_codes: np.ndarray, new_codes: np.ndarray, vectors: np.ndarray | None = None
) -> Placed:
    """Semantic IDs of new items by the run's rule for collisions; old items keep theirs.

    ``share``: new items share, like old ones. ``suffix``: the disambiguation code continues after the largest one of
    the old items with the same codes. Codes freed by removed items are not used again, because the language model has
    learnt them as those items. The model has a fixed number of suffix tokens: an item that would need a further one
    finds no place. ``reassign``: new items take free places. New items are placed in the order of rows.

    Args:
        frozen: the tokenizer.
        old_codes: (N_old, L) or, with a disambiguation code, (N_old, L + 1): the Semantic IDs of the run.
        new_codes: (N, L) of :meth:`Frozen.assign`.
        vectors: (N, D) of :meth:`Frozen.vectors`, for the distances of ``reassign``; None for the sum of the items'
            codewords.

    Raises:
        PlumError: for ``reassign``, if there are fewer free places than new items.
        ValueError: if codes have another number of levels.
    """
    n_levels = len(frozen.sizes)
    if old_codes.shape[1] != len(frozen.rules.table_sizes) or new_codes.shape[1] != n_levels:
        raise ValueError(f"codes {old_codes.shape} and {new_codes.shape} for sizes {frozen.rules.table_sizes}")
    bucket = prefix_groups(np.concatenate([old_codes[:, :n_levels], new_codes]))[:, -1]
    old_bucket, new_bucket = bucket[: len(old_codes)], bucket[len(old_codes) :]
    found, codes = np.ones(len(new_codes), dtype=bool), new_codes
    nobody = np.zeros(len(new_codes), dtype=np.int64)  # popularity: new items have none
    if frozen.rules.collision == "suffix":
        highest = np.full(int(bucket.max(initial=-1)) + 1, -1, dtype=np.int64)
        np.maximum.at(highest, old_bucket, old_codes[:, -1])
        suffix = highest[new_bucket] + 1 + bucket_rank(new_codes, nobody)
        found = suffix < frozen.rules.table_sizes[-1]
        codes = np.column_stack([new_codes, suffix])[found].astype(np.int64)
    elif frozen.rules.collision == "reassign":
        if vectors is None:
            vectors = codewords_of(new_codes, frozen.codebooks)
        codes = reassign(new_codes, vectors, frozen.codebooks, nobody, frozen.rules.capacity, old_codes)
    placed = new_bucket[found]
    return Placed(found, codes, np.bincount(np.concatenate([old_bucket, placed]))[placed] > 1)
