"""The exact K best Semantic IDs by best-first search, for small catalogues and to measure what a beam search misses.

Prefixes are expanded in the order of their log-probability. It is an upper bound for everything that starts with the
prefix: each further code adds the logarithm of a probability, at most 0, whatever set the probabilities sum to one over
(``Scoring.over``). The bound also holds in float32: the sum of exponentials under the logarithm includes the code's
own, and rounding is monotonic. Once K complete Semantic IDs rank before every remaining prefix, they are final.

Source: best-first search with an admissible bound (A*; Hart, Nilsson and Raphael 1968), here with many prefixes at a
time, side by side in ``plum.decoding.tree``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedModel

from plum.decoding.beam import Beams, Scoring, code_logp
from plum.decoding.constraint import Index, Legal
from plum.decoding.tree import Tree


@dataclass(frozen=True)
class Exact:
    """Results for B users.

    Attributes:
        beams: the best Semantic IDs; every list is a proven start of the exact list. Keys are scores.
        expanded: (B,) int64, number of prefixes whose children were scored, including the empty one. Each costs the
            model one token, the empty one none.
        proven: (B,) bool, whether the list is complete: K entries, or all legal ones. If not, ``max_expansions`` was
            too small.
    """

    beams: Beams
    expanded: Tensor
    proven: Tensor


@dataclass(frozen=True)
class _Pool:
    """M prefixes and complete Semantic IDs of one user.

    Attributes:
        bounds: (M,) float32 log-probabilities: scores of complete Semantic IDs, upper bounds for prefixes.
        codes: (M, L) int64, -1 after the last code of a prefix.
        nodes: (M,) int64.
        slots: (M, L) int64, slot in the tree of each code's token; -1 from the last code on.
    """

    bounds: np.ndarray
    codes: np.ndarray
    nodes: np.ndarray
    slots: np.ndarray

    @classmethod
    def root(cls, n_levels: int) -> _Pool:
        nothing = np.full((1, n_levels), -1, dtype=np.int64)
        return cls(np.zeros(1, dtype=np.float32), nothing, np.zeros(1, dtype=np.int64), nothing)

    @classmethod
    def join(cls, pools: Sequence[_Pool]) -> _Pool:
        columns = zip(*((pool.bounds, pool.codes, pool.nodes, pool.slots) for pool in pools), strict=True)
        return cls(*(np.concatenate(column) for column in columns))

    @property
    def whole(self) -> np.ndarray:
        """(M,) bool, which are complete Semantic IDs."""
        return self.codes[:, -1] >= 0

    def take(self, rows: np.ndarray | slice) -> _Pool:
        return _Pool(self.bounds[rows], self.codes[rows], self.nodes[rows], self.slots[rows])

    def ranked(self, k: int) -> _Pool:
        """Best first, up to the k-th complete Semantic ID: nothing after it can lead to a better one.

        Equal bounds are ordered by codes, a prefix before its continuations (-1 is below any code): if a prefix ranks
        after a Semantic ID, so do its continuations.
        """
        ordered = self.take(np.lexsort((*self.codes.T[::-1], -self.bounds)))
        last = np.flatnonzero(ordered.whole)[k - 1 : k]
        return ordered.take(slice(last[0] + 1)) if len(last) else ordered


class _Search:
    """One user's tree, and the scores of continuations."""

    def __init__(
        self,
        model: PreTrainedModel,
        prompt: np.ndarray,
        index: Index,
        legal: Legal | None,
        scoring: Scoring,
        reserve: int,
    ) -> None:
        self._model, self._index, self._legal, self._scoring = model, index, legal, scoring
        self._tree = Tree(model, [prompt], depth=len(index.sizes) - 1, reserve=reserve)

    def expand(self, prefixes: _Pool, at_least: float) -> _Pool:
        """Legal children of M prefixes, of any depths, that score ``at_least``, in one forward pass."""
        depths = (prefixes.codes >= 0).sum(axis=1)
        hidden, slots = self._grow(prefixes, depths)
        found = []
        for level in np.unique(depths):
            rows = np.flatnonzero(depths == level)
            found.append(self._children(int(level), prefixes.take(rows), hidden[:, rows], slots[rows], at_least))
        return _Pool.join(found)

    def _grow(self, prefixes: _Pool, depths: np.ndarray) -> tuple[Tensor, np.ndarray]:
        """Hidden states (1, M, D) of the last codes' tokens, and the slots (M, L) of all tokens of each prefix."""
        if not depths[0]:  # the empty prefix is always expanded alone: at the start there is no other
            return self._tree.last_hidden[:, None], prefixes.slots
        rows, last = np.arange(len(depths)), depths - 1
        tokens = torch.empty(len(depths), dtype=torch.long, device=self._model.device)
        for level in np.unique(last):
            at = np.flatnonzero(last == level)
            tokens[at] = self._index.token_ids[level][prefixes.codes[at, level]]
        slots = prefixes.slots.copy()
        slots[rows, last] = self._tree.n_slots + rows
        return self._tree.grow(tokens[None], torch.from_numpy(prefixes.slots)[None].to(tokens.device)), slots

    def _children(self, level: int, parents: _Pool, hidden: Tensor, slots: np.ndarray, at_least: float) -> _Pool:
        """Children of M prefixes of depth ``level``, given their hidden states (1, M, D) and slots (M, L)."""
        nodes, bounds = (torch.from_numpy(values)[None].to(hidden.device) for values in (parents.nodes, parents.bounds))
        children = self._index.children(level, nodes, self._legal)
        logp = code_logp(self._model, hidden, self._index.token_ids[level], children, self._scoring)
        scores = bounds[..., None] + logp  # summed in the same order as in beam_search, so that rounding agrees
        if children.legal is not None:
            scores = scores.masked_fill(~children.legal, -torch.inf)
        kept = (scores > -torch.inf) & (scores >= at_least)
        _, parent, place = kept.nonzero(as_tuple=True)
        rows = parent.cpu().numpy()
        codes = parents.codes[rows]
        codes[:, level] = (place if children.codes is None else children.codes[kept]).cpu().numpy()
        return _Pool(scores[kept].cpu().numpy(), codes, children.nodes[kept].cpu().numpy(), slots[rows])


