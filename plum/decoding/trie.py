"""The valid Semantic IDs as a trie in flat arrays, so that decoding can look up the legal children of many beams.

Source: STATIC (Su et al., arXiv 2602.22647). Items are kept in the order of their SIDs, so the items below a node are
one range; a set of allowed items becomes a running count over the items, and a child is legal if its range holds an
allowed one. For catalogues of tens of millions, SIDs are sorted as packed integers, and catalogue-sized copies are
avoided or made in blocks.
"""

from __future__ import annotations

import hashlib
import json
import operator
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open

from plum.errors import PlumError
from plum.run import verified
from plum.run.writing import write_arrays

FORMAT = "plum-sid-index"
VERSION = 1
BLOCK = 1 << 20
"""Rows converted or compared at a time, so that temporaries stay small."""

WORD_BITS = 63
AGAIN = "make the Semantic IDs again with `plum tokenize --force`"


@dataclass(frozen=True)
class Trie:
    """Flat arrays of the trie; a node of depth d is a distinct prefix of d codes, numbered in sorted order.

    Attributes:
        sizes: codes per level, L of them.
        child_start: L arrays (nodes of depth d, + 1): the children of node n of depth d are the nodes
            ``child_start[d][n]`` up to ``child_start[d][n + 1]`` of depth d + 1.
        child_code: L arrays (nodes of depth d + 1,): the code of each node, ascending among the children of one node;
            int16, or int32 if a level has more than 32,768 codes.
        item_start: L arrays (nodes of depth d + 1, + 1): the items below node n of depth d + 1 are
            ``items[item_start[d][n]:item_start[d][n + 1]]``.
        items: (N,) catalogue rows, in the order of their SIDs, within a SID in the order of ``rank``.

    child_start, item_start and items are int32, or int64 for a catalogue of more than 2^31 - 1 items.

    Example: SIDs [[0, 1], [0, 2], [3, 1]] give child_start [[0, 2], [0, 2, 3]], child_code [[0, 3], [1, 2, 1]],
    item_start [[0, 2, 3], [0, 1, 2, 3]] and items [0, 1, 2].
    """

    sizes: tuple[int, ...]
    child_start: tuple[np.ndarray, ...]
    child_code: tuple[np.ndarray, ...]
    item_start: tuple[np.ndarray, ...]
    items: np.ndarray

    @property
    def n_levels(self) -> int:
        """L, depth of the leaves."""
        return len(self.child_code)

    @property
    def n_leaves(self) -> int:
        """Distinct Semantic IDs."""
        return len(self.child_code[-1])

    @property
    def n_items(self) -> int:
        """N, items of the catalogue."""
        return len(self.items)

    @cached_property
    def fan_out(self) -> tuple[int, ...]:
        """Largest number of children of any node, for each of the L levels; 0 in an empty catalogue."""
        return tuple(int(np.diff(start).max(initial=0)) for start in self.child_start)

    @classmethod
    def build(cls, codes: np.ndarray, sizes: Sequence[int], rank: np.ndarray | None = None) -> Trie:
        """Build the trie of a catalogue.

        Args:
            codes: (N, L) Semantic IDs in any integer dtype, memory layout and order. Items may share one.
            sizes: codes per level.
            rank: (N,) order of items that share a Semantic ID (see ``plum.sid.table.bucket_rank``); ties, or None, by
                catalogue row.

        Raises:
            PlumError: if codes are not a table of integers with one column per size, a code is outside its codebook,
                or ranks are not one integer per item.
        """
        sizes = _checked_sizes(sizes)
        codes = _checked_codes(codes, sizes)
        if rank is not None and (np.shape(rank) != (len(codes),) or np.asarray(rank).dtype.kind not in "iu"):
            found = f"shape {np.shape(rank)}, dtype {np.asarray(rank).dtype}; {len(codes):,} items"
            raise PlumError("ranks must be one integer per item", found, "give an array (N,), or None")
        items, departs = _sort(codes, sizes, rank)
        child_start, child_code, item_start = [], [], []
        for depth in range(len(sizes)):
            first = _positions(departs, depth, items.dtype)
            item_start.append(first)
            child_code.append(_gather(codes[:, depth], items, first[:-1], sizes[depth]))
            # A node's first child starts where an item differs from the one before at a level above this one.
            root = np.array([0, len(first) - 1], dtype=items.dtype)
            child_start.append(_positions(departs[first[:-1]], depth - 1, items.dtype) if depth else root)
        return cls(sizes, tuple(child_start), tuple(child_code), tuple(item_start), items)

    def codes_of(self, leaves: np.ndarray) -> np.ndarray:
        """Codes (M, L) int64 of leaves (M,).

        Raises:
            IndexError: if there is no such leaf.
        """
        nodes = np.asarray(leaves, dtype=self.items.dtype)
        if nodes.size and (nodes.min() < 0 or nodes.max() >= self.n_leaves):
            raise IndexError(f"leaves {nodes.min()} to {nodes.max()} are not all among the trie's {self.n_leaves:,}")
        codes = np.empty((len(nodes), self.n_levels), dtype=np.int64)
        for depth in reversed(range(self.n_levels)):
            codes[:, depth] = self.child_code[depth][nodes]
            # In the dtype of the searched array: NumPy would otherwise convert the whole array at every call.
            nodes = (self.child_start[depth].searchsorted(nodes, side="right") - 1).astype(self.items.dtype)
        return codes

    def leaf_of(self, codes: np.ndarray) -> np.ndarray:
        """Leaf (M,) int64 of each of the Semantic IDs (M, L); -1 for those outside the trie.

        Raises:
            PlumError: if codes are not a table of integers with one column per level.
        """
        codes = _checked_table(codes, len(self.sizes))
        leaves = np.full(len(codes), -1, dtype=np.int64)
        if self.n_leaves:
            for block in _blocks(len(codes)):
                leaves[block] = self._descend(codes[block])
        return leaves

    def _descend(self, codes: np.ndarray) -> np.ndarray:
        """Follow codes (B, L) down the trie, by binary search among the children of each node."""
        nodes, lost = np.zeros(len(codes), dtype=np.int64), np.zeros(len(codes), dtype=bool)
        for depth, code in enumerate(codes.astype(np.int64, order="F").T):
            listed, last = self.child_code[depth], len(self.child_code[depth]) - 1
            low, end = (self.child_start[depth][nodes + side].astype(np.int64) for side in (0, 1))
            high = end
            for _ in range(self.fan_out[depth].bit_length()):
                middle = (low + high) >> 1
                right = (low < high) & (listed[np.minimum(middle, last)] < code)
                low, high = np.where(right, middle + 1, low), np.where(right, high, middle)
            nodes = np.minimum(low, last)
            lost |= (low >= end) | (listed[nodes] != code)
        nodes[lost] = -1
        return nodes

    def verify(self, codes: np.ndarray) -> None:
        """Check that the trie holds exactly the items of codes (N, L), each under its own Semantic ID.

        Raises:
            PlumError: if arrays contradict each other, a catalogue row is missing or listed twice, a node has no
                item, codes of siblings are not ascending or outside their codebook, or an item is under a wrong SID.
        """
        codes = _checked_codes(codes, self.sizes)
        _check(self)
        if len(codes) != self.n_items:
            raise _damaged("its number of items is wrong", f"{self.n_items:,} items, {len(codes):,} Semantic IDs")
        for depth in range(self.n_levels):
            for block in _blocks(self.n_items):
                rows = self.items[block]
                wrong = self._codes_at(depth, block) != codes[rows, depth]
                if wrong.any():
                    row = int(rows[wrong.argmax()])
                    raise _damaged(f"item {row} is not under its Semantic ID {codes[row].tolist()}")

    def _codes_at(self, depth: int, block: slice) -> np.ndarray:
        """Code at one level of the items at consecutive places of ``items``."""
        start, bounds = self.item_start[depth], np.array([block.start, block.stop], dtype=self.items.dtype)
        first, last = int(start.searchsorted(bounds[0], side="right")) - 1, int(start.searchsorted(bounds[1]))
        return np.repeat(self.child_code[depth][first:last], np.diff(start[first : last + 1].clip(*bounds)))

    def save(self, path: Path, of: str) -> None:
        """Write the trie atomically to a safetensors file; ``of``: :func:`fingerprint` of its SIDs."""
        arrays = [*self.child_start, *self.child_code, *self.item_start, self.items]
        tensors = {name: np.ascontiguousarray(a) for name, a in zip(_names(self.n_levels), arrays, strict=True)}
        # One metadata entry: safetensors writes several in an unstable order.
        metadata = {FORMAT: json.dumps({"version": VERSION, "sizes": self.sizes, "of": of})}
        write_arrays(path, tensors, metadata)

    @classmethod
    def load(cls, path: Path, of: str | None = None) -> Trie:
        """Read a trie; check that its arrays belong together and that it was saved with ``of``, if given.

        Raises:
            PlumError: if the file is missing, truncated, not an index, of another format version or of other Semantic
                IDs, or if its arrays contradict each other.
        """
        try:
            path.open("rb").close()  # safetensors' own error for a missing file differs between its versions
            verified.verify(path)
            with safe_open(path, framework="numpy") as file:
                sizes = _checked_metadata(path, file.metadata() or {}, of)
                names, depth = _names(len(sizes)), len(sizes)
                if set(file.keys()) != set(names):
                    raise PlumError(f"{path} lacks the arrays of an index", ", ".join(sorted(file.keys())), AGAIN)
                arrays = tuple(file.get_tensor(name) for name in names)
        except FileNotFoundError:
            raise PlumError(f"{path} is missing", None, AGAIN) from None
        except (SafetensorError, OSError, ValueError, TypeError, RecursionError) as error:
            raise PlumError(f"{path} can't be read as an index of Semantic IDs", str(error), AGAIN) from None
        trie = cls(sizes, arrays[:depth], arrays[depth : 2 * depth], arrays[2 * depth : -1], arrays[-1])
        try:
            _check(trie)
        except PlumError as error:
            raise PlumError(f"{path}: {error.what}", error.found, error.fix) from None
        return trie


