"""How often items occur in the same histories, in which order and how far apart, and similarities made of that."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from scipy import sparse

from plum import runtime
from plum.evaluation.rankings import best_columns

_BLOCK_ROWS = 1024
_PAIRS_AT_ONCE = 1 << 22

# Chosen on the validation item of leave-one-out (train: all before; seen filtered; ties in time shuffled, mean of four
# shuffles of ml-100k and two of ml-latest-small), the whole history with equal weights. Validation Recall@10 / NDCG@10:
#     neighbours, shrinkage      10, 0        10, 10       20, 10       50, 10       100, 10      all, 10
#     ml-100k                 .128 / .067  .130 / .067  .131 / .064  .129 / .067  .126 / .064  .128 / .067
#     ml-latest-small         .084 / .042  .086 / .043  .082 / .043  .075 / .037  .071 / .035  .048 / .022
# On ml-100k no difference exceeds chance (one standard error is .01). Few neighbours matter on the sparser release, and
# shrinkage on Amazon Beauty: .069 / .040 with 10, 0 and .082 / .048 with 10, 10.
DEFAULT_NEIGHBOURS = 10
DEFAULT_SHRINKAGE = 10.0


@dataclass(frozen=True)
class Relation:
    """What makes two items similar, ``i`` of a history and a candidate ``j``.

    A user who took both, ``d`` places apart, adds ``d ** -distance`` to their count if ``j`` came after ``i``, and
    ``backward`` times as much if it came before. With n_i users of i and n_j of j, the similarity is
    ``count / (sqrt(n_i * n_j) + shrinkage)``. The defaults give the cosine of the items' columns in the binary
    user-item matrix, shrunk for pairs with few users.

    Attributes:
        neighbours: items of histories kept per candidate, the most similar ones; None for all.
        shrinkage: >= 0, in units of users.
        backward: >= 0. 1 for a count without direction, 0 for "what follows what" alone.
        distance: >= 0, how fast the count falls with the distance.
        window: the largest distance that counts; None for all.

    Raises:
        ValueError: a setting out of range.
    """

    neighbours: int | None = DEFAULT_NEIGHBOURS
    shrinkage: float = DEFAULT_SHRINKAGE
    backward: float = 1.0
    distance: float = 0.0
    window: int | None = None

    def __post_init__(self) -> None:
        if (self.neighbours is not None and self.neighbours < 1) or not self.shrinkage >= 0:
            raise ValueError(f"neighbours must be >= 1 and shrinkage >= 0, found {self.neighbours}, {self.shrinkage}")
        if not self.backward >= 0 or not self.distance >= 0 or (self.window is not None and self.window < 1):
            raise ValueError(
                "backward and distance must be >= 0 and window >= 1, "
                f"found {self.backward}, {self.distance} and {self.window}"
            )

    @property
    def is_plain(self) -> bool:
        """Whether neither order nor distance matters."""
        return self.backward == 1 and self.distance == 0 and self.window is None


def similarities(users: np.ndarray, items: np.ndarray, n_items: int, relation: Relation) -> sparse.csr_array:
    """Similarity of all pairs of items.

    Args:
        users: (E,) user index of each interaction, each user's oldest first.
        items: (E,) its catalogue row. A user's repeated interactions count once, at the first.
        n_items: N.
        relation: what counts.

    Returns:
        float32 (N, N), zero diagonal; row i is an item of a history, column j a candidate.

    Raises:
        ValueError: arrays of different lengths, or rows outside the catalogue.
    """
    if users.shape != items.shape or users.ndim != 1:
        raise ValueError(f"users and items must both be (E,), found {users.shape} and {items.shape}")
    if users.size and (users.min() < 0 or items.min() < 0 or items.max() >= n_items):
        raise ValueError(f"user indices must be >= 0 and catalogue rows lie in 0..{n_items - 1}")
    taken = incidence(users, items, n_items)
    norms = np.sqrt(np.asarray(taken.sum(axis=0), dtype=np.float64))
    blocks = [sparse.csr_array((0, n_items), dtype=np.float32)]
    counts = _common(taken) if relation.is_plain else _in_order(users, items, n_items, relation)
    for start, block in counts:
        block.sort_indices()  # ascending columns: the tie rule of `best_columns`
        candidate = np.repeat(np.arange(start, start + block.shape[0]), np.diff(block.indptr))
        norm = norms[candidate] * norms[block.indices] + relation.shrinkage
        block.data = (block.data / norm).astype(np.float32)
        block.data[candidate == block.indices] = 0.0
        if relation.neighbours is not None:
            _keep_best(block, relation.neighbours)
        block.eliminate_zeros()
        blocks.append(block)
    return sparse.vstack(blocks, format="csr").T.tocsr()


def incidence(users: np.ndarray, items: np.ndarray, n_items: int, n_users: int | None = None) -> sparse.csr_array:
    """Binary float32 (U, N): 1 if the user has interacted with the item, however often."""
    height = n_users if n_users is not None else (int(users.max()) + 1 if users.size else 0)
    matrix = sparse.coo_array((np.ones(len(users), np.float32), (users, items)), shape=(height, n_items)).tocsr()
    matrix.data[:] = 1.0  # repeated pairs were summed
    return matrix


def followers(users: np.ndarray, items: np.ndarray, n_items: int, relation: Relation) -> sparse.csr_array:
    """Counts (N, N) float64 of candidate j after item i, as rows i and columns j; see :class:`Relation`.

    Args:
        users, items, n_items: see :func:`similarities`.
        relation: its ``distance`` and ``window``.
    """
    order = np.argsort(users, kind="stable")
    users, items = users[order], items[order]
    _, first = np.unique(users.astype(np.int64) * n_items + items, return_index=True)
    first.sort()
    users, items = users[first], items[first]
    longest = int(np.bincount(users).max()) - 1 if users.size else 0
    total = sparse.csr_array((n_items, n_items), dtype=np.float64)
    waiting: list[tuple[np.ndarray, np.ndarray, float]] = []
    held = 0
    for apart in range(1, min(longest, relation.window or longest) + 1):
        place = np.flatnonzero(users[apart:] == users[:-apart])
        waiting.append((items[place], items[place + apart], apart**-relation.distance))
        held += len(place)
        if held > _PAIRS_AT_ONCE:
            total, waiting, held = total + _summed(waiting, n_items), [], 0
    return total + _summed(waiting, n_items) if waiting else total


def _summed(pairs: list[tuple[np.ndarray, np.ndarray, float]], n_items: int) -> sparse.csr_array:
    """A matrix (N, N) of the weights of pairs (rows, columns, their common weight)."""
    rows, columns = (np.concatenate([pair[side] for pair in pairs]) for side in (0, 1))
    weights = np.repeat([pair[2] for pair in pairs], [len(pair[0]) for pair in pairs])
    return sparse.coo_array((weights, (rows, columns)), shape=(n_items, n_items)).tocsr()


def _common(taken: sparse.csr_array) -> Iterator[tuple[int, sparse.csr_array]]:
    """Users in common of all pairs of items, a block of candidates (their first, counts (B, N)) at a time.

    The full matrix of a large catalogue need not fit in memory.
    """
    by_item = taken.T.tocsr()
    for start in _starts(taken.shape[1]):
        yield start, (by_item[start : start + _BLOCK_ROWS] @ taken).tocsr()


def _in_order(
    users: np.ndarray, items: np.ndarray, n_items: int, relation: Relation
) -> Iterator[tuple[int, sparse.csr_array]]:
    """The same for counts that depend on order or distance."""
    after = followers(users, items, n_items, relation)
    by_candidate = (after.T + relation.backward * after).tocsr()
    for start in _starts(n_items):
        yield start, by_candidate[start : start + _BLOCK_ROWS].copy()


def _starts(n_items: int) -> Iterator[int]:
    with runtime.progress("comparing items", n_items, after=runtime.SOON) as show:
        for start in range(0, n_items, _BLOCK_ROWS):
            show(start)
            yield start


def _keep_best(matrix: sparse.csr_array, n: int) -> None:
    """Zero all but the n largest entries of each row, in place; ties go to the lower column."""
    for start, stop in pairwise(matrix.indptr.tolist()):
        if stop - start > n:
            values = matrix.data[start:stop]
            drop = np.ones(stop - start, dtype=bool)
            drop[best_columns(values[None], n)[0]] = False
            values[drop] = 0.0
