"""A split as histories and targets of item rows: the form of interactions that all later stages use."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from plum.errors import PlumError

PARTS = ("train", "valid", "test")


@dataclass(frozen=True)
class Histories:
    """Each user's interactions by part, as item rows of items.parquet, oldest first.

    Attributes:
        user_ids: (U,) sorted.
        train, valid, test: U arrays each, empty where a user has none in that part.
    """

    user_ids: np.ndarray
    train: list[np.ndarray]
    valid: list[np.ndarray]
    test: list[np.ndarray]

    @classmethod
    def from_split(cls, split: pd.DataFrame, item_ids: pd.Series) -> Histories:
        """Build from split.parquet (``user_id, item_id, position, part``) and the catalogue's ids.

        Raises:
            PlumError: if the split names an item that the catalogue lacks.
        """
        rows = pd.Index(item_ids).get_indexer(split["item_id"])
        if (rows < 0).any():
            missing = split["item_id"][rows < 0].iloc[0]
            raise PlumError(
                "split.parquet names an item that items.parquet lacks",
                f"item_id {missing!r}; {(rows < 0).sum():,} such rows",
                "run `plum data prepare --force`",
            )
        user_ids, user = np.unique(split["user_id"].to_numpy(dtype=str), return_inverse=True)
        part_of = split["part"].to_numpy(dtype=str)
        order = np.lexsort((split["position"].to_numpy(), user))
        parts = {}
        for part in PARTS:
            chosen = order[part_of[order] == part]
            counts = np.bincount(user[chosen], minlength=len(user_ids))
            parts[part] = np.split(rows[chosen].astype(np.int64), np.cumsum(counts))[:-1]
        return cls(user_ids, **parts)

    def questions(self, part: str) -> tuple[np.ndarray, list[np.ndarray], list[np.ndarray]]:
        """The users whom ``part`` (valid or test) evaluates: those with both a history and a target there.

        Returns:
            users (Q,) indices, their histories (everything before the part) and their targets.
        """
        before = [self.train] if part == "valid" else [self.train, self.valid]
        histories = [np.concatenate(parts) for parts in zip(*before, strict=True)]
        targets = getattr(self, part)
        asked = np.array([len(h) > 0 and len(t) > 0 for h, t in zip(histories, targets, strict=True)], dtype=bool)
        users = np.flatnonzero(asked)
        return users, [histories[u] for u in users], [targets[u] for u in users]

    def only(self, kept: np.ndarray) -> Histories:
        """The interactions with some items, as rows of a catalogue of these alone.

        Args:
            kept: (N,) bool, which items of the catalogue.

        Example: [4, 7, 9] and a catalogue that keeps items 4 and 9 of ten -> [0, 1].
        """
        if kept.all():
            return self
        place = np.where(kept, np.cumsum(kept) - 1, -1)
        parts = {part: [place[rows[kept[rows]]] for rows in getattr(self, part)] for part in PARTS}
        return Histories(self.user_ids, **parts)

    def popularity(self, n_items: int) -> np.ndarray:
        """Training interactions (N,) of each item."""
        if not self.train:
            return np.zeros(n_items, dtype=np.int64)
        return np.bincount(np.concatenate(self.train), minlength=n_items)
