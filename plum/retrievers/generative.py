"""The fine-tuned language model as a retriever: history -> prompt -> beams -> catalogue items."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from transformers import PreTrainedModel

from plum import runtime
from plum.decoding.beam import Beams, Quota, Scoring, beam_search
from plum.decoding.constraint import AllCodes, DeviceTrie, Legal, Pruned
from plum.decoding.exact import exact_search
from plum.decoding.sampling import sample, user_generators
from plum.decoding.tree import check_tree_attention
from plum.decoding.trie import Trie
from plum.evaluation.rankings import NO_ITEM, Recommendations
from plum.lm.logits import check_head
from plum.sid.codec import Codec
from plum.sid.table import SidTable, bucket_rank

Masks = np.ndarray | Sequence[np.ndarray | None]
# numbers of B users, their prompts, the items each may get, K -> leaves in order, with sort keys
Search = Callable[[np.ndarray, Sequence[np.ndarray], Legal | None, int], Beams]


class Generative:
    """Search over the Semantic IDs of the catalogue.

    Args:
        model: fine-tuned decoder-only model, on its device.
        table: Semantic IDs of the catalogue.
        codec: the model's tokens of the codes.
        prefix: token ids before the first item of a history.
        max_history: the prompt holds this many last items of a history.
        popularity: (N,) training interactions; items that share a Semantic ID share its score and are ordered by
            popularity, then catalogue row.
        n_beams: beams per user, one number for all levels or one per level. The number, or the last one, is raised to
            the K of ``recommend`` if it is smaller.
        batch_size: users decoded together.
        trie: the index of ``table``; None to build it.
        scoring: the set over which a code's probabilities sum to one; by default the codes of its level.
        quota: most Semantic IDs that share their first codes.

    Raises:
        PlumError: for a model whose beams can't be decoded side by side or whose output head is not supported, an empty
            catalogue, or a trie of other codes.
        ValueError: if ``max_history`` is below 1.
    """

    name = "plum"

    def __init__(
        self,
        model: PreTrainedModel,
        table: SidTable,
        codec: Codec,
        prefix: np.ndarray,
        max_history: int,
        popularity: np.ndarray,
        n_beams: int | Sequence[int] = 50,
        batch_size: int = 32,
        trie: Trie | None = None,
        scoring: Scoring | None = None,
        quota: Quota | None = None,
    ) -> None:
        if max_history < 1:
            raise ValueError(f"max_history must be at least 1, found {max_history}")
        check_head(model)
        check_tree_attention(model)
        if trie is None:
            trie = Trie.build(table.codes, table.sizes, bucket_rank(table.codes, popularity))
        else:
            trie.verify(table.codes)
        self._model = model
        self._item_tokens = codec.encode(table.codes)
        self._codes = table.codes
        self._prefix = prefix
        self._max_history = max_history
        self._n_beams = n_beams
        self._batch_size = batch_size
        self._trie = trie
        self._index = DeviceTrie.put(self._trie, codec, model.device)
        self._scoring = scoring or Scoring()
        self._quota = quota

    def recommend(
        self,
        histories: Sequence[np.ndarray],
        k: int,
        seen: Sequence[np.ndarray] | None,
        allowed: Masks | None = None,
    ) -> Recommendations:
        """The K items with the likeliest Semantic IDs under the model.

        Args:
            histories: U arrays of int64 catalogue rows, oldest interaction first; may be empty.
            k: entries of a list (K).
            seen: per user the catalogue rows never to return, or None to keep all.
            allowed: the items that may be returned: one mask (N,) bool for all users, or per user a mask or None for
                all items. A mask shared by several users costs the time and memory of one.

        Returns:
            Lists of K entries; if fewer items are legal, they end in ``-1``. Scores are log-probabilities.

        Raises:
            ValueError: if ``seen`` or ``allowed`` do not fit the users or the catalogue.
        """

        def search(users: np.ndarray, prompts: Sequence[np.ndarray], legal: Legal | None, k: int) -> Beams:
            return beam_search(self._model, prompts, self._index, self._widths(k), legal, self._scoring, self._quota)

        return self._run(search, histories, k, seen, allowed)

    def exact(
        self,
        histories: Sequence[np.ndarray],
        k: int,
        seen: Sequence[np.ndarray] | None,
        allowed: Masks | None = None,
        max_expansions: int | None = None,
    ) -> Recommendations:
        """As ``recommend``, but exact: for small catalogues, and to measure what beam search misses.

        Args:
            histories, k, seen, allowed: as in ``recommend``.
            max_expansions: most prefixes expanded per user. A list that needs more ends where it is no longer proven;
                it may be empty.

        Raises:
            ValueError: if arguments do not fit, or the retriever has a quota, which this search does not support.
        """
        if self._quota is not None:
            raise ValueError("exact search does not support a quota; make a retriever without one")

        def search(users: np.ndarray, prompts: Sequence[np.ndarray], legal: Legal | None, k: int) -> Beams:
            found = exact_search(
                self._model, prompts, self._index, k, legal, self._scoring, max_expansions=max_expansions
            )
            return found.beams

        return self._run(search, histories, k, seen, allowed)

    def sample(
        self,
        histories: Sequence[np.ndarray],
        k: int,
        seen: Sequence[np.ndarray] | None,
        allowed: Masks | None = None,
        seed: int = 0,
        temperature: float = 1.0,
    ) -> Recommendations:
        """Lists drawn at random: Semantic IDs without replacement, by the model's probability among the legal ones.

        The items of a Semantic ID are listed together, as in ``recommend``. A user's list depends on the seed and on
        the user's place in ``histories``, not on ``batch_size`` or other users (except by rounding). ``n_beams`` and
        ``scoring`` are not used.

        Args:
            histories, k, seen, allowed: as in ``recommend``.
            seed: at least 0.
            temperature: logits are divided by it; smaller values give less random lists.

        Returns:
            As ``recommend``, but scores are the perturbed log-probabilities, by which lists are ordered
            (``plum.decoding.sampling``).

        Raises:
            ValueError: if arguments do not fit.
        """

        def search(users: np.ndarray, prompts: Sequence[np.ndarray], legal: Legal | None, k: int) -> Beams:
            noise = user_generators(seed, users)
            return sample(self._model, prompts, self._index, k, legal, temperature, noise, self._quota)

        return self._run(search, histories, k, seen, allowed)

    def invalid_rate(self, histories: Sequence[np.ndarray], k: int) -> float:
        """Share of invalid Semantic IDs (those of no item) among each user's K likeliest without the constraint.

        Any code of a level may follow any prefix; tokens other than the level's codes are not considered.

        Args:
            histories: U arrays of catalogue rows; at least one.
            k: at least 1.
        """
        free = AllCodes(self._index.sizes, self._index.token_ids)
        invalid = total = 0
        with runtime.evaluating(self._model):
            for start in runtime.track(range(0, len(histories), self._batch_size), "decoding without the constraint"):
                prompts = [self.prompt(history) for history in histories[start : start + self._batch_size]]
                found = beam_search(self._model, prompts, free, self._widths(k), scoring=self._scoring)
                codes = found.codes[:, :k].reshape(-1, len(free.sizes)).cpu().numpy()
                codes = codes[codes[:, 0] >= 0]  # fewer than K if there are fewer combinations
                invalid += int((self._trie.leaf_of(codes) < 0).sum())
                total += len(codes)
        return invalid / total

    @property
    def model(self) -> PreTrainedModel:
        """The language model, for ``generate``."""
        return self._model

    @property
    def index(self) -> DeviceTrie:
        """The catalogue's Semantic IDs on the model's device, for ``SidLogitsProcessor``."""
        return self._index

    def prompt(self, history: np.ndarray) -> np.ndarray:
        """Token ids of a history (item rows, oldest first)."""
        recent = history[-self._max_history :]
        return np.concatenate([self._prefix, self._item_tokens[recent].reshape(-1)])

    def _widths(self, k: int) -> int | list[int]:
        given = self._n_beams
        return max(k, given) if isinstance(given, int) else [*given[:-1], max(k, given[-1])]

    def _run(
        self,
        search: Search,
        histories: Sequence[np.ndarray],
        k: int,
        seen: Sequence[np.ndarray] | None,
        allowed: Masks | None,
    ) -> Recommendations:
        masks = self._check(histories, k, seen, allowed)
        items = np.full((len(histories), k), NO_ITEM, dtype=np.int64)
        scores = np.full((len(histories), k), -np.inf, dtype=np.float32)
        # Users with histories of similar length together, for less padding.
        order = np.argsort([len(history) for history in histories], kind="stable")
        pruned: dict[int, tuple[np.ndarray, Pruned]] = {}
        with (
            runtime.evaluating(self._model),
            runtime.progress("decoding users", len(order), after=runtime.SOON) as show,
        ):
            for start in range(0, len(order), self._batch_size):
                show(start)
                rows = order[start : start + self._batch_size]
                rules = [masks[row] for row in rows]  # once: a lazy sequence may compute them on access
                pruned = self._prune(rules, pruned)
                hidden = [seen[row] for row in rows] if seen is not None else None
                legal = self._index.legal([None if rule is None else pruned[id(rule)][1] for rule in rules], hidden)
                beams = search(rows, [self.prompt(histories[row]) for row in rows], legal, k)
                lists = zip(rows, rules, beams.nodes.cpu().numpy(), beams.keys.cpu().numpy(), strict=True)
                for row, rule, found, key in lists:
                    chosen, places = self._items_of(found, rule, None if seen is None else seen[row])
                    items[row, : len(chosen[:k])] = chosen[:k]
                    scores[row, : len(chosen[:k])] = key[places[:k]]
        return Recommendations(items, scores)

    def _prune(
        self, masks: Sequence[np.ndarray | None], before: dict[int, tuple[np.ndarray, Pruned]]
    ) -> dict[int, tuple[np.ndarray, Pruned]]:
        """The batch's masks and the index pruned by each, keyed by the mask's identity.

        Those of the batch ``before`` are dropped, because masks of many users would not fit into memory. A mask is kept
        as long as its identity is a key, so that no other mask can get the same identity.
        """
        wanted = {id(mask): mask for mask in masks if mask is not None}
        return {key: before.get(key) or (mask, self._index.prune(mask)) for key, mask in wanted.items()}

    def _check(
        self, histories: Sequence[np.ndarray], k: int, seen: Sequence[np.ndarray] | None, allowed: Masks | None
    ) -> Sequence[np.ndarray | None]:
        if k < 1:
            raise ValueError(f"k must be at least 1, found {k}")
        n_users, n_items = len(histories), len(self._item_tokens)
        masks = [allowed] * n_users if allowed is None or isinstance(allowed, np.ndarray) else allowed
        if len(masks) != n_users:
            raise ValueError(f"allowed has {len(masks)} masks for {n_users} users")
        if seen is not None and len(seen) != n_users:
            raise ValueError(f"seen has {len(seen)} entries for {n_users} users")
        for name, rows in (("histories", histories), ("seen", seen or [])):
            outside = [row for row in rows if len(row) and (row.min() < 0 or row.max() >= n_items)]
            if outside:
                raise ValueError(f"{name} must hold catalogue rows 0..{n_items - 1}, found {outside[0]}")
        return masks

    def _items_of(
        self, leaves: np.ndarray, mask: np.ndarray | None, seen: np.ndarray | None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Legal items of the leaves, best leaf first, and the index of each item's leaf."""
        leaves = leaves[leaves >= 0]
        start = self._trie.item_start[-1]
        counts = start[leaves + 1] - start[leaves]
        places = np.repeat(np.arange(len(leaves)), counts)
        offsets = np.arange(len(places)) - np.repeat(np.cumsum(counts) - counts, counts)
        items = self._trie.items[np.repeat(start[leaves], counts) + offsets].astype(np.int64)
        legal = np.ones(len(items), dtype=bool) if mask is None else mask[items]
        if seen is not None:
            legal &= ~np.isin(items, seen)
        items, places = items[legal], places[legal]
        if self._quota is None:
            return items, places
        best_first = -np.arange(len(items))
        within = bucket_rank(self._codes[items, : self._quota.depth], best_first) < self._quota.n
        return items[within], places[within]
