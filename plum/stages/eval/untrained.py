"""The retrievers that need no training: popularity, recent popularity, content and co-occurrence."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from plum.config.items import BEHAVIOUR
from plum.config.run import RunConfig
from plum.features.words import term_vectors, word_vectors
from plum.retrievers.choose import best_of
from plum.retrievers.content import TERMS, TEXT, TITLE, VECTORS, TextKNN, Vectors, choose_textknn, spread
from plum.retrievers.itemknn import ItemKNN, choose_itemknn, itemknn_of
from plum.retrievers.popularity import Popularity, RecencyPopularity, choose_half_life
from plum.retrievers.protocol import Retriever
from plum.run import artifacts, shapes
from plum.run.manifest import settings_of
from plum.stages import inputs

logger = logging.getLogger(__name__)

WORDS_OF = {TITLE: ("title",), TEXT: ("title", "topics", "creator", "description")}
"""Columns of the items whose words make a space."""
CHOSEN_ON = 8_000
"""Validation users, at most, by whom settings are chosen: more would cost minutes to tell small differences."""
_WORD_ENCODERS = ("tfidf", "topics")  # reduced forms of the words and terms that are compared here as they are


@dataclass(frozen=True)
class Untrained:
    """A retriever without training.

    Attributes:
        retriever: for the test users.
        tuned: as its settings were chosen, with counts of the training part; the same one if it counts no more.
        trials: how they were chosen; none if it has no settings.
    """

    retriever: Retriever
    tuned: Retriever
    trials: list[dict[str, Any]]


def all_untrained(config: RunConfig, data: inputs.Prepared) -> dict[str, Untrained | str]:
    """Every retriever that is wanted, or the reason why the data can't have it, by name."""
    makers: dict[str, Callable[[RunConfig, inputs.Prepared], Untrained | str]] = {
        Popularity.name: _popularity,
        RecencyPopularity.name: _recent,
        TextKNN.name: _content,
        ItemKNN.name: _neighbours,
    }
    return {name: make(config, data) for name, make in makers.items() if config.eval.wants(name)}


def _popularity(config: RunConfig, data: inputs.Prepared) -> Untrained:
    tuned = Popularity(data.popularity)
    if config.eval.counts == "train":
        return Untrained(tuned, tuned, [])
    _, items = _interactions(data, ("train", "valid"))
    return Untrained(Popularity(np.bincount(items, minlength=len(data.items))), tuned, [])


def _recent(config: RunConfig, data: inputs.Prepared) -> Untrained | str:
    times = inputs.train_times(config.workdir)
    if times is None:
        return "the source gives the order of interactions, not their times"
    n_items = len(data.items)
    tuned, trials = choose_half_life(_interactions(data, ("train",))[1], times, n_items, *_asked(config, data))
    if config.eval.counts == "train":
        return Untrained(tuned, tuned, trials)
    parts = ("train", "valid")
    later = inputs.train_times(config.workdir, parts)
    assert later is not None  # the source has times
    counted = RecencyPopularity(_interactions(data, parts)[1], later, n_items, tuned.half_life)
    return Untrained(counted, tuned, trials)


def _neighbours(config: RunConfig, data: inputs.Prepared) -> Untrained:
    n_items = len(data.items)
    tuned, trials = choose_itemknn(*_interactions(data, ("train",)), n_items, *_asked(config, data))
    if config.eval.counts == "train":
        return Untrained(tuned, tuned, trials)
    return Untrained(itemknn_of(*_interactions(data, ("train", "valid")), n_items, best_of(trials)), tuned, trials)


def _content(config: RunConfig, data: inputs.Prepared) -> Untrained | str:
    spaces = content_spaces(config, data)
    if not spaces:
        return "the items have no content that tells them apart"
    tuned, trials = choose_textknn(spaces, *_asked(config, data))
    return Untrained(tuned, tuned, trials)


def content_spaces(config: RunConfig, data: inputs.Prepared) -> dict[str, Vectors]:
    """What items are compared by: their words, terms, and vectors of other modalities than these.

    Under the temporal protocol, words and their frequencies are those of items with training interactions. A space in
    which all items with content are the same is left out, with a warning; so are items without content, in silence
    where all have some.
    """
    items = data.items
    known = data.popularity > 0 if _is_temporal(config) else None
    spaces: dict[str, Vectors] = {name: word_vectors(items, fields, known) for name, fields in WORDS_OF.items()}
    spaces[TERMS] = term_vectors(items, known)
    vectors = inputs.joined_vectors(config.workdir, but=(*BEHAVIOUR, *_WORD_ENCODERS))
    if vectors is not None:
        spaces[VECTORS] = vectors
    useful = {}
    for name, space in spaces.items():
        n_filled, alike = spread(space)
        if n_filled and alike:
            logger.warning(
                "textknn: %s of all %s items that have any is the same; it is left out", name, f"{n_filled:,}"
            )
        elif n_filled:
            useful[name] = space
            if n_filled < len(items):
                logger.info("textknn: %s of %s items have no %s", f"{len(items) - n_filled:,}", f"{len(items):,}", name)
    return useful


def _is_temporal(config: RunConfig) -> bool:
    made = settings_of(config.workdir / artifacts.DATA, shapes.MadeByPrepare)
    return made["split"]["protocol"] == "temporal"


def _interactions(data: inputs.Prepared, parts: tuple[str, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Users and items (E,) of some parts, each user's oldest first."""
    histories = [np.concatenate(h) for h in zip(*(getattr(data.histories, part) for part in parts), strict=True)]
    users = np.repeat(np.arange(len(histories)), [len(history) for history in histories])
    return users, np.concatenate(histories)


def _asked(config: RunConfig, data: inputs.Prepared) -> tuple[list[np.ndarray], list[np.ndarray], Any]:
    """Histories and targets of validation users, and what is never to be returned to them."""
    _, histories, targets = inputs.validation_sample(data, CHOSEN_ON, config.seed)
    return histories, targets, histories if config.eval.filter_seen else None