def fingerprint(codes: np.ndarray, sizes: Sequence[int]) -> str:
    """SHA-256 (hexadecimal) of Semantic IDs (N, L) and codes per level, independent of the codes' dtype and layout.

    Raises:
        PlumError: if codes are not a table of integers with one column per size.
    """
    sizes = _checked_sizes(sizes)
    codes = _checked_table(codes, len(sizes))
    digest = hashlib.sha256(np.array([len(codes), *sizes], dtype="<i8").tobytes())
    for block in _blocks(len(codes)):
        digest.update(np.ascontiguousarray(codes[block], dtype="<i8").data)
    return digest.hexdigest()


def _blocks(n: int) -> Iterator[slice]:
    return (slice(start, min(start + BLOCK, n)) for start in range(0, n, BLOCK))


def _names(n_levels: int) -> list[str]:
    """Names of the arrays in a file."""
    groups = ("child_start", "child_code", "item_start")
    return [*(f"{group}.{depth}" for group in groups for depth in range(n_levels)), "items"]


def _pack(codes: np.ndarray, sizes: tuple[int, ...]) -> list[tuple[np.ndarray, dict[int, int]]]:
    """Pack SIDs into integers (N,) that sort like them, first level highest; each with the bit shifts of its levels."""
    bits = [(size - 1).bit_length() for size in sizes]
    groups: list[list[int]] = [[]]
    for level, width in enumerate(bits):
        if sum(bits[other] for other in groups[-1]) + width > WORD_BITS:
            groups.append([])
        groups[-1].append(level)
    words = []
    for group in groups:
        shifts = {level: sum(bits[level + 1 : group[-1] + 1]) for level in group}
        word = np.zeros(len(codes), dtype=np.uint64)
        for block in _blocks(len(codes)):
            for level, shift in shifts.items():
                word[block] |= codes[block, level].astype(np.uint64) << np.uint64(shift)
        words.append((word, shifts))
    return words


