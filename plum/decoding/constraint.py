"""The allowed children of a beam: the trie of the catalogue on the model's device, and the legal items of each user.

Source of the flat layout: STATIC (Su et al., arXiv 2602.22647). Items are kept in the order of their Semantic IDs, so
the items below a node are one range, and a running count of legal items in that order tells whether a node leads to a
legal item. A rule costs a few passes over the catalogue, a step one look-up per child; the index never changes.
"""

from __future__ import annotations

import itertools
import math
import operator
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from plum.decoding.seen import SeenItems
from plum.decoding.trie import Trie
from plum.errors import PlumError
from plum.sid.codec import Codec

SMALL_TABLE = 1 << 16  # entries; the memory of a dense table up to this size is negligible


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


Array = Any
"""A tensor or, on the CPU, an array that shares its memory: NumPy starts short operations several times as fast.
Both are indexed and compared in the same words."""


def _array(tensor: Tensor) -> Array:
    return tensor.numpy() if tensor.device.type == "cpu" else tensor


def _tensor(array: Array) -> Tensor:
    return torch.from_numpy(array) if isinstance(array, np.ndarray) else array


@dataclass(frozen=True)
class Pruned:
    """The index under a rule.

    Attributes:
        counts: (N + 1,) int32, number of legal items among the first i items in SID order.
        alive: per level whether a legal item lies below a child: by child (children + F,), padded, or, for small dense
            tables, by parent and code (nodes, C).
    """

    counts: Tensor
    alive: tuple[Array, ...]

    @cached_property
    def counts_on_host(self) -> np.ndarray:
        """``counts`` as an array."""
        return self.counts.cpu().numpy()


@dataclass(frozen=True)
class Legal:
    """Which items each of B users may get.

    Attributes:
        alive: per level as in ``Pruned``, a row for each of the batch's M different rules; None without rules.
        row: (B,) int64, the row of each user.
        dead: per level the children whose legal items the user has all seen, as the parent's node (B, W), padded with
            NOBODY, and the child's place (B, W) among ``Children``. None if there are none.
    """

    alive: tuple[Array, ...] | None
    row: Array
    dead: tuple[tuple[Array, Array] | None, ...]

    def user(self, number: int) -> Legal:
        """The legal items of a single user of the batch."""
        one = slice(number, number + 1)
        dead = tuple(None if level is None else (level[0][one], level[1][one]) for level in self.dead)
        return Legal(self.alive, self.row[one], dead)

    def keep(self, level: int, nodes: Array, children: Array, exists: Array) -> Array:
        """Which children (B, K, F) of beams ``nodes`` (B, K) exist and lead to a legal item; undefined for beams -1.

        ``exists`` is overwritten.
        """
        if self.alive is not None:
            exists &= self._alive(self.alive[level], nodes, children)
        if (dead := self.dead[level]) is not None:
            parents, places = dead
            same = parents[:, None] == nodes[..., None]
            user, beam, entry = same.nonzero() if isinstance(same, np.ndarray) else same.nonzero(as_tuple=True)
            exists[user, beam, places[user, entry]] = False
        return exists

    def _alive(self, alive: Array, nodes: Array, children: Array) -> Array:
        wanted = nodes if alive.ndim == 3 else children
        if len(alive) == 1:
            return alive[0][wanted]
        rows = self.row.reshape(-1, *[1] * (wanted.ndim - 1))
        return alive[rows, wanted]


