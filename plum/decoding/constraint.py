"""The allowed children of a beam: the trie of the catalogue on the model's device, and the legal items of each user.

Source of the flat layout: STATIC (Su et al., arXiv 2602.22647). Items are kept in the order of their Semantic IDs, so
the items below a node are one range, and a running count of legal items in that order tells whether a node leads to a
legal item. A rule costs a few passes over the catalogue, a step one look-up per child; the index never changes.
"""

from __future__ import annotations

import itertools
import operator
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from plum.decoding.trie import Trie
from plum.errors import PlumError
from plum.sid.codec import Codec

SMALL_TABLE = 1 << 16  # entries; the memory of a dense table up to this size is negligible
NOBODY = -2  # neither a node nor -1, which marks a missing beam


@dataclass(frozen=True)
class Children:
    """Children of B x K beams, F places for each; codes ascend along the places.

    Attributes:
        nodes: (B, K, F) node numbers one level deeper, any integer type; undefined if not legal.
        legal: (B, K, F) bool, or None if all are.
        codes: (B, K, F) int64 codes, or None if place f is code f.
    """

    nodes: Tensor
    legal: Tensor | None
    codes: Tensor | None


class Index(Protocol):
    """The valid Semantic IDs as a tree. Nodes of a level are numbered; the root is node 0."""

    @property
    def sizes(self) -> tuple[int, ...]:
        """Codes per level, L of them."""
        ...

    @property
    def token_ids(self) -> tuple[Tensor, ...]:
        """Per level the model's tokens (C,) of the codes."""
        ...

    @property
    def n_nodes(self) -> tuple[int, ...]:
        """Number of nodes of depth 1, 2, ... L."""
        ...

    def children(self, level: int, nodes: Tensor, legal: Legal | None) -> Children:
        """Children of beams ``nodes`` (B, K) of depth ``level``; undefined for a beam -1."""
        ...


@dataclass(frozen=True)
class Pruned:
    """The index under a rule.

    Attributes:
        counts: (N + 1,) int32, number of legal items among the first i items in SID order.
        alive: per level (nodes,) bool: whether a legal item lies below the node.
    """

    counts: Tensor
    alive: tuple[Tensor, ...]


@dataclass(frozen=True)
class Legal:
    """Which items each of B users may get.

    Attributes:
        alive: per level (M, nodes) bool, a row for each of the batch's M different rules; None without rules.
        row: (B,) int64, the row of each user.
        dead: per level the children whose legal items the user has all seen, as the parent's node (B, W), padded with
            NOBODY, and the child's place (B, W) among ``Children``. None if there are none.
    """

    alive: tuple[Tensor, ...] | None
    row: Tensor
    dead: tuple[tuple[Tensor, Tensor] | None, ...]

    def user(self, number: int) -> Legal:
        """The legal items of a single user of the batch."""
        one = slice(number, number + 1)
        dead = tuple(None if level is None else (level[0][one], level[1][one]) for level in self.dead)
        return Legal(self.alive, self.row[one], dead)

    def keep(self, level: int, nodes: Tensor, children: Tensor, exists: Tensor) -> Tensor:
        """Which children (B, K, F) of beams ``nodes`` (B, K) exist and lead to a legal item."""
        if self.alive is not None:
            alive = self.alive[level]
            if len(alive) == 1:
                exists = exists & alive[0][children]
            else:
                start = (self.row * alive.shape[1])[:, None, None]
                exists = exists & alive.reshape(-1)[start + children]
        if (dead := self.dead[level]) is not None:
            parents, places = dead
            user, beam, entry = (parents[:, None] == nodes[..., None]).nonzero(as_tuple=True)
            exists = exists.index_put((user, beam, places[user, entry]), torch.zeros_like(exists[0, 0, 0]))
        return exists


