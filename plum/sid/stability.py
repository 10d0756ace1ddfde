"""How much of the Semantic IDs is left when the tokenizer is trained again, on more data or from another seed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from scipy.optimize import linear_sum_assignment
from sklearn.metrics import adjusted_rand_score

from plum.errors import PlumError
from plum.sid.prefixes import prefix_groups


def prefix_survival(
    old_ids: Sequence[str], old_codes: np.ndarray, new_ids: Sequence[str], new_codes: np.ndarray
) -> dict[str, Any]:
    """Compare two tokenizers by the prefixes they give to the items that both know.

    Which of the three figures to read depends on how the new tokenizer was trained:

    - ``same``: the prefix is the same, code by code. It is what a language model that has learnt the old codes can
      build on. Codes are arbitrary labels, so without a warm start it is about what chance gives, however alike the
      two tokenizers are: read it after a warm start.
    - ``matched``: the prefix is the same once codes are renamed. Old first codes are matched with new ones, one to one,
      so that most items survive (the Hungarian method, Kuhn 1955); then, within each matched pair of prefixes, the next
      codes of the items that have survived so far. Read it without a warm start: the share of items that stand where
      they stood. Some match by chance, more the fewer items a prefix has, and no longer prefix can lose them.
    - ``adjusted_rand``: the adjusted Rand index (Hubert and Arabie 1985) of the two partitions that prefixes of a
      length make: 1 if they are equal, 0 in the mean of random partitions with buckets of the same sizes. Read it
      without a warm start, beside ``matched``: it alone allows for chance.

    At the first level ``matched`` is ``same`` or more. Further on it may be less: the best first match is kept.

    Args:
        old_ids, new_ids: item ids of either catalogue, none twice.
        old_codes, new_codes: (N_old, L) and (N_new, L) int64, without any disambiguation code.

    Returns:
        ``items``: items of both catalogues; ``same``, ``matched``, ``adjusted_rand``: lists of L, shortest prefix
        first, over these items.

    Raises:
        PlumError: if the catalogues have no item in common, or the two have different numbers of levels.
        ValueError: if there is not one id to each row of codes, or an id stands twice.

    Example:
        Old codes [0, 0, 1, 1], new codes [1, 1, 0, 1] of the same items: one of four is the ``same``; matching 0 with
        1 and 1 with 0, three of four have survived.
    """
    old, new = _common(old_ids, old_codes, new_ids, new_codes)
    pairs = zip(prefix_groups(old).T, prefix_groups(new).T, strict=True)
    return {
        "items": len(old),
        "same": np.logical_and.accumulate(old == new, axis=1).mean(axis=0).tolist(),
        "matched": _matched(old, new),
        "adjusted_rand": [float(adjusted_rand_score(before, after)) for before, after in pairs],
    }


def _common(
    old_ids: Sequence[str], old_codes: np.ndarray, new_ids: Sequence[str], new_codes: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Codes of the items of both catalogues, in the order of the old one."""
    before, after = pd.Index(old_ids), pd.Index(new_ids)
    if len(before) != len(old_codes) or len(after) != len(new_codes) or not (before.is_unique and after.is_unique):
        raise ValueError(
            f"{len(before)} ids to {len(old_codes)} codes and {len(after)} to {len(new_codes)}, or one twice"
        )
    if old_codes.shape[1] != new_codes.shape[1]:
        raise PlumError(
            "the two tokenizers have different numbers of levels",
            f"{old_codes.shape[1]} and {new_codes.shape[1]}",
            "compare runs with as many tokenize.codebook_sizes",
        )
    rows = after.get_indexer(before)
    if not (rows >= 0).any():
        found = f"{len(before):,} and {len(after):,} items" + (
            f", such as {before[0]!r} and {after[0]!r}" if len(before) and len(after) else ""
        )
        raise PlumError("the two catalogues have no item in common", found, "compare runs of the same data")
    return old_codes[rows >= 0], new_codes[rows[rows >= 0]]


def _matched(old: np.ndarray, new: np.ndarray) -> list[float]:
    """Share of items whose prefix of each length has survived under the best renaming; see :func:`prefix_survival`."""
    alive = np.arange(len(old))
    parent = np.zeros(len(old), dtype=np.int64)
    shares = []
    for before, after in zip(old.T, new.T, strict=True):
        triples = np.column_stack([parent, before[alive], after[alive]])
        cells, cell, counts = np.unique(triples, axis=0, return_inverse=True, return_counts=True)
        cell = cell.reshape(-1)
        kept = _best_cells(cells, counts)
        survives = kept[cell]
        alive, parent = alive[survives], cell[survives]  # a matched pair of prefixes is one prefix from here on
        shares.append(len(alive) / len(old))
    return shares


def _best_cells(cells: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Which cells (M,) of the contingency tables match codes one to one with most items, one table to a parent.

    Args:
        cells: (M, 3) parent, old code, new code; sorted, none twice.
        counts: (M,) items of each.
    """
    kept = np.zeros(len(cells), dtype=bool)
    starts = np.flatnonzero(np.diff(cells[:, 0], prepend=-1))
    for start, stop in zip(starts, [*starts[1:], len(cells)], strict=True):
        if stop - start == 1:
            kept[start] = True
            continue
        old, row = np.unique(cells[start:stop, 1], return_inverse=True)
        new, column = np.unique(cells[start:stop, 2], return_inverse=True)
        table = np.zeros((len(old), len(new)), dtype=np.int64)
        table[row, column] = counts[start:stop]
        match = np.full(len(old), -1, dtype=np.int64)
        chosen, partner = linear_sum_assignment(table, maximize=True)
        match[chosen] = partner
        kept[start:stop] = match[row] == column
    return kept
