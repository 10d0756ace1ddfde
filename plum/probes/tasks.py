"""The measurements as a training repeats them: fixed samples, and references that are computed once.

Every task has ``references``, what is known without the model, and ``measure(model)``, the same figures of the model.
A measurement draws no random numbers, changes no weights, and leaves the model in the mode in which it found it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from plum.decoding.constraint import Index
from plum.evaluation.metrics import per_user_metrics
from plum.probes.answers import (
    codes_found,
    codes_given,
    completions,
    level_accuracy,
    mean_f1,
    prefix_accuracy,
)
from plum.probes.losses import by_level, cut_to, stream, token_losses
from plum.probes.neighbours import Titles, commonest_codes, nearest_by_sid
from plum.probes.ngram import ngram_losses
from plum.probes.words import best_constant
from plum.retrievers.protocol import Retriever
from plum.sid.codec import Codec

Figures = dict[str, Any]
CONSTANTS = 300
"""Known texts among which the best constant guess is looked for."""


class Task(Protocol):
    """A measurement."""

    @property
    def references(self) -> Mapping[str, Figures]:
        """Name of a reference -> its figures, with the keys of ``measure``."""
        ...

    def measure(self, model: PreTrainedModel) -> Figures:
        """The figures of a model."""
        ...


class DocumentLoss:
    """Loss on held-out documents by SID level, beside counted n-grams (:func:`plum.probes.ngram.ngram_losses`).

    Costs one pass over the documents' tokens.

    Args:
        model: whose vocabulary and longest sequence count.
        documents: token ids, held out of training.
        trained: token ids of documents of the same kind that training reads; the reference counts them.
        codec: the codes' tokens.
        batch_size: documents computed together.
        pad: token id for padding.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        documents: Sequence[np.ndarray],
        trained: Sequence[np.ndarray],
        codec: Codec,
        batch_size: int,
        pad: int,
    ) -> None:
        self._documents = cut_to(model, documents)
        self._tokens = stream(self._documents, codec)
        self._n_levels, self._batch_size, self._pad = codec.n_levels, batch_size, pad
        counted = ngram_losses(trained, self._documents, codec, model.config.get_text_config().vocab_size)
        self.references = {"n-gram": by_level(counted, self._tokens, self._n_levels)}

    def measure(self, model: PreTrainedModel) -> Figures:
        """``tokens``, ``loss``, ``levels``, ``item``, ``text``; see :func:`plum.probes.losses.by_level`."""
        losses = token_losses(model, self._documents, self._batch_size, self._pad)
        return by_level(losses, self._tokens, self._n_levels)


class NextItem:
    """Recall@10 and NDCG@10 of the next item from a history, without fine-tuning, beside other retrievers.

    Costs a beam search per user.

    Args:
        retriever: makes the model's retriever.
        others: retrievers to compare with.
        histories: (U,) arrays of catalogue rows.
        targets: (U,) arrays of catalogue rows, not empty.
        filter_seen: never recommend items of the history.
    """

    def __init__(
        self,
        retriever: Callable[[PreTrainedModel], Retriever],
        others: Sequence[Retriever],
        histories: Sequence[np.ndarray],
        targets: Sequence[np.ndarray],
        filter_seen: bool,
    ) -> None:
        self._retriever, self._histories, self._targets = retriever, histories, targets
        self._seen = histories if filter_seen else None
        self.references = {other.name: self._scored(other) for other in others}

    def measure(self, model: PreTrainedModel) -> Figures:
        """``recall@10`` and ``ndcg@10``."""
        return self._scored(self._retriever(model))

    def _scored(self, retriever: Retriever) -> Figures:
        found = retriever.recommend(self._histories, 10, self._seen)
        per_user = per_user_metrics(found.items, self._targets, [10])
        return {name: float(per_user[name].mean()) for name in ("recall@10", "ndcg@10")}