@torch.no_grad()
def exact_search(
    model: PreTrainedModel,
    prompts: Sequence[np.ndarray],
    index: Index,
    k: int,
    legal: Legal | None = None,
    scoring: Scoring | None = None,
    batch: int = 64,
    max_expansions: int | None = None,
) -> Exact:
    """The exact K likeliest Semantic IDs of each prompt; ties in the order of codes.

    Users are processed one by one. The effort depends on the model: a peaked one needs about K times L expansions, a
    flat one up to all prefixes of the catalogue. Keys and values of every expanded prefix stay in memory until the user
    is done. A larger ``batch`` means fewer forward passes and a few unnecessary expansions; the result differs by
    rounding only.

    Args:
        model: decoder-only, in evaluation mode.
        prompts: B arrays of token ids, none empty.
        index: of the valid Semantic IDs.
        k: Semantic IDs per user.
        legal: the items each user may get, from ``DeviceTrie.legal``; None for all.
        scoring: by default probabilities over the level's codes.
        batch: most prefixes expanded in one forward pass.
        max_expansions: most prefixes expanded per user; the list then holds what is proven so far, perhaps nothing.

    Raises:
        PlumError: if prompt and Semantic ID together exceed the model's longest sequence.
        ValueError: for numbers below 1.
    """
    scoring = scoring or Scoring()
    _check(k, batch, max_expansions)
    pools, expanded, proven = [], [], []
    for user, prompt in enumerate(prompts):
        search = _Search(model, prompt, index, None if legal is None else legal.user(user), scoring, 4 * batch)
        pool, n_expanded = _best_first(search, _Pool.root(len(index.sizes)), k, batch, max_expansions)
        n_proven = int(np.append(pool.whole, False).argmin())  # those that rank before every prefix
        pools.append(pool.take(slice(n_proven)))
        expanded.append(n_expanded)
        proven.append(n_proven == len(pool.nodes))
    device = model.device
    beams = _beams(pools, k, len(index.sizes), device)
    return Exact(beams, torch.tensor(expanded, device=device).long(), torch.tensor(proven, device=device).bool())


def _best_first(search: _Search, pool: _Pool, k: int, batch: int, max_expansions: int | None) -> tuple[_Pool, int]:
    """Expand the best prefixes until K Semantic IDs rank before all prefixes; also returns the number of expansions."""
    n_expanded = 0
    while True:
        left = batch if max_expansions is None else min(batch, max_expansions - n_expanded)
        chosen = np.flatnonzero(~pool.whole)[:left]
        if not len(chosen):
            return pool, n_expanded
        at_least = float(pool.bounds[-1]) if pool.whole.sum() == k else -np.inf
        others = pool.take(np.delete(np.arange(len(pool.nodes)), chosen))
        pool = _Pool.join([others, search.expand(pool.take(chosen), at_least)]).ranked(k)
        n_expanded += len(chosen)


def _check(k: int, batch: int, max_expansions: int | None) -> None:
    for name, value in (("k", k), ("batch", batch), ("max_expansions", max_expansions)):
        if value is not None and value < 1:
            raise ValueError(f"{name} must be at least 1, found {value}")


def _beams(pools: Sequence[_Pool], k: int, n_levels: int, device: torch.device) -> Beams:
    """Complete Semantic IDs of B users as beams, filled up with -1 and -inf."""
    nodes = np.full((len(pools), k), -1, dtype=np.int64)
    codes = np.full((len(pools), k, n_levels), -1, dtype=np.int64)
    scores = np.full((len(pools), k), -np.inf, dtype=np.float32)
    for row, pool in enumerate(pools):
        n = len(pool.nodes)
        nodes[row, :n], codes[row, :n], scores[row, :n] = pool.nodes, pool.codes, pool.bounds
    leaves, sids, values = (torch.from_numpy(array).to(device) for array in (nodes, codes, scores))
    return Beams(leaves, sids, values, values)
