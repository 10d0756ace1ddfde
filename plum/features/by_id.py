"""Vectors by item id, and encoders that consist of such vectors only: those of training histories."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import numpy as np
import pandas as pd

from plum.features.encoding import Encoded, column_of, save_parts


@dataclass(frozen=True, eq=False)
class VectorsById:
    """Vectors of some items.

    Attributes:
        item_ids: P different ids.
        vectors: (P, D) float32, in the same order.

    Raises:
        ValueError: if numbers of ids and vectors differ.
    """

    item_ids: Sequence[str]
    vectors: np.ndarray

    def __post_init__(self) -> None:
        if self.vectors.ndim != 2 or len(self.item_ids) != len(self.vectors):
            raise ValueError(f"{len(self.item_ids)} ids, vectors of shape {self.vectors.shape}")

    @cached_property
    def _places(self) -> dict[str, int]:
        return {item_id: row for row, item_id in enumerate(self.item_ids)}

    def of(self, items: pd.DataFrame) -> Encoded:
        """Vectors (N, D) of N items by their column ``item_id``; items without one lack them."""
        if not len(items):  # saves a pass over all P ids
            return Encoded(np.zeros((0, self.vectors.shape[1]), dtype=np.float32), np.zeros(0, dtype=bool))
        rows = np.array([self._places.get(item_id, -1) for item_id in column_of(items, "item_id")], dtype=np.int64)
        present = rows >= 0
        if not present.any():
            return Encoded(np.zeros((len(rows), self.vectors.shape[1]), dtype=np.float32), present)
        found = self.vectors[rows]
        found[~present] = 0.0
        return Encoded(found, present)


Kind = TypeVar("Kind", bound="BehaviourEncoder")


@dataclass(frozen=True, eq=False)
class BehaviourEncoder:
    """Vectors that the training histories give to items of the catalogue; items outside it have none.

    Attributes:
        known: the items with a vector.
    """

    kind: ClassVar[str]
    known: VectorsById

    def transform(self, items: pd.DataFrame) -> Encoded:
        """Vectors (N, D) of items, by their ids."""
        return self.known.of(items)

    def save(self, folder: Path, name: str) -> None:
        """Write ids (JSON) and vectors (safetensors)."""
        save_parts(folder, name, self.kind, {"item_ids": list(self.known.item_ids)}, {"vectors": self.known.vectors})

    @classmethod
    def from_parts(cls: type[Kind], settings: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> Kind:
        """Rebuild the encoder that :meth:`save` wrote."""
        return cls(VectorsById(settings["item_ids"], arrays["vectors"]))

    @classmethod
    def of_rows(cls: type[Kind], vectors: np.ndarray, rows: np.ndarray, item_ids: Sequence[str]) -> Kind:
        """Keep the vectors of some items of a catalogue; the others have none.

        Args:
            vectors: (N, D) of all items.
            rows: (P,) of the items to keep.
            item_ids: N ids.
        """
        return cls(VectorsById([item_ids[row] for row in rows.tolist()], vectors[rows]))