@dataclass(frozen=True)
class ItemTexts:
    """Items with a text each: a title, or topics.

    Attributes:
        rows: (N,) rows of the catalogue.
        codes: (N, L) Semantic IDs.
        texts: N.
    """

    rows: np.ndarray
    codes: np.ndarray
    texts: Sequence[str]

    def first(self, n: int) -> ItemTexts:
        """The first ``n`` of them."""
        return ItemTexts(self.rows[:n], self.codes[:n], self.texts[:n])


class TitleToSid:
    """Semantic IDs from titles, of items whose documents were held out.

    References, from the other items: ``majority``, the commonest codes; ``copy``, the Semantic ID of the item nearest
    in title. Costs one pass over the prompts, and a beam search per item.

    Args:
        prompts: Q arrays of token ids, after each of which the Semantic ID follows.
        asked: the Q items, with their titles.
        known: all items that were not held out, with their titles; at least one.
        codec: the codes' tokens.
        index: Semantic IDs of the catalogue, on the model's device.
        n_beams: beams per item.
        batch_size: prompts computed together.
    """

    def __init__(
        self,
        prompts: Sequence[np.ndarray],
        asked: ItemTexts,
        known: ItemTexts,
        codec: Codec,
        index: Index,
        n_beams: int,
        batch_size: int,
    ) -> None:
        self._prompts, self._codes, self._codec, self._index = prompts, asked.codes, codec, index
        self._n_beams, self._batch_size = n_beams, batch_size
        titles = Titles(known.texts, known.codes)
        self.references = {
            "majority": self._right(*(commonest_codes(known.codes, asked.codes, given) for given in (True, False))),
            "copy": self._right(*(titles.copied(asked.texts, asked.codes, given) for given in (True, False))),
        }

    def measure(self, model: PreTrainedModel) -> Figures:
        """``given``: share of right codes per level after the true earlier ones; ``beam``: share of items whose first
        code, first two, ... are right in the best Semantic ID of a beam search over the catalogue.
        """
        given = codes_given(model, self._codec, self._prompts, self._codes, self._batch_size)
        found = codes_found(model, self._index, self._prompts, self._n_beams, self._batch_size)
        return self._right(given, found)

    def _right(self, given: np.ndarray, found: np.ndarray) -> Figures:
        return {"given": level_accuracy(given, self._codes), "beam": prefix_accuracy(found, self._codes)}


class SidToText:
    """A text of an item, title or topics, from its Semantic ID, of items whose documents were held out.

    References, from the other items: ``majority``, the one text that has the highest mean F1 with them; ``copy``, the
    text of the item that shares the most first codes. Costs a greedy continuation of ``most`` tokens per item.

    Args:
        tokenizer: the model's.
        prompts: Q arrays of token ids, after each of which the text follows.
        asked: the Q items, with their texts.
        known: all items that were not held out, with their texts; at least one.
        ends: tokens that end a text.
        most: tokens of a text.
        batch_size: prompts continued together.
        seed: of the texts compared for ``majority``.
    """

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        prompts: Sequence[np.ndarray],
        asked: ItemTexts,
        known: ItemTexts,
        ends: Collection[int],
        most: int,
        batch_size: int,
        seed: int,
    ) -> None:
        self._tokenizer, self._prompts, self._truth = tokenizer, prompts, asked.texts
        self._ends, self._most, self._batch_size = ends, most, batch_size
        constant = best_constant(known.texts, CONSTANTS, seed)
        copied = [known.texts[row] for row in nearest_by_sid(known.codes, asked.codes)]
        self.references = {
            "majority": {"f1": mean_f1([constant] * len(asked.texts), asked.texts)},
            "copy": {"f1": mean_f1(copied, asked.texts)},
        }

    def measure(self, model: PreTrainedModel) -> Figures:
        """``f1``: mean over items of the words' F1 (:func:`plum.probes.words.token_f1`)."""
        found = completions(model, self._tokenizer, self._prompts, self._most, self._ends, self._batch_size)
        return {"f1": mean_f1(found, self._truth)}