@dataclass(frozen=True)
class DeviceTrie:
    """A trie's arrays and the codec's token ids as tensors on the model's device.

    Attributes:
        sizes: codes per level.
        tables: per level a dense table (nodes, C) of child numbers, -1 for none, if it is small enough; else None.
        child_start, child_code, item_start: as in ``Trie``.
        place_of_item: (N,) place of each catalogue row in SID order.
        items: (N,) catalogue row at each place.
        fan_out: largest number of children per level.
        token_ids: per level the model's tokens (C,) of the codes.
    """

    sizes: tuple[int, ...]
    tables: tuple[Tensor | None, ...]
    child_start: tuple[Tensor, ...]
    child_code: tuple[Tensor, ...]
    item_start: tuple[Tensor, ...]
    place_of_item: Tensor
    items: Tensor
    fan_out: tuple[int, ...]
    token_ids: tuple[Tensor, ...]

    @classmethod
    def put(cls, trie: Trie, codec: Codec, device: torch.device) -> DeviceTrie:
        """Move a trie and its tokens to ``device``.

        Raises:
            PlumError: if trie and codec belong to different Semantic IDs, or there is no item.
        """
        if not trie.n_items:
            raise PlumError("the index holds no item", None, "recommend from a catalogue with at least one item")
        sizes = tuple(len(ids) for ids in codec.token_ids)
        if sizes != trie.sizes:
            raise PlumError(
                "the index and the model's tokens belong to different Semantic IDs",
                f"codes per level {list(trie.sizes)} in the index, {list(sizes)} in the vocabulary",
                "run `plum tokenize` and the stages after it again",
            )

        def tensors(arrays: Sequence[np.ndarray]) -> tuple[Tensor, ...]:
            return tuple(torch.from_numpy(np.ascontiguousarray(array)).to(device) for array in arrays)

        place = np.empty(trie.n_items, dtype=trie.items.dtype)
        place[trie.items] = np.arange(trie.n_items, dtype=trie.items.dtype)
        return cls(
            sizes,
            tuple(None if t is None else torch.from_numpy(t).to(device) for t in _dense_tables(trie)),
            tensors(trie.child_start),
            tensors(trie.child_code),
            tensors(trie.item_start),
            torch.from_numpy(place).to(device),
            torch.from_numpy(trie.items).to(device),
            trie.fan_out,
            tensors(codec.token_ids),
        )

    @property
    def n_items(self) -> int:
        """N, items of the catalogue."""
        return len(self.items)

    @property
    def n_nodes(self) -> tuple[int, ...]:
        """Prefixes of 1, 2, ... L codes in the catalogue."""
        return tuple(len(codes) for codes in self.child_code)

    def children(self, level: int, nodes: Tensor, legal: Legal | None) -> Children:
        """Children in the catalogue; with ``legal`` only those that lead to an item the user may get."""
        table, parents = self.tables[level], nodes.clamp(min=0)
        codes = None
        if table is not None:
            found = table[parents]
            exists = found >= 0
        else:
            start = self.child_start[level]
            first = start[parents]
            places = torch.arange(self.fan_out[level], dtype=first.dtype, device=nodes.device)
            exists = places < (start[parents + 1] - first)[..., None]
            found = (first[..., None] + places).clamp(max=len(self.child_code[level]) - 1)
            codes = self.child_code[level][found].long()
        if legal is not None:
            exists = legal.keep(level, nodes, found.clamp(min=0), exists)
        return Children(found, exists, codes)

    def prune(self, mask: np.ndarray | Tensor) -> Pruned:
        """The index under a rule; ``mask`` (N,) bool marks the legal catalogue rows.

        Raises:
            ValueError: for a mask that is not (N,) bool.
        """
        if isinstance(mask, np.ndarray) and not mask.flags.writeable:
            mask = mask.copy()  # torch warns of read-only arrays, even if nothing is written
        mask = torch.as_tensor(mask).to(self.items.device)
        if mask.shape != (self.n_items,) or mask.dtype != torch.bool:
            raise ValueError(f"a mask must be ({self.n_items},) bool, found {tuple(mask.shape)} {mask.dtype}")
        counts = torch.zeros(self.n_items + 1, dtype=torch.int32, device=mask.device)
        torch.cumsum(mask[self.items], dim=0, dtype=torch.int32, out=counts[1:])
        at_ends = [counts[ends] for ends in self.item_start]
        return Pruned(counts, tuple(ends[1:] > ends[:-1] for ends in at_ends))

    def legal(self, pruned: Sequence[Pruned | None], seen: Sequence[np.ndarray] | None) -> Legal | None:
        """The legal items of a batch of users.

        Args:
            pruned: per user the result of ``prune``, None for all items. Users who share one share its memory.
            seen: per user further catalogue rows not to return; None for none.

        Returns:
            None if all items are legal for all users.
        """
        distinct = {id(rule): rule for rule in pruned}
        numbers = {key: number for number, key in enumerate(distinct)}
        row = torch.tensor([numbers[id(rule)] for rule in pruned], device=self.items.device)
        rules = [self._everything if rule is None else rule for rule in distinct.values()]
        hidden = seen is not None and any(len(items) for items in seen)
        alive = counts = None
        if any(rule is not None for rule in pruned):
            alive = tuple(_stack([rule.alive[level] for rule in rules]) for level in range(len(self.sizes)))
            counts = _stack([rule.counts for rule in rules]) if hidden else None
        if seen is None or not hidden:
            return None if alive is None else Legal(alive, row, (None,) * len(self.sizes))
        places = self._places(seen, counts, row)
        return Legal(alive, row, tuple(self._dead(level, counts, row, places) for level in range(len(self.sizes))))

    @cached_property
    def _everything(self) -> Pruned:
        """The index without a rule, for users without one in a batch with users who have one."""
        return self.prune(torch.ones_like(self.items, dtype=torch.bool))

    def _places(self, seen: Sequence[np.ndarray], counts: Tensor | None, row: Tensor) -> Tensor:
        """Places (B, W) in SID order of the seen items that were legal, unique, ascending, padded with N."""
        padded = np.full((len(seen), max(map(len, seen))), -1, dtype=np.int64)
        for user, items in enumerate(seen):
            padded[user, : len(items)] = items
        rows = torch.from_numpy(padded).to(self.items.device)
        places = torch.where(rows < 0, self.n_items, self.place_of_item[rows.clamp(min=0)].long()).sort(dim=1).values
        counted = places < self.n_items
        counted[:, 1:] &= places[:, 1:] > places[:, :-1]
        if counts is not None:  # items that the rule excludes must not be subtracted twice
            inside = places.clamp(max=self.n_items - 1)
            counted &= _between(counts, row, inside, inside + 1) > 0
        return torch.where(counted, places, self.n_items).sort(dim=1).values

    def _dead(self, level: int, counts: Tensor | None, row: Tensor, places: Tensor) -> tuple[Tensor, Tensor] | None:
        """Children of a level without a legal item once those at ``places`` (B, W) are removed, as in ``Legal``."""
        start, ends = self.child_start[level], self.item_start[level]
        inside = places < self.n_items
        last = places.clamp(max=self.n_items - 1).to(ends.dtype)
        nodes = torch.searchsorted(ends, last, right=True) - 1
        low, high = ends[nodes].long(), ends[nodes + 1].long()
        taken = torch.searchsorted(places, high) - torch.searchsorted(places, low)
        dead = inside & (taken == (high - low if counts is None else _between(counts, row, low, high)))
        width = int(dead.sum(1).max())
        if not width:
            return None
        parents = torch.searchsorted(start, nodes.to(start.dtype), right=True) - 1
        dense = self.tables[level] is not None
        place = self.child_code[level][nodes].long() if dense else nodes - start[parents]
        first = dead.byte().argsort(dim=1, descending=True, stable=True)[:, :width]
        return torch.where(dead, parents, NOBODY).gather(1, first), place.gather(1, first)


