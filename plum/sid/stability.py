"""How many Semantic IDs stay the same when the tokenizer is trained again, on more data or with another seed."""

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
    """Compare two tokenizers by the prefixes of the items in both catalogues.

    Which of the three figures to read depends on how the new tokenizer was trained:

    - ``same``: the prefix is identical. A language model that has learnt the old codes can build on these items. Codes
      are arbitrary labels, so without a warm start this is near chance level, however similar the tokenizers are: read
      it after a warm start.
    - ``matched``: the prefix is identical after renaming codes. Old first codes are matched one to one with new ones so
      that most items agree (the Hungarian method, Kuhn 1955); then, within each matched pair of prefixes, the next
      codes of the items that agreed so far. Read it without a warm start. Some items match by chance, more so if
      prefixes have few items.
    - ``adjusted_rand``: the adjusted Rand index (Hubert and Arabie 1985) of the two partitions by prefixes of a length:
      1 if they are equal, 0 in expectation for random partitions with buckets of the same sizes. Read it without a warm
      start, beside ``matched``: it corrects for chance.

    At the first level ``matched`` is at least ``same``. Later it may be smaller, because the best first match is kept.

    Args:
        old_ids, new_ids: unique item ids of the two catalogues.
        old_codes, new_codes: (N_old, L) and (N_new, L) int64, without any disambiguation code.

    Returns:
        ``items``: items of both catalogues; ``same``, ``matched``, ``adjusted_rand``: lists of L, shortest prefix
        first, over these items.

    Raises:
        PlumError: if the catalogues have no item in common, or the two have different numbers of levels.
        ValueError: if there is not one id per row of codes, or an id is repeated.

    Example:
        Old codes [0, 0, 1, 1], new codes [1, 1, 0, 1] of the same items: one of four is the ``same``; three of four
        are ``matched``, by renaming 0 to 1 and 1 to 0.
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
            "compare runs with equally many tokenize.codebook_sizes",
        )
    rows = after.get_indexer(before)
    if not (rows >= 0).any():
        found = f"{len(before):,} and {len(after):,} items" + (
            f", such as {before[0]!r} and {after[0]!r}" if len(before) and len(after) else ""
        )
        raise PlumError("the two catalogues have no item in common", found, "compare runs of the same data")
    return old_codes[rows >= 0], new_codes[rows[rows >= 0]]


def _matched(old: np.ndarray, new: np.ndarray) -> list[float]:
    """Share of items whose prefix of each length agrees under the best renaming; see :func:`prefix_survival`."""
    alive = np.arange(len(old))
    parent = np.zeros(len(old), dtype=np.int64)
    shares = []
    for before, after in zip(old.T, new.T, strict=True):
        triples = np.column_stack([parent, before[alive], after[alive]])
        cells, cell, counts = np.unique(triples, axis=0, return_inverse=True, return_counts=True)
        cell = cell.reshape(-1)
        kept = _best_cells(cells, counts)
        survives = kept[cell]
        alive, parent = alive[survives], cell[survives]  # from here on a matched pair of prefixes counts as one
        shares.append(len(alive) / len(old))
    return shares


def _best_cells(cells: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """The one-to-one matching of codes with most items, as a mask (M,) of cells; there is one table per parent.

    Args:
        cells: (M, 3) parent, old code, new code; sorted and unique.
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
