"""Vectors that belong to item ids."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd

from plum.features.encoding import Encoded, column_of


@dataclass(frozen=True, eq=False)
class VectorsById:
    """A vector for each of some items.

    Attributes:
        item_ids: P different ids.
        vectors: theirs, (P, D) float32.

    Raises:
        ValueError: if numbers of ids and vectors differ.
    """

    item_ids: Sequence[str]
    vectors: np.ndarray

    def __post_init__(self) -> None:
        if len(self.item_ids) != len(self.vectors):
            raise ValueError(f"{len(self.item_ids)} ids, {len(self.vectors)} vectors")

    @cached_property
    def _places(self) -> dict[str, int]:
        return {item_id: row for row, item_id in enumerate(self.item_ids)}

    def of(self, items: pd.DataFrame) -> Encoded:
        """Vectors (N, D) of N items by their column ``item_id``; items without one lack them."""
        if not len(items):  # all P ids would be gone through for nothing
            return Encoded(np.zeros((0, self.vectors.shape[1]), dtype=np.float32), np.zeros(0, dtype=bool))
        rows = np.array([self._places.get(item_id, -1) for item_id in column_of(items, "item_id")], dtype=np.int64)
        present = rows >= 0
        if not present.any():
            return Encoded(np.zeros((len(rows), self.vectors.shape[1]), dtype=np.float32), present)
        found = self.vectors[rows]
        found[~present] = 0.0
        return Encoded(found, present)