def _sort(codes: np.ndarray, sizes: tuple[int, ...], rank: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
    """Rows (N,) sorted by SID, rank and row; and the first level (N,) at which each differs from the one before.

    The level is 0 for the first row, and L for a row with the same SID as the one before.
    """
    words = _pack(codes, sizes)
    order = np.lexsort([*([] if rank is None else [rank]), *(word for word, _ in reversed(words))])
    departs = np.full(len(codes), len(sizes), dtype=np.min_scalar_type(len(sizes)))
    while words:
        word, shifts = words.pop()
        word = word[order]
        changes = word[1:] ^ word[:-1]
        del word
        # From the last level to the first, so that the first differing level overwrites later ones.
        for level, shift in sorted(shifts.items(), reverse=True):
            np.copyto(departs[1:], level, where=changes >= np.uint64(1 << shift), casting="unsafe")
        del changes
    departs[:1] = 0
    return order.astype(np.int32 if len(codes) <= np.iinfo(np.int32).max else np.int64), departs


def _positions(departs: np.ndarray, depth: int, dtype: np.dtype) -> np.ndarray:
    """Starts of the prefixes of depth + 1 codes, and the end."""
    found = np.flatnonzero(departs <= depth)
    positions = np.full(len(found) + 1, len(departs), dtype=dtype)
    positions[:-1] = found
    return positions


def _gather(column: np.ndarray, items: np.ndarray, places: np.ndarray, size: int) -> np.ndarray:
    """column[items[places]] in the smallest dtype, without a copy of the column or of a wider result."""
    gathered = np.empty(len(places), dtype=np.int16 if size <= 1 << 15 else np.int32)
    for block in _blocks(len(places)):
        gathered[block] = column[items[places[block]]]
    return gathered


def _checked_sizes(sizes: Sequence[int]) -> tuple[int, ...]:
    try:
        checked = tuple(operator.index(size) for size in sizes)
    except TypeError:
        checked = ()
    if not checked or min(checked) < 1 or max(checked) > 1 << 31:
        raise PlumError("codebook sizes must be whole numbers from 1 to 2^31, one per level", str(sizes))
    return checked


def _checked_table(codes: np.ndarray, n_levels: int) -> np.ndarray:
    """The codes, checked to be a table of integers with one column per level."""
    try:
        table = np.asarray(codes)
    except ValueError as error:
        raise PlumError("Semantic IDs have different lengths", str(error), "give every item L codes") from None
    if table.ndim != 2 or table.dtype.kind not in "iu":
        found = f"shape {table.shape}, dtype {table.dtype}"
        raise PlumError("Semantic IDs must be a table of integers", found, "give an integer array (N, L)")
    if table.shape[1] != n_levels:
        found = f"codes of shape {table.shape}, {n_levels} sizes"
        raise PlumError("codes and codebook sizes don't belong together", found, AGAIN)
    return table


def _checked_codes(codes: np.ndarray, sizes: tuple[int, ...]) -> np.ndarray:
    """The codes, checked to be SIDs of codebooks of these sizes."""
    table = _checked_table(codes, len(sizes))
    for level, size in enumerate(sizes):
        column = table[:, level]
        if len(column) and (int(column.min()) < 0 or int(column.max()) >= size):
            row = int(((column < 0) | (column >= size)).argmax())
            found = f"row {row} has {table[row].tolist()}, codebook sizes {list(sizes)}"
            raise PlumError(f"a Semantic ID has a code outside its codebook at level {level}", found, AGAIN)
    return table


def _checked_metadata(path: Path, metadata: dict[str, str], of: str | None) -> tuple[int, ...]:
    """Sizes from a file's metadata, checked to be an index of this version and of these Semantic IDs."""
    if FORMAT not in metadata:
        raise PlumError(f"{path} is not an index of Semantic IDs", f"metadata {metadata}"[:200], AGAIN)
    about = json.loads(metadata[FORMAT])
    if not isinstance(about, dict) or about.get("version") != VERSION:
        raise PlumError(f"{path} was written in another format version", metadata[FORMAT][:200], AGAIN)
    if of is not None and about.get("of") != of:
        found = f"SHA-256 {str(about.get('of'))[:12]} in the index, {of[:12]} of these"
        raise PlumError(f"{path} was made from other Semantic IDs", found, AGAIN)
    return _checked_sizes(about.get("sizes", ()))


def _damaged(what: str, found: str | None = None) -> PlumError:
    return PlumError(f"the index of Semantic IDs is damaged: {what}", found, AGAIN)


def _check(trie: Trie) -> None:
    _check_shapes(trie)
    _check_nodes(trie)
    items, seen = trie.items, np.zeros(trie.n_items, dtype=bool)
    if len(items) and (items.min() < 0 or items.max() >= len(items)):
        raise _damaged("an item is outside the catalogue", f"rows {items.min()} to {items.max()} of {len(items):,}")
    seen[items] = True
    if not seen.all():
        raise _damaged(f"item {int(seen.argmin())} is missing and another is listed twice")


def _check_shapes(trie: Trie) -> None:
    groups = (trie.child_start, trie.child_code, trie.item_start)
    if any(len(group) != len(trie.sizes) for group in groups):
        raise _damaged("levels are missing", f"{[len(group) for group in groups]} arrays, {len(trie.sizes)} sizes")
    if any(array.ndim != 1 or array.dtype.kind != "i" for group in (*groups, (trie.items,)) for array in group):
        raise _damaged("an array is not a list of signed integers")
    nodes = [1, *(len(code) for code in trie.child_code)]
    for depth in range(len(trie.sizes)):
        lengths = len(trie.child_start[depth]), len(trie.item_start[depth])
        if lengths != (nodes[depth] + 1, nodes[depth + 1] + 1):
            raise _damaged(f"arrays of level {depth} don't belong together", f"lengths {lengths}")


def _check_nodes(trie: Trie) -> None:
    """Check that children partition the nodes, items are partitioned consistently, and siblings' codes ascend."""
    for depth, code in enumerate(trie.child_code):
        start, below = trie.child_start[depth], trie.item_start[depth]
        if not (depth == 0 and trie.n_items == 0 and start.tolist() == [0, 0]):
            _check_partition(start, len(code), f"the children at level {depth}")
        _check_partition(below, trie.n_items, f"the items at level {depth}")
        if depth and not np.array_equal(below[start], trie.item_start[depth - 1]):
            raise _damaged(f"the items of a node differ from those of its children at level {depth}")
        if len(code) and (code.min() < 0 or code.max() >= trie.sizes[depth]):
            raise _damaged(f"a code at level {depth} is outside its codebook", f"{code.min()} to {code.max()}")
        ascends = code[1:] > code[:-1]
        ascends[start[1:-1] - 1] = True
        if not ascends.all():
            raise _damaged(f"codes of siblings are repeated or unsorted at level {depth}")


def _check_partition(start: np.ndarray, n: int, what: str) -> None:
    if start[0] != 0 or start[-1] != n or not (start[1:] > start[:-1]).all():
        raise _damaged(f"{what} are not divided among the nodes", f"{start[0]} to {start[-1]} of {n}, or an empty node")
