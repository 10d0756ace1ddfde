"""What continued pre-training learns and forgets, measured on documents, users and items that it does not read."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import numpy as np
import pandas as pd
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from plum.decoding.constraint import DeviceTrie
from plum.decoding.trie import Trie
from plum.probes.course import OF_DRIFT, Course
from plum.probes.fewshot import FewShot, Shot
from plum.probes.prompts import SID, Encode, pieces
from plum.probes.tasks import DocumentLoss, ItemTexts, NextItem, SidToText, Task, TitleToSid
from plum.retrievers.generative import Generative
from plum.retrievers.popularity import Popularity
from plum.sid.codec import Codec
from plum.sid.table import SidTable, bucket_rank

BATCH, BEAMS = 32, 10
LONGEST_TEXT = 32
"""Tokens of a title or of topics that the model writes."""
COUNTED = 20_000
"""Documents that an n-gram counts, and known items that answers are copied from: at most so many, drawn by the seed."""
TEXTS = ("title", "topics")
SHOTS, SHOWN = 3, 8
"""Items shown in a few-shot prompt, and how many prompts ``samples.md`` has."""


@dataclass(frozen=True)
class HeldOut:
    """Documents of a kind: some that training does not read, and those that it does, as token ids."""

    asked: Sequence[np.ndarray]
    trained: Sequence[np.ndarray]


@dataclass(frozen=True)
class Material:
    """What there is to measure with.

    Attributes:
        model: on its device.
        tokenizer, codec: of its words and codes.
        new_tokens: (T,) token ids of codes and bins.
        items: N rows with ``title`` and ``topics``.
        table: their Semantic IDs.
        popularity: (N,) training interactions.
        held_items: (N,) bool, items whose documents training does not read.
        documents: kind -> documents.
        histories, targets: of validation users.
        prefix: token ids before a history's first item.
        max_history: items of a history that the model sees.
        filter_seen: never recommend items of the history.
        encode: documents in pieces -> token ids; see ``plum.probes.prompts``.
        ends: tokens that end a document.
        pad: token id for padding.
        templates: ``title``, ``topics`` and ``title_to_sid`` -> the template by which the model is asked. Those that
            training does not use may be missing, and what they ask is then not measured. Others are not used.
        seed: of all draws.
        n_items: held-out items, at most, whose titles, topics and Semantic IDs are asked for.
        english: measures the model on general text; None without any.
    """

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    codec: Codec
    new_tokens: np.ndarray
    items: pd.DataFrame
    table: SidTable
    popularity: np.ndarray
    held_items: np.ndarray
    documents: Mapping[str, HeldOut]
    histories: Sequence[np.ndarray]
    targets: Sequence[np.ndarray]
    prefix: np.ndarray
    max_history: int
    filter_seen: bool
    encode: Encode
    ends: Collection[int]
    pad: int
    templates: Mapping[str, str]
    seed: int
    n_items: int
    english: Callable[[], Task] | None = None

    @cached_property
    def trie(self) -> Trie:
        """The index of the items' Semantic IDs."""
        return Trie.build(self.table.codes, self.table.sizes, bucket_rank(self.table.codes, self.popularity))

    def texts(self, field: str) -> tuple[ItemTexts, ItemTexts]:
        """The held-out items that have a text, at most ``n_items`` drawn by the seed, and other items with one."""
        texts = [_as_text(value) for value in self.items[field]]
        there = np.array([bool(text) for text in texts], dtype=bool)
        drawn = (
            _drawn(there & self.held_items, self.n_items, self.seed),
            _drawn(there & ~self.held_items, COUNTED, self.seed),
        )
        asked, known = (ItemTexts(rows, self.table.codes[rows], [texts[row] for row in rows]) for rows in drawn)
        return asked, known

    def prompts(self, name: str, until: str, asked: ItemTexts) -> list[np.ndarray]:
        """A template's prompts for items, up to a field."""
        template = self.templates[name]
        return self.encode(
            [pieces(template, int(row), text, until) for row, text in zip(asked.rows, asked.texts, strict=True)]
        )


