"""Items whose codes collide: one more code tells them apart, or the less popular ones move to free codes.

PLUM's way, to let them share a Semantic ID, needs no code here: ``plum.sid.table.bucket_rank`` orders them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np

from plum import runtime
from plum.errors import PlumError
from plum.sid.table import SidTable, bucket_rank


def add_suffix(codes: np.ndarray, sizes: Sequence[int], popularity: np.ndarray) -> SidTable:
    """Append a disambiguation code: items with equal codes are numbered 0, 1, ... (TIGER section 3.1).

    Args:
        codes: (N, L) int64.
        sizes: codes per level.
        popularity: (N,) training interactions. The most popular item of a bucket gets 0; ties by catalogue row.

    Returns:
        A table of L + 1 levels in which every SID belongs to one item. Example: codes [[3, 1], [3, 1], [0, 2]] with
        popularity [5, 9, 1] -> [[3, 1, 1], [3, 1, 0], [0, 2, 0]].
    """
    rank = bucket_rank(codes, popularity)
    return SidTable(np.column_stack([codes, rank]).astype(np.int64), (*sizes, int(rank.max(initial=0)) + 1))


def reassign(
    codes: np.ndarray,
    vectors: np.ndarray,
    codebooks: Sequence[np.ndarray],
    popularity: np.ndarray,
    capacity: int = 1,
    held: np.ndarray | None = None,
) -> np.ndarray:
    """Move items of over-full Semantic IDs to free ones, so that at most ``capacity`` items share each.

    The most popular items of a Semantic ID keep it (ties by catalogue row). The others, most popular first, descend the
    levels again; at each level they take the codeword nearest to the residual, among those with a free place below.
    Most change only their last code. The result is the first free Semantic ID of a greedy descent, not the free one
    whose codewords' sum is nearest to the item, which may have another first code.

    Args:
        codes: (N, L) int64, the nearest codewords level by level.
        vectors: (N, D), the quantised vectors.
        codebooks: L arrays (C_l, D).
        popularity: (N,) training interactions.
        capacity: most items per Semantic ID.
        held: (M, L) codes of items that occupy places and don't move; they may exceed the capacity.

    Returns:
        (N, L) int64. Example: codes [[0], [0]], vectors [[0.1], [0.2]], codebook [[0], [1]], popularity [1, 5] ->
        [[1], [0]].

    Raises:
        PlumError: if there are fewer free places than items.
    """
    places = capacity * int(np.prod([len(book) for book in codebooks], dtype=object))
    held = np.zeros((0, codes.shape[1]), dtype=np.int64) if held is None else held
    taken: Counter[tuple[int, ...]] = Counter(map(tuple, held.tolist()))
    over = sum(max(0, count - capacity) for count in taken.values())
    if len(codes) + len(held) - over > places:
        raise PlumError(
            f"{len(codes) + len(held):,} items, but only {places:,} places for them",
            f"codebook sizes {[len(book) for book in codebooks]}, at most {capacity} items per Semantic ID",
            "set tokenize.codebook_sizes to more codes or levels, or raise tokenize.capacity",
        )
    free = np.array([max(0, capacity - taken[tuple(code)]) for code in codes.tolist()])
    stays = bucket_rank(codes, popularity) < free
    tree = _Places(codebooks, capacity)
    for code in [*held.tolist(), *codes[stays].tolist()]:
        tree.take(tuple(code))
    result = codes.copy()
    moved = np.flatnonzero(~stays)
    by_popularity = moved[np.argsort(-popularity[moved], kind="stable")].tolist()
    for row in runtime.track(by_popularity, "moving items to free Semantic IDs"):
        result[row] = tree.first_free(vectors[row])
        tree.take(tuple(result[row].tolist()))
    return result


class _Places:
    """The number of occupied places below every prefix."""

    def __init__(self, codebooks: Sequence[np.ndarray], capacity: int) -> None:
        self._books = [np.asarray(book, dtype=np.float32) for book in codebooks]
        self._norms = [(book * book).sum(1) for book in self._books]
        sizes = [len(book) for book in codebooks]
        # Python integers: the number of leaves of many wide levels exceeds 64 bits.
        self._room = [capacity * int(np.prod(sizes[level:], dtype=object)) for level in range(len(sizes) + 1)]
        self._capacity = capacity
        self._taken: Counter[tuple[int, ...]] = Counter()
        self._leaves: Counter[tuple[int, ...]] = Counter()

    def take(self, leaf: tuple[int, ...]) -> None:
        """Put an item on a leaf, whether there is room or not."""
        self._leaves[leaf] += 1
        if self._leaves[leaf] > self._capacity:  # a held item beyond the capacity: uses no place of another leaf
            return
        for length in range(len(leaf) + 1):
            self._taken[leaf[:length]] += 1

    def first_free(self, vector: np.ndarray) -> list[int]:
        """Codes (L,) of the first free leaf of a greedy descent, nearest codeword first; there must be one."""
        prefix: tuple[int, ...] = ()
        residual = vector
        for level, (book, norms) in enumerate(zip(self._books, self._norms, strict=True)):
            order = np.argsort(norms - 2 * book @ residual, kind="stable")
            room = self._room[level + 1]
            code = next(int(c) for c in order if self._taken[(*prefix, int(c))] < room)
            prefix = (*prefix, code)
            residual = residual - book[code]
        return list(prefix)
