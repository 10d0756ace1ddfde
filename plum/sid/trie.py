"""The valid Semantic IDs as a trie in flat arrays, so that decoding can look up the legal children of many beams.

Source: STATIC (Su et al., arXiv 2602.22647). SIDs are kept sorted, so the leaves below a node are one range; a set
of allowed items becomes, per user, a running count over the leaves, and a child is legal if its range holds an allowed
one.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Trie:
    """Flat arrays of the trie; a node of depth d is a distinct prefix of d codes, numbered in sorted order.

    Attributes:
        child_start: L arrays (nodes of depth d + 1,): the children of node n are child_start[d][n] up to
            child_start[d][n + 1]; a child's number among them is its node number at depth d + 1.
        child_code: L arrays: the code of each node of depth d + 1.
        leaf_start: L arrays (nodes of depth d + 1, + 1): the leaves below node n of depth d + 1.
        leaf_items_start: (leaves + 1,) and
        leaf_items: (N,) catalogue rows, leaf by leaf, in the order of ``rank`` within a leaf.

    Example: SIDs [[0, 1], [0, 2], [3, 1]] give child_code [[0, 3], [1, 2, 1]], child_start [[0, 2], [0, 2, 3]] and
    leaf_start [[0, 2, 3], [0, 1, 2, 3]].
    """

    child_start: tuple[np.ndarray, ...]
    child_code: tuple[np.ndarray, ...]
    leaf_start: tuple[np.ndarray, ...]
    leaf_items_start: np.ndarray
    leaf_items: np.ndarray

    @property
    def n_levels(self) -> int:
        """L, depth of the leaves."""
        return len(self.child_code)

    @property
    def n_leaves(self) -> int:
        """Distinct Semantic IDs."""
        return len(self.child_code[-1])

    @classmethod
    def build(cls, codes: np.ndarray, rank: np.ndarray) -> Trie:
        """Build the trie of a catalogue.

        Args:
            codes: (N, L) int64 Semantic IDs, in any order, repeated ones allowed.
            rank: (N,) order of items that share a Semantic ID (see ``plum.sid.table.bucket_rank``).
        """
        n_items, n_levels = codes.shape
        order = np.lexsort((rank, *codes.T[::-1]))
        ordered = codes[order]
        differs = ordered[1:] != ordered[:-1]
        # new_prefix[d, i]: item i starts a new prefix of d + 1 codes
        new_prefix = np.ones((n_levels, n_items), dtype=bool)
        new_prefix[:, 1:] = np.logical_or.accumulate(differs, axis=1).T
        firsts = [np.flatnonzero(new) for new in new_prefix]
        parents = [np.array([0]), *firsts[:-1]]
        child_start, leaf_start = [], []
        for parent, first in zip(parents, firsts, strict=True):
            child_start.append(np.append(np.searchsorted(first, parent), len(first)))
            leaf_start.append(np.append(np.searchsorted(firsts[-1], first), len(firsts[-1])))
        child_code = tuple(ordered[first, depth] for depth, first in enumerate(firsts))
        leaf_items_start = np.append(firsts[-1], n_items)
        return cls(tuple(child_start), child_code, tuple(leaf_start), leaf_items_start, order)

    def leaf_of_item(self) -> np.ndarray:
        """Leaf (N,) of each catalogue row."""
        leaf = np.empty(len(self.leaf_items), dtype=np.int64)
        leaf[self.leaf_items] = np.repeat(np.arange(self.n_leaves), np.diff(self.leaf_items_start))
        return leaf