@dataclass(frozen=True)
class DeviceTrie:
    """A trie's arrays and the codec's token ids as tensors on the model's device.

    Attributes:
        sizes: codes per level.
        tables: per level a dense table (nodes, C) of child numbers, -1 for none, if it is small enough; else None.
        present: per level with a dense table (nodes, C) bool, whether there is a child; else None.
        child_start: per level (nodes,) the number of each node's first child.
        n_children: per level (nodes,) the number of each node's children.
        child_code: per level (children + F,) int64 codes, padded, so that F children may be read from any start.
        item_start: as in ``Trie``.
        places: (F,) 0, 1, 2 ...
        items: (N,) catalogue row at each place in SID order.
        fan_out: largest number of children per level.
        token_ids: per level the model's tokens (C,) of the codes.
        seen_items: the same index on the host, for what users have seen.
    """

    sizes: tuple[int, ...]
    tables: tuple[Array | None, ...]
    present: tuple[Array | None, ...]
    child_start: tuple[Array, ...]
    n_children: tuple[Array, ...]
    child_code: tuple[Array, ...]
    item_start: tuple[Tensor, ...]
    places: Array
    items: Tensor
    fan_out: tuple[int, ...]
    token_ids: tuple[Tensor, ...]
    seen_items: SeenItems

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

        def tensors(arrays: Iterable[np.ndarray]) -> tuple[Tensor, ...]:
            return tuple(torch.from_numpy(np.ascontiguousarray(array)).to(device) for array in arrays)

        def arrays(given: Iterable[np.ndarray]) -> tuple[Array, ...]:
            return tuple(_array(tensor) for tensor in tensors(given))

        dense = _dense_tables(trie)
        tables = tuple(None if table is None else _array(torch.from_numpy(table).to(device)) for table in dense)
        padded = (np.pad(code, (0, width)) for code, width in zip(trie.child_code, trie.fan_out, strict=True))
        return cls(
            sizes,
            tables,
            tuple(None if table is None else table >= 0 for table in tables),
            arrays(start[:-1] for start in trie.child_start),
            arrays(np.diff(start).astype(np.int32) for start in trie.child_start),
            arrays(code.astype(np.int64) for code in padded),
            tensors(trie.item_start),
            _array(torch.arange(max(trie.fan_out), device=device, dtype=torch.int32)),
            torch.from_numpy(trie.items).to(device),
            trie.fan_out,
            tensors(codec.token_ids),
            SeenItems(trie, [table is not None for table in dense]),
        )

    @property
    def n_items(self) -> int:
        """N, items of the catalogue."""
        return len(self.items)

    @property
    def n_nodes(self) -> tuple[int, ...]:
        """Prefixes of 1, 2, ... L codes in the catalogue."""
        return tuple(len(ends) - 1 for ends in self.item_start)

    def children(self, level: int, nodes: Tensor, legal: Legal | None) -> Children:
        """Children in the catalogue; with ``legal`` only those that lead to an item the user may get."""
        table, beams = self.tables[level], _array(nodes)
        codes = None
        if table is not None:
            found, exists = table[beams], self.present[level][beams]  # type: ignore[index]
        else:
            places = self.places[: self.fan_out[level]]
            found = self.child_start[level][beams][..., None] + places
            exists = places < self.n_children[level][beams][..., None]
            codes = _tensor(self.child_code[level][found])
        if legal is not None:
            exists = legal.keep(level, beams, found, exists)
        return Children(_tensor(found), _tensor(exists), codes)

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
        return Pruned(counts, tuple(self._alive(level, counts[ends]) for level, ends in enumerate(self.item_start)))

    def _alive(self, level: int, at_ends: Tensor) -> Array:
        """A level of ``Pruned.alive``, from the number of legal items before each node and after the last one."""
        by_child = _array(torch.nn.functional.pad(at_ends[1:] > at_ends[:-1], (0, self.fan_out[level])))
        table = self.tables[level]
        small = table is not None and math.prod(table.shape) <= SMALL_TABLE
        return by_child[table] if small else by_child

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
        row = np.array([numbers[id(rule)] for rule in pruned], dtype=np.int64)
        alive = None
        if any(rule is not None for rule in distinct.values()):
            rules = [self._everything if rule is None else rule for rule in distinct.values()]
            alive = tuple(_stack([rule.alive[level] for rule in rules]) for level in range(len(self.sizes)))
        device = self.items.device

        def put(array: np.ndarray) -> Array:
            return _array(torch.from_numpy(array).to(device))

        dead: tuple[tuple[Array, Array] | None, ...] = (None,) * len(self.sizes)
        if seen is not None and any(len(items) for items in seen):
            counts = [None if rule is None else rule.counts_on_host for rule in distinct.values()]
            found = self.seen_items.dead(seen, counts, row)
            dead = tuple(None if pair is None else (put(pair[0]), put(pair[1])) for pair in found)
        elif alive is None:
            return None
        return Legal(alive, put(row), dead)

    @cached_property
    def _everything(self) -> Pruned:
        """The index without a rule, for users without one in a batch with users who have one."""
        return self.prune(torch.ones_like(self.items, dtype=torch.bool))


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


def _stack(arrays: list[Array]) -> Array:
    """One row each; a single one is not copied."""
    if len(arrays) == 1:
        return arrays[0][None]
    return np.stack(arrays) if isinstance(arrays[0], np.ndarray) else torch.stack(arrays)


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
