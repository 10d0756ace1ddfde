"""The protocol of all retrievers: histories in, ranked catalogue rows out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np

from plum.evaluation.rankings import Recommendations


class Retriever(Protocol):
    """Anything that ranks catalogue items for users."""

    name: str

    def recommend(self, histories: Sequence[np.ndarray], k: int, seen: Sequence[np.ndarray] | None) -> Recommendations:
        """Rank the catalogue for each user.

        Args:
            histories: U arrays of int64 catalogue rows, oldest interaction first; may be empty.
            k: entries of a list (K).
            seen: per user the catalogue rows never to return, or None to keep all.

        Returns:
            Lists of K entries; shorter ones end in ``-1``.
        """
        ...
