"""Items that are not known before validation begins: they get Semantic IDs as new items do, and stay candidates.

Nothing is learnt from them, and no Semantic ID of a known item depends on them.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from plum.data.histories import Histories
from plum.sid.agreement import cooccurrence_agreement, heldout_pairs
from plum.sid.frozen import Frozen
from plum.sid.placing import place_new
from plum.sid.quality import buckets, level_health, uniqueness
from plum.sid.table import SidTable
from plum.stages import inputs
from plum.stages.tokenize.reading import read_present

logger = logging.getLogger(__name__)


class Whole(NamedTuple):
    """Semantic IDs of the catalogue, N items of L levels.

    Attributes:
        table: of all items.
        content: (N, L) int64, codes by content, before the rule for collisions.
        known: (N,) bool, the items that the tokenizer learnt from.
        crowded: later items that found no free disambiguation code, and so share a Semantic ID.
    """

    table: SidTable
    content: np.ndarray
    known: np.ndarray
    crowded: int


def with_later(
    workdir: Path, frozen: Frozen, fitted: np.ndarray, table: SidTable, item_ids: pd.Series, known: np.ndarray
) -> Whole:
    """Add the items that are not known to the Semantic IDs of those that are.

    A later item takes the place that :func:`plum.sid.placing.place_new` gives to new items. With disambiguation codes,
    one that would need a code that no known item has shares the last one: the catalogue keeps all its items, and the
    language model's vocabulary does not grow with what comes later.

    Args:
        workdir: the run, for the vectors.
        frozen: its tokenizer.
        fitted: (K, L) content codes of the K known items.
        table: their Semantic IDs.
        item_ids: N ids.
        known: (N,) bool.

    Raises:
        PlumError: for collision rule reassign, if there are fewer free places than later items.
    """
    if known.all():
        return Whole(table, fitted, known, 0)
    content = np.empty((len(known), fitted.shape[1]), dtype=np.int64)
    codes = np.empty((len(known), table.n_levels), dtype=np.int64)
    vectors, present = _later_vectors(workdir, frozen, item_ids, known)
    assigned = frozen.assign(vectors, present, item_ids[~known].tolist())
    quantised = frozen.rules.collision == "reassign" and frozen.method != "random"
    placed = place_new(frozen, table.codes, assigned, frozen.vectors(vectors, present) if quantised else None)
    content[known], content[~known] = fitted, assigned
    codes[known] = table.codes
    codes[~known, : assigned.shape[1]] = assigned
    codes[~known, assigned.shape[1] :] = table.sizes[-1] - 1
    codes[np.flatnonzero(~known)[placed.found]] = placed.codes
    crowded = int((~placed.found).sum())
    logger.info(
        "tokenize: %s items that are not known before validation begins get Semantic IDs as new items do",
        f"{len(assigned):,}",
    )
    if crowded:
        logger.warning(
            "tokenize: %s of them find no free disambiguation code and share a Semantic ID with another item: known "
            "items with the same codes use all %s. tokenize.collision share or reassign has no such limit",
            f"{crowded:,}",
            f"{table.sizes[-1]:,}",
        )
    return Whole(SidTable(codes, table.sizes), content, known, crowded)


def quality_of_all(whole: Whole, histories: Histories) -> dict[str, Any]:
    """Health of the Semantic IDs over the whole catalogue, later items included, as in ``quality.json``."""
    return {
        "items": len(whole.known),
        "later_items": int((~whole.known).sum()),
        "without_own_disambiguation_code": whole.crowded,
        **uniqueness(whole.content),
        "buckets": buckets(whole.content),
        "cooccurrence_agreement": cooccurrence_agreement(whole.content, heldout_pairs(histories)),
        "levels": level_health(whole.table.codes, whole.table.sizes),
    }


def _later_vectors(
    workdir: Path, frozen: Frozen, item_ids: pd.Series, known: np.ndarray
) -> tuple[list[np.ndarray], np.ndarray | None]:
    """Vectors (N - K, D_m) of the later items' modalities, and which of them have which."""
    names = [modality.name for modality in frozen.modalities]
    present = read_present(workdir, names, item_ids)[~known]
    vectors = [inputs.read_vectors(workdir, name, len(known), mapped=True)[~known] for name in names]
    return vectors, None if present.all() else present