@dataclass(frozen=True)
class AllCodes:
    """No constraint: every code of every level, in the catalogue or not.

    A node's number is its codes read as digits: ((c0 * C1) + c1) * C2 + c2 ...
    """

    sizes: tuple[int, ...]
    token_ids: tuple[Tensor, ...]

    @property
    def n_nodes(self) -> tuple[int, ...]:
        """Sequences of 1, 2, ... L codes."""
        return tuple(itertools.accumulate(self.sizes, operator.mul))

    def children(self, level: int, nodes: Tensor, legal: Legal | None) -> Children:
        """All codes of the level; ``legal`` must be None."""
        if legal is not None:
            raise ValueError("legal must be None: rules need a catalogue")
        codes = torch.arange(self.sizes[level], device=nodes.device)
        return Children(nodes[..., None] * self.sizes[level] + codes, None, None)


def _stack(tensors: list[Tensor]) -> Tensor:
    """One row each; a single one is not copied."""
    return tensors[0][None] if len(tensors) == 1 else torch.stack(tensors)


def _between(counts: Tensor, row: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """Number of legal items at places ``low`` to ``high`` - 1, all (B, W), by rows of ``counts`` (M, N + 1)."""
    flat, start = counts.reshape(-1), (row * counts.shape[1])[:, None]
    return flat[start + high] - flat[start + low]


def _dense_tables(trie: Trie) -> list[np.ndarray | None]:
    """Child numbers by node and code, for levels near the root, where nodes have most codes as children."""
    tables: list[np.ndarray | None] = []
    for level, size in enumerate(trie.sizes):
        n_parents, n_children = len(trie.child_start[level]) - 1, len(trie.child_code[level])
        crowded = 2 * trie.fan_out[level] >= size and n_parents * size <= max(SMALL_TABLE, 4 * n_children)
        table = None
        if crowded:
            table = np.full((n_parents, size), -1, dtype=trie.child_start[level].dtype)
            parents = np.repeat(np.arange(n_parents), np.diff(trie.child_start[level]))
            table[parents, trie.child_code[level]] = np.arange(n_children)
        tables.append(table)
    return tables