def course(material: Material) -> Course:
    """The measurements of a training that has not begun."""
    tasks: dict[str, Callable[[], Task]] = {
        f"losses.{kind}": partial(_loss, material, documents)
        for kind, documents in material.documents.items()
        if len(documents.asked)
    }
    if material.histories:
        tasks["next_item"] = partial(_next_item, material)
    for name, make in (("title_to_sid", _title_to_sid), ("title", _sid_to_text), ("topics", _sid_to_text)):
        field = "title" if name == "title_to_sid" else name
        asked, known = material.texts(field)
        if name in material.templates and len(asked.rows) and len(known.rows):
            own = name if name == "title_to_sid" else f"sid_to_{name}"
            tasks[own] = partial(make, material, name, asked, known)
    if material.english is not None:
        tasks["english"] = material.english
    logged: dict[str, tuple[str, str, int | None]] = {
        f"held_out_{kind}_loss": (f"losses.{kind}", "loss", None) for kind in material.documents
    }
    logged |= {
        "recall@10": ("next_item", "recall@10", None),
        "title_to_sid": ("title_to_sid", "beam", 0),
        "sid_to_title_f1": ("sid_to_title", "f1", None),
        "sid_to_topics_f1": ("sid_to_topics", "f1", None),
        "bits_per_character": ("english", "bits_per_character", None),
        "cloze": ("english", "cloze", None),
        "drift": OF_DRIFT,
    }
    return Course(material.model, material.new_tokens, tasks, logged, "cpt")


def samples(material: Material) -> list[Shot]:
    """Few-shot prompts over Semantic IDs with the model's completions: titles of held-out items, else their topics."""
    for field in TEXTS:
        asked, known = material.texts(field)
        if field in material.templates and len(asked.rows) and len(known.rows):
            names = [material.codec.text(row) for row in material.table.codes]
            prompts = FewShot(
                material.templates[field],
                field,
                asked.first(SHOWN),
                known,
                material.encode,
                names,
                SHOTS,
                material.seed,
            )
            return prompts.complete(material.model, material.tokenizer, LONGEST_TEXT, material.ends)
    return []


def sizes(material: Material) -> dict[str, int]:
    """How much is measured on, by name."""
    counts = {f"{kind}_documents": len(found.asked) for kind, found in material.documents.items()}
    return counts | {"users": len(material.histories), **{name: len(material.texts(name)[0].rows) for name in TEXTS}}


def _loss(material: Material, documents: HeldOut) -> DocumentLoss:
    kept = _drawn(np.ones(len(documents.trained), dtype=bool), COUNTED, material.seed)
    trained = [documents.trained[row] for row in kept]
    return DocumentLoss(material.model, documents.asked, trained, material.codec, BATCH, material.pad)


def _next_item(material: Material) -> NextItem:
    retriever = Generative(
        material.model,
        material.table,
        material.codec,
        material.prefix,
        material.max_history,
        material.popularity,
        BEAMS,
        trie=material.trie,
    )
    others = [Popularity(material.popularity)]
    return NextItem(lambda _: retriever, others, material.histories, material.targets, material.filter_seen)


def _title_to_sid(material: Material, name: str, asked: ItemTexts, known: ItemTexts) -> TitleToSid:
    index = DeviceTrie.put(material.trie, material.codec, material.model.device)
    prompts = material.prompts(name, SID, asked)
    return TitleToSid(prompts, asked, known, material.codec, index, BEAMS, BATCH)


def _sid_to_text(material: Material, name: str, asked: ItemTexts, known: ItemTexts) -> SidToText:
    prompts = material.prompts(name, name, asked)
    return SidToText(material.tokenizer, prompts, asked, known, material.ends, LONGEST_TEXT, BATCH, material.seed)


def _drawn(possible: np.ndarray, most: int, seed: int) -> np.ndarray:
    """At most so many of the rows that are possible (N,) bool, drawn by the seed, in their order."""
    rows = np.flatnonzero(possible)
    if len(rows) > most:
        rows = np.sort(np.random.default_rng(seed).choice(rows, most, replace=False))
    return rows


def _as_text(value: Any) -> str:
    """A title as it is, topics with commas, nothing for a missing value."""
    if isinstance(value, list | tuple | np.ndarray):
        return ", ".join(part for part in map(_as_text, value) if part)
    return value.strip() if isinstance(value, str) else ""
