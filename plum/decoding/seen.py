"""Which children of the index lose their last legal item to what users have seen, worked out on the host.

Users have seen tens of items, so each step is short: NumPy starts an operation several times as fast as torch does.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import numpy as np

from plum.decoding.trie import Trie

NOBODY = -2  # neither a node nor -1, which marks a missing beam
Dead = tuple[np.ndarray, np.ndarray] | None


class SeenItems:
    """Looks up the children of a trie that lead to seen items only.

    Args:
        trie: the index.
        by_code: per level whether a child's place among its siblings is its code, not its rank.
    """

    def __init__(self, trie: Trie, by_code: Sequence[bool]) -> None:
        self._trie, self._by_code = trie, by_code
        self._place = np.empty(trie.n_items, dtype=np.int64)
        self._place[trie.items] = np.arange(trie.n_items)

    @cached_property
    def _nodes(self) -> list[np.ndarray]:
        """Per level the node (N,) above each place: one step in memory, where a search would take twenty."""
        return [np.repeat(np.arange(len(ends) - 1, dtype=np.int32), np.diff(ends)) for ends in self._trie.item_start]

    def dead(
        self, seen: Sequence[np.ndarray], counts: Sequence[np.ndarray | None], rules: np.ndarray
    ) -> tuple[Dead, ...]:
        """Per level the children without a legal item that is not seen, by user.

        Args:
            seen: per user the catalogue rows.
            counts: per rule (N + 1,) the number of legal items among the first i in the order of Semantic IDs; None for
                a rule that allows all.
            rules: (B,) number of each user's rule.

        Returns:
            Per level parents' nodes (B, W), padded with ``NOBODY``, and places (B, W) among the children, or None.
        """
        stride = self._trie.n_items + 1
        keys = np.repeat(np.arange(len(seen)) * stride, [len(items) for items in seen])
        keys += self._place[np.concatenate(seen)]
        keys.sort()
        keys = keys[np.diff(keys, prepend=-1) > 0]
        if any(counted is not None for counted in counts):  # what the rule excludes must not be subtracted twice
            owners, places = np.divmod(keys, stride)
            keys = keys[_between(counts, rules[owners], places, places + 1) > 0]
        owners, places = np.divmod(keys, stride)
        starts, of_user = owners * stride, rules[owners]
        # From the leaves up: only the parents of dead nodes can be dead.
        found: list[Dead] = [None] * len(self._by_code)
        for level in range(len(found) - 1, -1, -1):
            if not len(places):
                break
            ends = self._trie.item_start[level]
            nodes = self._nodes[level][places]
            low, high = ends[nodes], ends[nodes + 1]
            taken = keys.searchsorted(starts + high) - keys.searchsorted(starts + low)
            dead = taken == _between(counts, of_user, low, high)
            owners, places, starts, of_user = owners[dead], places[dead], starts[dead], of_user[dead]
            found[level] = self._of_users(level, len(seen), owners, places, nodes[dead])
        return tuple(found)

    def _of_users(self, level: int, n_users: int, owners: np.ndarray, places: np.ndarray, nodes: np.ndarray) -> Dead:
        """A row for each user, from D entries in the order of users."""
        if not len(owners):
            return None
        parents = self._nodes[level - 1][places] if level else np.zeros_like(nodes)
        by_code = self._by_code[level]
        place = self._trie.child_code[level][nodes] if by_code else nodes - self._trie.child_start[level][parents]
        if n_users == 1:
            return parents[None].astype(np.int64), place[None].astype(np.int64)
        numbers = np.bincount(owners, minlength=n_users)
        column = np.arange(len(owners)) - np.repeat(np.cumsum(numbers) - numbers, numbers)
        padded = np.full((2, n_users, numbers.max()), NOBODY, dtype=np.int64)
        padded[1] = 0
        padded[:, owners, column] = parents, place
        return padded[0], padded[1]


def _between(counts: Sequence[np.ndarray | None], rules: np.ndarray, low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """Number of legal items (D,) at places ``low`` to ``high`` - 1 under the rule of each entry."""
    if len(counts) == 1:
        return high - low if counts[0] is None else counts[0][high] - counts[0][low]
    found = high - low
    for number, counted in enumerate(counts):
        of_rule = rules == number
        if counted is not None:
            found[of_rule] = counted[high[of_rule]] - counted[low[of_rule]]
    return found
