"""PLUM's retriever: a language model generates the Semantic IDs of the next item, beams become catalogue items."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from transformers import PreTrainedModel

from plum import runtime
from plum.retrieval.beam import DeviceTrie, beam_search, check_tree_attention
from plum.retrieval.interface import NO_ITEM, Recommendations, flatten
from plum.sid.codec import Codec
from plum.sid.table import SidTable, bucket_rank
from plum.sid.trie import Trie


class Generative:
    """Beam search over the Semantic IDs of the catalogue.

    Args:
        model: fine-tuned decoder-only model, on its device.
        table: Semantic IDs of the catalogue.
        codec: the model's tokens of the codes.
        prefix: token ids before the first item of a history.
        max_history: the last so many items of a history are the prompt.
        popularity: (N,) training interactions: items that share a Semantic ID share its score and come most popular
            first, then by catalogue row.
        n_beams: beams per user; at least the K asked of ``recommend`` counts.
        batch_size: users decoded together.

    Raises:
        PlumError: for a model whose beams cannot be decoded side by side.
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
        n_beams: int = 50,
        batch_size: int = 32,
    ) -> None:
        if max_history < 1:
            raise ValueError(f"max_history must be at least 1, found {max_history}")
        check_tree_attention(model)
        self._model = model
        self._item_tokens = codec.encode(table.codes)
        self._prefix = prefix
        self._max_history = max_history
        self._n_beams = n_beams
        self._batch_size = batch_size
        self._host_trie = Trie.build(table.codes, bucket_rank(table.codes, popularity))
        self._trie = DeviceTrie.put(self._host_trie, codec, model.device)

    def recommend(self, histories: Sequence[np.ndarray], k: int, seen: Sequence[np.ndarray] | None) -> Recommendations:
        """The K items whose Semantic IDs the model finds likeliest; see ``plum.retrieval.interface.Retriever``."""
        if seen is not None and len(seen) != len(histories):
            raise ValueError(f"seen has {len(seen)} entries for {len(histories)} users")
        was_training = self._model.training
        self._model.eval()
        items = np.full((len(histories), k), NO_ITEM, dtype=np.int64)
        scores = np.full((len(histories), k), -np.inf, dtype=np.float32)
        # Users with histories of like length together: less padding.
        order = np.argsort([len(history) for history in histories], kind="stable")
        with runtime.progress() as bar:
            for start in bar.track(range(0, len(order), self._batch_size), description="decoding"):
                rows = order[start : start + self._batch_size]
                self._decode(rows, histories, seen, items, scores)
        self._model.train(was_training)
        return Recommendations(items, scores)

    def prompt(self, history: np.ndarray) -> np.ndarray:
        """Token ids of a history (item rows, oldest first)."""
        recent = history[-self._max_history :]
        return np.concatenate([self._prefix, self._item_tokens[recent].reshape(-1)])

    def _decode(
        self,
        rows: np.ndarray,
        histories: Sequence[np.ndarray],
        seen: Sequence[np.ndarray] | None,
        items: np.ndarray,
        scores: np.ndarray,
    ) -> None:
        k = items.shape[1]
        allowed_items = np.ones((len(rows), len(self._item_tokens)), dtype=bool)
        if seen is not None:
            allowed_items[flatten([seen[row] for row in rows], allowed_items.shape[1])] = False
        allowed = torch.from_numpy(self._allowed_leaves(allowed_items)).to(self._model.device)
        prompts = [self.prompt(histories[row]) for row in rows]
        leaves, leaf_scores = beam_search(self._model, prompts, self._trie, max(k, self._n_beams), allowed)
        for place, row in enumerate(rows):
            found, found_scores = self._items_of(
                leaves[place].cpu().numpy(), leaf_scores[place].cpu().numpy(), allowed_items[place]
            )
            items[row, : len(found[:k])] = found[:k]
            scores[row, : len(found[:k])] = found_scores[:k]

    def _allowed_leaves(self, allowed_items: np.ndarray) -> np.ndarray:
        """(B, leaves): whether some item of the leaf is allowed, from (B, N)."""
        ordered = allowed_items[:, self._host_trie.leaf_items]
        return np.logical_or.reduceat(ordered, self._host_trie.leaf_items_start[:-1], axis=1)

    def _items_of(self, leaves: np.ndarray, scores: np.ndarray, allowed: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Allowed items of the leaves, best leaf first, and their scores."""
        trie = self._host_trie
        valid = leaves >= 0
        leaves, scores = leaves[valid], scores[valid]
        starts, ends = trie.leaf_items_start[leaves], trie.leaf_items_start[leaves + 1]
        found = [trie.leaf_items[start:end] for start, end in zip(starts, ends, strict=True)]
        items = np.concatenate(found) if found else np.zeros(0, dtype=np.int64)
        item_scores = np.repeat(scores, ends - starts)
        return items[allowed[items]], item_scores[allowed[items]]
