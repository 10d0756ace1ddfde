"""Nearest-neighbour search with faiss, the only module that imports it (faiss and torch can crash by import order)."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any, Literal, get_args

import numpy as np
from threadpoolctl import threadpool_limits

from plum.errors import PlumError
from plum.evaluation.rankings import NO_ITEM, Recommendations, flatten, top_k

Kind = Literal["exact", "hnsw", "ivfpq"]
KINDS: tuple[Kind, ...] = get_args(Kind)

# A batch of queries returns at most this many entries (48 MiB), however many items users have seen.
_BATCH_ENTRIES = 1 << 22

_HNSW_LINKS = 32
_HNSW_CONSTRUCTION = 200
_HNSW_SEARCH = 64
_POINTS_PER_CENTROID = 39  # with fewer, faiss warns that its k-means is ill-trained
_MOST_BITS, _FEWEST_BITS = 8, 4
_ROUNDING = 1e-5  # of a user's largest product
FEWEST_FOR_IVFPQ = _POINTS_PER_CENTROID << _FEWEST_BITS


class Nearest:
    """Item vectors in a faiss index, searched by inner product.

    - ``exact``: every product, ties by catalogue row.
    - ``hnsw``: a graph of near neighbours (Malkov and Yashunin 2018), M = 32, efConstruction = 200. Scores are exact,
      some items are missed.
    - ``ivfpq``: inverted lists of product-quantised vectors (Jégou et al. 2011): about 4 sqrt(N) lists, codes of
      D / 2 bytes (or the next smaller divisor of D). Small, but scores are those of the quantised vectors. With fewer
      than 39 * 256 items the codes have fewer than 8 bits (see ``parameters``), so that each centroid is fitted to at
      least 39 items.

    The same vectors give the same index: it is built on one thread, because with several, faiss before its pull request
    5486 (2026) linked a graph's nodes in the order in which threads finished.

    Args:
        items: (N, D).
        kind: which index.
        ef_search: candidates that ``hnsw`` keeps during a search.
        nprobe: lists that ``ivfpq`` searches; None for a sixteenth of them.

    Attributes:
        kind, n_items: as given.
        parameters: of the index, by faiss's names.

    Raises:
        PlumError: ``ivfpq`` over fewer than 624 items.
        ValueError: vectors that are not (N, D), an unknown kind, or a setting below 1.
    """

    def __init__(
        self, items: np.ndarray, kind: Kind = "exact", ef_search: int = _HNSW_SEARCH, nprobe: int | None = None
    ) -> None:
        if items.ndim != 2:
            raise ValueError(f"items must be (N, D), found {items.shape}")
        if kind not in KINDS:
            raise ValueError(f"kind must be one of {', '.join(KINDS)}, found {kind!r}")
        if ef_search < 1 or (nprobe is not None and nprobe < 1):
            raise ValueError(f"ef_search and nprobe must be at least 1, found {ef_search} and {nprobe}")
        import faiss

        self._items = np.ascontiguousarray(items, np.float32)
        self.kind, self.n_items = kind, len(items)
        self.parameters: dict[str, int] = {}
        with threadpool_limits(1):
            if kind == "exact":
                self._index: Any = faiss.IndexFlatIP(items.shape[1])
            elif kind == "hnsw":
                self._index, self.parameters = _hnsw(items.shape[1], ef_search)
            else:
                self._index, self.parameters = _ivfpq(self._items, nprobe)
            self._index.add(self._items)

    def search(self, queries: np.ndarray, k: int, seen: Sequence[np.ndarray] | None) -> Recommendations:
        """The K items of largest inner product for each query.

        Args:
            queries: (U, D).
            k: K.
            seen: per query, item rows that must not be returned; None for no such rule.

        Returns:
            Items by falling score, ties by catalogue row; lists are shorter where fewer items are left, or where an
            approximate index finds no more.

        Raises:
            ValueError: queries of another width, k < 1, or ``seen`` of another length or out of range.
        """
        if queries.ndim != 2 or queries.shape[1] != self._items.shape[1]:
            raise ValueError(f"queries must be (U, {self._items.shape[1]}), found {queries.shape}")
        if k < 1:
            raise ValueError(f"k must be at least 1, found {k}")
        if seen is not None:
            flatten(seen, self.n_items)
            if len(seen) != len(queries):
                raise ValueError(f"seen has {len(seen)} entries for {len(queries)} queries")
        queries = np.ascontiguousarray(queries, np.float32)
        items = np.full((len(queries), k), NO_ITEM, dtype=np.int64)
        scores = np.full((len(queries), k), -np.inf, dtype=np.float32)
        n_seen = np.array([0 if seen is None else len(seen[user]) for user in range(len(queries))], dtype=np.int64)
        # Deep enough for K unseen items and one more, which reveals a tie at the border; rounded up to a power of two,
        # so that one user with a long history does not slow down all others.
        depths = np.minimum(2 ** np.ceil(np.log2(k + n_seen + 1)).astype(np.int64), self.n_items)
        for depth in np.unique(depths[depths > 0]).tolist():
            users = np.flatnonzero(depths == depth)
            size = max(1, _BATCH_ENTRIES // depth)
            for start in range(0, len(users), size):
                batch = users[start : start + size]
                hidden = None if seen is None else [seen[user] for user in batch]
                rows, values = self._search(queries[batch], min(k, depth), hidden, depth)
                items[batch, : rows.shape[1]], scores[batch, : rows.shape[1]] = rows, values
        return Recommendations(items, scores)

    def _search(
        self, queries: np.ndarray, k: int, seen: Sequence[np.ndarray] | None, depth: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """Rows and scores (B, K) of the best K of the first ``depth`` that faiss finds, without the seen ones."""
        scores, found = self._index.search(queries, depth)
        last = scores[:, -1].copy()
        hidden = found == NO_ITEM
        if seen is not None:
            # A (query, item) pair as one number, so that a single set lookup serves all queries.
            users, rows = flatten(seen, self.n_items)
            hidden |= np.isin(np.arange(len(queries))[:, None] * self.n_items + found, users * self.n_items + rows)
        scores[hidden], found[hidden] = -np.inf, NO_ITEM
        order = np.lexsort((found, -scores), axis=1)[:, :k]
        found, scores = np.take_along_axis(found, order, axis=1), np.take_along_axis(scores, order, axis=1)
        if self.kind == "exact" and depth < self.n_items:
            # faiss does not specify its order of equal scores: rank the whole catalogue for these users.
            tied, size = np.flatnonzero(scores[:, -1] == last), max(1, _BATCH_ENTRIES // self.n_items)
            for start in range(0, len(tied), size):
                batch = tied[start : start + size]
                products = queries[batch] @ self._items.T
                whole = top_k(products, k, None if seen is None else [seen[row] for row in batch.tolist()])
                found[batch], scores[batch] = whole.items, whole.scores
        return found, scores

    def mib(self) -> float:
        """Size of the index as a file, MiB."""
        import faiss

        return faiss.serialize_index(self._index).nbytes / 2**20


def largest_products(
    items: np.ndarray, queries: np.ndarray, k: int, seen: Sequence[np.ndarray] | None
) -> Recommendations:
    """The K items of largest inner product for each query, by a flat faiss index.

    Args:
        items: (N, D) float32.
        queries: (U, D) float32.
        k: K.
        seen: per query, item rows that must not be returned; None for no such rule.

    Returns:
        Items by falling score, ties by catalogue row; lists are shorter where fewer items are left.

    Raises:
        ValueError: ``seen`` names a row outside the catalogue; see :meth:`Nearest.search`.
    """
    return Nearest(items).search(queries, k, seen)


def search_report(
    items: np.ndarray,
    queries: np.ndarray,
    k: int,
    seen: Sequence[np.ndarray] | None,
    kinds: Sequence[Kind] | None = None,
) -> list[dict[str, Any]]:
    """Measure what each kind of index costs and misses, on one thread.

    Args:
        items: (N, D).
        queries: (U, D), at least one; searched all together.
        k: K.
        seen: per query, item rows that must not be returned; None for no such rule.
        kinds: None for all kinds that N items are enough for.

    Returns:
        One entry per kind:

        - ``index``, ``parameters``: kind, and the parameters given to faiss.
        - ``build_s``: seconds of processor time, which other work on the machine hardly affects.
        - ``ms_per_query``: milliseconds of processor time, including the removal of seen items.
        - ``mib``: size of the index.
        - ``recall_of_exact@k``: share of the exact list's places that this index fills with an item as good as the
          exact list's last one (by inner product, so that ties count), the mean over users. None if the exact lists are
          all empty.

    Raises:
        PlumError: ``ivfpq`` over fewer than 624 items.
        ValueError: as :class:`Nearest` and :meth:`Nearest.search`, or no queries.
    """
    if not len(queries):
        raise ValueError("there are no queries to search for")
    if kinds is None:
        kinds = [kind for kind in KINDS if kind != "ivfpq" or len(items) >= FEWEST_FOR_IVFPQ]
    Nearest(items[:1]).search(queries[:1], 1, None)  # loads faiss, so that no index is charged for it
    exact = largest_products(items, queries, k, seen)
    report = []
    for kind in kinds:
        with threadpool_limits(1):
            start = time.process_time()
            index = Nearest(items, kind)
            built = time.process_time()
            found = index.search(queries, k, seen)
            ended = time.process_time()
        report.append(
            {
                "index": kind,
                "parameters": index.parameters,
                "build_s": built - start,
                "ms_per_query": 1e3 * (ended - built) / len(queries),
                "mib": index.mib(),
                f"recall_of_exact@{k}": _recall_of_exact(items, queries, exact, found),
            }
        )
    return report


def _hnsw(width: int, ef_search: int) -> tuple[Any, dict[str, int]]:
    """An empty graph, and its parameters."""
    import faiss

    index = faiss.IndexHNSWFlat(width, _HNSW_LINKS, faiss.METRIC_INNER_PRODUCT)
    index.hnsw.efConstruction, index.hnsw.efSearch = _HNSW_CONSTRUCTION, ef_search
    return index, {"M": _HNSW_LINKS, "efConstruction": _HNSW_CONSTRUCTION, "efSearch": ef_search}


def _ivfpq(items: np.ndarray, nprobe: int | None) -> tuple[Any, dict[str, int]]:
    """Empty inverted lists, fitted to the items (N, D), and their parameters."""
    import faiss

    n_items, width = items.shape
    parameters = _ivfpq_parameters(n_items, width, nprobe)
    quantizer = faiss.IndexFlatIP(width)
    sizes = (width, parameters["nlist"], parameters["m"], parameters["nbits"])
    index = faiss.IndexIVFPQ(quantizer, *sizes, faiss.METRIC_INNER_PRODUCT)
    index.nprobe = parameters["nprobe"]
    index.train(items)
    return index, parameters


def _ivfpq_parameters(n_items: int, width: int, nprobe: int | None) -> dict[str, int]:
    """Parameters of the index for N and D; see :class:`Nearest`."""
    if n_items < FEWEST_FOR_IVFPQ:
        raise PlumError(
            f"an IVF-PQ index can't be fitted to {n_items:,} items",
            f"it needs at least {FEWEST_FOR_IVFPQ}",
            "use the exact index, which is fast for so few items",
        )
    n_lists = min(round(4 * n_items**0.5), n_items // _POINTS_PER_CENTROID)
    return {
        "nlist": n_lists,
        "nprobe": min(n_lists, max(1, n_lists // 16) if nprobe is None else nprobe),
        "m": max(m for m in range(1, max(1, width // 2) + 1) if width % m == 0),
        "nbits": min(_MOST_BITS, (n_items // _POINTS_PER_CENTROID).bit_length() - 1),
    }


def _recall_of_exact(
    items: np.ndarray, queries: np.ndarray, exact: Recommendations, found: Recommendations
) -> float | None:
    """Mean over users of the share of places with an item as good as the exact list's last; None if all are empty."""
    n_exact = (exact.items != NO_ITEM).sum(axis=1)
    shares = []
    for user in np.flatnonzero(n_exact).tolist():
        rows = found.items[user][found.items[user] != NO_ITEM]
        border = exact.scores[user, n_exact[user] - 1]
        # Products may differ in their last digits by the order of summation, and IVF-PQ's are approximate.
        slack = _ROUNDING * np.abs(exact.scores[user, : n_exact[user]]).max()
        shares.append((items[rows] @ queries[user] >= border - slack).sum() / n_exact[user])
    return float(np.mean(shares)) if shares else None
